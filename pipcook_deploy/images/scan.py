"""Looks for known vulnerabilities with a scanner that is installed: trivy or grype."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

from pipcook_deploy.errors import ImageError, MissingDependencyError
from pipcook_deploy.images.record import ScanEntry
from pipcook_deploy.run import run

SECONDS = 1800.0
START = re.compile(r"^\{", re.MULTILINE)
SEVERITIES = ("unknown", "negligible", "low", "medium", "high", "critical")


def _trivy(report: Any) -> list[str]:
    rows = [
        row for result in report.get("Results") or [] for row in result.get("Vulnerabilities") or []
    ]
    return [row["Severity"] for row in rows]


def _grype(report: Any) -> list[str]:
    return [row["vulnerability"]["severity"] for row in report.get("matches") or []]


# How each is asked about an image, and where its answer has the severities.
SCANNERS: dict[str, tuple[tuple[str, ...], Callable[[Any], list[str]]]] = {
    "trivy": (("image", "--quiet", "--format", "json"), _trivy),
    "grype": (("--quiet", "--output", "json"), _grype),
}


def _report(output: str) -> Any:
    """The JSON in what a scanner said; some tell of progress or new versions around it, even if told to be quiet."""
    start = START.search(output)
    if start is None:
        raise ValueError("there is none")
    return json.JSONDecoder().raw_decode(output, start.start())[0]


def scan(reference: str, fail_on: str | None) -> ScanEntry:
    """Count what the first scanner on this machine finds, by severity.

    Raises `MissingDependencyError` if none is installed, `ImageError` if it fails, or finds something that is at least
    as severe as `fail_on`.
    """
    name = next((name for name in SCANNERS if shutil.which(name)), None)
    if name is None:
        raise MissingDependencyError(
            f"no scanner is installed ({' or '.join(SCANNERS)})", "install one, or leave --scan out"
        )
    arguments, read = SCANNERS[name]
    output = run([name, *arguments, reference], timeout=SECONDS, failure=ImageError)
    try:
        found = Counter(severity.lower() for severity in read(_report(output)))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ImageError(f"{name}: its report cannot be read: {error!r}") from error
    entry = ScanEntry(scanner=name, findings=dict(sorted(found.items())))
    if fail_on is not None:
        severe = SEVERITIES[SEVERITIES.index(fail_on) :]
        bad = {level: found[level] for level in severe if found[level]}
        if bad:
            said = ", ".join(f"{count} {level}" for level, count in bad.items())
            raise ImageError(f"{name} finds {said} in the image", f"see: {name} {reference}")
    return entry
