"""Several processes on one port: changes reach all, a crash loses what was in flight there, signals end all."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx
import pytest

from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.ports import free_port, held_port
from pipcook_deploy.server.supervisor import _private_folder
from tests.server import scale_bundles, tiny_models

pytestmark = pytest.mark.alone

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'


def until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def children(pid):
    try:
        return {int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except FileNotFoundError:
        return set()


def alive(pid):
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def connection(url):
    host, port = url.removeprefix("http://").split(":")
    return HTTPConnection(host, int(port), timeout=30)


def version_of_a_new_connection(url):
    one = connection(url)
    one.request("POST", "/v2/models/scale/infer", BODY)
    answer = one.getresponse().read()
    one.close()
    return answer.split(b'"model_version":"')[1].split(b'"')[0].decode()


def workers_of(server):
    """How many answer; the worker that is asked may be the one that is killed."""
    try:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    except httpx.TransportError:
        return set()
    return {line.split()[1] for line in lines if line.startswith("pipcook_workers ")}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    for version in (1, 2):
        scale_bundles.add(repository, version)
    options = ("--workers", "2", "--repository-poll", "0.1")
    with scale_bundles.serving("--repository", repository, *options) as running:
        running.repository = repository
        yield running


def test_changes_reach_every_worker_before_they_are_answered(server):
    assert workers_of(server) == {"2.0"}
    for version in ("1", "2", "1"):
        assert server.admin("PUT", "/scale/labels/stable", version=version).status_code == 200
        seen = {version_of_a_new_connection(server.url) for _ in range(20)}
        assert seen == {version}
    assert server.admin("DELETE", "/scale/labels/stable").status_code == 200


def test_one_worker_follows_the_repository_for_all(server):
    scale_bundles.add(server.repository, 3)
    until(lambda: server.index().get("3", {}).get("current"))
    assert {version_of_a_new_connection(server.url) for _ in range(20)} == {"3"}
    scale_bundles.add(server.repository, 4, recorded=5)
    until(lambda: "golden" in server.index().get("4", {}).get("reason", ""))
    assert {version_of_a_new_connection(server.url) for _ in range(20)} == {"3"}


class Client(threading.Thread):
    """Asks until it is stopped, over one connection, which it makes again when it breaks."""

    def __init__(self, url):
        super().__init__()
        self.url, self.ended = url, threading.Event()
        self.good = self.broken = self.refused = 0

    def run(self):
        one = connection(self.url)
        while not self.ended.is_set():
            try:
                one.request("POST", "/v2/models/scale/infer", BODY)
                with one.getresponse() as response:
                    response.read()
                self.good += response.status == 200
                self.refused += response.status != 200
            except (OSError, HTTPException):
                self.broken += 1
                one.close()
        one.close()


def test_the_crash_of_a_worker_loses_only_what_was_in_flight_in_it(server):
    assert server.admin("PUT", "/scale/labels/stable", version="1").status_code == 200
    clients = [Client(server.url) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        for _ in range(2):
            before = children(server.process.pid)
            time.sleep(0.2)
            os.kill(min(before), signal.SIGKILL)
            until(lambda: len(children(server.process.pid)) == 2)
            until(lambda: workers_of(server) == {"2.0"})
    finally:
        for client in clients:
            client.ended.set()
            client.join()
    assert not any(client.refused for client in clients)
    assert all(client.good > 50 for client in clients)
    # Of each crash its own connection, and one that the kernel gave to the dying process.
    assert all(client.broken <= 4 for client in clients)
    with suppress(httpx.TransportError):  # the fixture's own connection may have been there
        server.client.get("/healthz")
    # The one that was started again serves what was agreed on meanwhile.
    assert {version_of_a_new_connection(server.url) for _ in range(20)} == {"1"}
    assert server.admin("DELETE", "/scale/labels/stable").status_code == 200


def test_the_first_worker_is_not_needed_to_follow_the_repository(server):
    scale_bundles.add(server.repository, 50)
    until(lambda: server.index().get("50", {}).get("current"))
    assert {version_of_a_new_connection(server.url) for _ in range(20)} == {"50"}


def test_a_signal_ends_all_of_it(tmp_path):
    scale_bundles.add(tmp_path, 1)
    private = Path(tempfile.gettempdir())
    before = set(private.glob("pipcook-workers-*"))
    with scale_bundles.serving(tmp_path, "--workers", "2") as running:
        workers = children(running.process.pid)
        (folder,) = set(private.glob("pipcook-workers-*")) - before
        assert folder.stat().st_mode & 0o777 == 0o700
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert not any(alive(worker) for worker in workers) and not folder.exists()


def test_workers_end_with_their_supervisor(tmp_path):
    scale_bundles.add(tmp_path, 1)
    with scale_bundles.serving(tmp_path, "--workers", "2") as running:
        workers = children(running.process.pid)
        running.process.kill()
        until(lambda: not any(alive(worker) for worker in workers))


def started(folder, *options):
    command = [sys.executable, "-m", "pipcook_deploy.server", "--port", "0"]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_it_at_once(tmp_path, workers):
    folder = tiny_models.slow(tmp_path, rounds=300)
    # What waits takes its engine a long time: nothing of that is waited for.
    options = ("--workers", workers, "--batching", "off", "--threads", "1", "--streams", "1")
    with started(folder, *options) as process:
        url = process.stdout.readline().split(" at ")[1].strip()
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 256, 256], "data": [1.0] * 65536}

        def ask():
            with suppress(httpx.HTTPError):
                httpx.post(f"{url}/v2/models/slow/infer", json={"inputs": [tensor]}, timeout=60)

        asking = [threading.Thread(target=ask) for _ in range(30)]
        for thread in asking:
            thread.start()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "there was nothing to wait for"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        for thread in asking:
            thread.join()
        assert "Traceback" not in process.stderr.read()


def test_a_signal_to_every_process_is_one(tmp_path):
    """As systemd and terminals send it."""
    folder, statuses = tiny_models.slow(tmp_path), []
    with started(folder, "--workers", "2", "--threads", "1") as process:
        url = process.stdout.readline().split(" at ")[1].strip()
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 256, 256], "data": [1.0] * 65536}
        request = json.dumps({"inputs": [tensor]})

        def ask():
            answer = httpx.post(f"{url}/v2/models/slow/infer", content=request, timeout=60)
            statuses.append(answer.status_code)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        # Not for a time: the machine may stall, and all be answered meanwhile.
        waiting = 'pending_requests{model="slow",version="1"} 4.0'
        while waiting not in httpx.get(f"{url}/metrics").text:
            assert not statuses, "the model is too fast for this test"
            time.sleep(0.01)
        assert not statuses, "the model is too fast for this test"
        for one in (*children(process.pid), process.pid):
            os.kill(one, signal.SIGTERM)
        for thread in asking:
            thread.join()
        assert process.wait(20) == 0
    assert statuses == [200] * 4


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("after", [0.3, 0.6, 1.0])
def test_a_signal_at_any_moment_ends_it_cleanly(tmp_path, workers, after):
    folder = tiny_models.slow(tmp_path, rounds=500)
    with started(folder, "--workers", workers, "--threads", "1") as process:
        time.sleep(after)
        below = children(process.pid)
        process.send_signal(signal.SIGTERM)
        # Before it listens to signals, or after.
        assert process.wait(20) in (0, -signal.SIGTERM)
        until(lambda: not any(alive(worker) for worker in below))
        assert "Traceback" not in process.stderr.read()


def test_a_model_that_cannot_be_served_is_said_once(tmp_path):
    wrong = scale_bundles.write(tmp_path / "wrong", 1, recorded=3)
    done = subprocess.run(
        [sys.executable, "-m", "pipcook_deploy", "serve", "--port=0", "--workers=2", str(wrong)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ServerError.exit_code
    assert done.stderr.count("golden samples") == 1 and "Traceback" not in done.stderr


def test_a_taken_port_is_named(tmp_path):
    folder = tiny_models.colours(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started(folder, "--workers", "2", "--port", str(port)) as process:
            assert process.wait(20) == ServerError.exit_code
            assert f"port {port} of 127.0.0.1 is taken" in process.stderr.read()


def test_a_held_port_is_taken_for_others_and_shared_by_workers():
    port, holding = held_port("127.0.0.1", 0)
    with holding, socket.socket() as worker, socket.socket() as stranger:
        with pytest.raises(OSError):
            stranger.bind(("127.0.0.1", port))
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", port))
        worker.listen()
        with pytest.raises(ServerError, match="taken"):
            free_port("127.0.0.1", port)


def test_workers_without_a_place_for_temporary_files(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(ServerError, match="several workers need a folder") as raised:
        _private_folder()
    assert "--tmpfs /tmp" in raised.value.hint
