"""The pass `qat`: trains a model again with the rounding of int8 in its graph."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pipcook_deploy.compression.batches import samples_of
from pipcook_deploy.compression.finetune import Training, fine_tune
from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.masks import sparsity_of
from pipcook_deploy.compression.model_pass import ModelPass, PassResult
from pipcook_deploy.compression.qat_build import observe_ranges, plain_weights, quantized
from pipcook_deploy.compression.qat_plan import LayerPlan, obstacles, plan
from pipcook_deploy.compression.save_keras import save_keras
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError, UnsupportedConversionError
from pipcook_deploy.keras_io import is_legacy, load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.spec import Details

OBSERVED = 8  # batches that set the ranges of activations before training starts
MOST_CLUSTERS = 256  # kernels with more values than this were not clustered


class Qat(ModelPass):
    """Trains a model again while it rounds as int8 does (tfmot), so that it learns to bear it."""

    name: ClassVar[str] = "qat"

    epochs: float = Field(default=2.0, gt=0, description="Of training with rounding.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Of Adam, with cosine decay.")
    batch: int = Field(default=64, ge=1, description="Samples of a training step.")
    seed: int = Field(default=0, ge=0, description="Of shuffling and dropout.")
    distill: float = Field(
        default=0.7, ge=0, le=1, description="Weight of the source's answers against the truth."
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default="frozen", description="Whether statistics of batch norms follow the new weights."
    )
    keep_sparsity: bool = Field(
        default=True, description="Zeros stay zero, clusters stay clusters."
    )
    partial: bool = Field(
        default=True, description="Train what can be, and leave other layers to the converter."
    )
    fallback: Literal["refuse", "post_training"] = Field(
        default="refuse", description="Where tfmot cannot: an error, or the model as it was."
    )
    result: Literal["weights", "saved_model"] = Field(
        default="weights",
        description="weights: the source with new weights, for every format, which calibrates by itself; "
        "saved_model: with the trained ranges in the graph, for TFLite in int8 only.",
    )

    def apply(self, model: Model, into: Path, train: Split | None = None) -> PassResult:
        """Train and save.

        Raises `CompressionError`, with the reason by layer, where tfmot cannot and `fallback` is "refuse".
        """
        if train is None:
            raise CompressionError(
                "qat: there is nothing to train with", "name a set in [data] train of the recipe"
            )
        source = load_keras(model)
        try:
            twin = _legacy(source)
            rows = self._plan(twin)
            made = quantized(twin, rows)
        except CompressionError as error:
            if self.fallback == "refuse":
                raise
            note = f"not trained with rounding: {error.message}"
            return PassResult(model, {"engine": "none", "notes": [note]})
        losses = self._train(made, model, source, train)
        plain_weights(made, twin, rows)
        saved = self._save(made, twin, source, model, into)
        return PassResult(saved, _details(rows, twin) | {"loss": list(losses)})

    def _plan(self, twin: Any) -> list[LayerPlan]:
        from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
            default_8bit_quantize_registry,
        )

        if found := obstacles(twin):
            raise _refusal(found)
        divided = self.result == "saved_model"
        rows = plan(twin, default_8bit_quantize_registry.Default8BitQuantizeRegistry(), divided)
        whole = [row for row in rows if row.how in ("full", "own")]
        reasons = {row.name: f"{row.kind}: {row.reason}" for row in rows if row.reason}
        if reasons and (not self.partial or not any(_has_kernel(twin, row) for row in whole)):
            raise _refusal(reasons)
        return rows

    def _train(self, made: Any, model: Model, source: Any, train: Split) -> list[float]:
        samples = samples_of(made, train, model)
        size = samples.batch(self.batch)
        starts = range(0, min(samples.count, OBSERVED * size), size)
        ends = [(at, min(at + size, samples.count)) for at in starts]
        observe_ranges(made, [samples.rows(np.arange(a, b)) for a, b in ends])
        training = Training(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch=self.batch,
            seed=self.seed,
            weight=self.distill,
            batch_norm=self.batch_norm,
        )
        masks, clusters = _kept(made) if self.keep_sparsity else (None, None)
        teacher = source if self.distill > 0 or samples.targets is None else None
        return fine_tune(
            made, train, training, model=model, masks=masks, clusters=clusters, teacher=teacher
        )

    def _save(self, made: Any, twin: Any, source: Any, model: Model, into: Path) -> Model:
        if self.result == "weights":
            if source is not twin:
                from pipcook_deploy.keras_rebuild.build import copy_weights

                copy_weights(twin, source)
            return save_keras(source, model, into)
        from pipcook_deploy.saved_model_export import export_keras

        folder = into / "saved_model"
        folder.mkdir()
        artifact = export_keras(model.with_spec(labels=()), made, folder)
        return Model(
            folder,
            "saved_model",
            model.spec,
            model.source_hash,
            signature=str(artifact.details["signature"]),
            details={"fake_quantized": True},
        )


def _legacy(source: Any) -> Any:
    """The model for tfmot, which takes tf_keras only."""
    if is_legacy(source):
        return source
    from pipcook_deploy.keras_rebuild import rebuild

    try:
        return rebuild(source)
    except UnsupportedConversionError as error:
        raise CompressionError(
            f"qat: tfmot takes Keras 2 models, and this cannot be rebuilt as one: {error.message}"
        ) from error


def _refusal(reasons: dict[str, str]) -> CompressionError:
    lines = [f"  {name}: {reason}" for name, reason in reasons.items()]
    return CompressionError(
        "\n".join(["qat: tfmot cannot train these layers with rounding:", *lines]),
        "set partial = true to train the others, or fallback = 'post_training' to train none",
    )


def _has_kernel(model: Any, row: LayerPlan) -> bool:
    return any(len(variable.shape) >= 2 for variable in model.get_layer(row.name).weights)


def _kept(made: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Masks of the kernels that have zeros, and cluster numbers of those with few values."""
    masks, clusters = {}, {}
    for kernel in kernels(made):
        value = kernel.get()
        if (value == 0).any():
            masks[kernel.name] = value != 0
        values, codes = np.unique(value, return_inverse=True)
        if len(values) <= min(MOST_CLUSTERS, value.size // 2):
            clusters[kernel.name] = codes.reshape(value.shape)
    return masks, clusters


def _details(rows: list[LayerPlan], twin: Any) -> Details:
    found = kernels(twin)
    zeros = {kernel.name: sparsity_of(kernel.get()) for kernel in found}
    total = sum(zeros[kernel.name] * kernel.size for kernel in found)
    return {
        "engine": "tfmot",
        "sparsity": total / sum(kernel.size for kernel in found),
        "layers": {
            kernel.name: {
                "sparsity": zeros[kernel.name],
                "clusters": int(np.unique(kernel.get()).size),
            }
            for kernel in found
        },
        "int8": {row.name: row.how in ("full", "own") for row in rows},
        "notes": [f"{row.name}: {row.reason}" for row in rows if row.reason],
    }
