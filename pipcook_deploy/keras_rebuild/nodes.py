"""How layers are connected: Keras 3's call arguments as Keras 2's `inbound_nodes`."""

from collections.abc import Iterator
from typing import Any

from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.keras_rebuild.operations import is_operation

Reference = list[Any]  # [layer, node, tensor]

_POSITIONAL = {"MultiHeadAttention": ("query", "value", "key")}
# `training` decides about these at inference time too (a frozen batch norm); elsewhere it is noise.
_TRAINING_MATTERS = ("BatchNormalization", "Functional", "Sequential", "Model")


class NodeTranslator:
    """Translates the nodes between `layers`, entries of one Keras 3 functional model."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        # A nested Sequential has a node of its own, number 0, in Keras 2 and in TF.js, but not in Keras 3.
        self._sequential = {x["name"] for x in layers if x["class_name"] == "Sequential"}

    def references(self, structure: Any) -> list[Reference]:
        """Inputs or outputs of a model, in the order of `model.inputs`: as a list, whatever they were."""
        if isinstance(structure, dict):
            return [r for key in sorted(structure) for r in self.references(structure[key])]
        if structure and isinstance(structure[0], str):
            return [self._shifted(structure)]
        return [reference for part in structure for reference in self.references(part)]

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
        rows = value if isinstance(value, list) else [value]
        if not rows or not all(_is_tensor(row) for row in rows):
            raise UnsupportedConversionError(f"a {class_name} layer is called with {value!r}")
        return [self._argument(row) for row in rows]

    def _matters(self, class_name: str, key: str, value: Any) -> bool:
        return value is not None and (key != "training" or class_name in _TRAINING_MATTERS)

    def _argument(self, value: Any) -> Any:
        if _is_tensor(value):
            return self._shifted(value["config"]["keras_history"])
        if isinstance(value, list):
            return [self._argument(item) for item in value]
        return value

    def _shifted(self, reference: Any) -> Reference:
        name, node, tensor = reference
        return [name, node + (name in self._sequential), tensor]


def without_computed_masks(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of a functional model without what Keras 3 computes masks with.

    Keras 3 writes the mask of an Embedding or Masking layer down as operations whose result is the `mask`
    argument of later layers. Keras 2 and TF.js hand masks on by themselves.
    """
    operations = {layer["name"] for layer in config["layers"] if is_operation(layer)}
    layers = [_without_masks(layer, operations) for layer in config["layers"]]
    ends = {str(name) for name in _names([config["input_layers"], config["output_layers"]])}
    while True:
        used = ends.union(*(_used(layer) for layer in layers))
        kept = [x for x in layers if x["name"] in used or x["name"] not in operations]
        if len(kept) == len(layers):
            return layers
        layers = kept


def _without_masks(layer: dict[str, Any], operations: set[str]) -> dict[str, Any]:
    def computed(key: str, value: Any) -> bool:
        return key.endswith("mask") and bool(operations.intersection(_tensors_of(value)))

    nodes = [
        node | {"kwargs": {k: v for k, v in node["kwargs"].items() if not computed(k, v)}}
        for node in layer["inbound_nodes"]
    ]
    return layer | {"inbound_nodes": nodes}


def _used(layer: dict[str, Any]) -> set[str]:
    return {name for node in layer["inbound_nodes"] for name in _tensors_of(list(node.values()))}


def _tensors_of(value: Any) -> Iterator[str]:
    """Names of the layers whose tensors occur anywhere in a value."""
    if _is_tensor(value):
        yield value["config"]["keras_history"][0]
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_of(part)


def _names(structure: Any) -> Iterator[str]:
    if isinstance(structure, str):
        yield structure
    elif isinstance(structure, list | tuple | dict):
        for part in structure.values() if isinstance(structure, dict) else structure:
            yield from _names(part)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"
