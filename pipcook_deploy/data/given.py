"""Samples that a Python caller hands over: arrays, any iterable, or a `tf.data.Dataset`."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.arrays import ArraySource
from pipcook_deploy.data.preparation import Preparation
from pipcook_deploy.data.source import BadSampleError, Sample, Source
from pipcook_deploy.data.split import Split
from pipcook_deploy.data.targets import TargetKind, class_count, class_position, target_kind
from pipcook_deploy.data.writer import SplitWriter
from pipcook_deploy.errors import UsageError
from pipcook_deploy.spec import ModelSpec, TensorSpec


class PooledSource(Source):
    """What came once, prepared and kept on disk, so that it can be read in any order."""

    prepared = True

    def __init__(self, pool: Split, kind: TargetKind | None, origin: str, bad: list[str]) -> None:
        self.origin, self.kind, self.bad = origin, kind, bad
        self.unlabelled = "the samples come without targets: give (input, target) pairs"
        self._inputs, self._targets, self._count = pool.inputs(), pool.targets(), pool.count
        self._names = pool.origins()

    def __len__(self) -> int:
        return self._count

    def read(self, number: int) -> Sample:
        """One prepared sample."""
        rows = {
            name: np.asarray(value[number], value.dtype) for name, value in self._inputs.items()
        }
        if self._targets is None:
            return Sample(rows)
        target = self._targets[number]
        return Sample(rows, int(target) if self.kind == "class" else target)

    def name(self, number: int) -> str:
        """Its place in what was given."""
        return self._names[number]

    def classes(self) -> NDArray[Any] | None:
        """As they came."""
        return np.array(self._targets) if self.kind == "class" else None


def open_given(
    value: Any, role: str, spec: ModelSpec, label: str, most: int | None, pool: Path
) -> Source:
    """Samples of a Python value.

    An array, (inputs, targets) arrays, or dicts of arrays by input name are used as they are. Of anything else
    every item is a sample or a batch: (input, target), (input, target, weight), an input, or a dict by input name,
    with the target at `label`. At most the first `most` samples are taken; they are prepared into `pool`.
    """
    arrays = _as_arrays(value, spec)
    if arrays is not None:
        return ArraySource(spec, arrays[0], arrays[1], role, f"{role} data")
    if not isinstance(value, Iterable):
        raise UsageError(
            f"{role} data: {type(value).__name__} cannot be read",
            "give a path, arrays, an iterable of (input, target), or a tf.data.Dataset",
        )
    if most is None and _is_endless(value):
        raise UsageError(
            f"{role} data: the dataset never ends",
            f"leave out repeat(), or set [data] {'train_limit' if role == 'train' else 'limit'}",
        )
    samples = islice(_samples(value, spec, label, role), most)
    return _pooled(samples, role, spec, pool)


def _pooled(
    samples: Iterator[tuple[Mapping[str, object], Any]], role: str, spec: ModelSpec, pool: Path
) -> PooledSource:
    preparation, bad, number = Preparation(spec), list[str](), -1
    first = next(samples, None)
    if first is None:
        raise UsageError(f"{role} data: there are no samples in it")
    kind = None if first[1] is None else target_kind(spec, _whole(first[1], spec))
    with SplitWriter(pool, role, kind) as writer:
        for number, (inputs, target) in enumerate(_again(first, samples)):
            name = f"{role}[{number}]"
            if (target is None) != (kind is None):
                raise UsageError(f"{name}: some samples have a target, others have none")
            try:
                right = None if kind is None else _target(target, kind, spec, name)
                writer.append(preparation(inputs), right, name)
            except BadSampleError as error:
                bad.append(f"{name}: {error.message}")
    if not writer.count:
        raise UsageError(f"{role} data: none of {number + 1} samples can be used: {bad[0]}")
    return PooledSource(writer.split(), kind, f"{role} data from Python", bad)


def _is_endless(value: Any) -> bool:
    """Whether a `tf.data.Dataset` says so itself: its cardinality is then -1."""
    return hasattr(value, "cardinality") and int(value.cardinality()) == -1


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _as_arrays(value: Any, spec: ModelSpec) -> tuple[dict[str, Any], Any] | None:
    inputs, targets = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if targets is not None and not _is_array(targets):
        return None
    if isinstance(inputs, Mapping) and inputs and all(map(_is_array, inputs.values())):
        return {str(name): np.asarray(array) for name, array in inputs.items()}, targets
    if not _is_array(inputs) or len(spec.inputs) != 1 or len(inputs.shape) == 0:
        return None
    return {spec.inputs[0].name: np.asarray(inputs)}, (
        None if targets is None else np.asarray(targets)
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")


def _samples(
    value: Any, spec: ModelSpec, label: str, role: str
) -> Iterator[tuple[Mapping[str, object], Any]]:
    preparation = Preparation(spec)
    items = value.as_numpy_iterator() if hasattr(value, "as_numpy_iterator") else value
    for item in items:
        inputs, target = _parts(item, spec, label, role)
        if not _is_batch(inputs, spec, preparation):
            yield inputs, target
            continue
        for row in range(len(next(iter(inputs.values())))):
            rows = {name: array[row] for name, array in inputs.items()}
            yield rows, None if target is None else target[row]


def _parts(item: Any, spec: ModelSpec, label: str, role: str) -> tuple[dict[str, Any], Any]:
    inputs, target = item, None
    if isinstance(item, tuple) and len(item) in (2, 3):
        inputs, target = item[0], item[1]
    if isinstance(inputs, Mapping):
        found = {str(name): _plain(value) for name, value in inputs.items()}
        names = {tensor.name for tensor in spec.inputs}
        if target is None and label not in names:
            target = found.pop(label, None)
        return found, target
    if len(spec.inputs) != 1:
        raise UsageError(
            f"{role} data: the model has several inputs: give dicts with "
            f"{', '.join(tensor.name for tensor in spec.inputs)}, not {type(inputs).__name__}"
        )
    return {spec.inputs[0].name: _plain(inputs)}, target


def _plain(value: Any) -> Any:
    """Tensors of a framework as numpy arrays; what Python itself has stays."""
    if isinstance(value, np.ndarray | str | bytes | bytearray | memoryview | list | tuple):
        return value
    return np.asarray(value)


def _is_batch(inputs: Mapping[str, Any], spec: ModelSpec, preparation: Preparation) -> bool:
    for tensor in spec.inputs:
        value = inputs.get(tensor.name)
        if isinstance(value, np.ndarray):
            pipeline = preparation.pipelines.get(tensor.name)
            return _is_batched(tensor, value, "" if pipeline is None else pipeline.takes)
    return False


def _is_batched(tensor: TensorSpec, value: NDArray[Any], takes: str) -> bool:
    if value.dtype.kind in "OSU" and (takes in ("encoded", "text")):
        return value.ndim == 1
    if takes in ("encoded", "image") and value.dtype == np.uint8:
        return value.ndim == 4 or (value.ndim == 3 and value.shape[2] not in (1, 3, 4))
    return value.ndim == len(tensor.shape)


def _whole(target: Any, spec: ModelSpec) -> bool:
    if isinstance(target, str | bytes | bool | int):
        return True
    if isinstance(target, Mapping):
        return False
    value = np.asarray(target)
    one_hot = value.ndim == 1 and len(value) == class_count(spec)
    return value.dtype.kind in "biuUSO" and (value.size == 1 or one_hot)


def _target(target: Any, kind: TargetKind, spec: ModelSpec, name: str) -> Any:
    if kind == "objects":
        if not isinstance(target, Mapping) or not {"boxes", "labels"} <= set(target):
            raise UsageError(f"{name}: the target is not {{'boxes': [...], 'labels': [...]}}")
        boxes = np.asarray(target["boxes"], np.float64).reshape(-1, 4).tolist()
        labels = [class_position(_item(one), spec, name) for one in target["labels"]]
        if len(boxes) != len(labels):
            raise UsageError(f"{name}: {len(boxes)} boxes, but {len(labels)} labels")
        return {"boxes": boxes, "labels": labels}
    if kind == "numbers":
        return np.asarray(target, np.float32)
    value = np.asarray(target)
    if value.ndim == 1 and value.size == class_count(spec) and value.size > 1:
        return int(value.argmax())
    if value.size != 1:
        raise UsageError(f"{name}: the target {list(value.shape)} is not one class")
    return class_position(
        value.reshape(-1)[0].item() if value.dtype != object else target, spec, name
    )


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
