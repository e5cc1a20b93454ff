"""What a model is, as data: it travels from the source to the manifest and the server."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from pipcook_deploy.options import Options
from pipcook_deploy.preprocess.operations import Operation

Task = Literal[
    "image-classification",
    "object-detection",
    "text-classification",
    "tabular",
    "image-to-image",
    "tensor",
]

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "string", "complex64",
)  # fmt: skip


def known_dtype(value: str) -> str:
    """`value` if it is one of `DTYPES`; `ValueError` otherwise."""
    if value not in DTYPES:
        raise ValueError(f"{value!r} is not one of {', '.join(DTYPES)}")
    return value


class TensorSpec(Options):
    """One named tensor of a model's interface.

    `dtype` is spelled as numpy does ("float32"), "string" for text. `shape` counts the batch axis;
    None is a dynamic axis.
    """

    name: str
    dtype: Annotated[str, AfterValidator(known_dtype)]
    shape: tuple[int | None, ...]

    def matches(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` fits."""
        return len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape, shape, strict=True)
        )


class Signature(Options):
    """Inputs and outputs of one callable of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelSpec(Options):
    """Everything about a model that is not its weights.

    `preprocessing` maps an input's name to the operations that make its tensor (without the batch
    axis) from what a caller sends: image bytes, a text, or numbers. `labels` name the positions of the
    last axis of the first output. `notes` say what a source did not tell, and what was assumed: nothing.
    """

    name: str = "model"
    version: str = "1"
    task: Task = "tensor"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    signatures: dict[str, Signature] = Field(default_factory=dict)
    preprocessing: dict[str, tuple[Operation, ...]] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    license: str | None = None
    description: str | None = None
    notes: tuple[str, ...] = ()

    def with_changes(self, **changes: Any) -> "ModelSpec":
        """A validated copy."""
        return ModelSpec.model_validate(self.model_dump() | changes)


Details = dict[str, JsonValue]
