"""The bill of materials of an image: run as the build stage does, judged by CycloneDX's own validator."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from tests.bundles import write_small_bundle

BUILD = Path(__file__).resolve().parents[2] / "dockerfiles" / "layers"
SITE = f"usr/local/lib/python3.{sys.version_info.minor}/site-packages"
HOSTILE = 'a "b"; $(touch x)\n\x01\u2028é'
ONE, TWO = "1" * 64, "2" * 64

LIBC = """\
Package: libc6
Status: install ok installed
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u4
Depends: libgcc-s1, libcrypt1 (>= 1:4.4.10-10)
Description: GNU C Library: Shared libraries
 Contains the standard libraries.
"""
STDCXX = """\
Package: libstdc++6
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Architecture: amd64
Source: gcc-12 (1:12.1)
Version: 1:12.2.0-14
Depends: gcc-12-base (= 12.2.0-14), musl | libc6:amd64 (>= 2.36)
"""


def write_distribution(root, name, version, *headers, libraries=()):
    place = root / SITE
    folder = place / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
    (folder / "METADATA").write_text("\n".join(lines) + "\n\nName: not a header\n", "utf-8")
    for library in libraries:
        path = place / f"{name}.libs" / library
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(library.encode())


@pytest.fixture
def image(tmp_path):
    """The folders that become layers."""
    system, packages, server = (tmp_path / name for name in ("system", "packages", "server"))
    status = system / "var" / "lib" / "dpkg" / "status.d"
    status.mkdir(parents=True)
    (status / "libc6").write_text(LIBC)
    (status / "libc6.md5sums").write_text("0123  lib/libc.so.6\n")
    (status / "libstdc++6").write_text(STDCXX)
    (system / "etc").mkdir()
    (system / "etc" / "os-release").write_text('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="D 12"\n')
    (system / SITE).parent.joinpath("encodings").mkdir(parents=True)
    write_distribution(
        packages,
        "Typed_Arrays",
        "2.4.6+cpu",
        "License-Expression: BSD-3-Clause AND Zlib",
        "Author: Ada L. et al.",
        "Author-email: ada@example.org",
        libraries=["libz.so.1", "libblås.so.3"],
    )
    write_distribution(
        server,
        "pipcook-deploy",
        "0.1.0",
        "License-Expression: Apache-2.0",
        "Requires-Dist: typed.arrays[fast]>=2; python_version >= '3.11'",
        "Requires-Dist: absent>=1",
        "Requires-Dist: pipcook-deploy[docker]",
    )
    write_small_bundle(tmp_path / "bundle")
    return tmp_path


def run(image, *more, lock="", name="shop", epoch=None):
    (image / "requirements.txt").write_text(lock)
    roots = [part for folder in ("system", "packages", "server") for part in ("--root", folder)]
    arguments = [*roots, "--model", "bundle", "--lock", "requirements.txt", "--name", name]
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    if epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = epoch
    # -S: nothing that is installed can be imported.
    return subprocess.run(
        [sys.executable, "-S", BUILD / "sbom.py", *arguments, "--out", "sbom.json", *more],
        cwd=image,
        env=environment,
        capture_output=True,
        text=True,
    )


def document(image, **options):
    done = run(image, **options)
    assert done.returncode == 0, done.stderr
    text = (image / "sbom.json").read_text("utf-8")
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, error
    made = json.loads(text)
    refs = [*_refs(made["components"]), made["metadata"]["component"]["bom-ref"]]
    assert len(set(refs)) == len(refs)
    for row in made["dependencies"]:
        assert {row["ref"], *row.get("dependsOn", [])} <= set(refs)
    return made


def _refs(components):
    return [
        ref for one in components for ref in (one["bom-ref"], *_refs(one.get("components", [])))
    ]


def components(made):
    return {one["name"]: one for one in made["components"]}


def edges(made):
    return {row["ref"]: row.get("dependsOn", []) for row in made["dependencies"]}


def test_every_part_is_named_with_its_own_version(image):
    made = document(image)
    found = {(one["type"], one["name"], one.get("version")) for one in made["components"]}
    assert found == {
        ("library", "Typed_Arrays", "2.4.6+cpu"),
        ("library", "pipcook-deploy", "0.1.0"),
        ("library", "libc6", "2.36-9+deb12u4"),
        ("library", "libstdc++6", "1:12.2.0-14"),
        ("operating-system", "debian", "12"),
        ("platform", "python", platform.python_version()),
        ("machine-learning-model", "m", "1"),
    }
    refs = [one["bom-ref"] for one in made["components"]]
    assert refs == sorted(refs)


def test_package_urls_are_canonical_and_say_what_is_there(image):
    parts = components(document(image))
    urls = {name: one["purl"] for name, one in parts.items() if "purl" in one}
    for name, url in urls.items():
        parsed = PackageURL.from_string(url)
        assert parsed.to_string() == url
        assert parsed.version == parts[name]["version"]
    assert urls["Typed_Arrays"] == "pkg:pypi/typed-arrays@2.4.6%2Bcpu"
    assert urls["python"] == f"pkg:generic/python@{platform.python_version()}"
    libc = PackageURL.from_string(urls["libc6"])
    assert (libc.type, libc.namespace, libc.name) == ("deb", "debian", "libc6")
    assert libc.qualifiers == {"arch": "amd64", "distro": "debian-12", "upstream": "glibc"}
    stdcxx = PackageURL.from_string(urls["libstdc++6"])
    assert (stdcxx.name, stdcxx.qualifiers["upstream"]) == ("libstdc++6", "gcc-12@1:12.1")


def test_what_depends_on_what(image):
    made = document(image)
    graph = edges(made)
    refs = {name: one["bom-ref"] for name, one in components(made).items()}
    assert graph["image"] == sorted(refs.values())
    assert graph[refs["pipcook-deploy"]] == [refs["Typed_Arrays"]]
    assert graph[refs["Typed_Arrays"]] == []
    assert graph[refs["m"]] == []
    assert graph[refs["libstdc++6"]] == [refs["libc6"]]
    assert refs["python"] not in graph  # not known, which is not nothing


@pytest.mark.parametrize(
    ("marker", "counts"),
    [
        ("", True),
        ("; python_version < '3.9'", False),
        ("; python_version >= '3.9' and python_version<'4'", True),
        ("; sys_platform == 'win32' or os_name == 'posix'", True),
        ("; sys_platform != 'win32'", True),
        ("; extra == 'fast'", False),
        ("; (extra == 'a' or extra == 'b') and os_name == 'posix'", False),
        ("; os_name == 'posix' or (os_name == 'nt' and extra == 'a')", True),
        ("; 'linux' not in sys_platform", False),
        ("; sys_platform in 'linux darwin'", True),
        ("; platform_release >= '1'", True),
    ],
)
def test_markers(image, marker, counts):
    write_distribution(image / "packages", "asker", "1", f"Requires-Dist: Typed-Arrays {marker}")
    graph = edges(document(image))
    assert graph["pkg:pypi/asker@1"] == ["pkg:pypi/typed-arrays@2.4.6%2Bcpu"] * counts


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["License-Expression: MIT OR (Apache-2.0 AND X11)"], "MIT OR (Apache-2.0 AND X11)"),
        (["License-Expression: MIT", "Classifier: License :: OSI Approved :: BSD"], "MIT"),
        (["License: Apache License, Version 2.0"], "Apache-2.0"),
        (["License: 3-Clause BSD License"], "BSD-3-Clause"),
        (["License: MPL-2.0 AND MIT"], "MPL-2.0 AND MIT"),
        (["License: long", "Classifier: License :: OSI Approved :: ISC License (ISCL)"], "ISC"),
        (["Classifier: License :: OSI Approved :: BSD License"], "=BSD License"),
        (["License: ====", "  Our own licence", "  and its text"], "=Our own licence"),
        (["License: BSD", "Classifier: License :: OSI Approved"], "=BSD"),
        (["Classifier: Topic :: Software"], None),
    ],
)
def test_licences(image, headers, expected):
    """`=` marks a name that SPDX does not know."""
    write_distribution(image / "packages", "one", "1", *headers)
    found = components(document(image))["one"].get("licenses")
    if expected is None:
        assert found is None
    elif expected.startswith("="):
        assert found == [{"license": {"name": expected[1:]}}]
    elif " " in expected:
        assert found == [{"expression": expected}]
    else:
        assert found == [{"license": {"id": expected}}]


def test_a_single_hash_of_the_lock_is_the_components_and_several_are_what_may_be(image):
    write_distribution(image / "packages", "sure", "1.0")
    write_distribution(image / "packages", "other", "1.0")
    lock = (
        f"sure==1.0 --hash=sha256:{ONE}\n"
        f"typed_arrays[fast]==2.4.6+cpu ; python_version > '3' \\\n"
        f"    --hash=sha256:{TWO} \\\n    --hash=sha256:{ONE}\n    # via shop\n"
        f"other==2.0 --hash=sha256:{ONE}\n"
    )
    parts = components(document(image, lock=lock))
    assert parts["sure"]["hashes"] == [{"alg": "SHA-256", "content": ONE}]
    assert "properties" not in parts["sure"]
    assert "hashes" not in parts["Typed_Arrays"]
    assert [row["value"] for row in parts["Typed_Arrays"]["properties"]] == [ONE, TWO]
    assert not {"hashes", "properties"} & set(parts["other"])  # of another version


def test_libraries_packed_into_a_wheel_are_files_of_it(image):
    (image / "packages" / SITE / "stray.libs").mkdir()
    (image / "packages" / SITE / "stray.libs" / "libq.so").write_bytes(b"q")
    (image / "packages" / SITE / "Typed_Arrays.libs" / "link").symlink_to("/etc/passwd")
    parts = components(document(image))
    files = {file["name"]: file for file in parts["Typed_Arrays"]["components"]}
    assert set(files) == {"Typed_Arrays.libs/libblås.so.3", "Typed_Arrays.libs/libz.so.1"}
    for name, file in files.items():
        content = hashlib.sha256(name.partition("/")[2].encode()).hexdigest()
        assert file["hashes"] == [{"alg": "SHA-256", "content": content}]
    stray = parts[f"{SITE}/stray.libs/libq.so"]
    assert stray["type"] == "file"
    assert stray["hashes"][0]["content"] == hashlib.sha256(b"q").hexdigest()


def test_people_are_told(image):
    write_distribution(
        image / "packages", "kept", "1", 'Maintainer-email: "Łukasz, J." <l@example.org>'
    )
    write_distribution(image / "packages", "shy", "1", "Author-email: Some One")
    write_distribution(image / "packages", "mixed", "1", "Author-email: nobody, S <s@example.org>")
    parts = components(document(image))
    assert parts["shy"]["authors"] == [{"name": "Some One"}]
    assert parts["mixed"]["authors"] == [{"name": "S", "email": "s@example.org"}]
    assert parts["Typed_Arrays"]["authors"] == [
        {"name": "Ada L. et al.", "email": "ada@example.org"}
    ]
    assert parts["kept"]["authors"] == [{"name": "Łukasz, J.", "email": "l@example.org"}]
    assert parts["libc6"]["supplier"]["name"] == "GNU Libc Maintainers"


def _change_manifest(image, change):
    path = image / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_the_model_and_its_card(image):
    _change_manifest(
        image,
        lambda manifest: manifest["spec"].update(
            license="apache 2.0", description="Two numbers.", metrics={"accuracy": 0.5}
        ),
    )
    model = components(document(image))["m"]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["description"] == "Two numbers."
    (file,) = model["components"]
    path = image / "bundle" / "artifacts" / "onnx" / "model.bin"
    assert file["name"] == "artifacts/onnx/model.bin"
    assert file["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
    parameters = model["modelCard"]["modelParameters"]
    assert parameters["task"] == "tensor"
    assert parameters["inputs"] == [{"format": "x: float32[?, 2]"}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics == [{"type": "accuracy", "value": "0.5"}]
    properties = {row["name"]: row["value"] for row in model["properties"]}
    assert properties["pipcook-deploy:source:sha256"] == "0" * 64


def test_the_bill_is_about_the_image_and_says_what_made_it(image):
    _change_manifest(image, lambda manifest: manifest["spec"].update(version="7"))
    metadata = document(image, epoch="86400")["metadata"]
    assert metadata["timestamp"] == "1970-01-02T00:00:00Z"
    about = metadata["component"]
    assert (about["type"], about["name"], about["version"]) == ("container", "shop", "7")
    (tool,) = metadata["tools"]["components"]
    assert (tool["name"], tool["version"]) == ("pipcook-deploy", "0.1.0")
    assert document(image)["metadata"]["timestamp"] == "1980-01-01T00:00:00Z"


def test_same_input_same_bytes_and_another_input_another_number(image):
    first = document(image)
    text = (image / "sbom.json").read_bytes()
    again = image / "again"
    again.mkdir()
    for name in "server", "bundle", "packages", "system":  # elsewhere, made in another order
        subprocess.run(["cp", "-r", image / name, again / name], check=True)
    document(again)
    assert (again / "sbom.json").read_bytes() == text
    (again / "packages" / SITE / "Typed_Arrays.libs" / "libz.so.1").write_bytes(b"changed")
    assert document(again)["serialNumber"] != first["serialNumber"]


def test_a_distribution_that_is_there_twice_is_listed_once(image):
    write_distribution(image / "server", "Typed_Arrays", "2.4.6+cpu", libraries=["libz.so.1"])
    write_distribution(image / "packages" / SITE / "pip" / "_vendor", "Typed_Arrays", "1.0")
    made = document(image)
    found = [one for one in made["components"] if one["name"] == "Typed_Arrays"]
    assert [one["version"] for one in found] == ["1.0", "2.4.6+cpu"]
    assert len(found[1]["components"]) == 2
    assert edges(made)["pkg:pypi/pipcook-deploy@0.1.0"] == ["pkg:pypi/typed-arrays@2.4.6%2Bcpu"]


def test_hostile_strings_stay_strings(image):
    def change(manifest):
        texts = dict.fromkeys(("name", "license", "description"), HOSTILE)
        manifest["spec"].update(texts, version=HOSTILE + "9" * 2000, metrics={HOSTILE: 1.0})
        manifest["spec"]["inputs"][0]["name"] = HOSTILE
        manifest["source"]["name"] = "\ud800 half of a pair"

    _change_manifest(image, change)
    write_distribution(
        image / "packages", 'x "y" $(z)', "1 é", "Author-email: @@, <>, a@", "License: \x02;"
    )
    made = document(image, name=HOSTILE.replace("\n", "\udcff"))
    assert made["metadata"]["component"]["name"] == HOSTILE.replace("\n", "?")
    assert components(made)[HOSTILE]["description"] == HOSTILE
    odd = components(made)['x "y" $(z)']
    assert PackageURL.from_string(odd["purl"]).version == "1 é"
    assert not list(image.rglob("x"))


def test_bytes_that_are_no_text_are_replaced(image):
    path = image / "packages" / SITE / "raw-1.dist-info"
    path.mkdir()
    (path / "METADATA").write_bytes(b"Name: raw\nVersion: 1\nSummary: caf\xe9\n\n\xff\n")
    assert components(document(image))["raw"]["description"] == "caf\ufffd"


def _bad_metadata(image):
    path = image / "packages" / SITE / "nameless-1.dist-info"
    path.mkdir()
    (path / "METADATA").write_text("Version: 1\n\nName: late\n")


def _no_metadata(image):
    (image / "packages" / SITE / "empty-1.dist-info").mkdir()


def _no_version(image):
    path = image / "system" / "var" / "lib" / "dpkg" / "status.d" / "zlib1g"
    path.write_text("Package: zlib1g\nArchitecture: amd64\n")


def _other_python(image):
    (image / "system" / "usr" / "lib" / "python3.2" / "encodings").mkdir(parents=True)


def _changed_model(image):
    (image / "bundle" / "artifacts" / "onnx" / "model.bin").write_bytes(b"another")


def _added_file(image):
    (image / "bundle" / "artifacts" / "onnx" / "extra\nline").write_bytes(b"")


def _lost_model(image):
    (image / "bundle" / "artifacts" / "onnx" / "model.bin").unlink()


def _no_manifest(image):
    (image / "bundle" / "manifest.json").write_text("[]")


def _no_spec_inputs(image):
    _change_manifest(image, lambda manifest: manifest["spec"].pop("inputs"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_bad_metadata, "nameless-1.dist-info/METADATA: has no Name"),
        (_no_metadata, "empty-1.dist-info/METADATA: cannot be read"),
        (_no_version, "status.d/zlib1g: has no Version"),
        (_other_python, "holds python3.2"),
        (_changed_model, "'artifacts/onnx/model.bin' is not of this content in the manifest"),
        (_added_file, "is not there in the manifest"),
        (_lost_model, "'artifacts/onnx/model.bin' is not there in the bundle"),
        (_no_manifest, "is not the manifest of a bundle"),
        (_no_spec_inputs, "is not understood: KeyError: 'inputs'"),
    ],
)
def test_what_cannot_be_described_is_an_error_of_one_line(image, damage, words):
    damage(image)
    done = run(image)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (image / "sbom.json").exists()


def test_a_root_that_is_not_there_and_a_time_that_is_none_are_errors(image):
    assert "nowhere: is not a folder" in run(image, "--root", "nowhere").stderr
    assert "SOURCE_DATE_EPOCH='soon'" in run(image, epoch="soon").stderr
