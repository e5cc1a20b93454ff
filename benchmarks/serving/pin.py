"""Renews the pins of peers.toml: python benchmarks/serving/pin.py [ENVIRONMENT ...]

Installs what each environment wants, at its newest, and writes down every package that this brought.
"""

import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

WRAP = textwrap.TextWrapper(
    110, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
)


def written(text: str, name: str, pins: Sequence[str]) -> str:
    """`text` with the pins of one environment replaced."""
    quoted = " ".join(f'"{pin}",' for pin in pins)
    rows = WRAP.fill(quoted)
    pattern = rf"(?ms)(^\[environments\.{re.escape(name)}\]\n.*?^pins = )\[[^]]*\]\n"
    done, count = re.subn(pattern, lambda found: f"{found[1]}[\n{rows}\n]\n", text, count=1)
    if not count:
        raise SystemExit(f"peers.toml has no pins of {name}")
    return done


def main(names: Sequence[str]) -> None:
    """Install, freeze, write."""
    from serving.peer import LIST, listed

    environments, _ = listed()
    for name in names or environments:
        environment = environments[name]
        environment.make([*environment.wants, *environment.limits])
        pins = sorted(environment.pip("freeze").split(), key=str.lower)
        LIST.write_text(written(LIST.read_text("utf-8"), name, pins), "utf-8")
        print(f"{name}: {len(pins)} packages")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main(sys.argv[1:])
