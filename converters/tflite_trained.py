"""SavedModels that were trained with the rounding of int8: their ranges are in the graph, as FakeQuant operators."""

from collections.abc import Callable, Iterator
from typing import Any

from pipcook_deploy.errors import ConversionError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.saved_model_io import Serving
from pipcook_deploy.saved_model_names import read_proto

_ROUNDING = ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")


def is_trained(serving: Serving) -> bool:
    """Whether the graph rounds as int8 does."""
    return any(
        node.op in _ROUNDING
        for graph in read_proto(serving.folder).meta_graphs
        for function in graph.graph_def.library.function
        for node in function.node_def
    )


def convert_trained(serving: Serving, samples: Tensors | None, most: int) -> bytes:
    """int8 with the trained ranges; operators that have none get theirs from `samples`, or stay float.

    `most` bounds the samples that are used.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(serving.folder), signature_keys=[serving.name]
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if samples is not None:
        converter.representative_dataset = _feed(serving, samples, most)
    try:
        return bytes(converter.convert())
    except Exception as error:
        if not isinstance(error, RuntimeError | ValueError) and (
            type(error).__name__ != "ConverterError"
        ):
            raise
        lines = [line for line in str(error).splitlines() if "error:" in line]
        reason = (lines or str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConversionError(
            f"tflite: a model that was trained with rounding cannot be written: {reason[:300]}",
            "train it with result = 'weights' in the qat pass, which calibrates instead",
        ) from error


def _feed(
    serving: Serving, samples: Tensors, most: int
) -> Callable[[], Iterator[tuple[str, dict[str, Any]]]]:
    count = min(len(next(iter(samples.values()))), most)

    def generate() -> Iterator[tuple[str, dict[str, Any]]]:
        for row in range(count):
            rows = {serving.plain[name]: value[row : row + 1] for name, value in samples.items()}
            yield serving.name, rows

    return generate
