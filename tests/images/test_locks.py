"""The lock files of images: whole, exact, of one mind with each other and with what the tests run."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipcook_deploy.images.locks import LEFT_OUT, requirements

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "dockerfiles" / "locks"
WANTED = tomllib.loads((LOCKS / "requirements.toml").read_text())
PARTS = sorted(WANTED)
# What images are made of: see `_lock` in images/render.py.
MERGED = [
    ["server", "onnxruntime"],
    ["server", "onnxruntime", "grpc"],
    ["server", "onnxruntime", "bfloat16"],
    ["server", "openvino", "bfloat16", "grpc"],
    ["server", "litert"],
    ["server", "litert", "grpc"],
    ["server", "onnxruntime-gpu"],
]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def read(text):
    """Requirements and how many hashes each has; no line may be anything else."""
    rows = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+(?=--hash)", line.strip())
        assert all(HASH.fullmatch(one) for one in hashes), line
        rows.append((Requirement(requirement), hashes))
    return rows


def lock(part):
    return read((LOCKS / f"{part}.txt").read_text())


def version(requirement):
    (one,) = requirement.specifier
    assert one.operator == "=="
    return one.version


def constraints():
    rows = (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    return {canonicalize_name(name): version for name, version in rows}


def test_every_row_has_its_lock_file_and_no_other_is_there():
    assert {path.stem for path in LOCKS.glob("*.txt")} == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_every_package_has_one_version_and_hashes(part):
    rows = lock(part)
    names = [requirement.name for requirement, _ in rows]
    assert names == sorted(set(names))
    assert names == [canonicalize_name(name) for name in names]
    for requirement, hashes in rows:
        assert version(requirement)
        assert hashes, requirement
        assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("part", PARTS)
def test_versions_are_those_that_the_tests_run(part):
    known = constraints()
    found = {requirement.name: version(requirement) for requirement, _ in lock(part)}
    assert found == found | {name: known[name] for name in found if name in known}


@pytest.mark.parametrize("part", PARTS)
def test_a_lock_file_has_what_its_row_asks_for(part):
    locked = {requirement.name: requirement for requirement, _ in lock(part)}
    for wanted in map(Requirement, WANTED[part]):
        found = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version(found))


@pytest.mark.parametrize("part", PARTS)
def test_no_lock_file_has_an_address(part):
    text = (LOCKS / f"{part}.txt").read_text()
    assert not re.search(r"://|@|--(?!hash)|#|localhost|file:", text)


def test_packages_of_several_files_have_one_version_and_the_same_hashes():
    seen = {}
    for part in PARTS:
        for requirement, hashes in lock(part):
            assert seen.setdefault(requirement.name, hashes) == hashes, (part, requirement)


@pytest.mark.parametrize("parts", MERGED, ids="+".join)
def test_merged_files_have_every_package_once_and_lose_none(parts):
    rows = read(requirements(parts))
    names = [requirement.name for requirement, _ in rows]
    assert names == sorted(set(names))
    everything = {requirement.name for part in parts for requirement, _ in lock(part)}
    assert set(names) == everything - LEFT_OUT
    locked = {str(requirement): hashes for part in parts for requirement, hashes in lock(part)}
    for requirement, hashes in rows:
        assert locked[str(requirement)] == hashes
    assert requirements(reversed(parts)) == requirements(parts)


@pytest.mark.parametrize("parts", MERGED, ids="+".join)
def test_what_the_packages_need_is_there_too(parts):
    # They are installed with --no-deps: what is forgotten is missing.
    rows = {requirement.name: requirement for requirement, _ in read(requirements(parts))}
    environment = default_environment() | {
        "sys_platform": "linux", "platform_system": "Linux", "extra": ""
    }  # fmt: skip
    looked_at = 0
    for name in rows:
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        looked_at += 1
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate(environment):
                found = canonicalize_name(need.name)
                assert found in rows.keys() | LEFT_OUT, f"{name} needs {need}"
                if found in rows:
                    assert need.specifier.contains(version(rows[found])), f"{name} needs {need}"
    assert looked_at > 8


def test_what_the_package_itself_asks_of_a_version_is_kept():
    rows = {r.name: version(r) for part in PARTS for r, _ in lock(part)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["grpc"]]
    for wanted in map(Requirement, asked):
        name = canonicalize_name(wanted.name)
        if name in rows:
            assert wanted.specifier.contains(rows[name]), wanted
