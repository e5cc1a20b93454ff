"""The local prediction server: granian and ONNX Runtime, no TensorFlow in the process."""

from pipcook_deploy.server.run import serve
from pipcook_deploy.server.served import ServedModel, Settings

__all__ = ["ServedModel", "Settings", "serve"]
