"""Licences as SPDX names them, where what is written leaves no doubt; as they are written otherwise."""

import re
from typing import Any

SPDX = (
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "GPL-2.0-only",
    "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "HPND", "ISC", "LGPL-2.1-only",
    "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MIT-0", "MIT-CMU",
    "MPL-2.0", "PSF-2.0", "Python-2.0.1", "Unlicense", "Zlib",
)  # fmt: skip

# Classifiers and usual spellings. Not here: "BSD License" and "Apache Software License", which are several.
ALIASES = {
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Modified BSD": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Mozilla Public License 2.0": "MPL-2.0",
    "New BSD": "BSD-3-Clause",
    "Simplified BSD": "BSD-2-Clause",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
NOISE = {"the", "license", "licence", "licensed", "under", "version"}


def _key(text: str) -> str:
    """Of "Apache License, Version 2.0" as of "Apache-2.0", of "3-Clause BSD" as of "BSD-3-Clause"."""
    words = re.findall(r"[a-z0-9.+]+", re.sub(r"\bv(?=\d)", "", text.lower()))
    return " ".join(sorted(word for word in words if word not in NOISE))


KNOWN = {_key(name): name for name in SPDX} | {_key(name): ALIASES[name] for name in ALIASES}


def _licence(text: str) -> dict[str, Any]:
    known = KNOWN.get(_key(text))
    return {"license": {"id": known} if known else {"name": text}}


def _is_expression(text: str) -> bool:
    words = re.findall(r"[^\s()]+", text)
    return len(words) > 1 and all(word in SPDX or word in ("AND", "OR") for word in words)


def of_text(text: str) -> list[dict[str, Any]]:
    """Of a field that may hold a name, an expression, or the whole text: then its first line names it."""
    if _is_expression(text):
        return [{"expression": text}]
    lines = (" ".join(line.split()) for line in text.splitlines())
    first = next((line for line in lines if any(sign.isalnum() for sign in line)), None)
    return [_licence(first)] if first else []


def declared(
    expression: str | None, text: str | None, classifiers: list[str]
) -> list[dict[str, Any]]:
    """Of a Python distribution: its expression; else its field if that is clear, its classifiers, its field."""
    if expression and expression.strip():
        words = " ".join(expression.split())
        return [_licence(words) if words in SPDX else {"expression": words}]
    free = of_text(text or "")
    if free and "name" not in free[0].get("license", {}):
        return free
    named = [
        value.rpartition("::")[2].strip() for value in classifiers if value.startswith("License ::")
    ]
    return [_licence(name) for name in sorted(set(named) - {"", "OSI Approved"})] or free
