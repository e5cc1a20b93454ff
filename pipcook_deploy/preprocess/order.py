"""Which operation may follow which: found when a pipeline is made, not when a request comes."""

from collections.abc import Sequence
from typing import Literal

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.operations import Operation

Kind = Literal["encoded", "image", "text", "ids", "tensor"]

# What an operation takes -> what it gives. An image is [H, W, C]; a tensor has any shape.
ACCEPTS: dict[str, dict[Kind, Kind]] = {
    "decode": {"encoded": "image"},
    "color": {"image": "image"},
    "resize": {"image": "image"},
    "center_crop": {"image": "image"},
    "normalize_per_image": {"image": "image"},
    "layout": {"image": "tensor"},
    "scale": {"image": "image", "tensor": "tensor"},
    "normalize": {"image": "image", "tensor": "tensor"},
    "cast": {"image": "image", "tensor": "tensor", "ids": "ids"},
    "tokenize": {"text": "ids"},
    "pad": {"ids": "tensor"},
}


def starts_with(operations: Sequence[Operation]) -> Kind:
    """What the caller sends: told by the first operation that takes one kind only."""
    kind: Kind = "tensor"
    for operation in operations:
        kinds = list(ACCEPTS[operation.op])
        if len(kinds) == 1:
            return kinds[0]
    return kind


def check(operations: Sequence[Operation]) -> Kind:
    """What the caller sends. Raises `PreprocessingError` naming the first operation out of place."""
    start = kind = starts_with(operations)
    for place, operation in enumerate(operations):
        accepts = ACCEPTS[operation.op]
        if kind not in accepts:
            raise PreprocessingError(
                f"preprocessing: operation {place + 1} ({operation.op}) takes "
                f"{' or '.join(accepts)}, but gets {kind}",
                "reorder the operations (docs/preprocessing.md says what each takes and gives)",
            )
        kind = accepts[kind]
    return start
