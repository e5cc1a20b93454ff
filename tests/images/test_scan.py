"""Scanners of images, as stand-ins that print recorded reports."""

import json
import os
import sys

import pytest

from pipcook_deploy.errors import ImageError, MissingDependencyError
from pipcook_deploy.images.scan import scan

IMAGE = "sha256:1234"
# Shortened reports of Trivy (schema 2) and Grype.
TRIVY = {
    "SchemaVersion": 2,
    "ArtifactName": IMAGE,
    "Results": [
        {
            "Target": "debian",
            "Class": "os-pkgs",
            "Vulnerabilities": [
                {"VulnerabilityID": "CVE-2026-1", "PkgName": "libc6", "Severity": "HIGH"},
                {"VulnerabilityID": "CVE-2026-2", "PkgName": "libc6", "Severity": "LOW"},
                {"VulnerabilityID": "CVE-2026-3", "PkgName": "zlib1g", "Severity": "LOW"},
            ],
        },
        {"Target": "Python", "Class": "lang-pkgs"},
        {
            "Target": "app",
            "Vulnerabilities": [{"VulnerabilityID": "CVE-2026-4", "Severity": "UNKNOWN"}],
        },
    ],
}
GRYPE = {
    "matches": [
        {"vulnerability": {"id": "CVE-2026-1", "severity": "Critical"}, "artifact": {"name": "a"}},
        {"vulnerability": {"id": "CVE-2026-2", "severity": "Negligible"}},
        {"vulnerability": {"id": "CVE-2026-3", "severity": "Medium"}},
        {"vulnerability": {"id": "CVE-2026-4", "severity": "Medium"}},
    ],
    "descriptor": {"name": "grype"},
}
CLEAN = {"SchemaVersion": 2, "Results": None}


@pytest.fixture
def scanner(tmp_path, monkeypatch):
    """Put a stand-in on the PATH, which holds nothing else; returns what it was asked."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(name, said, code=0, errors=""):
        (tmp_path / f"{name}.said").write_text(said if isinstance(said, str) else json.dumps(said))
        program = tmp_path / name
        program.write_text(
            f"#!{sys.executable} -I\nimport pathlib, sys\n"
            f"here = pathlib.Path({str(tmp_path)!r})\n"
            f"(here / 'asked').write_text('\\n'.join(sys.argv[1:]))\n"
            f"sys.stderr.write({errors!r}); sys.stderr.flush()\n"
            f"sys.stdout.write((here / '{name}.said').read_text()); sys.exit({code})\n"
        )
        program.chmod(0o755)
        return tmp_path / "asked"

    return install


def test_trivy_is_asked_about_the_image_and_counted(scanner):
    asked = scanner("trivy", TRIVY)
    entry = scan(IMAGE, None)
    assert entry.scanner == "trivy"
    assert entry.findings == {"high": 1, "low": 2, "unknown": 1}
    first, *options, last = asked.read_text().splitlines()
    assert (first, last) == ("image", IMAGE)
    assert {"--format", "json"} <= set(options)


def test_grype_is_asked_about_the_image_and_counted(scanner):
    asked = scanner("grype", GRYPE)
    entry = scan(IMAGE, None)
    assert (entry.scanner, entry.findings) == (
        "grype",
        {"critical": 1, "medium": 2, "negligible": 1},
    )
    *options, last = asked.read_text().splitlines()
    assert last == IMAGE
    assert {"--output", "json"} <= set(options)


def test_of_two_the_first_is_asked(scanner):
    scanner("grype", "broken", 1)
    scanner("trivy", CLEAN)
    assert scan(IMAGE, "low").findings == {}


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_what_is_as_severe_as_said_ends_it(scanner, level):
    scanner("trivy", TRIVY)
    with pytest.raises(ImageError) as raised:
        scan(IMAGE, level)
    said = raised.value.message
    assert "1 high" in said
    assert ("2 low" in said) == (level == "low")
    assert "unknown" not in said
    assert IMAGE in raised.value.hint


def test_what_is_less_severe_does_not(scanner):
    scanner("trivy", TRIVY)
    assert scan(IMAGE, "critical").findings == {"high": 1, "low": 2, "unknown": 1}


def test_the_most_severe_is_above_every_bound(scanner):
    scanner("grype", GRYPE)
    for level in ("low", "medium", "high", "critical"):
        with pytest.raises(ImageError, match="1 critical"):
            scan(IMAGE, level)


def test_what_is_said_around_the_report_does_no_harm(scanner):
    around = (
        f"progress {{1/2}}\n{json.dumps(TRIVY, indent=2)}\nNotices:\n  - Version {{9.9}} is there\n"
    )
    scanner("trivy", around, errors="a warning [{}]\n")
    assert scan(IMAGE, None).findings == {"high": 1, "low": 2, "unknown": 1}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no report",
        "{",
        '{"Results": [{"Vulnerabilities": [{}]}]}',
        '{"Results": ["x"]}',
        '{"Results": [{"Vulnerabilities": [{"Severity": null}]}]}',
        '{"Results": 1}',
        '[{"Severity": "LOW"}]',
    ],
)
def test_a_report_that_cannot_be_read_is_no_pass(scanner, said):
    scanner("trivy", said)
    with pytest.raises(ImageError, match="trivy: its report cannot be read"):
        scan(IMAGE, None)


def test_a_scanner_that_fails_is_no_pass(scanner):
    scanner("grype", GRYPE, code=1, errors="no such image\n")
    with pytest.raises(ImageError, match="grype ended with exit code 1") as raised:
        scan(IMAGE, None)
    assert "no such image" in raised.value.hint


def test_without_a_scanner_it_is_said_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep)
    with pytest.raises(MissingDependencyError, match="trivy or grype") as raised:
        scan(IMAGE, None)
    assert "--scan" in raised.value.hint
