"""ONNX Runtime with bfloat16, which its numpy interface does not know: by values that it is told the type of."""

import ctypes
from typing import Any

import numpy as np

from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.tensors.datatypes import array_type

ONNX_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16


class BFloat16Session:
    """`run` as an InferenceSession's own, with ml_dtypes' bfloat16 arrays in and out."""

    def __init__(self, session: Any) -> None:
        """Raises `ServerError` for text beside bfloat16, `MissingDependencyError` without ml_dtypes."""
        if any(tensor.type == "tensor(string)" for tensor in session.get_inputs()):
            raise ServerError("a model that takes both bfloat16 and text cannot be served")
        self._session = session
        self._dtype = array_type("bfloat16")

    def run(self, names: list[str], feeds: dict[str, Any], options: Any = None) -> list[Any]:
        """The outputs called `names`."""
        values = {name: self._value(array) for name, array in feeds.items()}
        return [self._array(v) for v in self._session.run_with_ort_values(names, values, options)]

    def _value(self, array: Any) -> Any:
        from onnxruntime import OrtValue

        array = np.ascontiguousarray(array)
        if array.dtype != self._dtype:
            return OrtValue.ortvalue_from_numpy(array)
        bits = array.view(np.uint16)
        return OrtValue.ortvalue_from_numpy_with_onnx_type(bits, ONNX_BFLOAT16)

    def _array(self, value: Any) -> Any:
        """A copy: what ONNX Runtime owns ends with `value`."""
        if value.element_type() != ONNX_BFLOAT16:
            return value.numpy()
        shape = value.shape()
        bits = np.empty(shape, np.uint16)
        ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
        return bits.view(self._dtype)
