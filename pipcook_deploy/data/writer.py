"""Writes a split sample by sample; nothing but the sample in hand is in memory."""

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.source import BadSampleError
from pipcook_deploy.data.split import OBJECTS, ORIGINS, TARGETS, Split
from pipcook_deploy.data.targets import TargetKind
from pipcook_deploy.errors import OutputError
from pipcook_deploy.files import sha256
from pipcook_deploy.tensors import INDEX

Array = NDArray[Any]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EPERM)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes a full or read-only disk an `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OutputError(
            f"{folder}: the prepared data cannot be written: {error.strerror}",
            "free some space, or take fewer samples: [data] limit and train_limit",
        ) from error


class GrowingArray:
    """An .npy file that grows by one row at a time along its first axis."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.rows = dtype, shape, 0
        self._stream: BinaryIO = path.open("wb")
        self._header()

    def append(self, row: Array) -> None:
        """One row, of the dtype and shape that the array was made with."""
        self._stream.write(np.ascontiguousarray(row, self.dtype).tobytes())
        self.rows += 1

    def close(self) -> None:
        """Write how many rows there are into the header, which numpy leaves room for."""
        end = self._stream.tell()
        self._stream.seek(0)
        self._header()
        self._stream.seek(end)
        self._stream.close()

    def _header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._stream,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.rows, *self.shape),
            },
        )


class GrowingList:
    """A JSON list that grows by one item at a time."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._stream: TextIO = path.open("w", encoding="utf-8")
        self._stream.write("[")

    def append(self, item: Any) -> None:
        """One item."""
        self._stream.write((", " if self.rows else "") + json.dumps(item, ensure_ascii=False))
        self.rows += 1

    def close(self) -> None:
        """End the list."""
        self._stream.write("]")
        self._stream.close()


class SplitWriter:
    """Fills the folder of a split. Use it with `with`; `split()` gives what was written after that."""

    def __init__(self, folder: Path, name: str, kind: TargetKind | None) -> None:
        self.folder, self.name, self.kind, self.count = folder, name, kind, 0
        self._inputs: dict[str, GrowingArray | GrowingList] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self._targets: GrowingArray | GrowingList | None = None
        self._target_shape: tuple[int, ...] = ()
        with writing(folder):
            (folder / "inputs").mkdir(parents=True)
            self._origins = GrowingList(folder / ORIGINS)

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        files = [*self._inputs.values(), self._origins]
        files += [] if self._targets is None else [self._targets]
        with writing(self.folder):
            for file in files:
                file.close()
            self._write_index()

    def append(self, inputs: Mapping[str, Array], target: Any, origin: str) -> None:
        """One sample; `BadSampleError` when it has another shape than those before."""
        target = np.asarray(target, np.float32) if self.kind == "numbers" else target
        with writing(self.folder):
            if self.count == 0:
                self._open(inputs, target)
            self._check(inputs, target)
            for name, value in inputs.items():
                self._inputs[name].append(value.tolist() if value.dtype == object else value)
            if self._targets is not None:
                self._targets.append(target)
            self._origins.append(origin)
        self.count += 1

    def split(self) -> Split:
        """What was written, with its hash over inputs and targets."""
        names = [f"inputs/{INDEX}"]
        names += sorted(f"inputs/{path.name}" for path in (self.folder / "inputs").glob("[0-9]*"))
        names += [name for name in (TARGETS, OBJECTS) if (self.folder / name).exists()]
        listing = "".join(f"{name} {sha256(self.folder / name)}\n" for name in names)
        digest = hashlib.sha256(listing.encode()).hexdigest()
        return Split(self.name, self.folder, self.count, digest)

    def _open(self, inputs: Mapping[str, Array], target: Any) -> None:
        for number, (name, value) in enumerate(inputs.items()):
            text = value.dtype == object
            path = self.folder / "inputs" / f"{number}.{'json' if text else 'npy'}"
            self._inputs[name] = (
                GrowingList(path) if text else GrowingArray(path, value.dtype, value.shape)
            )
            self._shapes[name] = value.shape, "string" if text else value.dtype.name
        if self.kind == "class":
            self._targets = GrowingArray(self.folder / TARGETS, np.dtype(np.int64), ())
        elif self.kind == "numbers":
            self._target_shape = target.shape
            self._targets = GrowingArray(
                self.folder / TARGETS, np.dtype(np.float32), self._target_shape
            )
        elif self.kind == "objects":
            self._targets = GrowingList(self.folder / OBJECTS)

    def _check(self, inputs: Mapping[str, Array], target: Any) -> None:
        for name, value in inputs.items():
            if value.shape != self._shapes[name][0]:
                raise BadSampleError(
                    f"{name!r} is {list(value.shape)}, samples before it {list(self._shapes[name][0])}: "
                    "declare a resize or pad"
                )
        if self.kind == "numbers" and target.shape != self._target_shape:
            raise BadSampleError(
                f"the target is {list(target.shape)}, those before it {list(self._target_shape)}"
            )

    def _write_index(self) -> None:
        rows = [
            {
                "name": name,
                "file": f"{number}.{'json' if dtype == 'string' else 'npy'}",
                "dtype": dtype,
                "shape": [self.count, *shape],
            }
            for number, (name, (shape, dtype)) in enumerate(self._shapes.items())
        ]
        (self.folder / "inputs" / INDEX).write_text(json.dumps(rows, indent=1) + "\n")
