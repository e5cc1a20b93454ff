"""A pass in a worker's child, as the stage runs it."""

from pathlib import Path
from typing import Any

from pipcook_deploy import plugins
from pipcook_deploy.data.split import Split
from pipcook_deploy.model import Model


def apply_pass(
    name: str,
    options: dict[str, Any],
    model: dict[str, Any],
    into: str,
    train: dict[str, Any] | None,
) -> Any:
    made = plugins.model_pass(name)(**options)
    split = None if train is None else Split.from_json(train)
    return made.apply(Model.from_json(model), Path(into), split).to_json()
