"""Bodies of /invocations: JSON in several forms, CSV, JSON lines, .npy, and images as they are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pipcook_deploy.server.app import Context
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols import instances
from pipcook_deploy.server.protocols.instances import Asked
from pipcook_deploy.server.tensors import nonfinite, tables
from pipcook_deploy.server.tensors.instances import is_named, only
from pipcook_deploy.server.tensors.npy import read_npy

FORMS = ("instances", "inputs", "dataframe_split", "dataframe_records", "input_data")
LINES = ("application/jsonlines", "application/x-jsonlines", "application/x-ndjson")
TAKES = ("application/json", "text/csv", LINES[0], "application/x-npy", "image/*")


@dataclass(frozen=True, slots=True)
class Body:
    """`media` is the content type without parameters, `content_type` with them."""

    media: str
    content_type: str
    data: bytes


def is_image(media: str) -> bool:
    """Whether a body of this type is an image; the second is SageMaker's name for any."""
    return media.startswith("image/") or media == "application/x-image"


async def read_body(context: Context, body: Body, found: LoadedModel, tokens: bool) -> Asked:
    """What is asked; 415 with the list for a content type that is not taken."""
    media = body.media
    if media in ("", "application/json"):
        return await instances.read(context, body.data, found, read_json, tokens)
    if is_image(media):
        return Asked(True, values=[body.data])
    reader = READERS.get(media)
    if reader is None:
        said = f"{media[:50]!r}" if media else "no content type"
        raise HttpError(415, f"invocations take {', '.join(TAKES)}; not {said}")
    return await context.compute(lambda: reader(body, found, not tokens))


def read_json(document: dict[str, Any], found: LoadedModel, finite: bool) -> Asked:
    """An object with exactly one of `FORMS`, and perhaps `params` and `signature_name`."""
    keys = [key for key in FORMS if key in document]
    if len(keys) != 1:
        has = ", ".join(repr(key[:50]) for key in list(document)[:20]) or "nothing"
        raise HttpError(
            400, f"the body must be an object with exactly one of {', '.join(FORMS)}; it has {has}"
        )
    asked = _of_form(keys[0], document[keys[0]], found, finite)
    asked.rest = document
    return asked


def _of_form(key: str, value: object, found: LoadedModel, finite: bool) -> Asked:
    if key == "inputs" and isinstance(value, list) and value and is_named(value[0]):
        key = "dataframe_records"  # what MLflow's client makes of a list of objects
    if key in ("instances", "inputs"):
        return instances.from_key(key, value, found, finite)
    if key == "input_data" and not (isinstance(value, dict) and "data" in value):
        return instances.from_key("instances", value, found, finite)
    table = tables.of_records(value) if key == "dataframe_records" else tables.of_split(value)
    return instances.from_features(table.features(found.spec.inputs), found, finite)


def _csv(body: Body, found: LoadedModel, finite: bool) -> Asked:
    _, _, header = body.content_type.lower().replace(" ", "").partition("header=")
    inputs = found.spec.inputs
    table = tables.of_csv(body.data, inputs, header.split(";")[0].strip('"'))
    rows = table.features(inputs)
    texts = {name for name, kind in found.predictor.kinds.items() if kind in ("image", "text")}
    tables.read_cells(rows, inputs, texts)
    return instances.from_features(rows, found, finite)


def _lines(body: Body, found: LoadedModel, finite: bool) -> Asked:
    load = orjson.loads if finite else nonfinite.loads
    try:
        rows = [load(line) for line in body.data.split(b"\n") if line.strip()]
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"a line is not JSON: {error}") from None
    return instances.from_key("instances", rows, found, finite)


def _npy(body: Body, found: LoadedModel, finite: bool) -> Asked:
    tensor, value = only(found.spec.inputs), read_npy(body.data)
    if tensor.dtype == "string" or not np.can_cast(value.dtype, tensor.dtype, "same_kind"):
        raise HttpError(400, f"input {tensor.name!r} takes {tensor.dtype}, not {value.dtype}")
    if (
        len(value.shape) != len(tensor.shape)
        or not all(
            want in (None, size)
            for size, want in zip(value.shape[1:], tensor.shape[1:], strict=True)
        )
        or not value.size
    ):
        shape = [-1 if size is None else size for size in tensor.shape]
        raise HttpError(400, f"input {tensor.name!r} has shape {shape}, not {list(value.shape)}")
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(value, dtype=tensor.dtype)
    return Asked(True, tensors={tensor.name: narrow})


READERS: dict[str, Callable[[Body, LoadedModel, bool], Asked]] = {
    "text/csv": _csv,
    "application/x-npy": _npy,
    **dict.fromkeys(LINES, _lines),
}
