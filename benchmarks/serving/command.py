"""The command line of the benchmark."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import write_json

from serving import footprint, images, mlp, steady, swaps
from serving.scenario import Plan, Result
from serving.table import verdicts

SCENARIOS: dict[str, tuple[Callable[[Plan], Result], str]] = {
    "mlp": (mlp.run, "small MLP, JSON and binary tensors, against the peers"),
    "images": (
        images.run,
        "MobileNetV2 and ResNet50, tensor and JPEG in, against the engine in a loop",
    ),
    "tail": (steady.tail, "p99 against p50 at 70 % of saturation"),
    "overload": (steady.overload, "twice the saturation"),
    "swaps": (swaps.run, "a thousand version swaps under load"),
    "start": (footprint.cold_start, "process start to first answer"),
    "memory": (footprint.memory, "resident memory of the small MLP's server"),
    "million": (footprint.million, "its memory over a million requests"),
}
OPTIONAL = frozenset({"million"})


def main() -> int:
    """Run scenarios, print, write."""
    arguments = parsed()
    names = arguments.scenarios or [name for name in SCENARIOS if name not in OPTIONAL]
    plan = Plan(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        connections=arguments.connections,
        overload_seconds=arguments.overload_seconds,
        peers=tuple(arguments.peers),
    )
    content: dict[str, Any] = {"machine": machine(), "plan": asdict(plan)}
    print(describe(content["machine"]))
    bars = []
    for name in names:
        start = time.monotonic()
        result = SCENARIOS[name][0](plan)
        content[name] = {
            "figures": result.figures,
            "failed": result.failed,
            "bars": [bar.as_json() for bar in result.bars],
            "seconds": round(time.monotonic() - start, 1),
        }
        bars += result.bars
        print("\n" + "\n".join(result.lines), flush=True)
        write_json(
            arguments.json, content
        )  # what is done is kept if a later scenario is interrupted
    print("\n" + verdicts(bars))
    return 0


def parsed() -> argparse.Namespace:
    """The arguments."""
    rows = "\n".join(
        f"  {name:<12} {text}{' (only when named)' if name in OPTIONAL else ''}"
        for name, (_, text) in SCENARIOS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python benchmarks/serving",
        description=f"The prediction server against its bars. Scenarios:\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="scenario")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of load, each time")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--peers", nargs="*", default=[], help="only these (see peers.toml)")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()  # fmt: skip


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else "",
        "python": sys.version.split()[0],
        "load_before": round(os.getloadavg()[0], 2),
    }


def describe(facts: dict[str, Any]) -> str:
    """In a line."""
    return (
        f"{facts['cores']} cores, {facts['processor']}; Python {facts['python']}; "
        f"load before: {facts['load_before']} (0 on an idle machine)"
    )
