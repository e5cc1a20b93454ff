"""One rung of a search's ladder: prune a little further, learn the source again. A worker's function."""

from pathlib import Path
from typing import Any

from pipcook_deploy.compression.finetune import Training, fine_tune
from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.prune import apply_masks, pruned_details
from pipcook_deploy.compression.pruning_plan import Growing, plan
from pipcook_deploy.compression.save_keras import save_keras
from pipcook_deploy.compression.teacher import Teacher
from pipcook_deploy.data.split import Split
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model


def climb(
    source: dict[str, Any],
    model: dict[str, Any],
    train: dict[str, Any] | None,
    sparsity: dict[str, float],
    epochs: float,
    learning_rate: float,
    batch: int,
    seed: int,
    into: str,
) -> Any:
    """Prune `model`, the rung before, to `sparsity` by kernel; the result of a pass, as data.

    It learns from the answers of `source`, and from the targets where there are some. Answers are kept beside
    `into`: every rung learns from the same.
    """
    before, folder = Model.from_json(model), Path(into)
    live = load_keras(before)
    found = kernels(live)
    todo = plan(found, sparsity)
    losses: list[float] = []
    if train is None or not epochs:
        apply_masks(found, todo.masks(found))
    else:
        split, origin = Split.from_json(train), Model.from_json(source)
        cache = folder.parent / "answers"
        losses = fine_tune(
            live,
            split,
            Training(epochs, learning_rate, batch, seed),
            model=before,
            masks=Growing(found, todo),
            teacher=Teacher.of(load_keras(origin), origin, split, cache),
        )
    saved = save_keras(live, before, folder)
    details = pruned_details(live) | {"engine": "own", "loss": [*losses], "notes": []}
    return PassResult(saved, details).to_json()
