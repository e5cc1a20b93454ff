"""A steady rate: the tail at 70 % of saturation, and what happens at twice of it.

For the overload the server is started as one who has promised a latency does: `--queue-seconds` is `QUEUE` times the
median of an unloaded request. It may wait that long and then take its own time, which leaves as much again for the
spread. The default, 10 s, is for those who rather wait than ask again, and served requests do wait under it.
"""

import sys
from dataclasses import dataclass
from typing import Any

from serving import ours
from serving.bodies import Request
from serving.debian import UnavailableError
from serving.load import pace, saturate
from serving.models import Served, model
from serving.peer import listed
from serving.process import Server
from serving.scenario import Plan, Result, median
from serving.table import Bar, at_most, columns, failed, unmeasured

CASES = {"mlp": "MLP, JSON", "mobilenet_v2": "MobileNetV2, tensor"}
PART = 0.7
TAIL = 3.0  # p99 in p50s; served p99 in unloaded ones
OVERLOAD = 2.0
UNLOADED = 0.1
QUEUE = 1.0  # unloaded medians that a request may wait
CONNECTIONS = 256  # of an overload: as many clients that do not wait for each other
SAMPLES = 300  # at least, for a p99
WARM_SECONDS = 1
OVERLOAD_HEAD = (
    "overload", "--queue-seconds", "offered/s", "200/s", "503/s", "others", "unloaded p50 ms", "p99 ms",
    "overloaded p99 ms", "from sending", "",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model with the body that it is asked with."""

    name: str
    served: Served
    request: Request


def cases() -> list[Case]:
    """The small model with JSON, a picture model with bytes."""
    found = []
    for name, label in CASES.items():
        served = model(name)
        found.append(Case(label, served, served.json() if name == "mlp" else served.binary()))
    return found


def tail(plan: Plan) -> Result:
    """p99 against p50 at a constant rate of 70 % of what wrk reached just before, on the same connections."""
    result = Result()
    rows: list[tuple[str, ...]] = [
        ("at 70 %", "saturation/s", "rate/s", "p50 ms", "p99 ms", "p99 / p50 of each round")
    ]
    for case in cases():
        what, wanted = f"{case.name}: p99 at 70 %", f"<= {TAIL:g} x p50"
        try:
            found = [one_tail(plan, case, number) for number in range(plan.rounds)]
        except UnavailableError as error:
            result.failed[case.name] = str(error)
            result.bars.append(unmeasured(what, wanted, str(error)))
            continue
        result.figures[case.name] = found
        ratios = [each["ratio"] for each in found]
        rows.append(
            (
                case.name,
                *(f"{median([e[key] for e in found]):,.1f}" for key in ("saturation", "rate")),
                *(f"{median([e[key] for e in found]):.2f}" for key in ("p50", "p99")),
                " ".join(f"{ratio:.1f}" for ratio in ratios) + failures(found),
            )
        )
        result.bars.append(at_most(what, median(ratios), TAIL, "x p50"))
        if "floor" in found[0]:
            floor = f"{median([each['floor'] for each in found]):.2f} x p50"
            result.bars.append(
                Bar(f"{case.name}: granian's hello at that rate", floor, "told only")
            )
    result.lines.append(columns([*rows, *failed(result.failed, len(rows[0]))]))
    return result


def one_tail(plan: Plan, case: Case, number: int) -> dict[str, Any]:
    """One round; times in milliseconds."""
    print(f"round {number + 1}: {case.name} at 70 %", file=sys.stderr, flush=True)
    with ours.serving(case.served, case.request) as server:
        saturation = saturation_of(plan, case, server)
        rate = PART * saturation
        seconds = max(plan.seconds, SAMPLES / rate)
        found = pace(case.request, server.port, rate, seconds, plan.connections)
    p50, p99 = latency(found, "p50"), latency(found, "p99")
    figures = {
        "saturation": saturation, "rate": rate, "p50": p50, "p99": p99, "ratio": p99 / p50,
        "pace": found,
    }  # fmt: skip
    if case.name == CASES["mlp"]:
        figures["floor"] = hello_tail(plan, case, rate)
    return figures


def hello_tail(plan: Plan, case: Case, rate: float) -> float:
    """p99 in p50s of a server that computes nothing: what this machine and the generator add by themselves."""
    hello = listed()[1]["granian"]
    with hello.running(case.served.onnx, case.request, lambda answer: "", ours.LOGS) as server:
        saturate(case.request, server.port, WARM_SECONDS, plan.connections)
        found = pace(case.request, server.port, rate, plan.seconds, plan.connections)
    return latency(found, "p99") / latency(found, "p50")


def overload(plan: Plan) -> Result:
    """Twice the saturation, on many connections: every answer 200 or 503, and those of 200 in time."""
    result = Result()
    rows: list[tuple[str, ...]] = [OVERLOAD_HEAD]
    for case in cases():
        print(f"{case.name}: overload", file=sys.stderr, flush=True)
        try:
            found = one_overload(plan, case)
        except UnavailableError as error:
            result.failed[case.name] = str(error)
            result.bars += [unmeasured(f"{case.name}: overload", "200 or 503", str(error))]
            continue
        result.figures[case.name] = found
        rows.append(overload_row(case.name, found))
        result.bars += overload_bars(f"{case.name}, overload", found)
    result.lines.append(columns([*rows, *failed(result.failed, len(rows[0]))]))
    return result


def overload_row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    loaded = found["overload"]
    return (
        name,
        found["queue_seconds"],
        f"{loaded['rate']:,.0f}",
        *(f"{per_second(loaded, status):,.1f}" for status in ("200", "503")),
        str(others_than_declared(loaded)),
        *(f"{latency(found['unloaded'], quantile):.2f}" for quantile in ("p50", "p99")),
        f"{latency(loaded, 'p99'):.2f}",
        f"{latency(loaded, 'p99', 'service_us'):.2f}",
        remarks(loaded),
    )


def overload_bars(what: str, found: dict[str, Any]) -> list[Bar]:
    """Nothing but 200 and 503, and 200 in time."""
    others = others_than_declared(found["overload"])
    ratio = latency(found["overload"], "p99") / latency(found["unloaded"], "p99")
    return [
        Bar(f"{what}: neither 200 nor 503", str(others), "0", others == 0),
        at_most(f"{what}: served p99", ratio, TAIL, "x unloaded"),
    ]


def one_overload(plan: Plan, case: Case) -> dict[str, Any]:
    """Saturation, then a tenth of it, then twice of it with a queue as long as that allows."""
    with ours.serving(case.served, case.request) as server:
        saturation = saturation_of(plan, case, server)
        rate = UNLOADED * saturation
        seconds = max(plan.seconds, SAMPLES / rate)
        unloaded = pace(case.request, server.port, rate, seconds, plan.connections)
    queue = queue_seconds(unloaded)
    with ours.serving(case.served, case.request, options=("--queue-seconds", queue)) as server:
        saturate(case.request, server.port, WARM_SECONDS, plan.connections)
        rate, seconds = OVERLOAD * saturation, plan.overload_seconds
        loaded = pace(case.request, server.port, rate, seconds, CONNECTIONS)
    return {
        "saturation": saturation, "unloaded": unloaded, "queue_seconds": queue, "overload": loaded,
    }  # fmt: skip


def queue_seconds(unloaded: dict[str, Any]) -> str:
    """The option's value, by the rule at the top of this module. Raises `UnavailableError` without answers."""
    seconds = QUEUE * latency(unloaded, "p50") / 1000
    if not seconds > 0:
        raise UnavailableError("no request was answered without load")
    return f"{seconds:.5f}"


def saturation_of(plan: Plan, case: Case, server: Server) -> float:
    """Answers a second that wrk gets. Raises `UnavailableError` if it gets none."""
    saturate(case.request, server.port, WARM_SECONDS, plan.connections)
    found = saturate(case.request, server.port, plan.seconds, plan.connections)
    if not found.rate:
        raise UnavailableError(found.wrong or "no answers")
    return found.rate


def latency(found: dict[str, Any], quantile: str, clock: str = "latency_us") -> float:
    """Of the answers of 200, in milliseconds; NaN if there is none."""
    row = found["statuses"].get("200")
    return float(row[clock][quantile]) / 1000 if row else float("nan")


def per_second(found: dict[str, Any], status: str) -> float:
    """Answers with a status."""
    row = found["statuses"].get(status)
    return float(row["count"] / found["seconds"]) if row else 0.0


def others_than_declared(found: dict[str, Any]) -> int:
    """What was neither 200 nor 503: other statuses, broken connections, requests without an answer."""
    statuses = {k: row["count"] for k, row in found["statuses"].items() if k not in ("200", "503")}
    return int(sum(statuses.values()) + found["failed"] + found["unanswered"])


def remarks(found: dict[str, Any]) -> str:
    """What else happened in an overload."""
    words = {
        "unsent": "never sent: no connection was free",
        "stale": "met a connection that was being closed as idle",
    }
    return ", ".join(f"{found[key]} {text}" for key, text in words.items() if found[key])


def failures(found: list[dict[str, Any]]) -> str:
    """What went wrong at 70 %, where nothing may."""
    count = sum(others_than_declared(each["pace"]) for each in found)
    refused = sum(
        row["count"] for e in found for k, row in e["pace"]["statuses"].items() if k == "503"
    )
    return f"  {count} failed, {refused} refused" if count or refused else ""
