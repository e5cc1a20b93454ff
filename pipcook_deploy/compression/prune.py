"""The pass `prune`: sets small weights to zero and trains the others again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipcook_deploy.compression.finetune import Training, fine_tune
from pipcook_deploy.compression.keras_layers import Care, Kernel, kernels
from pipcook_deploy.compression.masks import Mask, histogram, sparsity_of
from pipcook_deploy.compression.model_pass import ModelPass, PassResult
from pipcook_deploy.compression.pruning_plan import CAREFUL, Growing, Pattern, Plan, plan
from pipcook_deploy.compression.save_keras import save_keras
from pipcook_deploy.compression.teacher import Teacher
from pipcook_deploy.data.split import Split
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.spec import Details

Share = Annotated[float, Field(ge=0, lt=1)]


class Prune(ModelPass):
    """Sets the smallest weights to zero, and trains the others again where there is data."""

    name: ClassVar[str] = "prune"

    sparsity: Share | dict[str, Share] = Field(
        default=0.5, description="Share of zeros: of all kernels, or by kernel name (patterns)."
    )
    scope: Literal["global", "layer"] = Field(
        default="global", description="One threshold over all kernels, or the same share in each."
    )
    schedule: Literal["constant", "polynomial"] = Field(
        default="polynomial", description="Prune at once, or more and more while training."
    )
    pattern: Pattern = Field(
        default="unstructured",
        description="2:4 keeps two of every four weights along the input channels.",
    )
    careful: dict[Care, Annotated[float, Field(ge=0, le=1)]] = Field(
        default=CAREFUL,
        description="Factor on `sparsity` for depthwise kernels, the first and the last.",
    )
    skip: tuple[str, ...] = Field(default=(), description="Kernels left alone (patterns).")
    engine: Literal["auto", "tfmot", "own"] = Field(
        default="auto", description="What prunes: tfmot (Keras 2 layers only) or our own masks."
    )
    epochs: float = Field(default=2.0, ge=0, description="Of fine-tuning, where there is data.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Of Adam, with cosine decay.")
    batch: int = Field(default=128, ge=1, description="Samples of a training step.")
    seed: int = Field(default=0, ge=0, description="Of shuffling and dropout.")

    def apply(self, model: Model, into: Path, train: Split | None = None) -> PassResult:
        """Prune and save; `details` say what was measured in the result."""
        live = load_keras(model)
        found = kernels(live)
        todo = plan(
            found,
            self.sparsity,
            scope=self.scope,
            pattern=self.pattern,
            careful=self.careful,
            skip=self.skip,
        )
        engine, reason = self._engine(model, live, found, todo)
        notes = [*todo.notes, *reason]
        if engine == "tfmot":
            from pipcook_deploy.compression.tfmot_prune import prune_with_tfmot

            live, losses = prune_with_tfmot(self, model, live, todo, train)
        else:
            losses = self._prune(model, live, found, todo, train)
        saved = save_keras(live, model, into)
        details = pruned_details(live) | {"engine": engine, "loss": list(losses)}
        return PassResult(saved, details | {"notes": list(notes)})

    @property
    def training(self) -> Training:
        """The options of the fine-tuning."""
        return Training(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch=self.batch,
            seed=self.seed,
        )

    def _engine(
        self, model: Model, live: Any, found: Sequence[Kernel], todo: Plan
    ) -> tuple[str, list[str]]:
        if self.engine == "own" or (self.engine == "auto" and model.format != "keras_h5"):
            return "own", []
        from pipcook_deploy.compression.tfmot_prune import obstacles, refuse

        reasons = obstacles(live, found, todo)
        if not reasons:
            return "tfmot", []
        if self.engine == "tfmot":
            refuse(model, reasons)
        return "own", [f"pruned with our own masks, because tfmot cannot: {'; '.join(reasons)}"]

    def _prune(
        self, model: Model, live: Any, found: list[Kernel], todo: Plan, train: Split | None
    ) -> list[float]:
        teacher = None if train is None or not self.epochs else load_keras(model)
        masks = todo.masks(found)
        if train is None or teacher is None:
            apply_masks(found, masks)
            return []
        growing = self.schedule == "polynomial" and todo.pattern == "unstructured"
        return fine_tune(
            live,
            train,
            self.training,
            model=model,
            masks=Growing(found, todo) if growing else masks,
            teacher=Teacher.of(teacher, model, train),
        )


def apply_masks(found: Sequence[Kernel], masks: dict[str, Mask]) -> None:
    """Set to zero what the masks do not keep."""
    for kernel in found:
        if kernel.name in masks:
            kernel.set(kernel.get() * masks[kernel.name])


def pruned_details(live: Any) -> Details:
    """The zeros of a live model: over all its kernels, and of each."""
    found = kernels(live)
    values = {kernel.name: kernel.get() for kernel in found}
    zeros = sum(int((value == 0).sum()) for value in values.values())
    layers: Any = {
        name: {"sparsity": sparsity_of(value), "histogram": histogram(value)}
        for name, value in values.items()
    }
    return {"sparsity": zeros / sum(kernel.size for kernel in found), "layers": layers}
