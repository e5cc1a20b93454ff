"""The deploy stage of a machine-learning pipeline: convert, verify, bundle and serve trained models."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipcook_deploy.api import deploy, load
    from pipcook_deploy.artifact import Artifact
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.check_bundle import verify_bundle
    from pipcook_deploy.errors import DeployError
    from pipcook_deploy.model import Model
    from pipcook_deploy.spec import ModelSpec, TensorSpec

# ONNX Runtime would give this machine a number, keep it in the home folder, and report what is run to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "Bundle",
    "DeployError",
    "Model",
    "ModelSpec",
    "TensorSpec",
    "__version__",
    "deploy",
    "load",
    "verify_bundle",
]

_HOMES = {
    "Artifact": "artifact",
    "Bundle": "bundle",
    "DeployError": "errors",
    "Model": "model",
    "ModelSpec": "spec",
    "TensorSpec": "spec",
    "deploy": "api",
    "load": "api",
    "verify_bundle": "check_bundle",
}


def __getattr__(name: str) -> Any:
    # Importing the package stays free: what is used is loaded when it is used.
    if name in _HOMES:
        return getattr(import_module(f"pipcook_deploy.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
