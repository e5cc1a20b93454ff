"""Reads list(string) attributes."""

import base64
from typing import Any


def texts(attr: dict[str, Any]) -> list[str]:
    """The strings of an attribute."""
    return [base64.b64decode(value).decode() for value in attr["list"]["s"]]
