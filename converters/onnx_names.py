"""Names and order in ONNX files: what depends on the model alone, and the source's names outside."""

from collections.abc import Iterator
from typing import Any

from pipcook_deploy.saved_model_io import Serving


def given_names(kind: str, count: int) -> list[str]:
    """What inputs and outputs are called until the end: no name of the source gets in tf2onnx' way."""
    return [f"pipcook_{kind}_{number}" for number in range(count)]


def restore_names(proto: Any, serving: Serving) -> None:
    """Give graph inputs and outputs the spec's names, and dynamic axes readable ones."""
    names = dict(zip(given_names("input", len(serving.inputs)), serving.inputs, strict=True))
    names |= dict(zip(given_names("output", len(serving.outputs)), serving.outputs, strict=True))
    renames = {safe: key for safe, (key, _) in names.items()}
    sort_nodes(proto.graph)
    _rename_values(proto.graph, _lasting(proto.graph))
    inner = {value for node in all_nodes(proto.graph) for value in node.output}
    _rename_values(proto.graph, {key: f"inner.{key}" for key in renames.values() if key in inner})
    proto.graph.initializer.sort(key=lambda tensor: str(tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        spec = names[value.name][1]
        _describe(value, spec, renames[value.name])
    _rename_values(proto.graph, renames)


def sort_nodes(graph: Any) -> None:
    """Nodes in the order in which the outputs need them: tf2onnx' own order changes from run to run."""
    makers = {name: n for n, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    done: set[int] = set()
    stack = [(makers[v.name], False) for v in reversed(graph.output) if v.name in makers]
    while stack:
        number, ready = stack.pop()
        if ready:
            order.append(number)
        elif number not in done:
            done.add(number)
            stack.append((number, True))
            needs = [makers[name] for name in _reads(graph.node[number]) if name in makers]
            stack.extend((need, False) for need in reversed(needs) if need not in done)
    nodes = [type(graph.node[n]).FromString(graph.node[n].SerializeToString()) for n in order]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        node.attribute.sort(key=lambda attribute: str(attribute.name))
        for inner in _inner_graphs(node):
            sort_nodes(inner)


def _reads(node: Any) -> Iterator[str]:
    """Tensors that a node needs, those that its loops and branches take from outside too."""
    yield from node.input
    for graph in _inner_graphs(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (value.name for value in graph.output)


def _lasting(graph: Any) -> dict[str, str]:
    """New names for inner tensors by what makes or reads them: `Conv_3`, `Conv_3.weight_1`.

    Those of TensorFlow and tf2onnx change from run to run: counters, and chance among merged constants.
    """
    names: dict[str, str] = {}
    constants = _constants(graph)
    for number, node in enumerate(all_nodes(graph)):
        label = f"{node.op_type}_{number}"
        for index, old in enumerate(node.input):
            if old in constants:
                names.setdefault(old, f"{label}.weight_{index}")
        for index, old in enumerate(node.output):
            names[old] = label if index == 0 else f"{label}.{index}"
        for part, inner in enumerate(_inner_graphs(node)):
            inner.name = f"{label}.graph_{part}"
            for index, value in enumerate(inner.input):
                names[value.name] = f"{inner.name}.input_{index}"
    kept = ("pipcook_input_", "pipcook_output_")
    return {old: new for old, new in names.items() if old and not old.startswith(kept)}


def _constants(graph: Any) -> set[str]:
    inner = [g for node in all_nodes(graph) for g in _inner_graphs(node)]
    return {str(tensor.name) for g in (graph, *inner) for tensor in g.initializer}


def _has(node: Any, name: str) -> bool:
    return any(attribute.name == name for attribute in node.attribute)


def _inner_graphs(node: Any) -> list[Any]:
    """Graphs of a loop or branch."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _describe(value: Any, spec: Any, name: str) -> None:
    if spec.shape.rank is None:
        return
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis, size in enumerate(spec.shape.as_list()):
        dim = shape.dim.add()
        if size is not None:
            dim.dim_value = size
        else:
            dim.dim_param = "batch" if axis == 0 else f"{name}_{axis}"


def _rename_values(graph: Any, names: dict[str, str]) -> None:
    """Rename tensors, in the graphs of loops and branches too."""
    for row in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        row.name = names.get(row.name, row.name)
    for node in graph.node:
        for list_ in (node.input, node.output):
            for index, name in enumerate(list_):
                list_[index] = names.get(name, name)
        for inner in _inner_graphs(node):
            _rename_values(inner, names)


def clean(proto: Any) -> None:
    """Take out what is not the model: paths, dates, tool's chatter."""
    proto.doc_string = ""
    proto.graph.doc_string = ""
    proto.graph.name = "model"
    proto.producer_name = "pipcook-deploy"
    proto.producer_version = ""
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    for number, node in enumerate(all_nodes(proto.graph)):
        node.ClearField("doc_string")
        if not node.domain:
            node.ClearField("domain")
        if node.op_type == "StringNormalizer" and not _has(node, "locale"):
            # TensorFlow changes the case of ASCII only, and the default locale is not on every machine.
            node.attribute.add(name="locale", type=3, s=b"C")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        for inner in _inner_graphs(node):
            del inner.value_info[:]
            inner.ClearField("doc_string")
        node.name = f"{node.op_type}_{number}"


def all_nodes(graph: Any) -> list[Any]:
    """Nodes of a graph and of the loops and branches in it."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for inner in _inner_graphs(node):
            nodes += all_nodes(inner)
    return nodes
