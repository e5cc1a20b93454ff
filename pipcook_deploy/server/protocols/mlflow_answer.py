"""Answers of /invocations: JSON, JSON lines or CSV, as the request's Accept says."""

import csv
import io
from functools import lru_cache
from typing import Any

import orjson

from pipcook_deploy.server.app import Context
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import JSON, Answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols import instances
from pipcook_deploy.server.protocols.instances import Asked, Outcome
from pipcook_deploy.server.tensors import nonfinite
from pipcook_deploy.server.tensors.instances_answer import to_cells, to_columns, to_rows

CSV, LINES = "text/csv", "application/jsonlines"
WRITES = (JSON, LINES, CSV)
ANY = ("*/*", "application/*", "")


@lru_cache(256)
def accepted(accept: str) -> str:
    """The first of the accepted types that can be written; 406 with the list if none can."""
    for part in accept.lower().split(","):
        media, _, parameters = part.partition(";")
        refused = parameters.replace(" ", "") in ("q=0", "q=0.0")
        if media.strip() in (*WRITES, *ANY) and not refused:
            return media.strip() if media.strip() in WRITES else JSON
        if media.strip() == "text/*" and not refused:
            return CSV
    raise HttpError(406, f"answers are {', '.join(WRITES)}; not {accept[:100]!r}")


async def write(
    context: Context,
    found: LoadedModel,
    asked: Asked,
    outcome: Outcome,
    form: str,
    top: int,
    tokens: bool,
) -> Answer:
    """The outcome as `form`; with `top`, the best classes instead of the outputs."""
    outputs = outcome.outputs

    def make() -> Answer:
        if form == CSV:
            cells = _labels(found, outcome, top) if top else to_cells(outputs, outcome.count)
            return Answer(200, _csv(cells), f"{CSV}; charset=utf-8")
        dumps = nonfinite.dumps if tokens else _dumps
        if form == LINES:
            rows = instances.best(found, outcome, top) if top else to_rows(outputs)
            return Answer(200, b"".join([dumps(row) + b"\n" for row in rows]), LINES)
        if top:
            return Answer(200, dumps({"predictions": instances.best(found, outcome, top)}))
        value = to_rows(outputs) if asked.rows else to_columns(outputs)
        return Answer(200, dumps({"predictions": value}))

    if instances.size_of(outputs) <= instances.IN_LOOP:
        return make()
    return await context.compute(make)


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _labels(found: LoadedModel, outcome: Outcome, top: int) -> list[list[Any]]:
    """category, score, category, score ..., best first."""
    return [
        [cell for each in row for cell in (each["category"], each["score"])]
        for row in instances.best(found, outcome, top)
    ]


def _csv(rows: list[list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
