"""Rows of a .csv with a header: numbers, or a text, and what is right."""

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.source import BadSampleError, Sample, Source
from pipcook_deploy.data.targets import TargetKind, class_positions, target_kind
from pipcook_deploy.errors import UsageError
from pipcook_deploy.preprocess.order import starts_with
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.text import did_you_mean

OUTPUT = "output"  # what Pipcook's text datasets call the label; the text is `input`
LONGEST = 1 << 24  # characters of one field: a whole mail fits
DELIMITERS = ",;\t"


class CsvFile(Source):
    """Opening it finds where every row starts and what its label is; the rest is read when asked for."""

    def __init__(self, spec: ModelSpec, path: Path, label: str, columns: tuple[str, ...]) -> None:
        csv.field_size_limit(LONGEST)
        self.origin, self._path, self._spec = path.name, path, spec
        self._starts = array("q")
        self._label: str | None = None
        labels: list[str] = []
        try:
            self._index(label, labels)
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as CSV: {error}") from error
        if not self._starts:
            raise UsageError(f"{path}: no rows below the header")
        self.unlabelled = f"no column {label!r} (found: {', '.join(self.header)})"
        self._columns = self._inputs(columns)
        self.kind = None if self._label is None else target_kind(spec, _whole(labels))
        self._targets = self._values(labels, self.kind)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, number: int) -> Sample:
        """One row. A cell that is no number, or a missing one, makes it bad."""
        row = self._row(number)
        inputs = {name: self._input(row, found) for name, found in self._columns.items()}
        if self._targets is None:
            return Sample(inputs)
        target = self._targets[number]
        if self.kind == "class":
            return Sample(inputs, int(target))
        if not np.isfinite(target):
            raise BadSampleError(f"{self._label!r} is not a number")
        return Sample(inputs, np.float32(target))

    def name(self, number: int) -> str:
        """The file and the row, counted from 1 below the header."""
        return f"{self._path.name}: row {number + 1}"

    def classes(self) -> NDArray[Any] | None:
        """By the label's column."""
        return self._targets if self.kind == "class" else None

    def _index(self, label: str, labels: list[str]) -> None:
        with self._path.open("rb") as stream:
            first = stream.readline().decode("utf-8-sig")
            self._delimiter = max(DELIMITERS, key=first.count)
            stream.seek(0)
            lines = _Lines(stream)
            rows = csv.reader(lines, delimiter=self._delimiter)
            self.header = next(rows, [])
            if len(set(self.header)) != len(self.header):
                raise UsageError(f"{self._path}: two columns have the same name")
            self._label = next((n for n in (label, OUTPUT) if n in self.header), None)
            place = None if self._label is None else self.header.index(self._label)
            start = lines.position
            for row in rows:
                if row:
                    self._starts.append(start)
                    if place is not None:
                        labels.append(row[place] if place < len(row) else "")
                start = lines.position

    def _row(self, number: int) -> dict[str, str]:
        with self._path.open("rb") as stream:
            stream.seek(self._starts[number])
            try:
                row = next(csv.reader(_Lines(stream), delimiter=self._delimiter))
            except (csv.Error, UnicodeDecodeError) as error:
                raise BadSampleError(f"cannot be read: {error}") from error
        if len(row) != len(self.header):
            raise BadSampleError(f"has {len(row)} cells, the header {len(self.header)}")
        return dict(zip(self.header, row, strict=True))

    def _inputs(self, columns: tuple[str, ...]) -> dict[str, tuple[str, ...] | str]:
        """By input name: the columns whose numbers it takes, or the one column of its text."""
        for column in columns:
            if column not in self.header:
                raise UsageError(
                    f"{self._path}: no column {column!r}{did_you_mean(column, self.header)}",
                    f"the columns are {', '.join(self.header)}",
                )
        free = columns or tuple(name for name in self.header if name != self._label)
        names = [tensor.name for tensor in self._spec.inputs]
        if len(names) > 1:
            missing = [name for name in names if name not in self.header]
            if missing:
                raise UsageError(
                    f"{self._path}: no column for the input {missing[0]!r}",
                    "name columns as the model names its inputs, or give an .npz",
                )
            return {name: name if self._reads_text(name) else (name,) for name in names}
        if not self._reads_text(names[0]):
            return {names[0]: free}
        if len(free) != 1:
            free = tuple(name for name in free if name in ("input", "text"))[:1] or free
        if len(free) != 1:
            raise UsageError(
                f"{self._path}: which column is the text? ({', '.join(free) or 'none is left'})",
                "say so: [data] columns = ['...']",
            )
        return {names[0]: free[0]}

    def _reads_text(self, name: str) -> bool:
        tensor = next(tensor for tensor in self._spec.inputs if tensor.name == name)
        operations = self._spec.preprocessing.get(name, ())
        return tensor.dtype == "string" or starts_with(operations) == "text"

    def _input(self, row: dict[str, str], columns: tuple[str, ...] | str) -> object:
        if isinstance(columns, str):
            return row[columns]
        numbers = []
        for column in columns:
            try:
                numbers.append(float(row[column]))
            except ValueError:
                raise BadSampleError(f"{column!r} is {row[column][:40]!r}, not a number") from None
        alone = len(self._columns) > 1
        return numbers if not alone else np.array(numbers[0])

    def _values(self, labels: list[str], kind: TargetKind | None) -> NDArray[Any] | None:
        if kind is None:
            return None
        where = f"{self._path}: column {self._label!r}"
        if kind == "class":
            return class_positions(np.array(labels, dtype=object), self._spec, where)
        if kind == "objects":
            raise UsageError(
                f"{self._path}: a CSV has no boxes", "give COCO or Pascal VOC annotations"
            )
        return np.array([_number(label) for label in labels], np.float64)


class _Lines:
    """A file's lines as text, and where the next one starts."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.position = stream, stream.tell()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline()
        if not line:
            raise StopIteration
        start, self.position = self.position, self.position + len(line)
        return line.decode("utf-8-sig" if start == 0 else "utf-8")


def _whole(labels: list[str]) -> bool:
    """Names, or whole numbers only."""
    numbers = [_number(label) for label in set(labels)]
    if all(np.isnan(number) for number in numbers):
        return True
    return all(number == np.floor(number) for number in numbers)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
