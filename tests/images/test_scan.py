"""Scanners of images, as stand-ins that print recorded reports."""

import json
import os
import sys

import pytest

from pipcook_deploy.errors import ImageError, MissingDependencyError
from pipcook_deploy.images.scan import scan


def trivy_row(number, severity, package):
    return {
        "VulnerabilityID": f"CVE-2026-{number}",
        "PkgID": f"{package}@1.2-3",
        "PkgName": package,
        "PkgIdentifier": {"PURL": f"pkg:deb/debian/{package}@1.2-3?arch=amd64"},
        "InstalledVersion": "1.2-3",
        "Status": "affected",
        "Layer": {"DiffID": "sha256:1234"},
        "SeveritySource": "debian",
        "Title": f"{package}: {{a}} flaw",
        "Severity": severity,
    }


def trivy_report(*rows):
    """Debian's packages have the first of the rows, Python's have the last one."""
    return {
        "SchemaVersion": 2,
        "CreatedAt": "2026-02-03T04:05:06.7Z",
        "ArtifactName": "image.tar",
        "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "12.9"}, "ImageID": "sha256:1234"},
        "Results": [
            {
                "Target": "image.tar (debian 12.9)",
                "Class": "os-pkgs",
                "Type": "debian",
                "Vulnerabilities": list(rows[:-1]),
            },
            {"Target": "Node.js", "Class": "lang-pkgs", "Type": "node-pkg"},
            {
                "Target": "Python",
                "Class": "lang-pkgs",
                "Type": "python-pkg",
                "Vulnerabilities": list(rows[-1:]),
            },
        ],
    }


def grype_match(number, severity, package):
    return {
        "vulnerability": {
            "id": f"CVE-2026-{number}",
            "dataSource": f"https://security.example/CVE-2026-{number}",
            "namespace": "debian:distro:debian:12",
            "severity": severity,
            "fix": {"versions": [], "state": "not-fixed"},
        },
        "relatedVulnerabilities": [
            {"id": f"CVE-2026-{number}", "namespace": "nvd:cpe", "severity": "Low"}
        ],
        "matchDetails": [{"type": "exact-direct-match", "matcher": "dpkg-matcher"}],
        "artifact": {"id": "abcd", "name": package, "version": "1.2-3", "type": "deb"},
    }


def grype_report(*matches):
    return {
        "matches": list(matches),
        "source": {"type": "image", "target": {"userInput": "image.tar"}},
        "distro": {"name": "debian", "version": "12"},
        "descriptor": {"name": "grype", "version": "0.90.0"},
    }


TRIVY = trivy_report(
    trivy_row(1, "LOW", "libc6"),
    trivy_row(2, "HIGH", "libc6"),
    trivy_row(3, "LOW", "zlib1g"),
    trivy_row(4, "UNKNOWN", "numpy"),
)
TRIVY_COUNTS = {"high": 1, "low": 2, "unknown": 1}
GRYPE = grype_report(
    grype_match(1, "Medium", "libssl3"),
    grype_match(2, "Negligible", "tar"),
    grype_match(3, "Critical", "perl-base"),
    grype_match(4, "Medium", "libssl3"),
)
GRYPE_COUNTS = {"critical": 1, "medium": 2, "negligible": 1}
REPORTS = {"trivy": (TRIVY, TRIVY_COUNTS), "grype": (GRYPE, GRYPE_COUNTS)}
CLEAN = {
    "trivy": {"SchemaVersion": 2, "ArtifactName": "image.tar", "Results": None},
    "grype": grype_report(),
}


@pytest.fixture
def archive(tmp_path):
    """Stand-ins do not look into it; its name is one argument, and no pattern."""
    path = tmp_path / "an {image} {0}.tar"
    path.write_bytes(b"")
    return path


@pytest.fixture
def scanner(tmp_path, monkeypatch):
    """Put a stand-in on the PATH, which holds nothing else; returns what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name, said, code=0, errors=""):
        (folder / f"{name}.said").write_text(said if isinstance(said, str) else json.dumps(said))
        program = folder / name
        program.write_text(
            f"#!{sys.executable} -I\nimport pathlib, sys\n"
            f"here = pathlib.Path({str(folder)!r})\n"
            f"(here / '{name}.asked').write_text('\\n'.join(sys.argv[1:]))\n"
            f"sys.stderr.write({errors!r}); sys.stderr.flush()\n"
            f"sys.stdout.write((here / '{name}.said').read_text()); sys.exit({code})\n"
        )
        program.chmod(0o755)
        return folder / f"{name}.asked"

    return install


def test_trivy_is_asked_about_the_archive_and_counted(scanner, archive):
    asked = scanner("trivy", TRIVY)
    entry = scan(archive, None)
    assert (entry.scanner, entry.findings) == ("trivy", TRIVY_COUNTS)
    first, *options = asked.read_text().splitlines()
    assert first == "image"
    assert options[options.index("--input") + 1] == str(archive)
    assert options[options.index("--format") + 1] == "json"
    # Nothing besides options: an image of that name would be looked for.
    assert sorted(options) == sorted(["--quiet", "--format", "json", "--input", str(archive)])


def test_grype_is_asked_about_the_archive_and_counted(scanner, archive):
    asked = scanner("grype", GRYPE)
    entry = scan(archive, None)
    assert (entry.scanner, entry.findings) == ("grype", GRYPE_COUNTS)
    first, *options = asked.read_text().splitlines()
    assert first == f"docker-archive:{archive}"
    assert options[options.index("--output") + 1] == "json"
    assert sorted(options) == sorted(["--quiet", "--output", "json"])


def test_of_two_the_first_is_asked(scanner, archive):
    other = scanner("grype", "broken", 1)
    scanner("trivy", CLEAN["trivy"])
    entry = scan(archive, "low")
    assert (entry.scanner, entry.findings) == ("trivy", {})
    assert not other.exists()


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_found_passes_every_bound(scanner, archive, name):
    scanner(name, CLEAN[name])
    assert scan(archive, "low").findings == {}


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_what_is_as_severe_as_said_ends_it(scanner, archive, level):
    scanner("trivy", TRIVY)
    with pytest.raises(ImageError) as raised:
        scan(archive, level)
    said = raised.value.message
    assert f"trivy finds what is {level} or worse" in said
    assert "CVE-2026-2 (high, libc6)" in said
    # What is below the bound is not named, and of the same severity no one is left out.
    assert ("CVE-2026-1 (low, libc6), CVE-2026-3 (low, zlib1g)" in said) == (level == "low")
    assert ("CVE-2026-1" in said) == ("CVE-2026-3" in said) == (level == "low")
    assert "unknown" not in said
    assert "CVE-2026-4" not in said
    assert "more" not in said
    assert "docker.fail_on" in raised.value.hint


def test_what_is_less_severe_does_not(scanner, archive):
    scanner("trivy", TRIVY)
    assert scan(archive, "critical").findings == TRIVY_COUNTS


def test_the_most_severe_is_above_every_bound(scanner, archive):
    scanner("grype", GRYPE)
    for level in ("low", "medium", "high", "critical"):
        with pytest.raises(ImageError, match=r"CVE-2026-3 \(critical, perl-base\)"):
            scan(archive, level)


def test_the_worst_is_named_first(scanner, archive):
    levels = ("low", "CRITICAL", "Medium", "HIGH")
    for name, report in (
        ("grype", grype_report(*(grype_match(n, s, f"p{n}") for n, s in enumerate(levels)))),
        ("trivy", trivy_report(*(trivy_row(n, s, f"p{n}") for n, s in enumerate(levels)))),
    ):
        scanner(name, report)
        with pytest.raises(ImageError) as raised:
            scan(archive, "low")
        assert raised.value.message == (
            f"{name} finds what is low or worse in the image: CVE-2026-1 (critical, p1), "
            "CVE-2026-3 (high, p3), CVE-2026-2 (medium, p2), CVE-2026-0 (low, p0)"
        )


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, " and 1 more"), (40, " and 35 more")])
def test_at_most_five_are_named_and_the_rest_is_counted(scanner, archive, count, more):
    # The worst come last, so that they are not the first by chance; what is below the bound does not count.
    rows = [trivy_row(1000 + n, "LOW", "below") for n in range(7)]
    rows += [trivy_row(100 + n, "HIGH", f"p{n}") for n in range(count - 2)]
    rows += [trivy_row(n, "CRITICAL", f"w{n}") for n in (1, 2)]
    scanner("trivy", trivy_report(*rows))
    with pytest.raises(ImageError) as raised:
        scan(archive, "high")
    assert raised.value.message == (
        "trivy finds what is high or worse in the image: CVE-2026-1 (critical, w1), CVE-2026-2 (critical, w2), "
        f"CVE-2026-100 (high, p0), CVE-2026-101 (high, p1), CVE-2026-102 (high, p2){more}"
    )


def test_what_is_said_around_the_report_does_no_harm(scanner, archive):
    around = (
        f"progress {{1/2}}\n{json.dumps(TRIVY, indent=2)}\nNotices:\n  - Version {{9.9}} is there\n"
    )
    scanner("trivy", around, errors="a warning [{}]\n")
    assert scan(archive, None).findings == TRIVY_COUNTS


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_said_on_stderr_before_the_report_does_not_count(scanner, archive, name):
    report, counts = REPORTS[name]
    logged = '{"level":"info","ts":1767225600.1,"msg":"Detected OS","family":"debian"}\n'
    scanner(name, report, errors=logged)
    assert scan(archive, None).findings == counts
    # Not even if it could be taken for a report without findings.
    scanner(name, report, errors=json.dumps(CLEAN[name]) + "\n")
    assert scan(archive, None).findings == counts
    with pytest.raises(ImageError, match="finds what is high or worse"):
        scan(archive, "high")


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_on_stderr_is_none(scanner, archive, name):
    scanner(name, "", errors=json.dumps(CLEAN[name]) + "\n")
    with pytest.raises(ImageError, match=f"{name}: its report cannot be read"):
        scan(archive, None)


def part(value):
    return json.dumps({"SchemaVersion": 2, "Results": [value]})


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no report",
        "{",
        json.dumps(TRIVY)[:-20],
        part({"Vulnerabilities": [{}]}),
        part("x"),
        part({"Vulnerabilities": [trivy_row(1, None, "tar")]}),
        *(
            part({"Vulnerabilities": [without(trivy_row(1, "LOW", "tar"), name)]})
            for name in ("VulnerabilityID", "Severity", "PkgName")
        ),
        '{"SchemaVersion": 2, "Results": 1}',
        '[{"Severity": "LOW"}]',
    ],
)
def test_a_report_that_cannot_be_read_is_no_pass(scanner, archive, said):
    scanner("trivy", said)
    with pytest.raises(ImageError, match="trivy: its report cannot be read") as raised:
        scan(archive, None)
    assert "not trivy's" not in raised.value.message


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        json.dumps({"matches": None}),
        json.dumps({"matches": [{}]}),
        json.dumps({"matches": ["x"]}),
        json.dumps(grype_report(without(grype_match(1, "Low", "tar"), "artifact"))),
        json.dumps(TRIVY),
        json.dumps(CLEAN["trivy"]),
        '{"level":"error","msg":"unable to load the database"}',
    ],
)
def test_what_is_not_grypes_report_is_no_pass(scanner, archive, said):
    scanner("grype", said)
    with pytest.raises(ImageError, match="grype: its report cannot be read"):
        scan(archive, None)


@pytest.mark.parametrize(
    "said",
    [
        {},
        without(TRIVY, "SchemaVersion"),
        without(CLEAN["trivy"], "SchemaVersion"),
        GRYPE,
        CLEAN["grype"],
        {"level": "info", "msg": "Detected OS", "family": "debian"},
    ],
)
def test_what_is_not_trivys_report_is_no_pass(scanner, archive, said):
    scanner("trivy", said)
    for level in (None, "critical"):
        with pytest.raises(ImageError, match=r"its report cannot be read.*it is not trivy's"):
            scan(archive, level)


def test_an_object_on_stdout_before_the_report_is_no_pass(scanner, archive):
    scanner("trivy", '{"level":"info","msg":"Detected OS"}\n' + json.dumps(TRIVY))
    with pytest.raises(ImageError, match="its report cannot be read"):
        scan(archive, "critical")


@pytest.mark.parametrize("name", REPORTS)
def test_a_scanner_that_fails_is_no_pass(scanner, archive, name):
    scanner(name, CLEAN[name], code=1, errors="no such image\n")
    with pytest.raises(ImageError, match=f"{name} ended with exit code 1") as raised:
        scan(archive, None)
    assert "no such image" in raised.value.hint


def test_without_a_scanner_it_is_said_what_is_missing(tmp_path, archive, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep)
    with pytest.raises(MissingDependencyError, match="trivy or grype") as raised:
        scan(archive, None)
    assert "--scan" in raised.value.hint


def test_a_severity_that_is_not_known_is_taken_for_the_worst(scanner, archive):
    scanner("grype", json.dumps(grype_report(grype_match(1, "Important", "tar"))))
    assert scan(archive, None).findings == {"important": 1}
    with pytest.raises(ImageError, match=r"\(important, tar\)"):
        scan(archive, "critical")


def test_a_finding_without_a_severity_is_counted(scanner, archive):
    scanner("grype", json.dumps(grype_report(grype_match(1, None, "tar"))))
    assert scan(archive, "low").findings == {"unknown": 1}
