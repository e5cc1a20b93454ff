"""TF.js models: layers-models and graph-models, as their `model.json` tells."""

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.tfjs_model import TfjsModel, read_model
from pipcook_deploy.model import Model
from pipcook_deploy.sources import files
from pipcook_deploy.sources.keras_shapes import Interface, interface
from pipcook_deploy.sources.keras_topology import is_recurrent, parse
from pipcook_deploy.sources.untrusted import check_layers, check_ops
from pipcook_deploy.spec import Details, ModelSpec, TensorSpec

_DTYPES = {
    "DT_FLOAT": "float32", "DT_INT32": "int32", "DT_INT64": "int32", "DT_BOOL": "bool",
    "DT_STRING": "string", "DT_COMPLEX64": "complex64", "DT_UINT8": "uint8", "DT_HALF": "float32",
}  # fmt: skip  # TF.js itself has float32, int32, bool, string and complex64 only


def load_tfjs(path: Path, trusted: bool) -> Model:
    """The model of a `model.json`; its shards lie beside it."""
    if path.stat().st_size > files.MAX_JSON:
        raise SourceError(f"{path}: larger than {files.MAX_JSON} bytes: not read as JSON")
    try:
        tfjs = read_model(path)
    except (TypeError, AttributeError, KeyError) as error:
        raise SourceError(f"{path}: a damaged model.json: {error}") from error
    if tfjs.format == "tfjs_layers":
        config = tfjs.layers_config
        check_layers(str(path), config, trusted)
        found = interface(parse(config, str(path)))
    else:
        _check_nodes(path, tfjs.topology)
        check_ops(str(path), _ops(tfjs), trusted)
        found = _graph_interface(path, tfjs)
    return Model(
        path=path,
        format=tfjs.format,
        spec=ModelSpec(
            name=_name(path, tfjs),
            inputs=found.inputs,
            outputs=found.outputs,
            notes=found.notes,
        ),
        source_hash=files.source_hash([path, *tfjs.files], path.parent),
        trusted=trusted,
        details=_details(tfjs) | ({"ids": dict(found.ids)} if found.ids else {}),
    )


def _name(path: Path, tfjs: TfjsModel) -> str:
    own = ""
    if tfjs.format == "tfjs_layers" and isinstance(tfjs.layers_config.get("config"), dict):
        own = str(tfjs.layers_config["config"].get("name", ""))
    stem = "" if path.name == "model.json" else path.stem
    folder = path.resolve().parent
    outer = folder.parent.name if folder.name == "model" else ""
    return files.model_name(stem, folder.name, outer, own)


def _details(tfjs: TfjsModel) -> Details:
    own = [spec for spec in tfjs.specs if spec.get("group") != "optimizer"]
    stored = {str((spec.get("quantization") or spec)["dtype"]) for spec in own}
    details: Details = {
        "generated_by": tfjs.generated_by,
        "converted_by": tfjs.converted_by,
        "parameters": sum(prod(spec["shape"]) for spec in own),
        "weight_bytes": sum(file.stat().st_size for file in tfjs.files),
        "stored_as": [*sorted(stored)],
    }
    if len(own) != len(tfjs.specs):
        details["optimizer_weights"] = len(tfjs.specs) - len(own)
    if tfjs.format == "tfjs_layers":
        details["recurrent"] = is_recurrent(tfjs.layers_config)
    if tfjs.format == "tfjs_graph":
        details["ops"] = dict(sorted(_ops(tfjs).items()))
    return details


def _check_nodes(path: Path, topology: dict[str, Any]) -> None:
    """Every node must be an object with a name and an op; functions hold lists of such."""
    for nodes in _node_lists(topology):
        for node in nodes if isinstance(nodes, list) else [None]:
            texts = isinstance(node, dict) and [node.get("name"), node.get("op")]
            if not texts or not all(isinstance(text, str) for text in texts):
                raise SourceError(f"{path}: damaged: a node of the graph has no name or op")


def _node_lists(topology: dict[str, Any]) -> list[Any]:
    """The nodes of the graph and of each function that it calls."""
    library = topology.get("library")
    functions = library.get("function") if isinstance(library, dict) else None
    if not isinstance(functions, list):
        return [topology["node"]]
    return [topology["node"], *(f.get("nodeDef", []) for f in functions if isinstance(f, dict))]


def _ops(tfjs: TfjsModel) -> Counter[str]:
    return Counter(node["op"] for nodes in _node_lists(tfjs.topology) for node in nodes)


def _graph_interface(path: Path, tfjs: TfjsModel) -> Interface:
    signature = tfjs.signature or {}
    try:
        inputs, unranked = _side(signature.get("inputs") or {})
        outputs, more = _side(signature.get("outputs") or {})
        if not inputs:
            inputs, unranked = _placeholders(tfjs)
        notes = [f"the rank of {name!r} is not told" for name in unranked + more]
        if not outputs:
            outputs = _ends(tfjs)
            notes.append("the model has no signature: outputs are the nodes that nothing reads")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{path}: a damaged signature: {error}") from error
    return Interface(tuple(inputs), tuple(outputs), tuple(notes))


def _side(tensors: dict[str, Any]) -> tuple[list[TensorSpec], list[str]]:
    specs, unranked = [], []
    for name, info in tensors.items():
        if "resourceId" in info or info.get("dtype") == "DT_RESOURCE":
            continue  # a hash table, not something a caller gives
        shape = _shape(info.get("tensorShape"))
        if shape is None:
            unranked.append(name)
        specs.append(_spec(name, str(info.get("dtype")), shape))
    return specs, unranked


def _spec(name: str, dtype: str, shape: tuple[int | None, ...] | None) -> TensorSpec:
    if dtype not in _DTYPES:
        raise ValueError(f"tensor {name!r} has the type {dtype}")
    return TensorSpec(name=name, dtype=_DTYPES[dtype], shape=(None,) if shape is None else shape)


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    if not isinstance(shape, dict) or shape.get("unknownRank"):
        return None
    sizes = (int(dim.get("size", 0)) for dim in shape.get("dim", []))
    return tuple(None if size < 0 else size for size in sizes)


def _placeholders(tfjs: TfjsModel) -> tuple[list[TensorSpec], list[str]]:
    specs, unranked = [], []
    for node in tfjs.topology["node"]:
        if node["op"] == "Placeholder":
            attributes = node.get("attr", {})
            shape = _shape(attributes.get("shape", {}).get("shape"))
            if shape is None:
                unranked.append(node["name"])
            specs.append(_spec(node["name"], attributes["dtype"]["type"], shape))
    return specs, unranked


def _ends(tfjs: TfjsModel) -> list[TensorSpec]:
    nodes = tfjs.topology["node"]
    read = {name.lstrip("^").split(":")[0] for node in nodes for name in node.get("input", [])}
    ends = [n for n in nodes if n["name"] not in read and n["op"] not in ("Const", "NoOp")]
    return [TensorSpec(name=n["name"], dtype="float32", shape=(None,)) for n in ends]
