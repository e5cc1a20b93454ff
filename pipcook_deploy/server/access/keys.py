"""API keys and the admin token, kept as digests and compared in constant time."""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from pipcook_deploy.errors import UsageError

SHORTEST = 16  # characters: what is shorter can be guessed
API_KEYS = "PIPCOOK_DEPLOY_API_KEYS"
ADMIN_TOKEN = "PIPCOOK_DEPLOY_ADMIN_TOKEN"  # noqa: S105 - the name of the variable


class Keys:
    """The digests of some keys; false if there are none."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def has(self, key: str) -> bool:
        """Compares with every one of them, so that the time says nothing about which it is."""
        digest = _digest(key)
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(found)


def load_keys(file: str, variable: str, environ: Mapping[str, str]) -> Keys:
    """Keys from a file, one a line, `#` begins a comment, or a variable, with commas or line ends between.

    Raises `UsageError` for a file that cannot be read or holds no key, and a key that is too short.
    """
    found = []
    if file:
        found += _checked(_lines(Path(file)), file)
    given = environ.get(variable, "").replace(",", "\n").split("\n")
    return Keys([*found, *_checked([text.strip() for text in given if text.strip()], variable)])


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not text") from None
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"{file}: holds no key", "write one key a line: openssl rand -hex 32")
    return keys


def _checked(keys: list[str], where: str) -> list[str]:
    """`keys`; what is wrong with one is said without showing it."""
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST:
            reason = f"{where}: key {number} has {len(key)} characters, and needs {SHORTEST}"
            raise UsageError(reason, "make one: openssl rand -hex 32")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise UsageError(f"{where}: key {number} is not made of visible ASCII characters")
    return keys


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
