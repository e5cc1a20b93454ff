"""Replaces function calls, branches and loops by the operations that they run.

TF.js runs loops only through `executeAsync`, and Keras 3's recurrent layers not at all, so a loop whose
number of steps the model fixes is written out, step by step; the lists that it reads and writes become
plain tensors. The values of loop counters are followed with `fold`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipcook_deploy.converters.tfjs.fold import fold
from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, node_of, reference
from pipcook_deploy.converters.tfjs.tensor_lists import HANDLERS, TensorList, Value, as_tensor
from pipcook_deploy.errors import UnsupportedConversionError

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_WHILES = ("While", "StatelessWhile")
_IFS = ("If", "StatelessIf")


@dataclass(frozen=True)
class Function:
    """A function of the library: its nodes, the names of its arguments and the tensors it returns."""

    graph: Graph
    arguments: list[str]
    results: list[str]


Infer = Callable[[Graph], None]


def inline(
    graph: Graph, functions: Mapping[str, Function], unroll_limit: int, infer: Infer
) -> Graph:
    """The same graph without calls, branches, loops and lists. `infer` sets `Graph.shapes`.

    Raises `UnsupportedConversionError` for a loop or branch that depends on the input, and for a loop of
    more than `unroll_limit` steps.
    """
    writer = _Writer(functions, unroll_limit, infer)
    writer.graph.shapes = dict(graph.shapes)
    made = writer.run(graph, "", {})
    result = writer.graph
    result.inputs = dict(graph.inputs)
    result.outputs = {name: as_tensor(made[t], node_of(t)) for name, t in graph.outputs.items()}
    result.sort()
    return result


def _joined(scope: str, name: str) -> str:
    """`a/b/while/3` and `b/while/cell/MatMul` are `a/b/while/3/cell/MatMul`: bodies repeat their place."""
    if not scope:
        return name
    parts, place = name.split("/"), [p for p in scope.split("/") if not p.isdecimal()]
    for size in range(min(len(parts) - 1, len(place)), 0, -1):
        if parts[:size] == place[-size:]:
            return "/".join([scope, *parts[size:]])
    return f"{scope}/{name}"


class _Writer:
    def __init__(self, functions: Mapping[str, Function], unroll_limit: int, infer: Infer) -> None:
        self.graph = Graph()
        self._functions = functions
        self._limit = unroll_limit
        self._infer = infer
        self._asked: set[str] = set()
        self._loops = 0  # how many loops surround what is written now

    def run(self, graph: Graph, scope: str, given: Mapping[str, Value]) -> dict[str, Value]:
        """Write the nodes of a graph under `scope`; what each of its tensors became."""
        made: dict[str, Value] = dict(given)
        order = Graph(graph.nodes.values(), outputs={str(i): n for i, n in enumerate(graph.nodes)})
        order.sort()
        for node in order:
            if node.name not in given:
                inputs = [made[tensor] for tensor in node.inputs]
                name = _joined(scope, node.name)
                for index, value in enumerate(self._write(replace(node, name=name), inputs)):
                    made[reference(node.name, index)] = value
        return made

    def _call(self, name: str, scope: str, arguments: Sequence[Value]) -> list[Value]:
        function = self._functions[name]
        given = dict(zip(function.arguments, arguments, strict=True))
        made = self.run(function.graph, scope, given)
        return [made[tensor] for tensor in function.results]

    def _write(self, node: Node, inputs: list[Value]) -> list[Value]:
        if node.op in _CALLS:
            # the name of a call says nothing: TensorFlow makes one per export
            scope = node.name.rpartition("/")[0]
            return self._call(node.attrs["f"]["func"]["name"], scope, inputs)
        if node.op in _WHILES:
            return self._loop(node, inputs)
        if node.op in _IFS:
            return self._branch(node, inputs)
        handler = HANDLERS.get(node.op)
        if handler is not None:
            return handler(self, node, inputs)
        if node.op in ("Identity", "IdentityN", "StopGradient"):
            return inputs
        return self._plain(node, [as_tensor(value, node.name) for value in inputs])

    def _plain(self, node: Node, inputs: list[str]) -> list[Value]:
        known = [self.graph.const(tensor) for tensor in inputs]
        values = [value for value in known if value is not None]
        if inputs and len(values) == len(known):
            folded = fold(node, values)
            if folded is not None:
                return [self.graph.add(constant(node.name, folded))]
        size = self._known_size(node, inputs)
        if size is not None:
            return [self.graph.add(constant(node.name, size))]
        name = self.graph.add(replace(node, inputs=inputs))
        return [reference(name, index) for index in range(_MAX_OUTPUTS)]

    def known(self, value: Value) -> np.ndarray | None:
        """The value of a tensor that is known before the model runs."""
        return None if isinstance(value, TensorList) else self.graph.const(value)

    def _known_size(self, node: Node, inputs: list[str]) -> np.ndarray | None:
        """An element of a shape that is known: loops of Keras 2 take their bounds from there."""
        shape = self.graph.producer(inputs[0]) if node.op == "StridedSlice" else None
        if shape is None or shape.op != "Shape":
            return None
        begin = self.graph.const(inputs[1])
        if node.integer("shrink_axis_mask") != 1 or begin is None or begin.size != 1:
            return None
        size = self.size(shape.inputs[0], int(begin[0]))
        return None if size is None else np.asarray(size, np.int32)

    def size(self, tensor: str, axis: int) -> int | None:
        """A size of a written tensor. Outside of loops TensorFlow is asked, if need be."""
        found = self._size_so_far(tensor, axis)
        if found is None and not self._loops and tensor not in self._asked:
            self._asked.add(tensor)
            before = self.graph.shapes
            self._infer(self.graph)
            self.graph.shapes = before | self.graph.shapes
            found = self._size_so_far(tensor, axis)
        return found

    def _size_so_far(self, tensor: str, axis: int) -> int | None:
        shape = self.graph.shapes.get(tensor)
        return None if shape is None else shape[axis]

    def _loop(self, node: Node, values: list[Value]) -> list[Value]:
        self._loops += 1
        try:
            return self._steps(node, values)
        finally:
            self._loops -= 1

    def _steps(self, node: Node, values: list[Value]) -> list[Value]:
        condition, body = (node.attrs[key]["func"]["name"] for key in ("cond", "body"))
        for step in range(self._limit + 1):
            goes_on = self.known(self._call(condition, f"{node.name}/{step}/cond", values)[0])
            if goes_on is None:
                raise UnsupportedConversionError(
                    f"the loop {node.name!r} runs as often as the input says: TF.js could not run it",
                    "fix the number of time steps (keras.Input((40, 6)), not (None, 6)), or, where the "
                    "model is Keras' and its layers are TF.js' (LSTM is): --set tfjs.kind=layers",
                )
            if not goes_on:
                return values
            values = self._call(body, f"{node.name}/{step}", values)
        raise UnsupportedConversionError(
            f"the loop {node.name!r} has more than {self._limit} steps, too many to write out",
            "raise it, if the model may be that large: --set tfjs.unroll_limit=N",
        )

    def _branch(self, node: Node, inputs: list[Value]) -> list[Value]:
        taken = self.known(inputs[0])
        if taken is None:
            raise UnsupportedConversionError(
                f"the branch {node.name!r} depends on the input: TF.js' predict() cannot run it",
                "write the model without tf.cond, with tf.where",
            )
        key = "then_branch" if bool(taken) else "else_branch"
        return self._call(node.attrs[key]["func"]["name"], node.name, inputs[1:])


_MAX_OUTPUTS = 64  # references to outputs that a node may have; those it has not are never read
