"""Runs many samples in groups, by what a model's batch axis allows."""

from collections.abc import Callable

from pipcook_deploy.runtime import Tensors

BATCH = 32  # samples at once: bounds memory on large evaluation sets


def batched(
    call: Callable[[Tensors], Tensors], inputs: Tensors, size: int, exact: bool = False
) -> Tensors:
    """Call with `size` samples at once and join the answers along the batch axis.

    With `exact` the model takes `size` samples and no fewer: the last group is filled up with copies of
    its last sample, whose answers are thrown away.
    """
    import numpy as np

    count = len(next(iter(inputs.values())))
    parts: list[Tensors] = []
    for start in range(0, count, size):
        rows = {name: value[start : start + size] for name, value in inputs.items()}
        present = min(size, count - start)
        if exact and present < size:
            rows = {name: _filled(value, size) for name, value in rows.items()}
        answers = call(rows)
        parts.append({name: value[:present] for name, value in answers.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled(value: "object", size: int) -> "object":
    import numpy as np

    rows = np.asarray(value)
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
