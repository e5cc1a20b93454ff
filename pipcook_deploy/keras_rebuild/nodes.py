"""How layers are connected: Keras 3's call arguments as Keras 2's `inbound_nodes`."""

from collections.abc import Iterator
from typing import Any

from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.keras_rebuild.operations import is_operation

Reference = list[Any]  # [layer, node, tensor]

_NESTED = ("Functional", "Model", "Sequential")
_POSITIONAL = {"MultiHeadAttention": ("query", "value", "key")}
# `training` decides about these at inference time too (a frozen batch norm); elsewhere it is noise.
_TRAINING_MATTERS = ("BatchNormalization", "Functional", "Sequential", "Model")


class NodeTranslator:
    """Translates the nodes of one Keras 3 functional model."""

    def __init__(self, config: dict[str, Any]) -> None:
        # A nested model has a node of its own, number 0, in Keras 2 and in TF.js: its calls count from 1.
        # Keras 3 counts them from 0, but from 1 where a functional model's call is an output.
        layers = config["layers"]
        calls = {x["name"]: len(x["inbound_nodes"]) for x in layers if x["class_name"] in _NESTED}
        functional = {x["name"] for x in layers if x["class_name"] != "Sequential"}
        inner = [
            row for x in layers for n in x["inbound_nodes"] for row in _tensors_of([*n.values()])
        ]
        outer = list(_rows(config["output_layers"]))
        self._inner = {name: 1 - _first(calls[name], name, inner, 0) for name in calls}
        self._outer = {
            name: 1 - _first(calls[name], name, outer, int(name in functional)) for name in calls
        }

    def references(self, structure: Any) -> list[Reference]:
        """Inputs or outputs of a model, in the order of `model.inputs`: as a list, whatever they were."""
        return [[name, node + self._outer.get(name, 0), i] for name, node, i in _rows(structure)]

    def node(self, class_name: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        """One call of a layer."""
        positional = dict(zip(_POSITIONAL.get(class_name, ("inputs",)), args, strict=False))
        extra = [value for value in args[len(positional) :] if value is not None]
        named = {
            key: value for key, value in kwargs.items() if self._matters(class_name, key, value)
        }
        first = next(iter(positional)) if positional else next(iter(named), "inputs")
        everything = positional | named
        if extra or first not in everything:
            raise UnsupportedConversionError(
                f"a {class_name} layer is called in a way that Keras 2 cannot record: {args}, {kwargs}"
            )
        tensors = everything.pop(first)
        options = {key: self._argument(value) for key, value in everything.items()}
        rows = self._tensors(class_name, tensors)
        return [[*row, options] for row in rows]

    def _tensors(self, class_name: str, value: Any) -> list[Reference]:
        rows = list(value) if isinstance(value, list | tuple) else [value]
        if not rows or not all(_is_tensor(row) for row in rows):
            raise UnsupportedConversionError(f"a {class_name} layer is called with {value!r}")
        return [self._argument(row) for row in rows]

    def _matters(self, class_name: str, key: str, value: Any) -> bool:
        return value is not None and (key != "training" or class_name in _TRAINING_MATTERS)

    def _argument(self, value: Any) -> Any:
        if _is_tensor(value):
            return self._shifted(value["config"]["keras_history"])
        if isinstance(value, list | tuple):
            return [self._argument(item) for item in value]
        return value

    def _shifted(self, reference: Any) -> Reference:
        name, node, tensor = reference
        return [name, node + self._inner.get(name, 0), tensor]


def _first(calls: int, name: str, rows: list[Reference], usual: int) -> int:
    """The number that the first of a model's calls has, judged by the numbers that occur."""
    found = {row[1] for row in rows if row[0] == name}
    return 0 if 0 in found else 1 if calls in found else usual


def _rows(structure: Any) -> Iterator[Reference]:
    """The [layer, node, tensor] of a structure of them; dictionaries in the order of their keys."""
    if isinstance(structure, dict):
        for key in sorted(structure):
            yield from _rows(structure[key])
    elif structure and isinstance(structure[0], str):
        yield structure
    else:
        for part in structure:
            yield from _rows(part)


def without_computed_masks(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of a functional model without what Keras 3 computes masks with.

    Keras 3 writes the mask of an Embedding or Masking layer down as operations whose result is the `mask`
    argument of later layers. Keras 2 and TF.js hand masks on by themselves.
    """
    operations = {layer["name"] for layer in config["layers"] if is_operation(layer)}
    layers = [_without_masks(layer, operations) for layer in config["layers"]]
    ends = {row[0] for key in ("input_layers", "output_layers") for row in _rows(config[key])}
    while True:
        used = ends.union(*(_used(layer) for layer in layers))
        kept = [x for x in layers if x["name"] in used or x["name"] not in operations]
        if len(kept) == len(layers):
            return layers
        layers = kept


def _without_masks(layer: dict[str, Any], operations: set[str]) -> dict[str, Any]:
    def computed(key: str, value: Any) -> bool:
        return key.endswith("mask") and any(row[0] in operations for row in _tensors_of(value))

    nodes = [
        node | {"kwargs": {k: v for k, v in node["kwargs"].items() if not computed(k, v)}}
        for node in layer["inbound_nodes"]
    ]
    return layer | {"inbound_nodes": nodes}


def _used(layer: dict[str, Any]) -> set[str]:
    return {row[0] for node in layer["inbound_nodes"] for row in _tensors_of([*node.values()])}


def _tensors_of(value: Any) -> Iterator[Reference]:
    """The [layer, node, tensor] of every tensor that occurs anywhere in a value."""
    if _is_tensor(value):
        yield value["config"]["keras_history"]
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_of(part)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"
