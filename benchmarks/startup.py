"""How long the command line takes to say something, and the server to answer.

    python benchmarks/startup.py [--json FILE] [--repeat N] [--bundle DIR]

Smallest and median wall time of whole processes; the server's from its start to the first 200 of /healthz.
"""

import argparse
import http.client
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import ENVIRONMENT, PROGRAM, ROOT, needed, timed, write_json

BUNDLE = ROOT / "dist" / "fashion-mnist"
PATIENCE = 30
HEAVY = ("tensorflow", "keras", "tf_keras", "onnx", "onnxruntime", "h5py", "PIL", "granian")

LOADED = f"""
import sys
import pipcook_deploy.cli
print(",".join(name for name in {HEAVY!r} if name in sys.modules))
"""


def help_seconds() -> float:
    """`pipcook-deploy --help`."""
    return needed(timed([PROGRAM, "--help"]), "--help").seconds


def import_seconds() -> float:
    """`import pipcook_deploy`, with the interpreter's own start."""
    return needed(timed([sys.executable, "-c", "import pipcook_deploy"]), "import").seconds


def bare_seconds() -> float:
    """The interpreter alone: the floor of the two above."""
    return needed(timed([sys.executable, "-c", "pass"]), "python").seconds


def serve_seconds(bundle: Path) -> float:
    """`pipcook-deploy serve` until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    start = time.perf_counter()
    server = subprocess.Popen(
        [PROGRAM, "serve", bundle, "--port", str(port)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not ready(port):
            if server.poll() is not None or time.perf_counter() - start > PATIENCE:
                raise SystemExit(f"the server did not start (exit code {server.poll()})")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        server.terminate()
        server.wait(PATIENCE)


def ready(port: int) -> bool:
    """Whether /healthz answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def sampled(measure: Callable[[], float], repeat: int) -> dict[str, float]:
    """Smallest and median of `repeat` calls, after one that is not counted."""
    measure()
    times = [measure() for _ in range(repeat)]
    return {"min": round(min(times), 3), "median": round(statistics.median(times), 3)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    arguments = parser.parse_args()

    result: dict[str, Any] = {
        "python": sampled(bare_seconds, arguments.repeat),
        "import pipcook_deploy": sampled(import_seconds, arguments.repeat),
        "pipcook-deploy --help": sampled(help_seconds, arguments.repeat),
    }
    if arguments.bundle.is_dir():
        result["serve"] = sampled(lambda: serve_seconds(arguments.bundle), arguments.repeat)
    for name, times in result.items():
        print(f"{name:<24} {times['min']:6.3f} s smallest, {times['median']:6.3f} s median")
    if "serve" not in result:
        print(f"{'serve':<24} no bundle at {arguments.bundle}; run: make demo ONCE=1")
    loaded = needed(timed([sys.executable, "-c", LOADED]), "import").out.strip()
    print(f"heavy modules loaded by the command line: {loaded or 'none'}")
    write_json(arguments.json, result | {"loaded": [name for name in loaded.split(",") if name]})


if __name__ == "__main__":
    main()
