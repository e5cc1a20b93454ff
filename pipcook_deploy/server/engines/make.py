"""From an artifact and the settings to the engine that runs it."""

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.engines.litert import LiteRtEngine
from pipcook_deploy.server.engines.onnx import OnnxEngine


def make_engine(artifact: Artifact, threads: int = 0) -> Engine:
    """The engine of an artifact's format. Raises `ServerError` for a format that is not served."""
    if artifact.model_format == "tflite":
        return LiteRtEngine(artifact, threads)
    if artifact.model_format != "onnx":
        raise ServerError(
            f"the server runs onnx artifacts, not {artifact.model_format}",
            "convert first: pipcook-deploy convert MODEL --to onnx --out DIR",
        )
    return OnnxEngine(artifact, threads)
