"""A part of the user's data, prepared: the model's own tensors on disk, mapped into memory."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import BundleError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.tensors import INDEX

TARGETS = "targets.npy"
OBJECTS = "objects.json"
ORIGINS = "origins.json"


@dataclass(frozen=True)
class Split:
    """`count` samples below `folder`, in a fixed order.

    `inputs/` holds what `save_tensors` writes: the model's inputs after preprocessing, by their names in
    the spec, batch axis first. `targets.npy` holds what is right: class positions int64 [n], or numbers
    float32 [n, ...]; `objects.json`, for detection, a list with {"boxes": [[y0, x0, y1, x1]], "labels": []} a
    sample, relative to the picture that the model sees, and "crowd" (0 or 1 a box) where COCO says so; neither is there when nobody said what is right. `origins.json` says where each sample came from.
    """

    name: str  # "train", "calibration", "selection", "verdict"
    folder: Path
    count: int
    sha256: str  # over inputs and targets

    def inputs(self) -> Tensors:
        """Arrays mapped from disk: what is not read costs no memory."""
        import numpy as np

        folder = self.folder / "inputs"
        try:
            rows = json.loads((folder / INDEX).read_text())
            return {
                row["name"]: np.array(json.loads((folder / row["file"]).read_text()), dtype=object)
                if row["dtype"] == "string"
                else np.load(folder / row["file"], mmap_mode="r", allow_pickle=False)
                for row in rows
            }
        except (OSError, LookupError, ValueError) as error:
            raise BundleError(f"{folder}: the tensors in it cannot be read: {error}") from error

    def targets(self) -> Any:
        """Class positions or numbers as an array, objects as a list; None when nobody said."""
        import numpy as np

        if (self.folder / TARGETS).exists():
            return np.load(self.folder / TARGETS, mmap_mode="r", allow_pickle=False)
        if (self.folder / OBJECTS).exists():
            return json.loads((self.folder / OBJECTS).read_text())
        return None

    def origins(self) -> list[str]:
        """Where each sample came from: a file, or a row of one."""
        found: list[str] = json.loads((self.folder / ORIGINS).read_text())
        return found

    def to_json(self) -> dict[str, Any]:
        """As plain data, for a worker."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Split":
        """The inverse of `to_json`."""
        return cls(**(data | {"folder": Path(data["folder"])}))
