"""Limits and choices of the server: the one place that holds them.

Each field is an option of `pipcook-deploy serve` as well (`max_body`: `--max-body`), with its help, and an environment
variable (`PIPCOOK_DEPLOY_MAX_BODY`).
"""

from dataclasses import Field, dataclass, field, fields
from math import inf
from typing import Any

from pipcook_deploy.errors import UsageError


def setting(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    *,
    least: float = 0,
    most: float = inf,
) -> Any:
    """A field with what the command line says about it; numbers are from `least` to `most`."""
    said = {"help": help, "choices": choices, "least": least, "most": most}
    return field(default=default, metadata=said)


ENGINES = ("onnxruntime", "openvino", "litert", "onnxruntime-cuda", "auto")


@dataclass(frozen=True)
class Settings:
    """Sizes in bytes, times in seconds."""

    max_body: int = setting(10_000_000, "Bytes of a request's body.", least=1)
    max_bodies: int = setting(
        500_000_000, "Bytes of all bodies above 256 kB that are held at the same time.", least=1
    )
    # Resizing costs up to 0.15 microseconds a pixel.
    max_pixels: int = setting(
        25_000_000,
        "Pixels of the images of one request together, before they are decoded.",
        least=1,
    )
    max_samples: int = setting(
        64, "Images, texts or rows of one request that is preprocessed.", least=1
    )
    max_rows: int = setting(65_536, "Samples of one request of tensors.", least=1)
    max_nesting: int = setting(16, "Dimensions of a tensor.", least=1)
    max_elements: int = setting(50_000_000, "Elements of one tensor.", least=1)
    body_timeout: float = setting(15.0, "Seconds from a request's head to the end of its body.")
    # Longer than load balancers keep an idle connection, or they send a request on one that is just being closed.
    header_timeout: float = setting(75.0, "Seconds for a request's head, and for the next request.")
    max_header: int = setting(
        65_536, "Bytes of a request's head; up to twice that may pass.", least=1
    )
    max_connections: int = setting(4096, "Connections at the same time; more wait.", least=1)
    send_timeout: float = setting(
        30.0, "Seconds in which a client must take something of its answer, on Linux."
    )
    drain_timeout: float = setting(30.0, "Seconds for what is in flight when the server is ended.")
    request_timeout: float = setting(
        60.0, "Seconds to wait for a turn, where a request says nothing."
    )
    max_queue: int = setting(128, "Requests of one model that wait or compute; 503 above.", least=1)
    queue_seconds: float = setting(
        10.0, "A request that would wait longer than this gets 503 at once."
    )
    engine: str = setting("onnxruntime", "What computes; auto measures what is installed.", ENGINES)
    threads: int = setting(0, "Threads of one inference; 0: measured.")
    streams: int = setting(0, "Inferences of one model at the same time; 0: measured.")
    batching: str = setting("auto", "Compute waiting requests together.", ("auto", "on", "off"))
    max_batch: int = setting(16, "Samples that are computed together at most.", least=1)
    batch_wait: float = setting(
        0.002, "Seconds that a batch waits for more, while requests keep coming."
    )
    workers: int = setting(1, "Processes that answer on the same port.", least=1)
    default_model: str = setting(
        "", "Model for requests that name none.  [default: the first that is given, or there]"
    )
    keep_versions: str = setting(
        "previous",
        "Versions that stay loaded beside the current one and those with a label or a share.",
        ("current", "previous", "all"),
    )
    repository_poll: float = setting(1.0, "Seconds between looks at the repository; 0: one look.")
    repository_patience: float = setting(
        10.0, "Seconds until a bundle whose files are wrong, and do not change, is called broken."
    )
    grpc_port: int = setting(
        0, "Port of the Open Inference Protocol over gRPC; 0: none.", most=65535
    )
    preparers: int = setting(0, "Threads that decode and preprocess; 0: one a core.")
    log_requests: str = setting("errors", "Requests that get a line of the log.", ("errors", "all"))
    log_format: str = setting("text", "Form of the log, on stderr.", ("text", "json"))
    api_key_file: str = setting("", "File of API keys, one a line; also PIPCOOK_DEPLOY_API_KEYS.")
    admin_token_file: str = setting(
        "", "File of the admin token; also PIPCOOK_DEPLOY_ADMIN_TOKEN. Needed to administer."
    )
    open_paths: str = setting("", "More paths that need no key, with commas between.")
    cors_origin: str = setting("", "Origins whose pages may read answers, with commas, or *.")
    allowed_hosts: str = setting(
        "", "Host names to answer to, with commas, or *; on localhost only its own otherwise."
    )
    tls_cert: str = setting("", "PEM file of the certificate and its chain: HTTPS.")
    tls_key: str = setting("", "PEM file of the certificate's key, not encrypted.")

    def __post_init__(self) -> None:
        """Raises `UsageError` for a number that makes no sense."""
        for known in fields(self):
            if isinstance(known.default, int | float):
                _check(known, getattr(self, known.name))


def _check(known: "Field[Any]", value: float) -> None:
    least, most = known.metadata["least"], known.metadata["most"]
    if not least <= value <= most:  # nor is nan
        allowed = f"from {least:g}" + (f" to {most:g}" if most < inf else "")
        raise UsageError(f"--{known.name.replace('_', '-')}: {value} is not {allowed}")
