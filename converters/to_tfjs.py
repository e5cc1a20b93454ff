"""The TensorFlow.js converter: graph-models and layers-models, by this project's own writers."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, Literal, TypedDict

from pydantic import Field

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converter import Converter
from pipcook_deploy.model import Model

Precision = Literal["float32", "float16", "uint16", "uint8"]


class _Storage(TypedDict):
    precision: str
    precision_of: Callable[[str, int], str]
    shard_size: int


class TfjsConverter(Converter):
    """Writes a folder with `model.json` and weight shards."""

    format: ClassVar[str] = "tfjs"
    accepts: ClassVar[tuple[str, ...]] = ("tfjs_graph", "saved_model")

    kind: Literal["graph", "layers"] = Field(
        default="graph",
        description="graph: any model, fastest; layers: for training on and inspecting in TF.js.",
    )
    precision: Precision = Field(
        default="float32",
        description="float32, float16, uint16 or uint8: how weights with two or more axes are stored; "
        "vectors and scalars stay float32.",
    )
    weights: dict[str, Precision] = Field(
        default_factory=dict,
        description="Precision by weight name (a glob; the first that matches): {'*/kernel' = 'uint8'}.",
    )
    shard_size: int = Field(default=4 * 1024 * 1024, ge=1024, description="Bytes of a weight file.")
    unroll_limit: int = Field(
        default=512, ge=1, le=100_000, description="Most steps of a loop that is written out."
    )
    engine: Literal["builtin", "tensorflowjs"] = Field(
        default="builtin",
        description="tensorflowjs: the reference converter, from its own environment.",
    )

    def accepted(self) -> tuple[str, ...]:
        """By kind; what needs no conversion first."""
        if self.kind == "layers":
            return ("tfjs_layers", "keras", "keras_h5")
        return self.accepts if self.engine == "builtin" else ("saved_model",)

    def writes(self) -> str:
        """The model format by kind."""
        return "tfjs_layers" if self.kind == "layers" else "tfjs_graph"

    def precision_of(self, name: str, rank: int) -> Precision:
        """How a float weight is stored."""
        for pattern, precision in self.weights.items():
            if fnmatchcase(name, pattern):
                return precision
        return self.precision if rank >= 2 else "float32"

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`. Raises `ConversionError` for what TF.js could not run."""
        if self.engine == "tensorflowjs":
            from pipcook_deploy.converters.tfjs.reference import convert_with_reference

            return convert_with_reference(self, model, into)
        storage = _Storage(
            precision=self._smallest(), precision_of=self.precision_of, shard_size=self.shard_size
        )
        if self.kind == "layers":
            from pipcook_deploy.converters.tfjs.layers_writer import write_layers

            return write_layers(model, into, **storage)
        if model.format == "tfjs_graph":
            from pipcook_deploy.converters.tfjs.graph_copy import copy_graph

            return copy_graph(model, into, **storage)
        from pipcook_deploy.converters.tfjs.graph_writer import write_graph

        return write_graph(model, into, **storage, unroll_limit=self.unroll_limit)

    def _smallest(self) -> str:
        """The coarsest precision that is asked for: it decides the tolerance of the verification."""
        asked = {self.precision, *self.weights.values()}
        return next(p for p in ("uint8", "float16", "uint16", "float32") if p in asked)
