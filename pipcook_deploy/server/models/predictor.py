"""From what people send (images, texts, numbers, rows) to tensors, and from scores to labelled answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipcook_deploy.preprocess.decode import Limits, size
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.execute import Pipeline, stack
from pipcook_deploy.preprocess.operations import Decode
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.models.values import image_bytes, plain
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.spec import ModelSpec, TensorSpec

SLACK = 0.01  # how far rounding may carry a probability out of [0, 1]


@dataclass(frozen=True)
class Score:
    """One class of one answer. `id` is the position in the first output's last axis."""

    id: int
    category: str
    score: float


class UnsuitableModelError(PreprocessingError):
    """The model cannot answer this kind of request at all."""


def nothing_to_check() -> None:
    """No one stops the preparing."""


class Predictor:
    """The preprocessing that a spec declares, and its labels. Thread-safe.

    `kinds` says of each input what makes one sample of it: "image", "text", "numbers", or "" where that is
    not known.
    """

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        self.spec = spec
        self._limits = limits = Limits(max_pixels=settings.max_pixels)
        self._pipelines = {
            name: Pipeline(operations, limits) for name, operations in spec.preprocessing.items()
        }
        self.kinds = {tensor.name: self._kind(tensor) for tensor in spec.inputs}
        self.takes = self._takes()

    def _takes(self) -> str:
        """What a request sends: the only input's kind, "row" for several inputs, "" if that is not known."""
        kinds = list(self.kinds.values())
        sizes = {tensor.shape[0] for tensor in self.spec.inputs if tensor.shape} - {None}
        if not kinds or not all(kinds) or len(sizes) > 1:
            return ""
        return kinds[0] if len(kinds) == 1 else "row"

    def _kind(self, tensor: TensorSpec) -> str:
        pipeline = self._pipelines.get(tensor.name)
        if not tensor.shape:
            return ""  # no axis along which samples could lie
        if pipeline is None:
            picture = self.spec.task == "image-classification" and len(self.spec.inputs) == 1
            if picture or _like_a_picture(tensor):
                return ""
            return "text" if tensor.dtype == "string" else "numbers"
        return {"encoded": "image", "image": "", "text": "text"}.get(pipeline.takes, "numbers")

    def row(self, value: object) -> dict[str, object]:
        """By input: a table's row comes as an object, or as a list in the inputs' order.

        Of a model with one input, anything but an object is that input's.
        """
        names = list(self.kinds)
        if not isinstance(value, dict):
            if len(names) == 1:
                return {names[0]: value}
            if not isinstance(value, list) or len(value) != len(names):
                raise PreprocessingError(
                    f"a row is an object, or a list of {len(names)}: {_listed(names)}"
                )
            return dict(zip(names, value, strict=True))
        missing = [name for name in names if name not in value]
        unknown = [name for name in value if name not in self.kinds]
        if missing or unknown:
            wrong = f"no {_listed(missing)}" if missing else f"an unknown {_listed(unknown[:3])}"
            raise PreprocessingError(f"the row has {wrong}; the model takes {_listed(names)}")
        return value

    def prepare(
        self, values: Sequence[object], check: Callable[[], None] = nothing_to_check
    ) -> Tensors:
        """For each input the batch [N, ...].

        A value is the only input's, or a row of one for each input; images are bytes, or base64 text.
        `check` is called before each value, and may raise. Raises `PreprocessingError` if a value does not
        fit, `UnsuitableModelError` if no value can.
        """
        self._check_suitable()
        if len(values) > 1 and "image" in self.kinds.values():
            self._check_pixels(values)
        samples: dict[str, list[Any]] = {name: [] for name in self.kinds}
        for value in values:
            check()
            row = self.row(value)
            for tensor in self.spec.inputs:
                samples[tensor.name].append(self._sample(tensor, row[tensor.name]))
        return {
            tensor.name: _fitting(stack(samples[tensor.name]), tensor)
            for tensor in self.spec.inputs
        }

    def _sample(self, tensor: TensorSpec, value: object) -> Any:
        if self.kinds[tensor.name] == "image" and isinstance(value, str):
            value = image_bytes(value)
        pipeline = self._pipelines.get(tensor.name)
        if pipeline is not None:
            return pipeline(value)
        return value if isinstance(value, np.ndarray) else plain(value, tensor)

    def _check_pixels(self, values: Sequence[object]) -> None:
        """A request of many images that are large would keep everyone else's waiting."""
        pixels = 0
        for value in values:
            for name, each in self.row(value).items():
                data = image_bytes(each) if isinstance(each, str) else each
                if self.kinds[name] == "image" and isinstance(data, bytes):
                    height, width = size(Decode(), data, self._limits)
                    pixels += height * width
        if pixels > self._limits.max_pixels:
            raise PreprocessingError(
                f"the images have {pixels} pixels together, more than {self._limits.max_pixels}",
                "send fewer in one request",
            )

    def portions(self, batch: Tensors) -> Iterator[tuple[Tensors, int]]:
        """What the model takes at once, and how many samples of it count: a fixed batch size is filled up."""
        count = len(next(iter(batch.values())))
        size = next((t.shape[0] for t in self.spec.inputs if t.shape[0]), count)
        for start in range(0, count, size):
            end = min(start + size, count)
            fill = size - (end - start)
            yield (
                {
                    name: np.concatenate([value[start:end], *[value[end - 1 : end]] * fill])
                    for name, value in batch.items()
                },
                end - start,
            )

    def scores(self, outputs: Tensors, count: int) -> Any:
        """[count, classes] of the first output; the only column p of a classification becomes 1 - p, p."""
        name = self.spec.outputs[0].name
        scores = np.asarray(outputs[name])[:count]
        if scores.ndim == 1:
            scores = scores[:, np.newaxis]
        if scores.ndim != 2 or len(scores) != count or scores.dtype.kind not in "fiub":
            raise UnsuitableModelError(
                f"the first output {name!r} is {scores.dtype} {list(scores.shape)}; /predict needs one "
                "score for each class",
                f"use POST /v2/models/{self.spec.name}/infer",
            )
        return both_classes(scores, self.spec) if scores.shape[1] == 1 else scores

    def best(self, row: Any, top: int) -> list[Score]:
        """The `top` classes of one row of scores, best first; no softmax is applied.

        Of equal scores the lower id comes first, as argmax does.
        """
        order = np.argsort(-row.astype(np.float64), kind="stable")[:top]
        return [Score(int(i), self.label(int(i)), float(row[i])) for i in order]

    def label(self, place: int) -> str:
        """The name of a class; its position where the model has no labels."""
        labels = self.spec.labels
        return labels[place] if 0 <= place < len(labels) else str(place)

    def _check_suitable(self) -> None:
        if self.takes:
            return
        unknown = [name for name, kind in self.kinds.items() if not kind] or list(self.kinds)
        raise UnsuitableModelError(
            f"the model's spec declares no preprocessing for its input {_listed(unknown)}: how an "
            "image becomes its tensor is not known",
            f"declare it in the recipe, or send tensors to /v2/models/{self.spec.name}/infer",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:100]) for name in names)


def _like_a_picture(tensor: TensorSpec) -> bool:
    """[batch, height, width, channels] or [batch, channels, height, width]: no one types that in."""
    return len(tensor.shape) == 4 and bool({1, 3, 4} & {tensor.shape[1], tensor.shape[3]})


def _fitting(batch: Any, tensor: TensorSpec) -> Any:
    """`batch` as the input's element type; `PreprocessingError` if type or shape does not fit."""
    wanted = np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    if not np.can_cast(batch.dtype, wanted, "same_kind"):
        raise PreprocessingError(
            f"preprocessing gives {batch.dtype}, but the input {tensor.name!r} takes {tensor.dtype}"
        )
    if not TensorSpec(
        name=tensor.name, dtype=tensor.dtype, shape=(None, *tensor.shape[1:])
    ).matches(batch.shape):
        raise PreprocessingError(
            f"one sample has shape {list(batch.shape[1:])}, but the input {tensor.name!r} takes "
            f"{[-1 if d is None else d for d in tensor.shape[1:]]}"
        )
    return batch.astype(wanted, copy=False)


def both_classes(scores: Any, spec: ModelSpec) -> Any:
    """[n, 1] -> [n, 2] as the metrics read it: a lone probability is that of the second class."""
    labels = len(spec.labels)
    binary = labels == 2 or (labels == 0 and spec.task.endswith("-classification"))
    inside = ((scores >= -SLACK) & (scores <= 1 + SLACK)) | np.isnan(scores)
    return np.concatenate([1 - scores, scores], axis=1) if binary and inside.all() else scores
