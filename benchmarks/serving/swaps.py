"""Versions are swapped under load: no request fails, and every answer is one version's, whole.

A repository holds the small MLP twice, with other weights: odd versions are the one, even versions the other. wrk asks
without a pause and compares each answer with the text that its `model_version` has to give. Meanwhile a client of the
admin API swaps: by the label `stable`, by rollback, and every `EACH_LOAD`th time by loading a folder that has just come.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving import ours
from serving.bodies import Answer, Request, oip_json
from serving.debian import UnavailableError, program
from serving.load import HERE
from serving.models import TOLERANCE, Served, expected, model
from serving.process import Server
from serving.scenario import Plan, Result, median
from serving.table import Bar, columns, unmeasured

SWAPS, WARM_SWAPS, EACH_LOAD = 1000, 100, 19  # odd: folders of both weights come
LIMIT = 120  # seconds; what has not been swapped by then is missing
NAME = "mlp"
BAR = "MLP, version swaps under load"


@dataclass
class Admin:
    """Swaps versions. `current` and `other` are loaded; `seconds` by kind; `late`: swaps that did not hold at once."""

    port: int
    repository: Path
    bundles: dict[int, Path]  # by a version's last bit
    request: Request
    current: int = 2
    other: int = 1
    newest: int = 2
    late: int = 0
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"label": [], "rollback": [], "load": []}
    )

    def swap(self, number: int) -> None:
        """By loading, by rollback, or by label. Raises `UnavailableError` if it is refused."""
        kind = "load" if number % EACH_LOAD == 0 else ("label", "rollback")[number % 2]
        gone = self._add() if kind == "load" else 0
        start = time.perf_counter()
        if kind == "load":
            self._call("POST", "load", {"version": str(self.newest)})
        wanted = self.newest if kind == "load" else self.other
        if kind == "rollback":
            self._call("POST", "rollback")
        else:
            self._call("PUT", "labels/stable", {"version": str(wanted)})
        self.seconds[kind].append(time.perf_counter() - start)
        self.current, self.other = wanted, self.current
        answered = json.loads(self.request.send(self.port).body).get("model_version")
        self.late += answered != str(wanted)
        if gone:
            # 404: the server keeps what was asked for by name, and has let go of others itself.
            self._call("POST", "unload", {"version": str(gone)}, accepted=(200, 404))
            shutil.rmtree(self.repository / NAME / str(gone))

    def _add(self) -> int:
        """A new version of the other weights than the current one's; returns the one that is needed no more."""
        self.newest += 1 if (self.newest + self.current) % 2 == 0 else 2
        place = self.repository / NAME
        made = shutil.copytree(self.bundles[self.newest % 2], place / f".{self.newest}")
        made.rename(place / str(self.newest))
        return self.other

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, str] | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> None:
        headers = {"Authorization": f"Bearer {ours.TOKEN}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = json.dumps(body) if body else None
            connection.request(method, f"/admin/models/{NAME}/{path}", data, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status not in accepted:
            raise UnavailableError(f"{method} {path}: {response.status} {text[:200]!r}")


def run(plan: Plan) -> Result:
    """One run of `SWAPS`, after `WARM_SWAPS` that are not counted."""
    result = Result()
    print(f"{SWAPS} swaps under load", file=sys.stderr, flush=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            found = swapped(plan, Path(scratch))
    except (UnavailableError, OSError, http.client.HTTPException) as error:
        result.failed["swaps"] = str(error)
        result.bars.append(unmeasured(BAR, f"{SWAPS} swaps, 0 failed", str(error)))
        return result
    result.figures = found
    result.lines.append(columns([*rows(found)]))
    result.bars += bars(found)
    return result


def swapped(plan: Plan, scratch: Path) -> dict[str, Any]:
    """What happened to requests and swaps."""
    odd, even = model("mlp"), model("mlp_other")
    repository, request = scratch / "repository", oip_json(NAME, odd.input, odd.value)
    bundles = {1: odd.bundle, 0: even.bundle}
    for version in (1, 2):
        shutil.copytree(bundles[version % 2], repository / NAME / str(version))
    if np.allclose(expected(odd), expected(even), atol=100 * TOLERANCE):
        raise UnavailableError("both versions answer alike")
    with ours.following(repository, request, even.wrong) as server:
        admin = Admin(server.port, repository, bundles, request)
        texts = {"EVEN": text(even, request.send(server.port))}
        admin.swap(2)
        texts["ODD"] = text(odd, request.send(server.port))
        with load(plan, request, server, texts) as asked:
            end = time.monotonic() + LIMIT
            for number in range(WARM_SWAPS):
                admin.swap(number)
            before = server.resident()
            admin.seconds = {kind: [] for kind in admin.seconds}
            number = 0
            while number < SWAPS and time.monotonic() < end:
                admin.swap(number)
                number += 1
            after = server.resident()
    return {
        "swaps": number, "late": admin.late, "requests": asked,
        "milliseconds": {k: [round(1000 * s, 2) for s in v] for k, v in admin.seconds.items()},
        "resident_before": before / 1e6, "resident_after": after / 1e6,
    }  # fmt: skip


def text(served: Served, answer: Answer) -> str:
    """The numbers of a right answer, as they are written. Raises `UnavailableError` for a wrong one."""
    why = served.wrong(answer)
    if why:
        raise UnavailableError(why)
    return answer.body.decode().partition('"data":[')[2].partition("]")[0]


@contextmanager
def load(
    plan: Plan, request: Request, server: Server, texts: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """wrk asks all the while; the dictionary holds what it saw at the end."""
    seen: dict[str, Any] = {}
    with tempfile.NamedTemporaryFile() as body:
        body.write(request.body)
        body.flush()
        process = subprocess.Popen(
            [
                program("wrk", "wrk"), "-t1", f"-c{plan.connections}", f"-d{2 * LIMIT}s",
                "--timeout", "30s", "-s", str(HERE / "swaps.lua"),
                f"http://127.0.0.1:{server.port}{request.path}",
            ],
            env=os.environ | texts | {"REQUEST_BODY": body.name},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield seen
        finally:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
    if "RESULT " not in out:
        raise UnavailableError(f"wrk: {out[-300:]}")
    seen |= json.loads(out.partition("RESULT ")[2].partition("\n")[0])
    seen["example"] = out.partition("EXAMPLE ")[2].partition("\n")[0][:500]


def rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table."""
    asked, times = found["requests"], found["milliseconds"]
    right = asked["odd"] + asked["even"]
    lines: list[tuple[str, ...]] = [(f"{found['swaps']} swaps under load", "number", "ms", "")]
    for kind, values in times.items():
        worst = f"{max(values):.0f} at most" if values else ""
        lines.append((f"by {kind}", str(len(values)), f"{median(values):.1f}", worst))
    rate = f"{right / asked['seconds']:,.0f} a second"
    slow = f"p99 {asked['p99_us'] / 1000:.1f} ms, {asked['max_us'] / 1000:.0f} at most"
    lines.append(("right answers", f"{right:,}", "", f"{rate}; {slow}"))
    share = f"of them the first weights', {asked['even']:,} the others'"
    lines.append(("", f"{asked['odd']:,}", "", share))
    size = f"{found['resident_before']:.1f} before, {found['resident_after']:.1f} after"
    grown = found["resident_after"] - found["resident_before"]
    lines.append(("resident memory, MB", f"{grown:+.1f}", "", size))
    return lines


def bars(found: dict[str, Any]) -> list[Bar]:
    """All swaps, no failure, no answer of a version that was left before."""
    asked = found["requests"]
    failed, wrong = asked["refused"] + asked["broken"], asked["wrong"]
    mixed = bool(asked["odd"] and asked["even"])
    grown = found["resident_after"] - found["resident_before"]
    return [
        Bar(BAR, str(found["swaps"]), str(SWAPS), found["swaps"] >= SWAPS and mixed),
        Bar(f"{BAR}: failed requests", str(failed), "0", failed == 0, asked["example"]),
        Bar(f"{BAR}: answers not of one version, whole", str(wrong), "0", wrong == 0),
        Bar(f"{BAR}: asked right after and not swapped", str(found["late"]), "0", not found["late"]),
        Bar(f"{BAR}: memory grown by", f"{grown:.1f} MB", "told only"),
    ]  # fmt: skip
