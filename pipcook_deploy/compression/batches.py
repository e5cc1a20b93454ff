"""Samples of a split in batches: shuffled for training, read from disk ahead of the computation."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import spec_names
from pipcook_deploy.model import Model

Array = NDArray[Any]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """What a live model takes, in the order of its inputs, and what is right (None when nobody said).

    Arrays are mapped from disk. Targets of detection are no array, and so not here.
    """

    inputs: tuple[Array, ...]
    dtypes: tuple[str, ...]
    targets: Array | None
    fixed_batch: int | None

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.inputs[0])

    def rows(self, index: Index) -> list[Any]:
        """Some samples as tensors."""
        import tensorflow as tf

        pairs = zip(self.inputs, self.dtypes, strict=True)
        picked = ((value[index], dtype) for value, dtype in pairs)
        return [
            tf.constant(v.tolist() if v.dtype.kind in "OU" else v.astype(dtype, copy=False))
            for v, dtype in picked
        ]

    def truth(self, index: Index) -> Any | None:
        """Their targets as a tensor."""
        import tensorflow as tf

        return None if self.targets is None else tf.constant(self.targets[index])

    def batch(self, wanted: int) -> int:
        """How many samples the model is given at once: what it insists on, or at most `wanted`."""
        return self.fixed_batch or max(1, min(wanted, self.count))


def samples_of(live: Any, split: Split, model: Model | None = None) -> Samples:
    """The samples of `split` for a live model; `model` tells how its inputs are called in the spec.

    Raises `CompressionError` when an input of the model is not in the split.
    """
    found = split.inputs()
    names = spec_names(model, live)[0] if model is not None else _own_names(live)
    if missing := [name for name in names if name not in found]:
        raise CompressionError(
            f"{split.folder}: the samples have no input called {', '.join(missing)} (they have "
            f"{', '.join(found)})"
        )
    targets = split.targets()
    return Samples(
        inputs=tuple(found[name] for name in names),
        dtypes=tuple(str(getattr(t.dtype, "name", t.dtype)) for t in live.inputs),
        targets=targets if isinstance(targets, np.ndarray) else None,
        fixed_batch=next((t.shape[0] for t in live.inputs if t.shape[0] is not None), None),
    )


def _own_names(live: Any) -> Sequence[str]:
    from pipcook_deploy.keras_io import interface_names

    return interface_names(live)[0]


def in_order(count: int, size: int) -> Iterator[Index]:
    """Positions 0 to count - 1 in batches; the last may be smaller."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count), dtype=np.int64)


def shuffled(count: int, size: int, steps: int, seed: int) -> Iterator[Index]:
    """`steps` batches of `size`, every sample once an epoch in an order of the seed.

    What is left over at the end of an epoch is left out of it. Positions are sorted inside a batch: the disk reads
    forward.
    """
    random = np.random.default_rng(seed)
    per_epoch = max(count // size, 1)
    for step in range(steps):
        if step % per_epoch == 0:
            order = random.permutation(count)
        at = step % per_epoch * size
        yield np.sort(order[at : at + size])


def read_ahead(samples: Samples, order: Iterator[Index]) -> Iterator[tuple[Index, list[Any], Any]]:
    """Positions, inputs and targets of each batch; the next one is read while this one is used."""

    def read(index: Index) -> tuple[Index, list[Any], Any]:
        return index, samples.rows(index), samples.truth(index)

    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for index in order:
            ahead = reader.submit(read, index)
            if waiting is not None:
                yield waiting.result()
            waiting = ahead
        if waiting is not None:
            yield waiting.result()
