"""A tiny model whose tensors only names tell apart, in every format that converters reach from Keras.

Both inputs have one shape, both outputs too, and neither order is alphabetic: what pairs tensors by
position, by order or by shape gives wrong numbers. No activation hides a NaN.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pytest import MonkeyPatch

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converter import Converter
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.model import Model
from pipcook_deploy.planner import plan
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.sources import load
from pipcook_deploy.steps import runtime_for
from pipcook_deploy.tensors import load_tensors, save_tensors

INPUTS, OUTPUTS = ("west", "east"), ("up", "down")
WIDTH = 4
# What makes a source of each format that a converter reads, besides Keras itself.
MADE_BY: dict[str, tuple[str, dict[str, Any]]] = {
    "keras_h5": ("keras_h5", {}),
    "saved_model": ("saved_model", {}),
    "tfjs_layers": ("tfjs", {"kind": "layers"}),
    "tfjs_graph": ("tfjs", {"kind": "graph"}),
    "onnx": ("onnx", {}),
    "tflite": ("tflite", {}),
}


def live() -> Any:
    """The Keras model: two inputs joined, two dense layers."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    west, east = (keras.Input((WIDTH,), name=name) for name in INPUTS)
    joined = keras.layers.Concatenate(name="joined")([west, east])
    up = keras.layers.Dense(3, "tanh", bias_initializer="normal", name="up")(joined)
    down = keras.layers.Dense(3, bias_initializer="normal", name="down")(joined)
    return keras.Model([west, east], [up, down], name="twins")


def save_live(path: str) -> None:
    """Called in a worker, so that the weights do not depend on what this process built before."""
    live().save(path)


def samples(count: int = 5) -> Tensors:
    """The same numbers every time, no two alike."""
    rng = np.random.default_rng(11)
    return {name: rng.standard_normal((count, WIDTH)).astype(np.float32) for name in INPUTS}


@dataclass(frozen=True)
class Twins:
    """The model as a source of each format (made when first asked for), and its own answers.

    Jobs run in the folder `litter`: what they leave there is found.
    """

    folder: Path
    workers: Workers
    keras: Model
    made: dict[str, Artifact]

    @property
    def truth(self) -> Path:
        """A folder with `inputs` and `outputs`, as the stage writes it."""
        return self.folder / "truth"

    @property
    def litter(self) -> list[str]:
        """What jobs left behind."""
        return [str(path) for path in (self.folder / "litter").iterdir()]

    @property
    def inputs(self) -> Tensors:
        """Samples by the spec's names."""
        return load_tensors(self.truth / "inputs")

    @property
    def outputs(self) -> Tensors:
        """What the Keras model answers them."""
        return load_tensors(self.truth / "outputs")

    def source(self, model_format: str) -> Model:
        """The model in a format."""
        if model_format == "keras":
            return self.keras
        artifact = self.artifact(model_format)
        path = artifact.path if artifact.entry == "." else artifact.file
        return replace(self.keras, path=path, format=model_format)

    def artifact(self, model_format: str) -> Artifact:
        """The artifact of a format, by the shortest chain from Keras."""
        if model_format not in self.made:
            name, options = MADE_BY[model_format]
            wanted = plugins.converter(name)(**options)
            installed = [plugins.converter(other) for other in plugins.names(plugins.CONVERTERS)]
            before = plan("keras", (wanted,), installed)[name].after
            source = self.source("keras" if before is None else before.converter.writes())
            self.made[model_format] = self.convert(wanted, source, self.folder / model_format)
        return self.made[model_format]

    def answers(self, source: Model) -> Tensors:
        """What a source answers the samples, in the runtime of its format."""
        outputs = self.folder / "answers" / str(len(list(self.folder.glob("answers/*"))))
        arguments = {
            "model": source.to_json(),
            "inputs": str(self.truth / "inputs"),
            "outputs": str(outputs),
        }
        heavy = runtime_for(source.format).heavy
        self.workers.call("pipcook_deploy.steps:run_source", arguments, heavy=heavy)
        return load_tensors(outputs)

    def convert(self, converter: Converter, source: Model, into: Path) -> Artifact:
        """Run a converter as the stage does: in a child, into an empty folder."""
        shutil.rmtree(into, ignore_errors=True)  # of a test that failed
        into.mkdir(parents=True)
        arguments = {
            "converter": converter.format,
            "options": converter.model_dump(mode="json"),
            "model": source.to_json(),
            "into": str(into),
        }
        heavy = converter.needs_tensorflow(source.format)
        data = self.workers.call("pipcook_deploy.steps:convert", arguments, heavy=heavy)
        return Artifact.from_json(data)


@contextmanager
def made(folder: Path) -> Iterator[Twins]:
    """Save the Keras model below `folder`, and ask it."""
    (folder / "litter").mkdir()
    with Workers(folder) as workers:
        _start(workers, folder / "litter")
        path, truth = folder / "twins.keras", folder / "truth"
        workers.call("tests.twins:save_live", {"path": str(path)}, heavy=True)
        model = load(path, workdir=folder)
        save_tensors(truth / "inputs", samples())
        twins = Twins(folder, workers, model, {})
        save_tensors(truth / "outputs", twins.answers(model))
        yield twins


def _start(workers: Workers, litter: Path) -> None:
    with MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        environment.chdir(litter)
        for heavy in (True, False):
            workers.call("pipcook_deploy.steps:measure_files", {"folder": str(litter)}, heavy=heavy)
