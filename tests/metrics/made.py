"""Specs and answers that metrics are tried with."""

import numpy as np

from pipcook_deploy.spec import ModelSpec, TensorSpec


def classifier(classes=3, labels=()):
    """A model with one output of scores."""
    return ModelSpec(
        task="image-classification",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 4)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, classes)),),
        labels=labels,
    )


def regressor():
    """A model with one output of one number."""
    return ModelSpec(outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 1)),))


def scores(told, classes):
    """Scores whose highest is at `told`."""
    return {"y": np.eye(classes, dtype=np.float32)[np.asarray(told)]}
