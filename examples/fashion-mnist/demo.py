"""The deploy stage on a real model: run the recipe, look at the bundle, make it smaller, serve it, ask it.

    python demo.py [--once]

`--once` ends after the predictions; else the server stays until Ctrl-C.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECIPE = HERE / "deploy.toml"
SMALLER = HERE / "compress.toml"
# What keeps a demo short: one step of pruning, and nothing measured beside what wins.
SHORT = ("budget.sparsities=[0.3]", "budget.explore=0", "bench.seconds=0.5")
BUNDLE = ROOT / "dist" / "fashion-mnist"
PORT = 9091  # of Pipcook 2's own server
PATIENCE = 30  # seconds for the server to answer
PROGRAM = Path(sys.executable).with_name("pipcook-deploy")


def main() -> int:
    """Exit code of the stage if that fails, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--once", action="store_true", help="end after the predictions")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    started = time.monotonic()
    code = run("run", str(RECIPE.relative_to(ROOT)))
    if code:
        return code
    print(f"\nthe stage took {time.monotonic() - started:.0f} s\n")
    started = time.monotonic()
    settings = [part for setting in SHORT for part in ("--set", setting)]
    code = run("run", str(SMALLER.relative_to(ROOT)), *settings)
    if code:
        return code
    print(f"\nmaking it smaller took {time.monotonic() - started:.0f} s\n")
    try:
        with served(BUNDLE) as port:
            predict_samples(port)
            print(f"\nthe page: http://127.0.0.1:{port}/", flush=True)
            if not once:
                print("Ctrl-C ends the server", flush=True)
                signal.pause()
    except KeyboardInterrupt:
        print()
    return 0


def run(*arguments: str) -> int:
    """Run the command line from the repository's root, shown before."""
    print(f"$ pipcook-deploy {' '.join(arguments)}", flush=True)
    return subprocess.run([str(PROGRAM), *arguments], cwd=ROOT, check=False).returncode


@contextmanager
def served(bundle: Path) -> Iterator[int]:
    """A server of `bundle`, ready; its port. It is ended in every case."""
    port = free_port()
    print(f"$ pipcook-deploy serve {bundle.relative_to(ROOT)} --port {port}", flush=True)
    # A session of its own: Ctrl-C reaches this program only, which then ends the server.
    server = subprocess.Popen(
        [str(PROGRAM), "serve", str(bundle), "--port", str(port)], cwd=ROOT, start_new_session=True
    )
    try:
        wait_until_ready(server, port)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()


def free_port() -> int:
    """9091, or any other if that is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no free port")


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    """Until /healthz answers 200."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with exit code {server.returncode}")
        try:
            if ask(port, "GET", "/healthz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the server did not answer in {PATIENCE} s")


def predict_samples(port: int) -> None:
    """Send one image of each label to the Pipcook 2 endpoint and print what comes back."""
    for folder in sorted((HERE / "samples").iterdir()):
        image = min(folder.glob("*.png"))
        answer = predict(port, image)
        right = "" if answer["category"] == folder.name else f"   (it is: {folder.name})"
        name = image.relative_to(HERE)
        print(f"{name!s:<30} {answer['category']:<11} {100 * answer['score']:5.1f} %{right}")


def predict(port: int, image: Path) -> dict[str, Any]:
    """POST /predict with one file in the field `image`: {"id", "category", "score"}."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="{image.name}"\r\nContent-Type: image/png\r\n\r\n'
    )
    body = head.encode() + image.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    status, answer = ask(port, "POST", "/predict", body, kind)
    if status != 200 or not answer["success"]:
        raise SystemExit(f"{image}: {status}: {answer}")
    return dict(answer["data"][0])


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Status and JSON body (or text)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


if __name__ == "__main__":
    sys.exit(main())
