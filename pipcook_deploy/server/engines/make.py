"""From an artifact and the settings to the engine that runs it."""

from importlib.util import find_spec

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.engines.litert import LiteRtEngine
from pipcook_deploy.server.engines.litert_apart import LiteRtApart
from pipcook_deploy.server.engines.onnx import OnnxCudaEngine, OnnxEngine
from pipcook_deploy.server.engines.openvino import OpenVinoEngine

# By format; the first is the default.
ENGINES = {"onnx": ("onnxruntime", "openvino", "onnxruntime-cuda"), "tflite": ("litert",)}
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
CUDA = (
    "onnxruntime-cuda"  # only for who asks by name: its package has the same modules as the CPU's
)


def make_engine(
    artifact: Artifact,
    threads: int = 0,
    streams: int = 1,
    engine: str | None = None,
    apart: bool = False,
) -> Engine:
    """An engine that computes `streams` requests at once, each on `threads` threads (0: as many as it likes).

    `apart` puts LiteRT into processes of its own: what takes long there would stop the server otherwise.
    Raises `ServerError` for what the engine cannot run, `MissingDependencyError` if it is not installed.
    """
    if artifact.model_format not in ENGINES:
        raise ServerError(
            f"the server runs onnx artifacts, not {artifact.model_format}",
            "convert first: pipcook-deploy convert MODEL --to onnx --out DIR",
        )
    engine = engine or ENGINES[artifact.model_format][0]
    if engine not in ENGINES[artifact.model_format]:
        raise ServerError(f"{engine} does not run {artifact.model_format}")
    if engine == "litert":
        return LiteRtApart(artifact, threads, streams) if apart else LiteRtEngine(artifact, threads)
    if engine == "openvino":
        return OpenVinoEngine(artifact, threads, streams)
    return (OnnxCudaEngine if engine == CUDA else OnnxEngine)(artifact, threads)


def installed(engine: str) -> bool:
    """Whether an engine's package is there; it is not imported for that."""
    return find_spec(PACKAGES[engine]) is not None
