"""The log on stderr, request ids and traces."""

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcook_deploy.server.http import Answer
from pipcook_deploy.server.observe import logs
from pipcook_deploy.server.observe.lines import WAITING, Lines
from pipcook_deploy.server.observe.trace import LONGEST_ID, request_id, trace_id, traceparent
from pipcook_deploy.server.settings import Settings
from tests.server import tiny_models

pytestmark = pytest.mark.alone

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.logarithm(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def client(folder):
    with tiny_models.client_of(folder) as connected:
        yield connected


def said(folder, *options, ask):
    """What the server wrote to stderr from start to end, while `ask(client)` used it."""
    command = [sys.executable, "-m", "pipcook_deploy.server", "--port", "0"]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().removeprefix("serving at ").strip()
            with httpx.Client(base_url=url) as connected:
                ask(connected)
        finally:
            process.terminate()
        return process.communicate(timeout=20)[1]


def test_json_lines_say_what_happened(folder):
    def ask(client):
        headers = {
            "x-request-id": "mine-1",
            "traceparent": PARENT,
            "authorization": "Bearer secret",
        }
        path = "/v2/models/logarithm/infer"
        assert client.post(path, json={"inputs": [TENSOR]}, headers=headers).status_code == 200
        assert client.get("/predict?input=private").status_code == 400
        assert client.get("/a%0ab%1b%9b").status_code == 404

    text = said(folder, "--log-format", "json", "--log-requests", "all", ask=ask)
    assert "secret" not in text and "private" not in text
    assert not re.search(r"[^ -~\n]", text)
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["message"] for row in rows] == [
        "model serves", "serving", "answered", "answered", "answered", "draining", "stopped",
    ]  # fmt: skip
    assert all(re.fullmatch(TIME, row["time"]) and row["level"] == "info" for row in rows)
    answered = rows[2]
    assert answered.pop("ms") > 0 and answered.pop("bytes") > 50
    assert {key: answered[key] for key in list(answered)[3:]} == {
        "request_id": "mine-1",
        "trace_id": PARENT[3:35],
        "method": "POST",
        "path": "/v2/models/logarithm/infer",
        "status": 200,
        "model": "logarithm",
        "version": "1",
    }
    assert rows[3]["path"] == "/predict" and rows[3]["status"] == 400


def test_text_lines_and_silence_about_what_went_well(folder):
    def ask(client):
        assert client.get("/healthz").status_code == 200
        assert client.get("/nowhere").status_code == 404
        assert client.get("/v2", headers={"host": "evil.example"}).status_code == 421

    lines = said(folder, ask=ask).splitlines()
    assert [re.sub(TIME, "", line).split()[1] for line in lines] == [
        "model", "serving", "answered", "draining", "stopped",
    ]  # fmt: skip
    assert re.match(
        rf"{TIME} warning answered request_id=\S+ method=GET path=/v2 status=421 ", lines[2]
    )


def test_an_unread_log_stops_nothing(folder):
    """64 kB fill the pipe: a server that waits for its reader would answer no more."""
    command = [
        sys.executable,
        "-m",
        "pipcook_deploy.server",
        "--port",
        "0",
        "--log-requests",
        "all",
    ]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().removeprefix("serving at ").strip()
            with httpx.Client(base_url=url, timeout=5) as client:
                for _ in range(1000):
                    assert client.get("/healthz").status_code == 200
        finally:
            process.terminate()
        assert process.wait(20) == 0  # ends although no one has read
        assert len(process.stderr.read()) >= 60_000


def test_lines_that_no_one_can_take_are_counted(monkeypatch):
    held, released = threading.Event(), threading.Event()

    class Blocked:
        written = ""

        def write(self, text):
            held.set()
            released.wait(10)
            self.written += text

        def flush(self):
            pass

    stderr = Blocked()
    monkeypatch.setattr(sys, "stderr", stderr)
    lines = Lines()
    lines.write("first")
    assert held.wait(10)
    for number in range(WAITING + 5):
        lines.write(str(number))
    assert lines.lost == 5
    released.set()
    lines.flush()
    assert stderr.written.count("\n") == WAITING + 1
    assert stderr.written.startswith("first\n0\n1\n")


def test_a_bug_is_logged_whole_and_escaped(capfd):
    with logs.logged(Settings(log_format="text")):
        try:
            raise ValueError("bad\x1b[2J\nname")
        except ValueError:
            logging.getLogger("pipcook_deploy.server").exception("GET %s failed", "/\r\nx")
    text = capfd.readouterr().err
    assert "\x1b" not in text and "\r" not in text
    assert "error   GET /\\r\\nx failed\n  Traceback" in text and "ValueError: bad" in text
    assert all(line.startswith("  ") for line in text.splitlines()[1:])


def test_bugs_in_json_are_one_line(capfd):
    with logs.logged(Settings(log_format="json")):
        try:
            raise ValueError("bad\nname")
        except ValueError:
            logging.getLogger("pipcook_deploy.server").exception("failed")
        logs.event("loaded", model="m", seconds=0.5)
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert first["level"] == "error" and "ValueError: bad\nname" in first["exception"]
    assert (second["model"], second["seconds"]) == ("m", 0.5)


def test_loggers_are_left_as_they_were(capfd):
    logger = logging.getLogger("pipcook_deploy.server")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with logs.logged(Settings()):
        pass
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


@given(st.text(), st.dictionaries(st.text("abc", min_size=1), st.text()))
def test_any_text_becomes_one_line_of_ascii(message, fields):
    for form in ("json", "text"):
        line = logs.line(form, "info", message, fields, 0.0)
        assert line.isascii() and line.isprintable()
    assert json.loads(logs.line("json", "info", message, {"f": fields}, 0.0))["f"] == fields


def test_every_answer_has_a_request_id(client):
    own = [client.get(path).headers["x-request-id"] for path in ("/healthz", "/v2", "/nowhere")]
    assert len(set(own)) == 3 and all(re.fullmatch(r"[0-9a-f]{16}-\d+", name) for name in own)
    for name in ("abc", "a" * LONGEST_ID, "1,2;x=/~!"):
        answer = client.get("/nowhere", headers={"x-request-id": name})
        assert answer.headers["x-request-id"] == name
    for name in ("a" * (LONGEST_ID + 1), "a b", "", "a\tb"):
        answer = client.get("/v2", headers={"x-request-id": name})
        assert re.fullmatch(r"[0-9a-f]{16}-\d+", answer.headers["x-request-id"])


@given(st.text())
def test_ids_are_visible_ascii(given):
    name = request_id(given)
    assert 0 < len(name) <= LONGEST_ID and re.fullmatch(r"[!-~]+", name)


@pytest.mark.parametrize("parent", [PARENT, PARENT.replace("00-", "cc-", 1) + "-what-comes-later"])
def test_a_valid_trace_is_passed_on(client, parent):
    assert client.get("/v2", headers={"traceparent": parent}).headers["traceparent"] == parent
    assert trace_id(traceparent(parent)) == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "parent",
    [
        "", "x", PARENT[:-1], PARENT + "0", PARENT + "-x", PARENT.upper(), "ff" + PARENT[2:],
        "00-" + "0" * 32 + PARENT[35:], PARENT[:36] + "0" * 16 + "-01", PARENT.replace("-", "_"),
        "cc" + PARENT[2:] + "x", "cc" + PARENT[2:] + "-" + "x" * 200,
    ],
)  # fmt: skip
def test_an_invalid_trace_is_not(client, parent):
    assert "traceparent" not in client.get("/v2", headers={"traceparent": parent}).headers
    assert traceparent(parent) == "" == trace_id("")


def test_refusals_by_the_thousand_are_counted(monkeypatch):
    written = []
    monkeypatch.setattr(logs, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(logs.LINES, "write", written.append)
    busy = SimpleNamespace(
        request_id="a", traceparent="", method="POST", path="/", started=0.0, model=None
    )

    async def ask(log):
        for _ in range(1000):
            log.answered(busy, Answer(503, b""))
        log.answered(busy, Answer(500, b""))
        await asyncio.sleep(0.05)
        log.answered(busy, Answer(503, b""))

    with logs.logged(Settings()):
        asyncio.run(ask(logs.RequestLog(Settings())))
    said = [re.search(r"status=503.*|status=500", line)[0] for line in written]
    assert [row[:10] for row in said] == ["status=503", "status=500", "status=503", "status=503"]
    assert said[2] == "status=503 more=999 seconds=0.01"
    written.clear()
    asyncio.run(ask(logs.RequestLog(Settings(log_requests="all"))))
    assert len(written) == 1002
