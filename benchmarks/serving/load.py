"""Load: wrk for saturation (closed loop), and our own `pace` for a constant rate (open loop)."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measure import ROOT

from serving.bodies import Request
from serving.debian import UnavailableError, program

HERE = Path(__file__).parent
PACE = ROOT / "dist" / "bench" / "pace"
PATIENCE = 10  # seconds for what is under way at the end


@dataclass(frozen=True)
class Saturation:
    """What wrk saw. `rate` counts answers of 2xx only; times in milliseconds."""

    rate: float
    p50: float
    p99: float
    not_2xx: int
    broken: int

    @property
    def wrong(self) -> str:
        """What was not as it should be, or ""."""
        parts = {"answers not 2xx": self.not_2xx, "broken connections": self.broken}
        return ", ".join(f"{count} {what}" for what, count in parts.items() if count)

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return {k: round(v, 3) for k, v in asdict(self).items()}


def saturate(request: Request, port: int, seconds: float, connections: int) -> Saturation:
    """As many requests as are answered, each connection waiting for its answer. One thread."""
    with tempfile.TemporaryDirectory() as scratch:
        body = Path(scratch) / "body"
        body.write_bytes(request.body)
        headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        out = _run(
            [
                program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
                "--timeout", "30s", "-s", str(HERE / "request.lua"),
                f"http://127.0.0.1:{port}{request.path}",
            ],
            {"REQUEST_BODY": str(body), "REQUEST_HEADERS": headers},
        )  # fmt: skip
    found = json.loads(out.partition("RESULT ")[2].partition("\n")[0])
    return Saturation(
        rate=(found["requests"] - found["not_2xx"]) / found["seconds"],
        p50=found["p50_us"] / 1000,
        p99=found["p99_us"] / 1000,
        not_2xx=found["not_2xx"],
        broken=found["broken"],
    )


def pace(
    request: Request, port: int, rate: float, seconds: float, connections: int
) -> dict[str, Any]:
    """Requests at a constant rate; latencies from the moment each was due. pace.c tells the fields."""
    compiled()
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "request"
        raw.write_bytes(request.raw(port))
        numbers = [rate, seconds, connections, PATIENCE]
        out = _run([str(PACE), str(port), str(raw), *map(str, numbers)], {})
    result: dict[str, Any] = json.loads(out)
    return result


def compiled() -> None:
    """Compile `pace` if it is older than its source."""
    source = HERE / "pace.c"
    if PACE.exists() and PACE.stat().st_mtime > source.stat().st_mtime:
        return
    PACE.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-Wall", "-Wextra", "-std=gnu11"]
    _run([program("cc", "gcc", "libc6-dev"), *flags, "-o", str(PACE), str(source)], {})


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(f"{Path(command[0]).name}: {(done.stderr or done.stdout)[-300:]}")
    return done.stdout
