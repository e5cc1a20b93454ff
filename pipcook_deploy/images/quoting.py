"""Strings of users as they may stand in a Dockerfile and in YAML."""

import json
from collections.abc import Mapping


def one_line(text: str) -> str:
    """Without what ends a line or moves a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def dockerfile_quoted(text: str) -> str:
    """A value of LABEL or ENV: nothing in it is a variable, an escape or the end of the line."""
    line = one_line(text)
    for character in '\\"$':
        line = line.replace(character, f"\\{character}")
    return f'"{line}"'


def dockerfile_pairs(pairs: Mapping[str, str]) -> str:
    """KEY="value" of several, a line each."""
    return " \\\n    ".join(f"{key}={dockerfile_quoted(value)}" for key, value in pairs.items())


def yaml_quoted(text: str) -> str:
    """A double-quoted YAML scalar, which is what a JSON string is; `$$` is how compose files spell a `$`.

    But not JSON's escapes in pairs, of what lies beyond 16 bits: YAML takes the halves for two characters.
    """
    return json.dumps(one_line(text), ensure_ascii=False).replace("$", "$$")
