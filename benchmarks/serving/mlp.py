"""The small model: JSON and binary tensors, against the peers and against granian's hello."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from serving import ours
from serving.bodies import Answer, Request
from serving.debian import UnavailableError
from serving.load import Saturation, saturate
from serving.models import Served, model
from serving.peer import Peer, listed
from serving.process import Server
from serving.scenario import Plan, Result, median
from serving.table import at_least, columns, unmeasured

WARM_SECONDS = 1
OURS = "pipcook-deploy"


@dataclass(frozen=True)
class Contestant:
    """One server with one kind of body."""

    name: str
    label: str
    request: Request
    start: Callable[[], AbstractContextManager[Server]]


def run(plan: Plan) -> Result:
    """All contestants in turns."""
    served = model("mlp")
    peers = chosen(plan)
    contestants = [*our_own(served), *theirs(served, peers)]
    result = Result()
    rounds: list[dict[str, Saturation]] = []
    for number in range(plan.rounds):
        rounds.append({})
        for one in contestants:
            if one.name in result.failed:
                continue
            print(f"round {number + 1}: {one.label}", file=sys.stderr, flush=True)
            try:
                with one.start() as server:
                    saturate(one.request, server.port, WARM_SECONDS, plan.connections)
                    found = saturate(one.request, server.port, plan.seconds, plan.connections)
            except UnavailableError as error:
                result.failed[one.name] = str(error)
                continue
            rounds[-1][one.name] = found
    report(result, contestants, rounds, peers)
    return result


def chosen(plan: Plan) -> list[Peer]:
    """The peers of the plan. Raises `SystemExit` for a name that there is not."""
    _, peers = listed()
    unknown = set(plan.peers) - set(peers)
    if unknown:
        raise SystemExit(f"no peer {', '.join(unknown)}; there are {', '.join(peers)}")
    return [peer for name, peer in peers.items() if not plan.peers or name in plan.peers]


def our_own(served: Served) -> list[Contestant]:
    """Both bodies."""
    requests = {"json": served.json(), "binary": served.binary()}
    return [
        Contestant(
            f"{OURS} {kind}",
            f"{OURS}, {kind} body",
            request,
            partial(ours.serving, served, request),
        )
        for kind, request in requests.items()
    ]


def theirs(served: Served, peers: list[Peer]) -> list[Contestant]:
    """One each, but a limit with both bodies."""
    found = []
    for peer in peers:
        request = served.json() if peer.body == "oip" else served.array(peer.path)
        requests = {"json": request, "binary": served.binary()}
        for kind in peer.of or ("json",):
            name = f"{peer.name} {kind}" if peer.of else peer.name
            label = f"{peer.label}, {kind} body" if peer.of else peer.label
            found.append(
                Contestant(name, label, requests[kind], starter(served, peer, requests[kind]))
            )
    return found  # fmt: skip


def starter(
    served: Served, peer: Peer, request: Request
) -> Callable[[], AbstractContextManager[Server]]:
    """Starts a peer; one that computes nothing has only to answer."""

    def answers(answer: Answer) -> str:
        return "" if answer.status == 200 else f"status {answer.status}"

    right = served.wrong if peer.computes else answers
    return lambda: peer.running(served.onnx, request, right, ours.LOGS)


def report(
    result: Result,
    contestants: list[Contestant],
    rounds: list[dict[str, Saturation]],
    peers: list[Peer],
) -> None:
    """The table, and a bar for each peer."""
    rows = [("784-256-10", "requests/s", "p50 ms", "p99 ms", "of each round")]
    for one in contestants:
        found = [done[one.name] for done in rounds if one.name in done]
        result.figures[one.name] = [each.as_json() for each in found]
        if one.name in result.failed:
            rows.append((one.label, "-", "-", "-", f"FAILED: {result.failed[one.name]}"))
            continue
        wrong = ", ".join({each.wrong for each in found if each.wrong})
        each = " ".join(f"{each.rate:.0f}" for each in found) + (f"  {wrong}" if wrong else "")
        p50, p99 = median([e.p50 for e in found]), median([e.p99 for e in found])
        rate = median([e.rate for e in found])
        rows.append((one.label, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", each))
    result.lines.append(columns(rows))
    for peer in peers:
        if peer.of:
            for kind, bar in peer.of.items():
                words = {"json": "JSON"}.get(kind, kind)
                what = f"MLP, {words}: part of {peer.label}"
                ratio(result, rounds, what, f"{OURS} {kind}", f"{peer.name} {kind}", bar)
        else:
            ratio(result, rounds, f"MLP, JSON: {peer.label}", f"{OURS} json", peer.name, peer.bar)


def ratio(
    result: Result,
    rounds: list[dict[str, Saturation]],
    what: str,
    mine: str,
    other: str,
    bar: float | None,
) -> None:
    """The median over rounds of what both reached in the same round."""
    values = [
        r[mine].rate / r[other].rate for r in rounds if {mine, other} <= r.keys() and r[other].rate
    ]
    if values:
        result.bars.append(at_least(what, median(values), bar))
        return
    why = result.failed.get(mine) or result.failed.get(other) or "nothing was answered"
    result.bars.append(unmeasured(what, f">= {bar:g}x" if bar else "", why))
