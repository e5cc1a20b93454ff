"""What is served, and within which limits: the one place that holds them."""

from dataclasses import dataclass

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.spec import ModelSpec


@dataclass(frozen=True)
class ServedModel:
    """A spec, and the ONNX or TFLite artifact that answers for it."""

    spec: ModelSpec
    artifact: Artifact


@dataclass(frozen=True)
class Settings:
    """Limits of requests, and how many threads work on them. Sizes in bytes, times in seconds."""

    max_body: int = 10_000_000
    max_pixels: int = 25_000_000  # resizing costs up to 0.15 microseconds a pixel
    max_samples: int = 64  # images or texts of one /predict
    max_nesting: int = 16  # dimensions of a tensor
    body_timeout: float = 15.0  # from the head of a request to the end of its body
    header_timeout: float = 5.0  # also bounds how long an unfinished head delays the end
    drain_timeout: float = 30.0  # SIGTERM: what is in flight may take this long
    threads: int = 0  # of one inference; 0: as many as cores
    workers: int = 2  # requests that compute at the same time
