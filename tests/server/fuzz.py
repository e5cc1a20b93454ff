"""`python -m tests.server.fuzz --cases 10000 --seed 1`: damaged requests over raw sockets.

Every answer must be below 500, or 503, and whole; none may take too long; the server must live on, with the
memory and the files that it had. `--model colours --only 123` sends one case again and shows it.
"""

import argparse
import collections
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.server import tiny_models
from tests.server.fuzz_requests import ADMIN, MODELS, made

DEADLINE = 8.0  # seconds for one case, far above any timeout of the server
OPTIONS = ("--body-timeout", "0.3", "--header-timeout", "0.4", "--max-pixels", "1000000")
MEMORY = 40_000_000  # bytes that the second half of the cases may add
FILES = 12
CLIENTS = 12


def answers(address, data):
    """All bytes that come back; None if the server has not closed in time."""
    end = time.monotonic() + DEADLINE
    with socket.create_connection(address, timeout=DEADLINE) as connection:
        received = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        try:
            while part := connection.recv(1 << 20):
                received += part
                connection.settimeout(max(0.01, end - time.monotonic()))
        except TimeoutError:
            return None
        except ConnectionResetError:
            pass
    return received


def complaint(received):
    """What is wrong with the answers to one case, or ""."""
    if received is None:
        return "no end in time"
    if b"Traceback" in received:
        return "a traceback"
    rest = received
    while rest:
        if not rest.startswith(b"HTTP/1.1 "):
            return ""  # the body of an answer to HEAD or to half a request
        head, found, rest = rest.partition(b"\r\n\r\n")
        code = int(head.split(b" ", 2)[1])
        if code >= 500 and code != 503:
            return f"status {code}"
        wrong, rest = _body(head.lower(), rest, bool(found))
        if wrong:
            return wrong
    return ""


def _body(head, rest, whole):
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    # The answer to HEAD has a length and no body.
    length = 0 if rest.startswith(b"HTTP/1.1 ") else int(headers.get(b"content-length", b"0"))
    body, rest = rest[:length], rest[length:]
    if not whole:
        return "half a head", b""
    if headers.get(b"content-type") == b"application/json" and 0 < length == len(body):
        try:
            json.loads(body)
        except ValueError:
            return "an answer that is not JSON", b""
    return "", rest


def status(received):
    """Of the first answer; None if there is none."""
    return int(received.split(b" ", 2)[1]) if received else None


def resources(process):
    """Resident bytes and open files."""
    with open(f"/proc/{process.pid}/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident, len(os.listdir(f"/proc/{process.pid}/fd"))


def run(model, seed, numbers, folder):
    """Complaints by case, and how often each status came."""
    statuses, complaints = collections.Counter(), {}
    token = Path(folder) / "token"
    token.write_text(ADMIN)
    options = (*OPTIONS, "--admin-token-file", str(token))
    with tiny_models.serving(getattr(tiny_models, model)(folder), *options) as server:

        def one(number):
            received = answers(server.address, made(seed, number, model))
            statuses[status(received)] += 1
            if wrong := complaint(received):
                complaints[number] = wrong

        with ThreadPoolExecutor(CLIENTS) as clients:
            half = len(numbers) // 2
            list(clients.map(one, numbers[:half]))
            before = resources(server.process)
            list(clients.map(one, numbers[half:]))
        time.sleep(0.6)  # the last connections end
        after = resources(server.process)
        if server.process.poll() is not None:
            complaints["end"] = f"the server ended with {server.process.returncode}"
        if after[0] - before[0] > MEMORY:
            complaints["memory"] = f"{before[0]} -> {after[0]} bytes"
        if after[1] - before[1] > FILES:
            complaints["files"] = f"{before[1]} -> {after[1]} open files"
        if status(answers(server.address, b"GET /healthz HTTP/1.0\r\n\r\n")) != 200:
            complaints["health"] = "no answer any more"
    return complaints, statuses


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.server.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", choices=MODELS, help="one only; all of them in turn otherwise")
    parser.add_argument("--only", type=int, help="the number of one case, shown whole")
    options = parser.parse_args(argv)
    failed = False
    models = [options.model] if options.model else list(MODELS)
    for model in models:
        numbers = range(options.cases // len(models))
        if options.only is not None:
            numbers = [options.only]
            print(made(options.seed, options.only, model))
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            complaints, statuses = run(model, options.seed, list(numbers), Path(folder))
        failed |= bool(complaints)
        said = ", ".join(f"{code}: {count}" for code, count in statuses.most_common())
        print(f"{model}: {len(numbers)} cases in {time.monotonic() - start:.0f} s; {said}")
        for number, wrong in complaints.items():
            print(f"  --model {model} --seed {options.seed} --only {number}: {wrong}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
