"""Writes a report: `report.json`, and `report.html` made of nothing but it."""

import json
import math
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipcook_deploy.errors import BundleError, MissingDependencyError, OutputError
from pipcook_deploy.report.entries import Report

JSON_FILE, HTML_FILE = "report.json", "report.html"


def write_report(report: Report, folder: Path) -> None:
    """Write both files into `folder`, an existing one; the same report gives the same bytes.

    Raises `MissingDependencyError` when the page cannot be drawn; `report.json` is there all the same.
    """
    _write(folder / JSON_FILE, dump(report))
    _write(folder / HTML_FILE, page(report))


def render(report_json: Path, out: Path) -> None:
    """Make the page again, of a `report.json` that was written before."""
    _write(out, page(load(report_json)))


def dump(report: Report) -> str:
    """The text of `report.json`."""
    data = _finite(report.model_dump(mode="json"))
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> Report:
    """Read what `write_report` wrote; raises `BundleError` when it is not that."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(
            f"{path}: there is no report", "only a bundle that was compressed has one"
        ) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: is not a report: {place}: {first['msg']}") from error


def page(report: Report) -> str:
    """The text of `report.html`."""
    try:
        from pipcook_deploy.report.render_page import render_page

        return render_page(report)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{HTML_FILE} needs {error.name}, which is not installed",
            "run: pip install 'pipcook-deploy[compress]'",
        ) from error


def _finite(value: Any) -> Any:
    """What JSON has no number for becomes a text, which `load` reads as that number again."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            partial.write_text(text, encoding="utf-8", errors="replace")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}", "choose another place"
        ) from error
