"""Named tensors in a folder: what golden samples are, and how workers hand arrays on.

`tensors.json` lists name, file, dtype and shape; numbers are `.npy` files, text is a JSON list.
"""

import errno
import json
import os
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import BundleError
from pipcook_deploy.runtime import Tensors

INDEX = "tensors.json"


def save_tensors(folder: Path, tensors: Tensors) -> None:
    """Write `tensors` into `folder`, which is made; the same tensors give the same bytes."""
    import numpy as np

    folder.mkdir(parents=True)
    rows = []
    for number, (name, value) in enumerate(tensors.items()):
        text = value.dtype.kind in "OUS"
        file = f"{number}.json" if text else f"{number}.npy"
        if text:
            (folder / file).write_text(json.dumps(_texts(value), ensure_ascii=False))
        else:
            _save(folder / file, np.ascontiguousarray(value))
        dtype = "string" if text else value.dtype.name
        rows.append({"name": name, "file": file, "dtype": dtype, "shape": list(value.shape)})
    (folder / INDEX).write_text(json.dumps(rows, indent=1) + "\n")


def _save(path: Path, value: Any) -> None:
    import numpy as np

    try:
        np.save(path, value, allow_pickle=False)
    except OSError as error:
        # numpy writes by itself, and knows one reason for less than all of it.
        if error.errno is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def load_tensors(folder: Path, count: int | None = None) -> Tensors:
    """Read what `save_tensors` wrote; `count` keeps the first samples only.

    Raises `BundleError` when a file is missing or is not what the index says.
    """
    try:
        rows = json.loads((folder / INDEX).read_text())
        return {str(row["name"]): _load(folder, row, count) for row in rows}
    except (OSError, EOFError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BundleError(f"{folder}: the tensors in it cannot be read: {error}") from error


def _load(folder: Path, row: dict[str, Any], count: int | None) -> Any:
    import numpy as np

    path = folder / Path(row["file"]).name
    if row["dtype"] == "string":
        texts = np.array(json.loads(path.read_text()), dtype=object)
        return texts.reshape(row["shape"])[:count]
    value = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a huge shape costs nothing
    if list(value.shape) != row["shape"] or value.dtype.name != row["dtype"]:
        raise ValueError(f"{path.name} is {value.dtype.name} {list(value.shape)}")
    return np.array(value if count is None else value[:count])


def _texts(value: Any) -> Any:
    def text(item: Any) -> Any:
        if isinstance(item, list):
            return [text(part) for part in item]
        return item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else str(item)

    return text(value.tolist())
