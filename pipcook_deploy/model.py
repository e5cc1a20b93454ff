"""A trained model on disk, told apart by content."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipcook_deploy.spec import Details, ModelSpec

# Formats of sources and artifacts. `keras` is a Keras 3 archive or full-model .h5 saved by Keras 3;
# `keras_h5` a full-model .h5 that tf_keras (Keras 2) opens.
FORMATS = (
    "keras", "keras_h5", "saved_model", "tfjs_layers", "tfjs_graph", "onnx", "tflite",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """Where a model is, what format it has, and its spec.

    `path` is the file (`keras`, `keras_h5`, `onnx`, `tflite`; `model.json` for `tfjs_*`) or the folder
    (`saved_model`). `source_hash` is the sha256 over the source's files. `trusted` says that the user
    allowed code inside it to run. `details` are facts of the format worth showing (producer, opset…).
    """

    path: Path
    format: str
    spec: ModelSpec
    source_hash: str = ""
    trusted: bool = False
    signature: str | None = None
    details: Details = field(default_factory=dict)

    def with_spec(self, **changes: Any) -> "Model":
        """The same model with parts of its spec replaced."""
        return replace(self, spec=self.spec.with_changes(**changes))
