"""Pictures with objects: each object's box is brought to where the model sees it."""

from pathlib import Path
from typing import Any

from pipcook_deploy.data.annotations import Annotated, read_annotations
from pipcook_deploy.data.image_folder import picture_input
from pipcook_deploy.data.source import BadSampleError, Sample, Source
from pipcook_deploy.data.targets import class_position
from pipcook_deploy.errors import UsageError
from pipcook_deploy.preprocess.decode import Limits, decode
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.operations import CenterCrop, Decode, Operation, Resize
from pipcook_deploy.preprocess.resample import windows
from pipcook_deploy.preprocess.taps import Window
from pipcook_deploy.spec import ModelSpec

Box = tuple[float, float, float, float]


class DetectionFolder(Source):
    """Boxes are [y0, x0, y1, x1] relative to the picture after preprocessing, 0 to 1; objects that a crop cuts
    away are left out. Pascal VOC's `difficult` is not looked at."""

    parallel = True
    kind = "objects"

    def __init__(self, spec: ModelSpec, path: Path) -> None:
        self._input = picture_input(spec, path)
        self._operations = spec.preprocessing[self._input]
        self._pictures, form = read_annotations(path)
        self.origin, self._root = f"{form}: {path.name}", path.parent
        if not self._pictures:
            raise UsageError(f"{path}: no pictures in it")
        self._places = self._labels(spec, path)

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, number: int) -> Sample:
        """The picture's pixels and what is on it."""
        annotated = self._pictures[number]
        first = self._operations[0]
        assert isinstance(first, Decode)  # `picture_input` saw it
        try:
            pixels = decode(first, annotated.path.read_bytes(), Limits())
        except OSError as error:
            raise BadSampleError(f"cannot be read: {error.strerror}") from error
        except PreprocessingError as error:
            raise BadSampleError(error.message) from error
        height, width = pixels.shape[:2]
        said = annotated.size or (height, width)
        if said != (height, width):
            raise BadSampleError(f"is {height}x{width}, its annotation says {said[0]}x{said[1]}")
        return Sample({self._input: pixels}, self._objects(annotated, (height, width)))

    def name(self, number: int) -> str:
        """The picture's file."""
        path = self._pictures[number].path
        near = path.is_relative_to(self._root)
        return (path.relative_to(self._root) if near else path).as_posix()

    def _objects(self, annotated: Annotated, size: tuple[int, int]) -> dict[str, Any]:
        boxes, labels, crowd = [], [], []
        height, width = size
        for box, label, many in zip(
            annotated.boxes, annotated.labels, annotated.crowd, strict=True
        ):
            relative = (box[0] / height, box[1] / width, box[2] / height, box[3] / width)
            seen = seen_box(relative, size, self._operations)
            if seen is not None:
                boxes.append(list(seen))
                labels.append(self._places[label])
                crowd.append(many)
        return {"boxes": boxes, "labels": labels, "crowd": crowd}

    def _labels(self, spec: ModelSpec, path: Path) -> dict[str, int]:
        names = sorted({label for picture in self._pictures for label in picture.labels})
        if spec.labels:
            return {name: class_position(name, spec, str(path)) for name in names}
        self.notes = (f"the model has no labels: classes are {', '.join(names[:10])}, by name",)
        return {name: place for place, name in enumerate(names)}


def seen_box(box: Box, size: tuple[int, int], operations: tuple[Operation, ...]) -> Box | None:
    """A relative box on a picture of `size` (height, width), relative to what the operations leave of it.

    None when nothing of it is left.
    """
    height, width = size
    for operation in operations:
        if isinstance(operation, Resize):
            rows, columns = windows(operation, height, width)
        elif isinstance(operation, CenterCrop):
            rows = _cropped(height, operation.height)
            columns = _cropped(width, operation.width)
        else:
            continue
        box = (
            _seen(box[0], rows),
            _seen(box[1], columns),
            _seen(box[2], rows),
            _seen(box[3], columns),
        )
        height, width = rows.count, columns.count
    return box if box[2] > box[0] and box[3] > box[1] else None


def _cropped(size: int, length: int) -> Window:
    return Window(size, size, (size - length) // 2, length)


def _seen(side: float, window: Window) -> float:
    place: float = (side * window.target - window.start) / window.count
    return min(max(place, 0.0), 1.0)
