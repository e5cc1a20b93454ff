"""What the server needs: seconds to its first answer, and memory at once and after a million requests."""

import http.client
import subprocess
import sys
import time
from typing import Any

from measure import ENVIRONMENT, ROOT

from serving import ours
from serving.bodies import Request
from serving.debian import UnavailableError
from serving.load import saturate
from serving.models import Served, model
from serving.process import Server, end, free_ports, last_line
from serving.scenario import Plan, Result, median
from serving.table import at_most, columns, unmeasured

START_BAR = 1.0  # seconds
MEMORY_BAR = 200.0  # MB, of 1e6 bytes
PATIENCE = 60.0
PAUSE = 0.002
MILLION = 1_000_000
GROWTH_BAR = 1.05


def cold_start(plan: Plan) -> Result:
    """From the start of the process to the end of its first answer, MobileNetV2; the files are in the page cache."""
    served, result = model("mobilenet_v2"), Result()
    request = served.binary()
    what, wanted = "MobileNetV2: start to first answer", f"<= {START_BAR:g} s"
    try:
        first_answer(served, request)  # not counted: it may measure engines, and it warms the cache
        times = [first_answer(served, request) for _ in range(plan.rounds)]
    except UnavailableError as error:
        result.bars.append(unmeasured(what, wanted, str(error)))
        return result
    result.figures["seconds"] = times
    result.lines.append("cold start, s: " + " ".join(f"{value:.2f}" for value in times))
    result.bars.append(at_most(what, median(times), START_BAR, "s"))
    return result


def first_answer(served: Served, request: Request) -> float:
    """Seconds. Raises `UnavailableError` if there is none."""
    port, log = free_ports(1)[0], ours.LOGS / "cold-start.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            ours.command(served, port), cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    why = "no answer"
    try:
        while time.perf_counter() < start + PATIENCE:
            if process.poll() is not None:
                raise UnavailableError(f"ended with code {process.returncode}: {last_line(log)}")
            try:
                answer = request.send(port)
            except (OSError, http.client.HTTPException):
                time.sleep(PAUSE)
                continue
            seconds = time.perf_counter() - start
            why = served.wrong(answer)
            if not why:
                return seconds
            if answer.status != 503:
                break
            time.sleep(PAUSE)
        raise UnavailableError(why)
    finally:
        end(process)


def memory(plan: Plan) -> Result:
    """Resident memory with the small model: at rest, and after `plan.seconds` of load."""
    served, result = model("mlp"), Result()
    request = served.json()
    what, wanted = "MLP: resident memory after load", f"<= {MEMORY_BAR:g} MB"
    try:
        with ours.serving(served, request) as server:
            rest = megabytes(server)
            saturate(request, server.port, plan.seconds, plan.connections)
            loaded = megabytes(server)
    except UnavailableError as error:
        result.bars.append(unmeasured(what, wanted, str(error)))
        return result
    result.figures = {"at_rest": rest, "after_load": loaded}
    result.lines.append(f"resident memory, MB: {rest:.1f} at rest, {loaded:.1f} after load")
    result.bars.append(at_most(what, loaded, MEMORY_BAR, "MB"))
    return result


def million(plan: Plan) -> Result:
    """Resident memory after every 100,000 requests, up to a million."""
    served, result = model("mlp"), Result()
    rows: list[tuple[str, ...]] = [("requests", "MB", "")]
    found: list[dict[str, Any]] = []
    for kind, request in (("JSON", served.json()), ("binary", served.binary())):
        what, wanted = (
            f"MLP, {kind}: memory after a million",
            f"<= {GROWTH_BAR:g} x of the first 100,000",
        )
        try:
            grown = growth(plan, served, request)
        except UnavailableError as error:
            result.bars.append(unmeasured(what, wanted, str(error)))
            continue
        found.append({"kind": kind, "growth": grown})
        rows += [(f"{kind} {count:,}", f"{size:.1f}", "") for count, size in grown]
        ratio = grown[-1][1] / grown[0][1]
        result.bars.append(at_most(what, ratio, GROWTH_BAR, "x of the first 100,000"))
    result.figures["memory"] = found
    result.lines.append(columns(rows))
    return result


def growth(plan: Plan, served: Served, request: Request) -> list[tuple[int, float]]:
    """Requests so far, and megabytes then."""
    points: list[tuple[int, float]] = []
    with ours.serving(served, request) as server:
        count = 0
        while count < MILLION:
            found = saturate(request, server.port, plan.seconds, plan.connections)
            if not found.rate:
                raise UnavailableError(found.wrong or "no answers")
            count += round(found.rate * max(1, round(plan.seconds)))
            print(f"{count:,} requests", file=sys.stderr, flush=True)
            if count >= (len(points) + 1) * MILLION // 10:
                points.append((count, megabytes(server)))
    return points


def megabytes(server: Server) -> float:
    """Resident, of the server and its workers."""
    return server.resident() / 1e6
