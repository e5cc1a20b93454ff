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

    def to_json(self) -> dict[str, Any]:
        """As plain data, for a worker."""
        return {
            "path": str(self.path),
            "format": self.format,
            "spec": self.spec.model_dump(mode="json"),
            "source_hash": self.source_hash,
            "trusted": self.trusted,
            "signature": self.signature,
            "details": self.details,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Model":
        """The inverse of `to_json`."""
        return cls(
            **(data | {"path": Path(data["path"]), "spec": ModelSpec.model_validate(data["spec"])})
        )
