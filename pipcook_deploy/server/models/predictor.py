"""From what people send (images, texts, numbers) to tensors, and from scores to labelled answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipcook_deploy.preprocess.decode import Limits
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.execute import Pipeline, stack
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.spec import ModelSpec, TensorSpec


@dataclass(frozen=True)
class Score:
    """One class of one answer. `id` is the position in the first output's last axis."""

    id: int
    category: str
    score: float


class UnsuitableModelError(PreprocessingError):
    """The model cannot answer this kind of request at all."""


class Predictor:
    """The preprocessing that a spec declares, and its labels. Thread-safe."""

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        self.spec = spec
        limits = Limits(max_pixels=settings.max_pixels)
        self._pipelines = {
            name: Pipeline(operations, limits) for name, operations in spec.preprocessing.items()
        }

    @property
    def takes(self) -> str:
        """What can be preprocessed: "image", "text", "numbers", or "" if nothing can."""
        if len(self.spec.inputs) != 1:
            return ""
        tensor = self.spec.inputs[0]
        pipeline = self._pipelines.get(tensor.name)
        if pipeline is None:
            if self.spec.task == "image-classification" or _like_a_picture(tensor):
                return ""
            return "text" if tensor.dtype == "string" else "numbers"
        return {"encoded": "image", "image": "", "text": "text"}.get(pipeline.takes, "numbers")

    def prepare(self, values: Sequence[object]) -> Any:
        """The batch [N, ...] that the model's only input takes.

        Raises `PreprocessingError` if a value does not fit, `UnsuitableModelError` if no value can.
        """
        tensor = self._only_input()
        pipeline = self._pipelines.get(tensor.name) or Pipeline(())
        return _fitting(stack([pipeline(value) for value in values]), tensor)

    def portions(self, batch: Any) -> Iterator[tuple[Tensors, int]]:
        """What the model takes at once, and how many samples of it count: a fixed batch size is filled up."""
        tensor = self.spec.inputs[0]
        size = tensor.shape[0] or len(batch)
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            filled = np.concatenate([part, *[part[-1:]] * (size - len(part))])
            yield {tensor.name: filled}, len(part)

    def scores(self, outputs: Tensors, count: int) -> Any:
        """[count, classes] of the first output."""
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
        return scores

    def best(self, row: Any, top: int) -> list[Score]:
        """The `top` classes of one row of scores, best first; no softmax is applied.

        Of equal scores the lower id comes first, as argmax does.
        """
        order = np.argsort(-row.astype(np.float64), kind="stable")[:top]
        return [Score(int(i), self.label(int(i)), float(row[i])) for i in order]

    def label(self, place: int) -> str:
        """The name of a class; its position where the model has no labels."""
        labels = self.spec.labels
        return labels[place] if place < len(labels) else str(place)

    def _only_input(self) -> TensorSpec:
        if len(self.spec.inputs) != 1:
            raise UnsuitableModelError(
                f"the model has {len(self.spec.inputs)} inputs; /predict serves models with one",
                f"use POST /v2/models/{self.spec.name}/infer",
            )
        tensor = self.spec.inputs[0]
        if not self.takes:
            raise UnsuitableModelError(
                f"the model's spec declares no preprocessing for its input {tensor.name!r}: how an "
                "image becomes its tensor is not known",
                f"declare it in the recipe, or send tensors to /v2/models/{self.spec.name}/infer",
            )
        return tensor


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
