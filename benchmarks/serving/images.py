"""MobileNetV2 and ResNet50: what the server adds to the engine, and to decode + resize + engine."""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import needed, timed

from serving import ours
from serving.bodies import Answer, jpeg, picture
from serving.debian import UnavailableError
from serving.load import saturate
from serving.models import Served, model
from serving.scenario import Plan, Result, median
from serving.table import at_least, columns, failed, unmeasured

MODELS = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet50"}
BARS = {"tensor": 0.95, "JPEG": 0.85}
LOOP = Path(__file__).with_name("engine_loop.py")
WARM_SECONDS = 1


@dataclass(frozen=True)
class Turn:
    """Answers a second of the server and turns a second of the loop, in one round."""

    chosen: ours.Chosen
    served: float
    looped: float
    p50: float
    wrong: str

    @property
    def ratio(self) -> float:
        """What is left of the engine."""
        return self.served / self.looped if self.looped else float("nan")

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return vars(self) | {"chosen": str(self.chosen), "ratio": self.ratio}


def run(plan: Plan) -> Result:
    """Both models, both kinds of body, server and loop in turns."""
    result = Result()
    rows: list[tuple[str, ...]] = [
        (
            "images",
            "streams x threads",
            "server/s",
            "loop/s",
            "p50 ms",
            "server / loop of each round",
        )
    ]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "picture.jpg"
        file.write_bytes(jpeg())
        for name, label in MODELS.items():
            for kind, bar in BARS.items():
                what = f"{label}, {kind} in"
                wanted = f">= {bar:g}x"
                try:
                    turns = rounds(plan, model(name), kind, file)
                except UnavailableError as error:
                    result.failed[what] = str(error)
                    result.bars.append(unmeasured(f"{what}: part of the loop", wanted, str(error)))
                    continue
                result.figures[what] = [turn.as_json() for turn in turns]
                rows.append(row(what, turns))
                ratio = median([turn.ratio for turn in turns])
                result.bars.append(at_least(f"{what}: part of the loop", ratio, bar))
    rows += failed(result.failed, len(rows[0]))
    result.lines.append(columns(rows))
    return result


def rounds(plan: Plan, served: Served, kind: str, file: Path) -> list[Turn]:
    """Server, then loop, each round."""
    turns = []
    request = served.binary() if kind == "tensor" else picture(file.read_bytes())
    right = served.wrong if kind == "tensor" else labelled
    for number in range(plan.rounds):
        print(f"round {number + 1}: {served.name}, {kind}", file=sys.stderr, flush=True)
        with ours.serving(served, request, right) as server:
            chosen = ours.chosen(server, served)
            saturate(request, server.port, WARM_SECONDS, plan.connections)
            found = saturate(request, server.port, plan.seconds, plan.connections)
        looped = loop(served, chosen, plan, file if kind == "JPEG" else None)
        turns.append(Turn(chosen, found.rate, looped, found.p50, found.wrong))
    return turns


def loop(served: Served, chosen: ours.Chosen, plan: Plan, file: Path | None) -> float:
    """Turns a second of the engine in a loop of one process, on the threads that the server chose.

    With the product's preprocessing if there is a file.
    """
    words = [str(served.bundle), chosen.engine, str(chosen.streams), str(chosen.threads)]
    words.append(str(plan.seconds))
    words += [str(file)] if file else []
    done = needed(timed([sys.executable, "-P", LOOP, *words]), "the engine's loop")
    found = json.loads(done.out)
    return float(found["count"] / found["seconds"])


def labelled(answer: Answer) -> str:
    """What is wrong with an answer to a picture, or ""."""
    if answer.status != 200:
        return f"status {answer.status}: {answer.body[:200].decode(errors='replace')}"
    return "" if b'"class ' in answer.body else f"wrong: no label in {answer.body[:200]!r}"


def row(what: str, turns: list[Turn]) -> tuple[str, ...]:
    """One line of the table."""
    each = " ".join(f"{turn.ratio:.2f}" for turn in turns)
    wrong = ", ".join({turn.wrong for turn in turns if turn.wrong})
    return (
        what,
        ", ".join(sorted({str(turn.chosen) for turn in turns})),
        f"{median([turn.served for turn in turns]):.1f}",
        f"{median([turn.looped for turn in turns]):.1f}",
        f"{median([turn.p50 for turn in turns]):.1f}",
        f"{each}  {wrong}".strip(),
    )
