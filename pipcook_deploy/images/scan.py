"""Looks for known vulnerabilities with a scanner that is installed: trivy or grype."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import ImageError, MissingDependencyError
from pipcook_deploy.images.record import ScanEntry
from pipcook_deploy.run import run

SECONDS = 1800.0
MOST_NAMED = 5  # findings in an error
START = re.compile(r"^\{", re.MULTILINE)
SEVERITIES = ("unknown", "negligible", "low", "medium", "high", "critical")


@dataclass(frozen=True)
class Finding:
    """A known vulnerability, and the package that has it."""

    id: str
    severity: str
    package: str


def _trivy(report: Any) -> list[Finding]:
    if "SchemaVersion" not in report:
        raise ValueError("it is not trivy's")
    rows = [
        row for part in report.get("Results") or [] for row in part.get("Vulnerabilities") or []
    ]
    return [Finding(r["VulnerabilityID"], r["Severity"].lower(), r["PkgName"]) for r in rows]


def _grype(report: Any) -> list[Finding]:
    rows = [(row["vulnerability"], row["artifact"]) for row in report["matches"]]
    return [
        Finding(known["id"], str(known.get("severity") or "unknown").lower(), one["name"])
        for known, one in rows
    ]


# How each is asked about an image that is a file, and what its answer says.
SCANNERS: dict[str, tuple[tuple[str, ...], Callable[[Any], list[Finding]]]] = {
    "trivy": (("image", "--quiet", "--format", "json", "--input", "{archive}"), _trivy),
    "grype": (("docker-archive:{archive}", "--quiet", "--output", "json"), _grype),
}


def scan(archive: Path, fail_on: str | None) -> ScanEntry:
    """Count what the first scanner on this machine finds in an image (`docker save`), by severity.

    Raises `MissingDependencyError` if none is installed, `ImageError` if it fails, or finds something that is at least
    as severe as `fail_on`.
    """
    name = scanner()
    arguments, read = SCANNERS[name]
    command = [name, *(argument.format(archive=archive) for argument in arguments)]
    output = run(command, timeout=SECONDS, failure=ImageError, apart=True)
    try:
        found = read(_report(output))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"{name}: its report cannot be read: {error!r}") from error
    _judge(name, found, fail_on)
    counts = Counter(finding.severity for finding in found)
    return ScanEntry(scanner=name, findings=dict(sorted(counts.items())))


def scanner() -> str:
    """The one that is installed. Raises `MissingDependencyError`."""
    for name in SCANNERS:
        if shutil.which(name):
            return name
    raise MissingDependencyError(
        f"no scanner is installed ({' or '.join(SCANNERS)})", "install one, or leave --scan out"
    )


def _judge(name: str, found: list[Finding], fail_on: str | None) -> None:
    if fail_on is None:
        return
    severe = SEVERITIES[SEVERITIES.index(fail_on) :]
    # A word that is not known may be the worst there is.
    bad = [one for one in found if one.severity in severe or one.severity not in SEVERITIES]
    if bad:
        order = [*reversed(SEVERITIES)]
        bad.sort(key=lambda one: order.index(one.severity) if one.severity in order else -1)
        said = ", ".join(f"{one.id} ({one.severity}, {one.package})" for one in bad[:MOST_NAMED])
        more = f" and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        raise ImageError(
            f"{name} finds what is {fail_on} or worse in the image: {said}{more}",
            "update what has it, or allow more: --set docker.fail_on",
        )


def _report(output: str) -> Any:
    """The JSON in what a scanner said; some tell of progress or new versions around it, even if told to be quiet."""
    start = START.search(output)
    if start is None:
        raise ValueError("there is none")
    return json.JSONDecoder().raw_decode(output, start.start())[0]
