"""The benchmark of the prediction server: its load generator tells the truth, and a missed bar is shown as missed."""

import asyncio
import importlib
import math
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.alone

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def module(name):
    return importlib.import_module(f"serving.{name}")


class Stub:
    """Answers the n-th request as `script(n, writer)` does; one that returns True ends the connection."""

    def __init__(self, script):
        self.script, self.count = script, 0
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(
            asyncio.start_server(self.connection, "127.0.0.1", 0)
        )
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def connection(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                await reader.readexactly(int(fields[b"Content-Length"]))
                self.count += 1
                if await self.script(self.count, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def ended(self):
        self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def end(self):
        asyncio.run_coroutine_threadsafe(self.ended(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def paced(monkeypatch, tmp_path_factory):
    """`pace` against a script: paced(script, rate, seconds, connections)."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    load, bodies = module("load"), module("bodies")
    monkeypatch.setattr(load, "PACE", Path(tmp_path_factory.getbasetemp()) / "pace")

    def run(script, rate, seconds, connections):
        stub = Stub(script)
        try:
            return load.pace(
                bodies.Request("/", {}, b"hello"), stub.port, rate, seconds, connections
            )
        finally:
            stub.end()

    return run


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_every_answer_is_counted_by_its_status_however_it_is_framed(paced):
    async def script(number, writer):
        if number % 4 == 0:
            writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        elif number % 4 == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
            await writer.drain()
            await asyncio.sleep(0.002)
            writer.write(b"lo\r\n0\r\n\r\n")
        elif number % 4 == 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            return True
        else:
            writer.write(OK)
        return False

    found = paced(script, 400, 0.5, 4)
    sent = found["sent"]  # 200, unless this machine stalled towards the end
    assert sent > 100
    assert {status: row["count"] for status, row in found["statuses"].items()} == {
        "200": sent - sent // 4, "503": sent // 4,
    }  # fmt: skip
    assert (found["failed"], found["unanswered"]) == (0, 0)


def test_a_stall_is_charged_to_every_request_that_was_due_meanwhile(paced):
    async def script(number, writer):
        if number == 10:
            await asyncio.sleep(0.4)
        writer.write(OK)
        return False

    found = paced(script, 200, 1, 1)
    row = found["statuses"]["200"]
    assert row["count"] == 200  # as many as were due, none left out
    assert found["waited"] >= 60
    # One request was slow to be served; four tenths of a second of them were late.
    assert row["latency_us"]["p90"] > 100_000
    assert row["service_us"]["p90"] < row["latency_us"]["p90"]


def test_a_connection_that_ends_before_the_answer_is_a_failure(paced):
    async def script(number, writer):
        if number % 10 == 0:
            return True
        writer.write(OK)
        return False

    found = paced(script, 200, 0.5, 4)
    assert found["failed"] == found["sent"] // 10 > 5
    assert found["statuses"]["200"]["count"] == found["sent"] - found["failed"]
    assert found["stale"] == 0


def test_an_overload_counts_what_is_neither_served_nor_refused():
    steady = module("steady")
    row = {"count": 60, "latency_us": {"p99": 5000.0}}
    loaded = {
        "statuses": {"200": row, "503": row, "500": {"count": 2}}, "failed": 1, "unanswered": 4,
    }  # fmt: skip
    unloaded = {"statuses": {"200": {"count": 9, "latency_us": {"p99": 1000.0}}}}
    declared, served = steady.overload_bars("x", {"overload": loaded, "unloaded": unloaded})
    assert (declared.figure, declared.met) == ("7", False)
    assert (served.figure, served.met) == ("5.00 x unloaded", False)
    nothing = {"statuses": {}, "failed": 0, "unanswered": 0}
    assert not steady.overload_bars("x", {"overload": nothing, "unloaded": unloaded})[1].met


@pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk")
def test_an_answer_that_mixes_versions_or_is_none_is_counted_under_load():
    swaps, bodies = module("swaps"), module("bodies")
    right = {1: b"0.25", 2: b"0.5"}

    async def script(number, writer):
        version = number % 2 + 1
        data = right[version] if number % 10 else right[3 - version]
        body = b'{"model_version":"%d","outputs":[{"data":[%s]}]}' % (version, data)
        status = b"503 Busy" if number == 7 else b"200 OK"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        return False

    stub = Stub(script)
    try:
        request = bodies.Request("/", {}, b"{}")
        plan = module("scenario").Plan(connections=2)
        with swaps.load(plan, request, stub, {"ODD": "0.25", "EVEN": "0.5"}) as seen:
            while stub.count < 200:
                time.sleep(0.01)
    finally:
        stub.end()
    assert seen["refused"] == 1
    assert seen["wrong"] >= 19
    assert min(seen["odd"], seen["even"]) >= 70
    assert '"model_version"' in seen["example"]


@pytest.fixture
def swapped():
    asked = {"odd": 5, "even": 5, "refused": 0, "broken": 0, "wrong": 0, "example": ""}
    return {
        "swaps": 1000, "late": 0, "requests": asked, "milliseconds": {},
        "resident_before": 100.0, "resident_after": 101.0,
    }  # fmt: skip


def test_swaps_are_held_to_every_answer(swapped):
    bars = module("swaps").bars
    assert [bar.met for bar in bars(swapped)] == [True, True, True, True, None]
    for found, place in (
        (swapped | {"swaps": 999}, 0),
        (swapped | {"requests": swapped["requests"] | {"even": 0}}, 0),
        (swapped | {"requests": swapped["requests"] | {"broken": 1}}, 1),
        (swapped | {"requests": swapped["requests"] | {"refused": 1}}, 1),
        (swapped | {"requests": swapped["requests"] | {"wrong": 1}}, 2),
        (swapped | {"late": 1}, 3),
    ):
        assert bars(found)[place].met is False


def test_the_loop_is_given_what_the_server_says_that_it_chose():
    ours = module("ours")
    text = (
        'pipcook_model_info{chosen="openvino (onnx), 2 streams x 1 thread",engine="openvino",model="m",version="1"} 1.0\n'
        'pipcook_engine_threads{model="m",version="1"} 1.0\n'
        'pipcook_engine_streams{model="m",version="1"} 2.0\n'
    )
    assert ours.read_choice(text, "m") == ours.Chosen("openvino", threads=1, streams=2)
    with pytest.raises(ValueError, match="pipcook_model_info of other"):
        ours.read_choice(text, "other")


def test_the_queue_of_an_overload_follows_from_what_a_request_takes_alone():
    steady = module("steady")
    assert steady.queue_seconds({"statuses": {"200": {"latency_us": {"p50": 6000.0}}}}) == "0.00600"
    with pytest.raises(module("debian").UnavailableError):
        steady.queue_seconds({"statuses": {}})


@pytest.fixture
def saturation():
    load = module("load")
    return lambda rate: load.Saturation(rate, 1.0, 2.0, 0, 0)


def test_a_ratio_is_the_median_of_the_rounds_that_both_took_part_in(saturation):
    mlp, scenario = module("mlp"), module("scenario")
    result = scenario.Result()
    rounds = [
        {"a": saturation(1000.0), "b": saturation(100.0)},
        {"a": saturation(1000.0), "b": saturation(500.0)},
        {"a": saturation(600.0), "b": saturation(100.0)},
        {"a": saturation(1000.0)},
    ]
    mlp.ratio(result, rounds, "a of b", "a", "b", 5)
    assert (result.bars[0].figure, result.bars[0].verdict) == ("6.00x", "met")


def test_what_could_not_be_measured_is_shown_with_its_reason_and_meets_no_bar(saturation):
    mlp, scenario, table = module("mlp"), module("scenario"), module("table")
    result = scenario.Result(failed={"b": "no such wheel"})
    mlp.ratio(result, [{"a": saturation(1.0)}], "a of b", "a", "b", 5)
    assert "NOT met: no such wheel" in table.verdicts(result.bars)
    assert math.isnan(scenario.median([]))
    assert table.at_least("x", float("nan"), 1).met is False


def test_every_peer_is_pinned_and_has_a_file():
    peer = module("peer")
    environments, peers = peer.listed()
    for environment in environments.values():
        assert all(pin.count("==") == 1 for pin in environment.pins)
        names = {pin.partition("==")[0].lower() for pin in environment.pins}
        assert {want.partition("[")[0].lower() for want in environment.wants} <= names
    for one in peers.values():
        assert one.bar or one.of
        words = " ".join([*one.command, *one.variables.values()])
        assert any(path.stem in words for path in peer.FOLDER.glob("*_peer.py"))
        assert one.environment.bin.name in one.command[0].format(bin=one.environment.bin)


def test_new_pins_replace_those_of_one_environment_only():
    pin = module("pin")
    text = '[environments.a]\npins = []\n\n[environments.b]\nwants = ["x[y]"]\npins = [\n  "x==1",\n]\n'
    done = pin.written(text, "b", ["x==2", "z==" + "3" * 120])
    assert done.startswith("[environments.a]\npins = []\n")
    assert '"x==2",\n' in done and '"x==1"' not in done
    assert pin.written(done, "b", ["x==1"]) == text
    with pytest.raises(SystemExit):
        pin.written(text, "c", [])


def test_wrong_numbers_are_seen_in_json_and_in_bytes(monkeypatch):
    models, bodies = module("models"), module("bodies")
    served = models.Served("mlp", Path(), Path(), "image", "digit", (1, 2))
    monkeypatch.setattr(models, "expected", lambda served: np.float32([0.25, 0.75]))
    assert served.wrong(bodies.Answer(200, {}, b"[[0.25, 0.75]]")) == ""
    oip = b'{"outputs": [{"data": [0.25, 0.75]}]}'
    assert served.wrong(bodies.Answer(200, {}, oip)) == ""
    binary = b"{}" + np.float32([0.25, 0.75]).tobytes()
    header = {"inference-header-content-length": "2"}
    assert served.wrong(bodies.Answer(200, header, binary)) == ""
    assert served.wrong(bodies.Answer(200, {}, b"[[0.25, 0.5]]")).startswith("wrong numbers")
    assert served.wrong(bodies.Answer(200, {}, b'{"outputs": []}')).startswith("wrong")
    assert served.wrong(bodies.Answer(503, {}, b"busy")) == "status 503: busy"


def test_a_request_has_the_bytes_that_its_head_announces():
    bodies = module("bodies")
    request = bodies.oip_binary("m", "x", np.float32([[1, 2]]), "y")
    head, _, body = request.raw(80).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.endswith(np.float32([1, 2]).tobytes())
    assert bodies.jpeg() == bodies.jpeg()
