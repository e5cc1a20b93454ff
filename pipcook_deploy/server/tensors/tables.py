"""Tables (data frames, CSV) -> features: rows of values by input name.

The columns are either the inputs, by name, or together the only input's values, in their order.
"""

import csv
import io
from dataclasses import dataclass
from typing import Any

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.instances import Inputs

TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(slots=True)
class Table:
    """`columns` are None where a table does not name them."""

    columns: list[str] | None
    rows: list[list[Any]]

    def features(self, inputs: Inputs) -> list[dict[str, Any]]:
        """A row is {input name: value or list of values}. 400 if the columns are not the model's."""
        names = [tensor.name for tensor in inputs]
        if self.columns is not None and sorted(self.columns) == sorted(names):
            return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        if len(names) == 1:
            alone = len(self.rows[0]) == 1
            return [{names[0]: row[0] if alone else row} for row in self.rows]
        has = ", ".join(repr(name[:100]) for name in (self.columns or [])[:20]) or "no names"
        wanted = ", ".join(map(repr, names))
        raise HttpError(400, f"the model takes the columns {wanted}; the table has {has}")


def of_split(value: object) -> Table:
    """pandas' `split`: {"columns"?: [...], "data": [[...], ...]}; `index` does not matter."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise HttpError(400, 'a split data frame is {"columns": [...], "data": [[...], ...]}')
    columns = value.get("columns")
    if columns is not None and not _are_names(columns):
        raise HttpError(400, "the columns must be a list of different names")
    return _checked(columns and list(map(str, columns)), value["data"])


def of_records(value: object) -> Table:
    """pandas' `records`: [{column: value, ...}, ...]."""
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise HttpError(400, "records are a list of objects, and not empty")
    columns = list(value[0])
    if any(row.keys() != value[0].keys() for row in value):
        raise HttpError(400, "the records have not all the same columns")
    return _checked(columns, [[row[column] for column in columns] for row in value])


def of_csv(body: bytes, inputs: Inputs, header: str = "") -> Table:
    """`header` is "present", "absent" (RFC 4180's parameter), or "": told by the first row.

    That row is a header if it has the inputs' names, or a cell that is no number where all inputs are numbers.
    """
    try:
        rows = [
            row for row in csv.reader(io.StringIO(body.decode(), newline=""), strict=True) if row
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise HttpError(400, f"the body is not CSV: {error}") from None
    if rows and (header == "present" or (header != "absent" and _is_header(rows[0], inputs))):
        return _checked(rows[0], rows[1:])
    return _checked(None, rows)


def read_cells(features: list[dict[str, Any]], inputs: Inputs, texts: set[str]) -> None:
    """Turn the cells of CSV, in place, into what JSON would have; inputs in `texts` take them as they are."""
    for tensor in inputs:
        if tensor.dtype == "string":
            continue
        for row in features:
            cells = row[tensor.name]
            if isinstance(cells, list):
                row[tensor.name] = [_value(cell, tensor.dtype, tensor.name) for cell in cells]
            elif tensor.name not in texts:
                row[tensor.name] = _value(cells, tensor.dtype, tensor.name)


def _are_names(columns: object) -> bool:
    """pandas numbers the columns that have no names."""
    return (
        isinstance(columns, list)
        and all(isinstance(name, str | int) for name in columns)
        and len({str(name) for name in columns}) == len(columns)
    )


def _checked(columns: list[str] | None, rows: list[Any]) -> Table:
    if not rows:
        raise HttpError(400, "the table has no rows")
    width = (
        len(columns) if columns is not None else len(rows[0]) if isinstance(rows[0], list) else 0
    )
    if not width or any(not isinstance(row, list) or len(row) != width for row in rows):
        raise HttpError(
            400, f"each row of the table must be a list of {width or 'one or more'} cells"
        )
    return Table(columns, rows)


def _is_header(row: list[str], inputs: Inputs) -> bool:
    if sorted(row) == sorted(tensor.name for tensor in inputs):
        return True
    if any(tensor.dtype == "string" for tensor in inputs):
        return False
    return any(cell.strip().lower() not in TRUTH and not _is_number(cell) for cell in row)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _value(cell: str, dtype: str, name: str) -> Any:
    text = cell.strip()
    if dtype == "bool" and text.lower() in TRUTH:
        return TRUTH[text.lower()]
    try:
        if "_" in text or not text.isascii():
            raise ValueError
        value = float(text) if dtype.startswith(("float", "bfloat")) else int(text)
    except ValueError:
        raise HttpError(400, f"input {name!r}: {cell[:50]!r} is no {dtype}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise HttpError(400, f"input {name!r}: {cell[:50]!r} is no number that JSON has")
    return value
