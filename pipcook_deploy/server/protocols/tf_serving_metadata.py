"""Status and metadata as TF Serving prints its messages: int64 as text, each field even if it is empty."""

from typing import Any

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.protocols.instances import wanted_outputs
from pipcook_deploy.server.tensors.datatypes import shape_json
from pipcook_deploy.spec import ModelSpec, TensorSpec

DEFAULT = "serving_default"
SPELLED = {
    "float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF", "bfloat16": "DT_BFLOAT16",
    "string": "DT_STRING", "bool": "DT_BOOL", "complex64": "DT_COMPLEX64",
}  # fmt: skip


def status_of(versions: list[str], draining: bool) -> dict[str, Any]:
    """A GetModelStatusResponse."""
    state = "UNLOADING" if draining else "AVAILABLE"
    good = {"error_code": "OK", "error_message": ""}
    return {
        "model_version_status": [
            {"version": version, "state": state, "status": good} for version in versions
        ]
    }


def metadata_of(spec: ModelSpec) -> dict[str, Any]:
    """A GetModelMetadataResponse: the signatures that can be asked for."""
    signatures = {DEFAULT: spec.outputs}
    for name in spec.signatures:
        try:
            signatures[name] = wanted_outputs(spec, name)
        except HttpError:
            continue
    definitions = {
        name: {
            "inputs": {tensor.name: _described(tensor) for tensor in spec.inputs},
            "outputs": {tensor.name: _described(tensor) for tensor in outputs},
            "method_name": "tensorflow/serving/predict",
        }
        for name, outputs in signatures.items()
    }
    return {
        "model_spec": {"name": spec.name, "signature_name": "", "version": spec.version},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


def _described(tensor: TensorSpec) -> dict[str, Any]:
    sizes = shape_json(tensor.shape)
    return {
        "dtype": SPELLED.get(tensor.dtype, f"DT_{tensor.dtype.upper()}"),
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": f"{tensor.name}:0",
    }
