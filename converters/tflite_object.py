"""TFLite files as the objects of ai-edge-litert's schema, to be changed and written again."""

from typing import Any


def unpacked(data: bytes) -> Any:
    """The model as a `ModelT`."""
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

    return read_model_from_bytearray(bytearray(data))


def packed(model: Any) -> bytes:
    """The file of a `ModelT`."""
    import numpy as np
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    for buffer in model.buffers:
        if buffer.data is not None:  # what is no array would be packed byte by byte
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    return bytes(convert_object_to_bytearray(model))
