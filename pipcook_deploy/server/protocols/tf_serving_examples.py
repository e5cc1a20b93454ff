"""Classify and regress: examples of named features in, [label, score] or numbers out."""

from typing import Any

import numpy as np

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols import instances
from pipcook_deploy.server.protocols.instances import Asked, Outcome


def read_examples(document: dict[str, Any], found: LoadedModel, finite: bool) -> Asked:
    """`examples`, each with the features of `context` as well."""
    if "examples" not in document:
        raise HttpError(400, "Missing 'examples' key")
    context, examples = document.get("context", {}), document["examples"]
    if not isinstance(examples, list) or not examples:
        raise HttpError(400, "examples must be a list, and not empty")
    if not isinstance(context, dict) or not all(isinstance(row, dict) for row in examples):
        raise HttpError(400, "each of the examples, and context, must be an object of features")
    if any(context.keys() & row.keys() for row in examples):
        raise HttpError(400, "a feature is in context or in the examples, not in both")
    asked = instances.from_features([context | row for row in examples], found, finite)
    asked.rest = document
    return asked


def results(found: LoadedModel, outcome: Outcome) -> list[Any]:
    """For each example [label, score] of every class; a class without a label has ""."""
    scores = found.predictor.scores(outcome.outputs, outcome.count)
    labels = list(found.spec.labels[: scores.shape[1]])
    labels += [""] * (scores.shape[1] - len(labels))
    return [[[label, row[i]] for i, label in enumerate(labels)] for row in scores]


def regression(found: LoadedModel, outcome: Outcome) -> Any:
    """The first output's one number for each example."""
    name = found.spec.outputs[0].name
    value = outcome.outputs[name]
    if value.size != outcome.count or value.dtype.kind not in "fiub":
        shape = list(value.shape)
        raise HttpError(
            400, f"the first output {name!r} has shape {shape}: regress needs one number a row"
        )
    return np.ascontiguousarray(value.reshape(-1))
