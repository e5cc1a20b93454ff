"""HDF5 files of Keras, opened so that damage is a `SourceError`."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from pipcook_deploy.errors import SourceError

MAGIC = b"\x89HDF\r\n\x1a\n"


@contextmanager
def opened(file: Path | BinaryIO, where: str) -> Iterator[Any]:
    """An `h5py.File` for reading."""
    import h5py

    try:
        with h5py.File(file, "r") as h5:
            yield h5
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise SourceError(
            f"{where}: a truncated or damaged HDF5 file: {error}", "copy or download it again"
        ) from error


def text(value: Any) -> str | None:
    """An attribute as text; None if it is something else."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def datasets(group: Any, where: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and bytes of every dataset below a group.

    Raises `SourceError` for links to other files and for data kept in other files.
    """
    import h5py

    found: dict[str, tuple[tuple[int, ...], int]] = {}
    stack = [(group, "")]
    while stack:
        current, prefix = stack.pop()
        for name in current:
            if isinstance(current.get(name, getlink=True), h5py.ExternalLink):
                raise SourceError(f"{where}: {prefix}{name} is a link to another file")
            item = current[name]
            if isinstance(item, h5py.Group):
                if prefix.count("/") > 200:
                    raise SourceError(f"{where}: groups nested too deep")
                stack.append((item, f"{prefix}{name}/"))
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise SourceError(f"{where}: {prefix}{name} is kept in another file")
                shape = tuple(int(size) for size in item.shape or ())
                found[prefix + name] = (shape, prod(shape) * item.dtype.itemsize)
    return found


def count(found: dict[str, tuple[tuple[int, ...], int]]) -> tuple[int, int]:
    """Parameters and bytes of the model's own weights: not the optimizer's, not random seeds."""
    own = [v for k, v in found.items() if "optimizer" not in k and "seed_generator" not in k]
    return sum(prod(shape) for shape, _ in own), sum(size for _, size in own)
