"""What workers do for a search: answer a split, and judge the answers. JSON in, JSON out."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError, UnsupportedRuntimeError
from pipcook_deploy.metrics import metric_called
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.steps import runtime_for
from pipcook_deploy.tensors import load_tensors, save_tensors

CHUNK = 1000  # samples that are in memory at once


def answer_artifact(
    artifact: dict[str, Any], inputs: str, outputs: str, count: int | None = None
) -> Any:
    """Answer the tensors of a folder (the first `count`) with an artifact, in its runtime's fastest variant."""
    built = Artifact.from_json(artifact)
    variants = runtime_for(built.model_format).variants()
    given = {name: value[:count] for name, value in _inputs(Path(inputs)).items()}
    for variant in reversed(variants):  # the first has every kernel, the last is the fastest
        try:
            results = _in_chunks(lambda rows, v=variant: v.run_artifact(built, rows), given)
        except UnsupportedRuntimeError:
            if variant is variants[0]:
                raise
            continue
        save_tensors(Path(outputs), results)
        return {"runtime": variant.label}
    raise UnsupportedRuntimeError(f"nothing runs {built.model_format}")


def answer_model(model: dict[str, Any], inputs: str, outputs: str) -> Any:
    """Answer the tensors of a folder with a model, in its own runtime."""
    source = Model.from_json(model)
    runtime: Runtime = runtime_for(source.format).variants()[0]
    results = _in_chunks(lambda rows: runtime.run_model(source, rows), _inputs(Path(inputs)))
    save_tensors(Path(outputs), results)
    return {"runtime": runtime.label}


def judge(
    spec: dict[str, Any],
    split: dict[str, Any],
    metric: str,
    before: str,
    after: str,
    count: int | None = None,
) -> Any:
    """Score of the answers in the folder `after`, and their drop against those in `before`; of the first `count`."""
    described = ModelSpec.model_validate(spec)
    targets = Split.from_json(split).targets()[:count]
    measure = metric_called(metric)
    old, new = load_tensors(Path(before), count), load_tensors(Path(after), count)
    return {
        "score": asdict(measure.score(new, targets, described)),
        "drop": asdict(measure.drop(old, new, targets, described)),
    }


def apply_pass(
    name: str, options: dict[str, Any], model: dict[str, Any], into: str, train: Any
) -> Any:
    """Run one pass; `train` is a split as data, or None."""
    made, source = plugins.model_pass(name)(**options), Model.from_json(model)
    if source.format not in made.accepts:
        raise CompressionError(
            f"{name} does not change {source.format} models (it changes {', '.join(made.accepts)})",
            "start from the Keras file that this model was made from",
        )
    split = None if train is None else Split.from_json(train)
    return made.apply(source, Path(into), split).to_json()


def _inputs(folder: Path) -> Tensors:
    count = 0
    split = Split("inputs", folder.parent, count, "")  # for its mapped arrays
    return split.inputs() if folder.name == "inputs" else load_tensors(folder)


def _in_chunks(call: Any, inputs: Tensors) -> Tensors:
    import numpy as np

    count = len(next(iter(inputs.values())))
    parts = [
        call({name: np.asarray(value[at : at + CHUNK]) for name, value in inputs.items()})
        for at in range(0, count, CHUNK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
