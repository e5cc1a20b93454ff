"""The TensorFlow.js converter: graph-models and layers-models, by this project's own writers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict, TypeVar

from pydantic import Field

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converter import Converter
from pipcook_deploy.converters.tfjs.assign_levels import assign
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.formats.tfjs_weights import LEVELS, Storage
from pipcook_deploy.model import Model

Precision = Literal["float32", "float16", "uint16", "uint8"]
_TRIED = (8, 16, 32, 64, LEVELS)  # levels
_MATCHED = (8, 16, 32)  # levels of all weights whose bytes are divided anew among them
Levels = Annotated[int, Field(ge=2, le=LEVELS)]


class _Storage(TypedDict):
    precision: str
    precision_of: Callable[[str, int], Storage]
    shard_size: int


class TfjsConverter(Converter):
    """Writes a folder with `model.json` and weight shards."""

    format: ClassVar[str] = "tfjs"
    accepts: ClassVar[tuple[str, ...]] = ("tfjs_graph", "saved_model")
    rewrites: ClassVar[bool] = True

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
    levels: Levels | dict[str, Levels] = Field(
        default=LEVELS,
        description="How many different numbers a uint8 weight may have, for all or by weight name (a glob; "
        "the first that matches). Fewer compress better: 16 take half the bytes on the wire.",
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

    def uncompressed(self) -> "TfjsConverter":
        """float32, whose weights `weights` and `levels` name."""
        changed = {"precision": "float32", "weights": {}, "levels": LEVELS}
        return self.model_copy(update=changed)

    def candidates(self) -> tuple["TfjsConverter", ...]:
        """By size. A precision without levels is tried with several numbers of them."""
        chosen = self.model_fields_set
        if self.engine != "builtin" or "levels" in chosen or "weights" in chosen:
            return (self,)
        if "precision" in chosen and self.precision != "uint8":
            return (self,)
        bytes_ = [
            self.model_copy(update={"precision": "uint8", "levels": levels}) for levels in _TRIED
        ]
        if "precision" in chosen:
            return tuple(bytes_)
        return (*bytes_, self.model_copy(update={"precision": "float16"}), self)

    def without(self, parts: Sequence[str]) -> "TfjsConverter | None":
        """With more weights in float32."""
        if self._smallest() == "float32":
            return None
        kept: dict[str, Precision] = dict.fromkeys(map(escaped, parts), "float32")
        others = {glob: how for glob, how in self.weights.items() if glob not in kept}
        return self.model_copy(update={"weights": kept | others})

    def damage_call(self) -> str | None:
        """Of a graph, whose weights can be tried in TensorFlow."""
        if self.kind != "graph" or self.engine != "builtin" or self._smallest() == "float32":
            return None
        return "pipcook_deploy.converters.tfjs.weight_trial:ranked_damage"

    def parts_call(self) -> str | None:
        """Of a graph, as `damage_call`."""
        if self.kind != "graph" or self.engine != "builtin":
            return None
        return "pipcook_deploy.converters.tfjs.weight_trial:parts"

    def mixed(self, parts: Any) -> tuple["TfjsConverter", ...]:
        """As small as with so many levels for all weights, with the levels where they do the most good."""
        if "precision" in self.model_fields_set or not parts:
            return ()
        made = []
        for levels in _MATCHED:
            size = sum(_bytes_at(row["stored"], levels) for row in parts)
            made.append(self.assigned(assign(parts, goal=size)))
        return tuple(made)

    def assigned(self, levels: Mapping[str, int | None]) -> "TfjsConverter":
        """With what `assign_levels.assign` chose: uint8 of so many levels, or float32, by weight."""
        changed = {
            "weights": {escaped(n): "float32" if k is None else "uint8" for n, k in levels.items()},
            "levels": {escaped(n): k for n, k in levels.items() if k is not None},
        }
        return TfjsConverter(**(self.model_dump() | changed))

    def precision_of(self, name: str, rank: int) -> Storage:
        """How a float weight is stored."""
        fallback = self.precision if rank >= 2 else "float32"
        precision = _first(self.weights, name, fallback)
        levels = self.levels if isinstance(self.levels, int) else _first(self.levels, name, LEVELS)
        return Storage(precision, levels if precision == "uint8" else LEVELS)

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`. Raises `ConversionError` for what TF.js could not run."""
        written = self._written(model, into)
        if (words := self._words()) != written.precision:
            written = replace(written, details=written.details | {"precision": words})
        return written

    def _written(self, model: Model, into: Path) -> Artifact:
        if self.engine == "tensorflowjs":
            if self.levels != LEVELS:
                raise ConversionError(
                    "tfjs: the reference converter writes 256 levels only", "leave tfjs.engine out"
                )
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

    def _words(self) -> str:
        """The precision with the fewest and most levels that were asked for."""
        smallest = self._smallest()
        asked = {self.levels} if isinstance(self.levels, int) else set(self.levels.values())
        asked = asked or {LEVELS}
        if smallest != "uint8" or asked == {LEVELS}:
            return smallest
        few, many = min(asked), max(asked)
        return str(Storage(smallest, few)) if few == many else f"uint8, {few} to {many} levels"

    def _smallest(self) -> str:
        """The coarsest precision that is asked for: it decides the tolerance of the verification."""
        asked = {self.precision, *self.weights.values()}
        return next(p for p in ("uint8", "float16", "uint16", "float32") if p in asked)


T = TypeVar("T")


def escaped(name: str) -> str:
    """A glob that means this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _bytes_at(stored: Sequence[dict[str, Any]], levels: int) -> int:
    """What a weight takes with so many levels, or with the nearest that was measured."""
    counted = [row for row in stored if row["levels"] is not None]
    return int(min(counted, key=lambda row: abs(row["levels"] - levels))["bytes"])


def _first(rules: Mapping[str, T], name: str, otherwise: T) -> T:
    return next((v for pattern, v in rules.items() if fnmatchcase(name, pattern)), otherwise)
