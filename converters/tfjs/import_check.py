"""Which TF.js graphs can be had in TensorFlow: told before anything is built."""

from collections import defaultdict, deque

from pipcook_deploy.converters.tfjs.graph import Graph, Node, node_of
from pipcook_deploy.converters.tfjs.ops import known_ops
from pipcook_deploy.errors import SourceError, UnsupportedConversionError

# Operations of TF.js that are not imported: by its own categories, and by name.
_CATEGORIES = {
    "control": "loops, conditions and tensor lists",
    "hash_table": "hash tables",
}
_RANDOM = (
    "Multinomial", "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal",
)  # fmt: skip
_WITHOUT_TWIN = ("Conv1D", "Ones", "Zeros")


def check_importable(graph: Graph) -> None:
    """Refuse what cannot be imported, naming each operation and its nodes.

    Raises `UnsupportedConversionError`, and `SourceError` for a graph that is a circle without a loop.
    """
    _, known = known_ops()
    inputs = {node_of(tensor) for tensor in graph.inputs.values()}
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node in graph:
        reason = _refusal(node, known, inputs)
        if reason is not None:
            found[reason][node.op].append(node.name)
    if found:
        rows = [f"{reason}: {_listed(by_op)}" for reason, by_op in sorted(found.items())]
        raise UnsupportedConversionError(
            "this TF.js graph-model cannot be read into TensorFlow: " + "; ".join(rows),
            "convert the model that it was made from, or keep it as TF.js: --to tfjs",
        )
    _check_order(graph)


def _refusal(node: Node, known: dict[str, str], inputs: set[str]) -> str | None:
    category = known.get(node.op)
    if node.op == "Placeholder":
        return None if node.name in inputs else "inputs that the signature does not have"
    if category is None:
        return "custom operations or functions"
    if category in _CATEGORIES:
        return _CATEGORIES[category]
    if node.op in _RANDOM:
        return "random numbers, no two answers are alike"
    if node.op in _WITHOUT_TWIN:
        return "operations that TensorFlow lacks"
    if node.text("data_format", "NHWC").startswith("NC"):
        return "channels first"
    return None


def _listed(by_op: dict[str, list[str]]) -> str:
    """Each operation with its first node, and how many more there are."""
    return ", ".join(
        f"{op} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
        for op, names in sorted(by_op.items())
    )


def _check_order(graph: Graph) -> None:
    users = graph.users()
    missing = {node.name: len(node.inputs) for node in graph}
    ready = deque(name for name, count in missing.items() if not count)
    done = 0
    while ready:
        done += 1
        for user in users[ready.popleft()]:
            missing[user.name] -= 1
            if not missing[user.name]:
                ready.append(user.name)
    if done < len(graph):
        stuck = next(name for name, count in missing.items() if count)
        raise SourceError(f"the graph is circular: {stuck!r} needs its own result")
