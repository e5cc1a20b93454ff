import socket
import time
import urllib.request
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.server import tiny_models

pytestmark = pytest.mark.alone


def test_idle_clients_keep_nobody_out(tmp_path):
    with tiny_models.serving(tiny_models.colours(tmp_path)) as running, ExitStack() as idle:
        place = urlsplit(running.url)
        for _ in range(300):
            idle.enter_context(socket.create_connection((place.hostname, place.port), 5))
        start = time.monotonic()
        with urllib.request.urlopen(f"{running.url}/healthz", timeout=4) as answer:
            assert answer.status == 200
        assert time.monotonic() - start < 3
