"""What makes an image's layers: symbols cut out, the same bytes whenever they are made, the libraries that are needed."""

import base64
import csv
import hashlib
import importlib
import marshal
import os
import shutil
import ssl
import stat
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LAYERS = Path(__file__).resolve().parents[2] / "dockerfiles" / "layers"
PACKAGES = "usr/local/lib/python3.11/site-packages"
PROGRAM = '#include <stdio.h>\nint main(void) { puts("hello"); return 7; }\n'
CODE = "VALUE = {'a': (1, 2.5, None), 'b': frozenset('xyz')}\n\ndef double(x):\n    return 2 * x\n"


@pytest.fixture(scope="module")
def layers():
    """The scripts, which import each other as siblings."""
    sys.path.insert(0, str(LAYERS))
    try:
        names = ("elf", "libraries", "tree")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(LAYERS))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile C: what goes in is a file's name and its text, what comes out is another file."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    scratch = tmp_path_factory.mktemp("c")

    def make(out, text, *options):
        source = scratch / f"{out.name}.c"
        source.write_text(text)
        subprocess.run(["gcc", "-g", "-o", str(out), str(source), *map(str, options)], check=True)
        return out

    return make


@pytest.fixture(scope="module")
def program(compiled, tmp_path_factory):
    """The bytes of a small program with debugging notes."""
    return compiled(tmp_path_factory.mktemp("elf") / "hello", PROGRAM).read_bytes()


def library(make, out, text, *options):
    return make(out, text, "-shared", "-fPIC", *options)


# elf


def test_a_program_is_smaller_and_runs_as_before(layers, program, tmp_path):
    path = tmp_path / "hello"
    path.write_bytes(program)
    path.chmod(0o755)
    assert layers.elf.strip(path)
    assert path.stat().st_size < len(program)
    assert b".debug_info" in program
    assert b".debug_info" not in path.read_bytes()
    done = subprocess.run([path], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("hello\n", 7)
    once = path.read_bytes()
    # The header promises no table of sections any more.
    assert struct.unpack_from("<Q", once, 40) == (0,)
    assert struct.unpack_from("<HH", once, 60) == (0, 0)
    assert not layers.elf.strip(path)
    assert path.read_bytes() == once


def test_a_stripped_extension_module_still_computes(layers, tmp_path):
    origin = Path(importlib.util.find_spec("csimdjson").origin)
    copy = Path(shutil.copy(origin, tmp_path / origin.name))
    assert layers.elf.strip(copy)
    assert copy.stat().st_size < origin.stat().st_size
    code = (
        "import ctypes, sys; from importlib.util import module_from_spec, spec_from_file_location as at\n"
        "ctypes.CDLL(sys.argv[1]); spec = at('csimdjson', sys.argv[1]); module = module_from_spec(spec)\n"
        "spec.loader.exec_module(module); print(module.__file__, module.Parser().parse(b'[1, 2]').as_list())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == f"{copy} [1, 2]\n", done.stderr


def changed(data, at, form, *values):
    head = bytearray(data)
    struct.pack_into(form, head, at, *values)
    return bytes(head)


UNREADABLE = {
    "no ELF": lambda data: b"#!/bin/sh\necho hello\n" * 10,
    "empty": lambda data: b"",
    "four bytes": lambda data: data[:4],
    "half a header": lambda data: data[:63],
    "a header alone": lambda data: data[:64],
    "of 32 bits": lambda data: changed(data, 4, "B", 1),
    "big endian": lambda data: changed(data, 5, "B", 2),
    "table far behind the end": lambda data: changed(data, 32, "<Q", 1 << 40),
    "table behind what a file can have": lambda data: changed(data, 32, "<Q", (1 << 63) - 1),
    "table behind all numbers": lambda data: changed(data, 32, "<Q", (1 << 64) - 1),
    "rows of another size": lambda data: changed(data, 54, "<H", 32),
    "no rows": lambda data: changed(data, 56, "<H", 0),
    "more rows than there are": lambda data: changed(data, 56, "<H", 0xFFFF),
    "a segment behind the end": lambda data: changed(data, 64 + 32, "<Q", 1 << 40),
    "a segment in the end of a cut table": lambda data: data[: 64 + 56 * 3 + 8],
}


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_whole_elf_file_stays_as_it_is(layers, program, tmp_path, damage):
    path = tmp_path / "file"
    path.write_bytes(damage(program))
    assert not layers.elf.strip(path)
    assert path.read_bytes() == damage(program)


def test_a_cut_table_does_not_shorten_the_file(layers, tmp_path):
    # Its only whole row ends in the middle of the file.
    head = bytearray(b"\x7fELF\x02\x01".ljust(64, b"\0"))
    struct.pack_into("<Q", head, 32, 200)
    struct.pack_into("<HH", head, 54, 56, 2)
    row = bytearray(56)
    struct.pack_into("<QQ", row, 8, 0, 0)
    struct.pack_into("<Q", row, 32, 100)
    whole = bytes(head).ljust(200, b"x") + bytes(row)
    path = tmp_path / "file"
    path.write_bytes(whole)
    assert not layers.elf.strip(path)
    assert path.read_bytes() == whole


def test_the_table_of_segments_is_never_cut_off(layers, program, tmp_path):
    # At the end of the file and in no segment, as some tools that patch programs leave it.
    (count,) = struct.unpack_from("<H", program, 56)
    table = program[64 : 64 + 56 * count]
    padded = program.ljust(-(-len(program) // 8) * 8, b"\0")
    moved = changed(padded, 32, "<Q", len(padded)) + table
    path = tmp_path / "file"
    path.write_bytes(moved)
    layers.elf.strip(path)
    assert path.read_bytes()[len(padded) :] == table


def test_no_header_is_an_error(layers, program, tmp_path):
    path = tmp_path / "file"

    @settings(max_examples=200)
    @given(st.integers(0, 63), st.binary(min_size=1, max_size=8), st.integers(64, 4000))
    def check(at, garbage, length):
        data = (program[:at] + garbage + program[at + len(garbage) :])[:length]
        path.write_bytes(data)
        if not layers.elf.strip(path):
            assert path.read_bytes() == data

    check()


# tree


def settled(root, **environment):
    """Settle a folder in a process of its own."""
    code = "import sys; from pathlib import Path; import tree; tree.settle(Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, str(root)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(LAYERS)} | environment,
    )
    return root


def row(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return [name, f"sha256={digest}", str(len(data))]


def make_site(root, when, umask):
    """A layer as pip leaves it, at a moment that its files show."""
    old = os.umask(umask)
    try:
        site = root / PACKAGES
        (site / "demo").mkdir(parents=True)
        (site / "demo-1.dist-info").mkdir()
        (root / "tmp").mkdir()
        (site / "demo" / "__init__.py").write_text(CODE)
        (site / "demo" / "again.py").write_text(CODE + "from demo import VALUE as OTHER\n")
        (site / "demo" / "data, more.txt").write_text("data")
        (site / "demo" / "run.sh").write_text("#!/bin/sh\n")
        (site / "demo" / "run.sh").chmod(0o777 & ~umask)
        (site / "link.txt").symlink_to("demo/data, more.txt")
        (site / "nowhere").symlink_to("/no/such/place")
        (site / "demo-1.dist-info" / "RECORD").write_text(
            "demo/__init__.py,sha256=wrong,1\n"
            '"demo/data, more.txt",,\n'
            "demo/tests/test_demo.py,sha256=gone,10\n"
            "demo/run.sh,sha256=wrong,1\n"
            "demo-1.dist-info/RECORD,,\n"
        )
        for path in root.rglob("*"):
            os.utime(path, (when, when), follow_symlinks=False)
    finally:
        os.umask(old)
    return root


def described(root):
    """All that a layer's archive would have of a folder."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        about = path.lstat()
        kind = stat.S_IFMT(about.st_mode)
        data = path.read_bytes() if kind == stat.S_IFREG else None
        target = os.readlink(path) if kind == stat.S_IFLNK else None
        mode = None if target else stat.S_IMODE(about.st_mode)
        found[path.relative_to(root).as_posix()] = (kind, mode, about.st_mtime_ns, target, data)
    return found


def test_a_settled_folder_is_the_same_from_two_places_at_two_times(tmp_path):
    one = make_site(tmp_path / "one", 1_500_000_000, 0o022)
    two = make_site(tmp_path / "a/deeper/place", 1_700_000_001, 0o077)
    first = described(settled(one, PYTHONHASHSEED="1"))
    assert first == described(settled(two, PYTHONHASHSEED="2"))
    assert any(name.endswith(".pyc") for name in first)
    assert first == described(settled(one))


def test_modes_and_times_say_nothing_of_who_made_them(layers, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o600)
    root = make_site(tmp_path / "root", 1_600_000_000, 0o077)
    (root / "out").symlink_to(outside)
    (root / PACKAGES / "tmp").mkdir(mode=0o700)
    before = outside.stat().st_mode, outside.stat().st_mtime_ns
    layers.tree.settle(root)
    site = root / PACKAGES
    modes = {path: stat.S_IMODE((root / path).stat().st_mode) for path in ("tmp", "usr")}
    assert modes == {"tmp": 0o1777, "usr": 0o755}
    assert stat.S_IMODE((site / "tmp").stat().st_mode) == 0o755
    assert stat.S_IMODE((site / "demo" / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((site / "demo" / "data, more.txt").stat().st_mode) == 0o644
    assert {path.lstat().st_mtime for path in (root, *root.rglob("*"))} == {layers.tree.EPOCH}
    assert (outside.stat().st_mode, outside.stat().st_mtime_ns) == before
    assert os.readlink(site / "nowhere") == "/no/such/place"
    assert os.readlink(site / "link.txt") == "demo/data, more.txt"


def test_the_time_is_that_of_the_build(tmp_path):
    root = make_site(tmp_path / "root", 1_600_000_000, 0o022)
    settled(root, SOURCE_DATE_EPOCH="1234567890")
    assert {path.lstat().st_mtime for path in (root, *root.rglob("*"))} == {1234567890}


def code_of(path):
    data = path.read_bytes()
    return int.from_bytes(data[4:8], "little"), marshal.loads(data[16:])


def test_compiled_modules_are_believed_whatever_their_time(layers, tmp_path):
    root = make_site(tmp_path / "root", 1_600_000_000, 0o022)
    layers.tree.settle(root)
    (compiled,) = (root / PACKAGES / "demo/__pycache__").glob("__init__.*.pyc")
    flags, code = code_of(compiled)
    assert flags == 0b01  # by hash, unchecked
    assert code.co_filename == f"/{PACKAGES}/demo/__init__.py"
    (double,) = (inner for inner in code.co_consts if hasattr(inner, "co_filename"))
    assert double.co_filename == code.co_filename


def test_a_module_that_came_compiled_by_time_is_compiled_anew(layers, tmp_path):
    root = make_site(tmp_path / "root", 1_600_000_000, 0o022)
    source = root / PACKAGES / "demo" / "__init__.py"
    code = "import py_compile, sys; print(py_compile.compile(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)], capture_output=True, text=True, check=True
    )
    compiled = Path(done.stdout.strip())
    assert code_of(compiled)[0] == 0
    layers.tree.settle(root)
    flags, code = code_of(compiled)
    assert (flags, code.co_filename) == (0b01, f"/{PACKAGES}/demo/__init__.py")


def test_a_module_that_cannot_be_compiled_ends_the_build(layers, tmp_path, capfd):
    (tmp_path / "bad.py").write_text("def (:\n")
    with pytest.raises(SystemExit, match="cannot be compiled"):
        layers.tree.settle(tmp_path)


def test_a_folder_without_modules_is_settled(layers, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\x7fELF")  # begins like a program, and is none
    layers.tree.settle(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_a_record_says_what_is_there(layers, tmp_path):
    root = make_site(tmp_path / "root", 1_600_000_000, 0o022)
    layers.tree.settle(root)
    site = root / PACKAGES
    with (site / "demo-1.dist-info" / "RECORD").open(newline="") as stream:
        rows = list(csv.reader(stream))
    names = ("demo/__init__.py", "demo/data, more.txt", "demo/run.sh")
    expected = [row(name, (site / name).read_bytes()) for name in names]
    assert rows == [*expected, ["demo-1.dist-info/RECORD", "", ""]]


def test_programs_of_a_layer_are_stripped_before_they_are_recorded(layers, program, tmp_path):
    root = make_site(tmp_path / "root", 1_600_000_000, 0o022)
    site = root / PACKAGES
    (site / "demo" / "run.sh").write_bytes(program)
    layers.tree.settle(root)
    data = (site / "demo" / "run.sh").read_bytes()
    assert len(data) < len(program)
    assert row("demo/run.sh", data) in list(
        csv.reader((site / "demo-1.dist-info" / "RECORD").read_text().splitlines())
    )


DEEP = "demo/a/b/c/d/e/f/g/h/i"
TRIMMED = [
    "demo/tests/test_it.py", "demo/tests/data/deeper/x.bin", "demo/sub/tests/x.py", "demo/api.h", "top.pyx",
    "demo/stubs/x.pyi", f"{DEEP}/deep.h", f"{DEEP}/tests/x.py", "demo/libx.a", "numpy/f2py/__init__.py",
    "onnxruntime/tools/x/y.py", "openvino/libs/libopenvino_intel_gpu_plugin.so.2", "PIL/_avif.so",
]  # fmt: skip
KEPT = [
    "demo/__init__.py", "demo/testing/helpers.py", "demo/tests.py", "demo/latests/x.py", "demo/api.H",
    "demo/x.html", "demo/a.avro", "other/onnxruntime/tools/x.py", "openvino/libs/libopenvino.so",
    "onnxruntime/toolset.py", f"{DEEP}/deep.py", "PIL/Image.py",
]  # fmt: skip


def test_what_no_server_reads_is_left_out_and_nothing_else(layers, tmp_path):
    site = tmp_path / PACKAGES
    for name in (*TRIMMED, *KEPT):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    elsewhere = tmp_path / "usr/include/api.h"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("")
    (site / "demo/more").mkdir()
    (site / "demo/more/tests").symlink_to("../testing")
    layers.tree._trim(tmp_path)
    left = {p.relative_to(site).as_posix() for p in site.rglob("*") if not p.is_dir()}
    assert left == set(KEPT)
    assert not (site / "demo/tests").exists()
    assert not (site / "demo/more/tests").is_symlink()
    assert elsewhere.exists()


def test_patterns_are_of_their_section_without_remarks(layers):
    python, packages = (layers.tree._patterns(name) for name in ("python", "packages"))
    assert "config-*" in python
    assert "*.pyx" in packages
    assert not set(python) & {"*.pyx", "openvino/cmake"}
    assert not any("#" in pattern or "[" in pattern for pattern in (*python, *packages))
    assert layers.tree._matches(Path("a/b/tests"), ["*/tests"])
    assert not layers.tree._matches(Path("tests"), ["*/tests"])


def test_what_is_asked_for_must_be_known(layers, tmp_path):
    with pytest.raises(SystemExit, match="frobnicate"):
        layers.tree.main(["frobnicate", str(tmp_path)])


# libraries


@pytest.fixture
def ldd():
    if shutil.which("ldd") is None or not Path("/etc/debian_version").is_file():
        pytest.skip("not a Debian with glibc's ldd")


def test_programs_are_the_elf_files_that_are_no_links(layers, program, tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b", "below/a"):
        (tmp_path / name).write_bytes(program)
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "gone").symlink_to("nothing")
    assert layers.libraries.programs([tmp_path]) == [tmp_path / "b", tmp_path / "below" / "a"]


def test_the_interpreters_libraries_are_found_with_the_links_to_them(layers, ldd, tmp_path):
    found = layers.libraries.needed([Path(sys.executable).resolve()])
    assert any(path.name == "libc.so.6" for path in found)
    assert any(path.name.startswith("ld-linux") for path in found)
    for path in found:
        real = layers.libraries.copy(path, tmp_path)
        assert real == real.resolve()
        place = path.parent.resolve() / path.name
        there = tmp_path / place.relative_to("/")
        assert there.is_symlink() == place.is_symlink()
        if place.is_symlink():
            assert os.readlink(there) == os.readlink(place)
        assert (tmp_path / real.relative_to("/")).read_bytes() == path.read_bytes()


def test_libraries_of_libraries_are_found_wherever_they_lie(layers, compiled, ldd, tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    near = library(compiled, folder / "libnear.so.1.2", "int near(void) { return 3; }",
                   "-Wl,-soname,libnear.so.1")  # fmt: skip
    (folder / "libnear.so.1").symlink_to(near.name)
    here = [f"-Wl,-rpath,{folder}", "-L", folder]
    far = library(compiled, folder / "libfar.so", "int near(void); int far(void) { return near(); }",
                  *here, "-l:libnear.so.1")  # fmt: skip
    user = compiled(tmp_path / "user", "int far(void); int main(void) { return far(); }",
                    *here, "-l:libfar.so")  # fmt: skip
    found = layers.libraries.needed([user])
    assert {far, folder / "libnear.so.1"} <= found
    root = tmp_path / "root"
    assert layers.libraries.copy(folder / "libnear.so.1", root) == near
    below = root / folder.relative_to("/")
    assert os.readlink(below / "libnear.so.1") == "libnear.so.1.2"
    assert (below / "libnear.so.1").read_bytes() == near.read_bytes()


def test_every_missing_library_is_named(layers, compiled, ldd, tmp_path, monkeypatch):
    monkeypatch.setattr(layers.libraries, "AT_ONCE", 1)
    users = []
    for name in ("one", "two"):
        gone = library(compiled, tmp_path / f"lib{name}.so", f"int {name}(void) {{ return 1; }}")
        users.append(library(compiled, tmp_path / f"{name}.so",
                             f"int {name}(void); int use(void) {{ return {name}(); }}", gone))  # fmt: skip
        gone.unlink()
    with pytest.raises(layers.libraries.LibraryError, match=r"libone\.so, .*libtwo\.so"):
        layers.libraries.needed(users)


def test_packages_of_libraries_are_where_scanners_look(layers, ldd, tmp_path):
    found = layers.libraries.needed([Path(sys.executable).resolve()])
    (libc,) = (path.resolve() for path in found if path.name == "libc.so.6")
    layers.libraries.describe([libc, tmp_path / "of no package"], tmp_path)
    (status,) = (tmp_path / "var/lib/dpkg/status.d").iterdir()
    fields = dict(line.split(": ", 1) for line in status.read_text().splitlines() if ": " in line)
    version = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}\n", "libc6"],
        capture_output=True,
        text=True,
    )
    assert (status.name, fields["Package"]) == ("libc6", "libc6")
    assert fields["Version"] in version.stdout.splitlines()


def test_an_interpreter_runs_with_what_was_copied_and_nothing_else(layers, ldd, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("changing the root folder needs root")
    layers.tree.copy_python(tmp_path, [])
    program = Path(sys.executable).resolve().parent / "python"
    code = "import ctypes, json, ssl, zlib; print(json.__cached__, int(ssl.create_default_context().verify_mode))"
    done = subprocess.run(
        ["chroot", str(tmp_path), str(program), "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == str(int(ssl.CERT_REQUIRED))
    names = {path.name for path in (tmp_path / "etc").iterdir()}
    assert {"passwd", "group", "nsswitch.conf", "ld.so.cache", "os-release"} <= names
    assert not list(tmp_path.rglob("site-packages"))
    assert not list(tmp_path.rglob("idlelib"))
    assert {path.lstat().st_mtime for path in tmp_path.rglob("*")} == {layers.tree.EPOCH}
