"""Each class before and after: how many of its samples were answered right."""

from collections.abc import Mapping
from typing import Any

from pipcook_deploy.report.answers import Answers, class_targets, label, read_answers
from pipcook_deploy.report.entries import ClassEntry
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec


def class_table(
    spec: ModelSpec, targets: Any, before: Tensors, after: Mapping[str, Tensors]
) -> tuple[ClassEntry, ...]:
    """Recall of each class that has samples, for the source and for each format.

    Outputs and targets (class positions [n]) go sample by sample together. Empty for a model that does not
    classify.
    """
    import numpy as np

    truth, old = class_targets(targets), read_answers(spec, before)
    if truth is None or old is None or len(truth) != len(old.positions):
        return ()
    new = {name: read_answers(spec, outputs) for name, outputs in after.items()}
    rows = []
    for position in np.unique(truth).tolist():
        own = truth == position
        rows.append(
            ClassEntry(
                label=label(spec, position),
                samples=int(own.sum()),
                before=_recall(old, own, position),
                after={n: _recall(p, own, position) for n, p in new.items() if p is not None},
            )
        )
    return tuple(rows)


def _recall(answers: Answers, own: Any, position: int) -> float:
    return float((answers.positions[own] == position).mean())
