"""Makes the folders that become an image's layers.

`tree.py install ROOT OPTION...` lets pip install below a folder. `tree.py python ROOT FOLDER...` copies the interpreter, its
library, and the shared libraries that it and the packages in the other folders need. `tree.py describe ROOT MODEL OPTION...`
writes the bill of materials below ROOT. Each leaves its folders the same whenever they are made: modes, times, modules.
"""

import base64
import compileall
import csv
import fnmatch
import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import elf
import libraries

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))
NOT_COPIED = Path(__file__).with_name("not_copied.txt")
ACCOUNTS = """root:x:0:0:root:/root:/sbin/nologin
app:x:10001:10001:app:/tmp:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
"""
GROUP = "root:x:0:\napp:x:10001:\nnogroup:x:65534:\n"


def install(root: Path, options: list[str]) -> int:
    """Where the base's own interpreter looks for packages, but below `root`; pip's exit code."""
    pip = [sys.executable, "-m", "pip", "install", "--root", str(root), "--prefix", sys.base_prefix]
    quiet = [
        "--no-cache-dir",
        "--no-compile",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    ]
    environment = os.environ | {"PIP_ROOT_USER_ACTION": "ignore"}
    code = subprocess.run([*pip, *quiet, *options], env=environment, check=False).returncode
    if code == 0:
        _trim(root)
        settle(root)
    return code


def copy_python(root: Path, others: list[Path]) -> None:
    """An interpreter that runs without the rest of the base image."""
    program = Path(sys.executable).resolve()
    _copy_file(program, root)
    for name in ("python3", "python"):
        link = root / program.parent.relative_to("/") / name
        link.symlink_to(program.name)
    for key in ("stdlib", "platstdlib"):
        library = Path(sysconfig.get_path(key))
        _copy_library(library, root)
    files = libraries.programs([root, *others])
    inside = {path for folder in (root, *others) for path in [folder.resolve()]}
    wanted = {
        path
        for path in libraries.needed(files)
        if not any(folder in path.resolve().parents for folder in inside)
    }
    copied = [libraries.copy(path, root) for path in sorted(wanted)]
    _root_files(root)
    os_release = Path("/etc/os-release").resolve()
    if os_release.is_file():
        _copy_file(os_release, root)
        (root / "etc/os-release").unlink(missing_ok=True)
        (root / "etc/os-release").symlink_to(f"..{os_release}")
        copied.append(os_release)
    libraries.describe(copied, root)
    _make_loader_cache(root)
    settle(root)


def describe(root: Path, model: Path, options: list[str]) -> int:
    """The bill of materials; the exit code of what writes it."""
    import sbom

    code = sbom.main(options)
    if code == 0:
        settle(root)
        settle(model)
    return code


def settle(root: Path) -> None:
    """The same bytes, modes and times whenever the same files are put there."""
    for path in libraries.programs([root]):
        elf.strip(path)
    for record in sorted(root.rglob("site-packages/*.dist-info/RECORD")):
        _correct(record)
    _compile(root)
    for path in [*root.rglob("*"), root]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o111
            path.chmod(0o1777 if path == root / "tmp" else 0o755 if executable else 0o644)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def _copy_file(path: Path, root: Path) -> None:
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)


def _copy_library(library: Path, root: Path) -> None:
    patterns = _patterns("python")

    def ignored(folder: str, names: list[str]) -> set[str]:
        below = Path(folder).relative_to(library)
        return {name for name in names if _matches(below / name, patterns)}

    target = root / library.relative_to("/")
    shutil.copytree(library, target, ignore=ignored, symlinks=True, dirs_exist_ok=True)


def _root_files(root: Path) -> None:
    for link, target in libraries.links_of_the_root(root):
        if not link.exists() and (root / target).exists():
            link.symlink_to(target)
    for name in ("etc", "tmp"):
        (root / name).mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def _make_loader_cache(root: Path) -> None:
    """So that libraries in places of the base's own, such as /usr/local/lib, are found."""
    folders = sorted({f"/{p.parent.relative_to(root)}" for p in root.rglob("*.so*") if p.is_file()})
    own = [folder for folder in folders if "/python" not in folder]
    (root / "etc/ld.so.conf").write_text("".join(f"{folder}\n" for folder in own))
    # -X: no new links; the auxiliary cache would hold inode numbers and times.
    subprocess.run(["ldconfig", "-X", "-r", str(root)], check=True)
    shutil.rmtree(root / "var/cache", ignore_errors=True)


def _trim(root: Path) -> None:
    """Leave out what no server reads: tests, headers, sources of extensions."""
    patterns = _patterns("packages")
    for site in sorted(root.rglob("site-packages")):
        # Deepest first: a folder is empty when its turn comes.
        for path in sorted(site.rglob("*"), reverse=True):
            below = path.relative_to(site)
            if not any(_matches(part, patterns) for part in (below, *below.parents)):
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def _correct(record: Path) -> None:
    """A distribution's list of its files, with their hashes, as they are now."""
    with record.open(encoding="utf-8", newline="") as stream:
        listed = [row[0] for row in csv.reader(stream) if row]
    rows = [_row(name, record) for name in listed if (record.parents[1] / name).exists()]
    with record.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def _row(name: str, record: Path) -> list[str]:
    path = record.parents[1] / name
    if path == record:
        return [name, "", ""]
    data = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return [name, f"sha256={digest}", str(len(data))]


def _compile(root: Path) -> None:
    """Modules start faster compiled; a file's time must not decide whether that is believed."""
    if not any(root.rglob("*.py")):
        return
    compiled = compileall.compile_dir(
        root,
        maxlevels=50,
        quiet=1,
        force=True,  # what a package brings along is believed only as long as its source has its time
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise SystemExit(f"{root}: some modules cannot be compiled")


def _patterns(section: str) -> list[str]:
    """The patterns below `[section]` of not_copied.txt."""
    found: list[str] = []
    current = ""
    for line in NOT_COPIED.read_text(encoding="utf-8").splitlines():
        text = line.split("#", 1)[0].strip()
        if text.startswith("["):
            current = text.strip("[]")
        elif text and current == section:
            found.append(text)
    return found


def _matches(path: Path, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(path.as_posix(), pattern) for pattern in patterns)


def main(arguments: list[str]) -> int:
    """Do what the first argument says; the exit code."""
    what, root, *more = arguments
    if what == "install":
        return install(Path(root), more)
    if what == "describe":
        return describe(Path(root), Path(more[0]), more[1:])
    if what == "python":
        copy_python(Path(root), [Path(folder) for folder in more])
        return 0
    raise SystemExit(f"{what}: is none of install, python, describe")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except libraries.LibraryError as error:
        sys.exit(f"error: {error}")
