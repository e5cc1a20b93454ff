"""The untouched source model's answers, which compressed models learn from: computed once a sample, kept."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.compression.batches import Index, Samples, samples_of
from pipcook_deploy.data.split import Split
from pipcook_deploy.keras_io import call_keras
from pipcook_deploy.model import Model
from pipcook_deploy.sources.files import source_hash

Array = NDArray[Any]

IN_MEMORY = 1 << 28  # bytes of answers; more go to a file


class Teacher:
    """Answers of one model to the samples of one split, filled in as they are asked for.

    `folder`, if given, keeps them for later runs with the same model and split; without it they live in memory, and
    what does not fit there is computed each time.
    """

    def __init__(self, live: Any, samples: Samples, folder: Path | None = None) -> None:
        import tensorflow as tf

        def answer(*inputs: Any) -> list[Any]:
            return call_keras(live, [*inputs])

        self._call = tf.function(answer, reduce_retracing=True)
        self._samples = samples
        self._folder = folder
        self._store: list[Array] | None = None
        self._known = np.zeros(samples.count, dtype=np.bool_)
        if folder is not None and (folder / "known.npy").exists():
            self._known = np.load(folder / "known.npy")
            files = sorted(folder.glob("answer-*.npy"))
            self._store = [np.load(file, mmap_mode="r+") for file in files]

    @classmethod
    def of(cls, live: Any, model: Model, split: Split, cache: Path | None = None) -> "Teacher":
        """The answers of a live source model to a split; kept below `cache`, if there is one."""
        samples = samples_of(live, split, model)
        if cache is None:
            return cls(live, samples)
        own = model.source_hash or source_hash([model.path], None)
        return cls(live, samples, answers_folder(cache, own, split.sha256))

    def answers(self, index: Index, inputs: list[Any] | None = None) -> list[Array]:
        """The answers to some samples; `inputs` are their tensors, if somebody read them already."""
        if self._store is not None and self._known[index].all():
            return [store[index] for store in self._store]
        rows = self._samples.rows(index) if inputs is None else inputs
        found = [np.asarray(value) for value in self._call(*rows)]
        if self._store is None:
            self._store = self._room(found)
        if self._store:
            for store, value in zip(self._store, found, strict=True):
                store[index] = value
            self._known[index] = True
        return found

    def keep(self) -> None:
        """Write down what is known, for the next run."""
        if self._folder is not None and self._store:
            for store in self._store:
                getattr(store, "flush", lambda: None)()
            np.save(self._folder / "known-new.npy", self._known)
            (self._folder / "known-new.npy").replace(self._folder / "known.npy")

    def _room(self, answers: list[Array]) -> list[Array]:
        """Arrays for all answers; none when they are too large for memory and there is no folder."""
        shapes = [(self._samples.count, *value.shape[1:]) for value in answers]
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            return [
                np.lib.format.open_memmap(
                    self._folder / f"answer-{number:03}.npy", "w+", value.dtype, shape
                )
                for number, (shape, value) in enumerate(zip(shapes, answers, strict=True))
            ]
        pairs = list(zip(shapes, answers, strict=True))
        if sum(float(np.prod(shape)) * value.itemsize for shape, value in pairs) > IN_MEMORY:
            return []
        return [np.zeros(shape, value.dtype) for shape, value in pairs]


def answers_folder(cache: Path, model_hash: str, split_hash: str) -> Path:
    """Where the answers of a model to a split are kept below `cache`."""
    key = hashlib.sha256(f"{model_hash} {split_hash}".encode()).hexdigest()[:16]
    return cache / f"answers-{key}"
