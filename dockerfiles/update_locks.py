"""Writes the lock files anew: `python dockerfiles/update_locks.py`, with uv installed, from the top of a checkout.

Versions are those of constraints.txt where it has them, so that images hold what the tests ran; hashes are of all
files of a release, for every platform and Python.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
OPTIONS = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
    "--quiet",
    "--constraints=constraints.txt",
)


def main() -> int:
    """Resolve each row of requirements.toml."""
    rows = tomllib.loads((LOCKS / "requirements.toml").read_text(encoding="utf-8"))
    for name, wanted in rows.items():
        done = subprocess.run(
            ["uv", "pip", "compile", *OPTIONS, "-"],
            input="\n".join(wanted),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.stderr.write(f"{name}: {done.stderr}")
            return 1
        (LOCKS / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
