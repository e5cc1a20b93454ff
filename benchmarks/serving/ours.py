"""The server of this project, started as its users do."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from measure import ENVIRONMENT, PROGRAM, ROOT

from serving.bodies import Answer, Request
from serving.models import Served
from serving.process import Server, free_ports, running

LOGS = ROOT / "dist" / "bench" / "logs"


def command(served: Served, port: int) -> list[str]:
    """`pipcook-deploy serve BUNDLE --port N`."""
    return [str(PROGRAM), "serve", str(served.bundle), "--port", str(port)]


@contextmanager
def serving(
    served: Served, request: Request, right: Callable[[Answer], str] | None = None
) -> Iterator[Server]:
    """Started, and checked once with `request`. Raises `UnavailableError` if it gives no right answer."""
    port = free_ports(1)[0]
    with running(
        command(served, port), port, request, right or served.wrong,
        folder=ROOT, environment=ENVIRONMENT, log=LOGS / "pipcook-deploy.log",
    ) as server:  # fmt: skip
        yield server


def engine(server: Server, served: Served) -> str:
    """What it computes with, from the model's metadata: "onnxruntime" or "openvino"."""
    url = f"http://127.0.0.1:{server.port}/v2/models/{served.name}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        platform = str(json.load(answer).get("platform", ""))
    return "openvino" if "openvino" in platform else "onnxruntime"
