"""Requests of `instances` or `inputs`: what TF Serving, Vertex AI, MLflow and SageMaker do with them alike.

Numbers are the model's own tensors: no preprocessing is applied. An image ({"b64": ...} for an input that takes
no text) or a text (for an input that takes ids) goes through the preprocessing that the spec declares, as in
/predict; so do the other values of such a request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.app import Context
from pipcook_deploy.server.http import Answer, HttpError, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols.oip_message import parsed
from pipcook_deploy.server.tensors import fast_instances, instances, nonfinite
from pipcook_deploy.server.tensors.instances import decoded, is_base64, is_named
from pipcook_deploy.spec import ModelSpec, TensorSpec

IN_LOOP = 65_536  # bytes of JSON, and elements of an answer, that are worth no other thread
MAX_TOP = 1000


@dataclass(slots=True)
class Asked:
    """What a request asks: `tensors`, or `values` that have yet to be preprocessed.

    `rows`: it came as rows, and the answer is written so. `rest`: the request's other keys.
    """

    rows: bool
    tensors: Tensors | None = None
    values: list[Any] | None = None
    rest: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """Outputs; `count` rows of each where the request came as rows."""

    outputs: Tensors
    count: int


Reader = Callable[[dict[str, Any], LoadedModel, bool], Asked]


async def read(
    context: Context, body: bytes, found: LoadedModel, slow: Reader, tokens: bool = False
) -> Asked:
    """The body's one form. `slow` reads from a parsed object what is no plain `instances` or `inputs`."""
    if len(body) > IN_LOOP:
        return await context.compute(lambda: _read(body, found, tokens, slow))
    if not found.spec.preprocessing:
        return _read(body, found, tokens, slow)
    plain = read_plain(body, found)
    return plain or await parse(context, body, found, slow, tokens)


async def parse(
    context: Context, body: bytes, found: LoadedModel, slow: Reader, tokens: bool = False
) -> Asked:
    """What `slow` reads from the object that the body is."""
    return await context.compute(lambda: _slowly(body, found, tokens, slow))


def from_key(key: str, value: object, found: LoadedModel, finite: bool) -> Asked:
    """`value` of the key "instances" or "inputs"."""
    rows = key == "instances"
    values = _sent_by_people(value, rows, found)
    if values is not None:
        return Asked(rows, values=values)
    make = instances.from_rows if rows else instances.from_columns
    return Asked(rows, tensors=make(value, found.spec.inputs, finite))


def from_features(rows: list[dict[str, Any]], found: LoadedModel, finite: bool) -> Asked:
    """Rows of flat lists by input name."""
    if _needs_preparing(rows[0], found):
        return Asked(True, values=[_sample(row, found) for row in rows])
    return Asked(True, tensors=instances.from_features(rows, found.spec.inputs, finite))


async def run(context: Context, request: Request, found: LoadedModel, asked: Asked) -> Outcome:
    """What the model answers. Rows are cut into what a model of a fixed batch size takes."""
    if asked.values is not None:
        _few(len(asked.values), context)
        return _joined((await found.predict(asked.values, context, request.call)).parts)
    tensors = asked.tensors or {}
    first = next(iter(tensors.values()))
    count = len(first) if first.ndim else 1
    if not asked.rows or all(t.shape[0] in (None, count) for t in found.spec.inputs):
        return Outcome(await found.infer(tensors, request.call), count)
    _few(count, context)
    with found.lane.admitted(request.call):
        return _joined(
            [
                (await found.lane.run(part, request.call), rows)
                for part, rows in found.predictor.portions(tensors)
            ]
        )


async def answered(
    context: Context, size: int, value: Callable[[], object], tokens: bool = False
) -> Answer:
    """JSON of `value()`, in another thread if it is of many elements (`size`)."""

    def make() -> Answer:
        if not tokens:
            return json_answer(value())
        return Answer(200, nonfinite.dumps(value()))

    return make() if size <= IN_LOOP else await context.compute(make)


def size_of(outputs: Tensors) -> int:
    """Elements of all."""
    return sum([value.size for value in outputs.values()])


def best(found: LoadedModel, outcome: Outcome, top: int) -> list[list[dict[str, Any]]]:
    """For each row the `top` classes of the first output, best first."""
    scores = found.predictor.scores(outcome.outputs, outcome.count)
    return [
        [
            {"id": s.id, "category": s.category, "score": s.score}
            for s in found.predictor.best(row, top)
        ]
        for row in scores
    ]


def top_of(parameters: object) -> int:
    """The parameter `top`, the only one there is; 0 where it is not given."""
    if parameters is None:
        return 0
    if not isinstance(parameters, dict) or parameters.keys() - {"top"}:
        raise HttpError(400, 'parameters must be {"top": NUMBER}, or left out')
    top = parameters.get("top", 0)
    if type(top) is not int or not 0 <= top <= MAX_TOP:
        raise HttpError(400, f"top must be a number up to {MAX_TOP}")
    return top


def wanted_outputs(spec: ModelSpec, signature: object) -> tuple[TensorSpec, ...]:
    """The outputs of a signature; the model's own for "serving_default", "" and None.

    An artifact holds one signature's graph: another one can be asked for if it takes the same inputs and its
    outputs are among the model's.
    """
    if signature in (None, "", "serving_default"):
        return spec.outputs
    if not isinstance(signature, str):
        raise HttpError(400, "signature_name must be a string")
    found = spec.signatures.get(signature)
    if found is None:
        has = ", ".join({"serving_default": 0} | dict.fromkeys(spec.signatures))
        reason = f'Serving signature name: "{signature[:100]}" not found in signature def; it has'
        raise HttpError(400, f"{reason} {has}")
    names = {tensor.name for tensor in found.outputs}
    chosen = tuple(tensor for tensor in spec.outputs if tensor.name in names)
    if {t.name for t in found.inputs} != {t.name for t in spec.inputs} or len(chosen) != len(names):
        raise HttpError(
            400, f"the signature {signature!r} was not converted: only the default one was"
        )
    return chosen


def _read(body: bytes, found: LoadedModel, tokens: bool, slow: Reader) -> Asked:
    return read_plain(body, found) or _slowly(body, found, tokens, slow)


def read_plain(body: bytes, found: LoadedModel) -> Asked | None:
    """`instances` or `inputs` of plain numbers; None for anything else."""
    plain = fast_instances.read(body, found.spec.inputs)
    if plain is None:
        return None
    return Asked(plain.key == "instances", tensors=plain.tensors, rest=plain.rest)


def _slowly(body: bytes, found: LoadedModel, tokens: bool, slow: Reader) -> Asked:
    document = nonfinite.loads(body) if tokens else parsed(body)
    if not isinstance(document, dict):
        raise HttpError(400, "the body must be a JSON object")
    return slow(document, found, not tokens)


def _sent_by_people(value: object, rows: bool, found: LoadedModel) -> list[Any] | None:
    """Samples that have to be preprocessed; None if they are tensors already."""
    if not found.spec.preprocessing:
        return None
    if not rows:
        value = _columns_as_rows(value)
    if not isinstance(value, list) or not value or not _needs_preparing(value[0], found):
        return None
    return [_sample(row, found) for row in value]


def _columns_as_rows(value: object) -> object:
    if is_base64(value) or isinstance(value, str):
        return [value]
    if not is_named(value):
        return value
    assert isinstance(value, dict)
    columns = [c if isinstance(c, list) else [c] for c in value.values()]
    if len({len(column) for column in columns}) != 1:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _needs_preparing(row: object, found: LoadedModel) -> bool:
    dtypes = {tensor.name: tensor.dtype for tensor in found.spec.inputs}
    named = row if is_named(row) else dict.fromkeys(dtypes, row)
    assert isinstance(named, dict)
    return any(
        (is_base64(value) or isinstance(value, str)) and dtypes.get(name, "string") != "string"
        for name, value in named.items()
    )


def _sample(row: object, found: LoadedModel) -> Any:
    """One sample as `LoadedModel.predict` takes it: images as bytes."""
    if not isinstance(row, dict):
        return row
    if is_base64(row):
        return decoded(row)
    kinds = found.predictor.kinds
    return {
        name: decoded(value) if is_base64(value) and kinds.get(name) == "image" else value
        for name, value in row.items()
    }


def _few(count: int, context: Context) -> None:
    if count > context.settings.max_samples:
        raise HttpError(400, f"at most {context.settings.max_samples} samples a request")


def _joined(parts: list[tuple[Tensors, int]]) -> Outcome:
    rows: dict[str, list[Any]] = {}
    for outputs, count in parts:
        for name, value in outputs.items():
            if value.ndim == 0 or len(value) < count:
                raise HttpError(400, f"output {name!r} has no row for each instance: send `inputs`")
            rows.setdefault(name, []).append(value[:count])
    joined = {
        n: values[0] if len(values) == 1 else np.concatenate(values) for n, values in rows.items()
    }
    return Outcome(joined, sum(count for _, count in parts))
