"""New constants and names of a graph that is rewritten."""

from typing import Any


class Store:
    """Adds initializers, equal ones once, under short names: a file has hundreds, each written three times."""

    def __init__(self, proto: Any) -> None:
        from pipcook_deploy.converters.onnx_names import all_nodes

        self._proto = proto
        names = {name for node in all_nodes(proto.graph) for name in (*node.input, *node.output)}
        names |= {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
        self._prefix = ""
        while any(_numbered(name, self._prefix) for name in names):
            self._prefix += "q"
        self._count = 0
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def name(self) -> str:
        """A name that no tensor has."""
        self._count += 1
        return f"{self._prefix}{self._count}"

    def constant(self, value: Any) -> str:
        """The name of an initializer with this value."""
        import numpy as np
        from onnx import numpy_helper

        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.name()
            tensor = numpy_helper.from_array(array, self._known[key])
            self._proto.graph.initializer.append(tensor)
        return self._known[key]

    def dequantize(self, stored: str, dtype: Any, scales: Any, axis: int | None) -> Any:
        """A DequantizeLinear of zero point zero; its output has a new name."""
        import numpy as np
        from onnx import helper

        inputs = [stored, self.constant(scales), self.constant(np.zeros(np.shape(scales), dtype))]
        attributes = {} if axis is None else {"axis": axis}
        return helper.make_node("DequantizeLinear", inputs, [self.name()], **attributes)


def _numbered(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name[len(prefix) :].isdigit()
