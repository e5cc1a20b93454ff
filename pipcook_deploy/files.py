"""Files: hashes, sizes on the wire, and outputs that appear whole or not at all."""

import errno
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipcook_deploy.errors import OutputError

BROTLI_QUALITY = 5  # what servers use on the fly; 11 takes half a minute for a 14 MB model


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def wire_sizes(path: Path) -> tuple[int, int]:
    """Bytes of a file as gzip (level 6) and as brotli (`BROTLI_QUALITY`) would send it."""
    import brotli

    gzip, br = zlib.compressobj(6, wbits=31), brotli.Compressor(quality=BROTLI_QUALITY)
    gzip_size = br_size = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            gzip_size += len(gzip.compress(block))
            br_size += len(br.process(block))
    return gzip_size + len(gzip.flush()), br_size + len(br.finish())


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by its relative POSIX name."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


@contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A scratch folder beside `final`; its subfolder `bundle` takes the place when the block ends well.

    An error or an interrupt removes it; one that a killed process left behind is removed by the next
    run. An older bundle at `final` is replaced; anything else there is left alone with an `OutputError`.
    """
    final = Path(os.path.abspath(final))  # noqa: PTH100 - resolve() would follow a final symlink
    if not final.name:
        raise OutputError(f"{final}: is not a place for a bundle", "choose another --out")
    staging = final.with_name(f".{final.name}.staging-{os.getpid()}")
    try:
        _check_place(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(final)
        (staging / "bundle").mkdir(parents=True)
    except OSError as error:
        raise _output_error(final, error) from error
    try:
        yield staging
        replace_folder(staging / "bundle", final)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise _output_error(final, error) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Move `new` to `final`; a folder that is there already is removed only after the move."""
    sync_tree(new)
    if not final.exists():
        new.rename(final)
        return
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    final.rename(old)
    try:
        new.rename(final)
    except BaseException:
        old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a file beside its place and move it there. Raises `OutputError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise _output_error(path, error) from error
        raise


def sync_tree(folder: Path) -> None:
    """Flush every file to disk, so that a power cut after the move finds them whole."""
    for path in files_below(folder):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _check_place(final: Path) -> None:
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise OutputError(f"{final}: is there already and is not a folder", "choose another --out")
    if final.is_dir() and any(final.iterdir()) and not (final / "manifest.json").is_file():
        raise OutputError(
            f"{final}: is a folder that is not a bundle; it is left alone", "choose another --out"
        )


def remove_stale(final: Path) -> None:
    """Remove what killed runs left beside `final`; an old folder that was being replaced comes back."""
    pattern = re.compile(rf"\.{re.escape(final.name)}\.(staging|old)-(\d+)")
    for path in final.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None or _alive(int(match[2])):
            continue
        if match[1] == "old" and not final.exists():
            path.rename(final)  # killed between the two moves: the old bundle comes back
        else:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written: {error.strerror}", "free some space or choose another --out"
    )
