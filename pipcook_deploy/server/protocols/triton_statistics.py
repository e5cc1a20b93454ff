"""Triton's statistics extension: `GET /v2/models[/{name}[/versions/{version}]]/stats`.

Counts are those of all worker processes; times are cumulative, in nanoseconds as Triton has them. `queue` is
the wait for the engine, `compute_input` decoding and preprocessing, `compute_infer` the engine. What is not
measured (`compute_output`, caches, single batch sizes) is 0 or absent.
"""

from typing import Any

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, Request, json_answer
from pipcook_deploy.server.observe.snapshot import Counts, ModelCounts, merge, snapshot

NANOSECONDS = 1e9
MILLISECONDS = 1e3
NOTHING: Counts = {"counts": [], "total": 0.0}


async def statistics(
    context: Context, name: str | None = None, version: str | None = None
) -> dict[str, Any]:
    """Of all models, all versions of one, or one version. Raises 404."""
    if name is not None:
        context.registry.resolve(name, version)
    others = await context.peers() if context.peers else ()
    counted = merge([await snapshot(context), *others])
    wanted = [
        model
        for model in counted["models"]
        if name in (None, model["name"]) and version in (None, model["version"])
    ]
    return {"model_stats": [_model(model) for model in wanted]}


async def stats(
    context: Context, request: Request, name: str | None = None, version: str | None = None
) -> Answer:
    """GET /v2/models[/{name}[/versions/{version}]]/stats."""
    return json_answer(await statistics(context, name, version))


def _model(model: ModelCounts) -> dict[str, Any]:
    stages = model["stages"]
    good = model["requests"].get("200", NOTHING)
    bad = [counts for status, counts in model["requests"].items() if status != "200"]
    return {
        "name": model["name"],
        "version": model["version"],
        "last_inference": int(model["last"] * MILLISECONDS),
        "inference_count": model["samples"],
        "execution_count": model["executions"],
        "inference_stats": {
            "success": _duration(good),
            "fail": _duration(*bad),
            "queue": _duration(stages.get("queue", NOTHING)),
            "compute_input": _duration(stages.get("prepare", NOTHING)),
            "compute_infer": _duration(stages.get("compute", NOTHING)),
            "compute_output": _duration(),
            "cache_hit": _duration(),
            "cache_miss": _duration(),
        },
        "batch_stats": [],
    }


def _duration(*counts: Counts) -> dict[str, int]:
    return {
        "count": sum(sum(one["counts"]) for one in counts),
        "ns": int(sum(one["total"] for one in counts) * NANOSECONDS),
    }


ROUTES: Routes = [
    ("GET", "/v2/models/stats", stats),
    ("GET", "/v2/models/{name}/stats", stats),
    ("GET", "/v2/models/{name}/versions/{version}/stats", stats),
]
