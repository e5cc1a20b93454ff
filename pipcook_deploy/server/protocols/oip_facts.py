"""What the Open Inference Protocol tells of server and models, the same over REST and gRPC."""

from functools import cache
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

from pipcook_deploy.server.tensors.datatypes import datatype, shape_json
from pipcook_deploy.spec import TensorSpec

if TYPE_CHECKING:
    from pipcook_deploy.server.app import Context
    from pipcook_deploy.server.models.loaded import LoadedModel

# Named as Triton names those that it made.
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
# Triton's names of element types in configurations, where they are not the protocol's.
CONFIGURED = {"BYTES": "STRING"}


@cache
def server_facts() -> dict[str, Any]:
    """Name, version, extensions."""
    return {
        "name": "pipcook-deploy",
        "version": package_version("pipcook-deploy"),
        "extensions": EXTENSIONS,
    }


def model_facts(context: "Context", name: str, version: str | None) -> dict[str, Any]:
    """The metadata of a model. Raises 404."""
    found = context.registry.resolve(name, version)
    return {
        "name": found.name,
        "versions": list(context.registry.entry(name).versions),
        "platform": found.engine.platform,
        "inputs": [_described(tensor) for tensor in found.spec.inputs],
        "outputs": [_described(tensor) for tensor in found.spec.outputs],
    }


def configuration(model: "LoadedModel") -> dict[str, Any]:
    """Triton's ModelConfig, as far as it says something here.

    `max_batch_size` 0 means that the shapes count the batch axis, not that batches are refused.
    """
    return {
        "name": model.name,
        "platform": model.engine.platform,
        "backend": model.engine.name,
        "max_batch_size": 0,
        "input": [_configured(tensor) for tensor in model.spec.inputs],
        "output": [_configured(tensor) for tensor in model.spec.outputs],
    }


def _described(tensor: TensorSpec) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": datatype(tensor.dtype),
        "shape": shape_json(tensor.shape),
    }


def _configured(tensor: TensorSpec) -> dict[str, Any]:
    kind = datatype(tensor.dtype)
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{CONFIGURED.get(kind, kind)}",
        "dims": shape_json(tensor.shape),
    }
