"""The pass `cluster`: a few shared values a kernel, which compresses well on the wire."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from pipcook_deploy.compression.finetune import Training, fine_tune
from pipcook_deploy.compression.keras_layers import Array, Care, Kernel, kernels
from pipcook_deploy.compression.kmeans import cluster_values
from pipcook_deploy.compression.model_pass import ModelPass, PassResult
from pipcook_deploy.compression.prune import pruned_details
from pipcook_deploy.compression.save_keras import save_keras
from pipcook_deploy.compression.teacher import Teacher
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.spec import Details
from pipcook_deploy.text import did_you_mean

Count = Annotated[int, Field(ge=2, le=65536)]
CAREFUL: dict[Care, float] = {"depthwise": 0.0, "first": 4.0, "last": 4.0}


class Cluster(ModelPass):
    """Lets the weights of a kernel share a few values; zeros stay zeros."""

    name: ClassVar[str] = "cluster"

    k: Count | dict[str, Count] = Field(
        default=16, description="Values a kernel, zero not counted, or by kernel name (patterns)."
    )
    careful: dict[Care, Annotated[float, Field(ge=0)]] = Field(
        default=CAREFUL,
        description="Factor on `k` for depthwise kernels, the first and the last; 0 leaves alone.",
    )
    skip: tuple[str, ...] = Field(default=(), description="Kernels left alone (patterns).")
    epochs: float = Field(default=1.0, ge=0, description="Of fine-tuning, where there is data.")
    learning_rate: float = Field(default=5e-4, gt=0, description="Of Adam, with cosine decay.")
    batch: int = Field(default=128, ge=1, description="Samples of a training step.")
    seed: int = Field(default=0, ge=0, description="Of shuffling and dropout.")

    def apply(self, model: Model, into: Path, train: Split | None = None) -> PassResult:
        """Cluster and save; `details` count the values of each kernel in the result."""
        live = load_keras(model)
        found = kernels(live)
        counts = self._counts(found)
        codes = {k.name: _share(k, counts[k.name]) for k in found if k.name in counts}
        losses = self._train(model, live, found, codes, train)
        saved = save_keras(live, model, into)
        notes = [f"{k.name}: left alone" for k in found if k.name not in counts]
        details = clustered_details(live) | {"engine": "own", "loss": [*losses], "notes": [*notes]}
        return PassResult(saved, details)

    def _counts(self, found: Sequence[Kernel]) -> dict[str, int]:
        names = [kernel.name for kernel in found]
        for glob in (*self.skip, *(self.k if isinstance(self.k, dict) else ())):
            if not any(fnmatchcase(name, glob) for name in names):
                raise CompressionError(
                    f"no kernel is called {glob!r}{did_you_mean(glob, names)}",
                    f"the kernels are: {', '.join(names)}",
                )
        left = [k for k in found if not any(fnmatchcase(k.name, glob) for glob in self.skip)]
        counts = {kernel.name: self._count(kernel) for kernel in left}
        return {name: count for name, count in counts.items() if count >= 2}

    def _count(self, kernel: Kernel) -> int:
        if isinstance(self.k, dict):
            own = self.k.get(kernel.name, 0)
            fits = (count for glob, count in self.k.items() if fnmatchcase(kernel.name, glob))
            return own or next(fits, 0)
        return round(self.k * (self.careful.get(kernel.care, 1.0) if kernel.care else 1.0))

    def _train(
        self,
        model: Model,
        live: Any,
        found: Sequence[Kernel],
        codes: dict[str, Array],
        train: Split | None,
    ) -> list[float]:
        if train is None or not self.epochs:
            return []
        options = {
            name: getattr(self, name) for name in ("epochs", "learning_rate", "batch", "seed")
        }
        # Zeros are masked wherever they are: a cluster of its own in kernels that were pruned.
        masks = {k.name: k.get() != 0 for k in found}
        losses = fine_tune(
            live,
            train,
            Training(**options),
            model=model,
            masks={name: mask for name, mask in masks.items() if not mask.all()},
            clusters=codes,
            teacher=Teacher.of(load_keras(model), model, train),
        )
        for kernel in found:
            if kernel.name in codes:
                kernel.set(_settled(kernel.get(), codes[kernel.name]))
        return losses


def _share(kernel: Kernel, count: int) -> Array:
    """Give the weights their centroids; returns the number of each weight's cluster, 0 for zeros."""
    value = kernel.get()
    codes = np.zeros(value.shape, dtype=np.int64)
    kept = value != 0
    if kept.any():
        centroids, numbers = cluster_values(value[kept], count)
        codes[kept] = numbers + 1
        value[kept] = centroids[numbers]
        kernel.set(value)
    return codes


def _settled(value: Array, codes: Array) -> Array:
    """Exactly one value a cluster: rounding may have set equal weights apart."""
    flat = codes.ravel()
    count = np.bincount(flat)
    means = np.bincount(flat, value.ravel().astype(np.float64)) / np.maximum(count, 1)
    return np.where(codes == 0, 0.0, means[codes]).astype(value.dtype)


def clustered_details(live: Any) -> Details:
    """What `pruned_details` say, and the number of different values of each kernel, zero not counted."""
    details: Any = pruned_details(live)
    for kernel in kernels(live):
        value = kernel.get()
        details["layers"][kernel.name]["clusters"] = len(np.unique(value[value != 0]))
    found: Details = details
    return found
