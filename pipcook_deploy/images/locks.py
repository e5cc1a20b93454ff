"""Which packages an image has: exact versions with hashes, from the lock files of this package."""

import re
from collections.abc import Iterable
from importlib.resources import files

ROW = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==")
# Reports what it runs to its makers, and is not needed to run.
LEFT_OUT = frozenset({"openvino-telemetry"})


def requirements(parts: Iterable[str]) -> str:
    """The text of a requirements.txt of all packages in the lock files `parts`, each with its hashes.

    They were resolved against the same constraints: a package that stands in several has one version.
    """
    rows: dict[str, str] = {}
    for part in parts:
        text = (
            files("pipcook_deploy.dockerfiles").joinpath("locks", f"{part}.txt").read_text("utf-8")
        )
        for block in _blocks(text):
            match = ROW.match(block)
            if match and match["name"] not in LEFT_OUT:
                rows[match["name"]] = block
    return "\n".join(rows[name] for name in sorted(rows)) + "\n"


def _blocks(text: str) -> list[str]:
    """A requirement with the lines that its hashes take."""
    return [block.strip() for block in re.split(r"\n(?=\S)", text.strip())]
