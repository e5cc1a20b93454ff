"""Versions are swapped while clients ask: no request fails, every answer is one version's, and memory is flat."""

import json
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.server import scale_bundles

pytestmark = pytest.mark.alone

WIDTH = 512
WARM, SWAPS = 20, 60


class Client(threading.Thread):
    """Asks until it is stopped; `wrong` are answers that are not 200, not whole, or not of the version they name."""

    def __init__(self, url):
        super().__init__()
        host, port = url.removeprefix("http://").split(":")
        self._connection = HTTPConnection(host, int(port), timeout=60)
        self._body = json.dumps(scale_bundles.body(WIDTH))
        self._ended = threading.Event()
        self.seen, self.wrong = [], []

    def run(self):
        while not self._ended.is_set():
            self._connection.request("POST", "/v2/models/scale/infer", self._body)
            response = self._connection.getresponse()
            text = response.read()
            if response.status != 200:
                self.wrong.append((response.status, text))
                continue
            answer = json.loads(text)
            version = answer["model_version"]
            self.seen.append(version)
            if answer["outputs"][0]["data"] != [float(version), 2.0 * float(version)] * (
                WIDTH // 2
            ):
                self.wrong.append(answer)
        self._connection.close()

    def stop(self):
        self._ended.set()
        self.join()


def figure(pid, name):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


@pytest.fixture
def repository(tmp_path):
    for version in (1, 2):
        scale_bundles.add(tmp_path, version, width=WIDTH)
    return tmp_path


# In the event loop, and by threads of the model's own.
@pytest.mark.parametrize("batching", ["off", "on"])
def test_swaps_under_load(repository, batching):
    options = ("--keep-versions", "current", "--batching", batching)
    with scale_bundles.serving("--repository", repository, *options) as server:
        pid = server.process.pid
        clients = [Client(server.url) for _ in range(2)]
        for client in clients:
            client.start()
        try:
            for swap in range(WARM + SWAPS):
                if swap == WARM:
                    memory, threads = figure(pid, "VmRSS"), figure(pid, "Threads")
                version = str(swap % 2 + 1)
                answer = server.admin("PUT", "/scale/labels/stable", version=version)
                assert answer.status_code == 200
                ready = {r["version"] for r in answer.json()["models"] if r["state"] == "READY"}
                assert ready == {version}
        finally:
            for client in clients:
                client.stop()
        assert not any(client.wrong for client in clients)
        assert all({"1", "2"} == set(client.seen) for client in clients)
        assert figure(pid, "Threads") <= threads + 2
        assert (
            figure(pid, "VmRSS") - memory < 10_000
        )  # kB: less than 0.2 MB a swap, of models of 1 MB


def test_folders_are_replaced_under_load(repository):
    options = ("--repository-poll", "0.05", "--keep-versions", "current")
    with scale_bundles.serving("--repository", repository, *options) as server:
        client = Client(server.url)
        client.start()
        try:
            for version in range(3, 9):
                scale_bundles.add(repository, version, width=WIDTH)
                while not (row := server.index().get(str(version))) or not row["current"]:
                    assert server.process.poll() is None
        finally:
            client.stop()
        assert not client.wrong
        assert set(client.seen) >= {"2", "8"}
