"""The Python API: each function does in one call what a command of the command line does."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compare import Tolerance
from pipcook_deploy.compression.from_python import make_request, portable, record
from pipcook_deploy.compression.model_pass import ModelPass
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.converter import Converter
from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.errors import UsageError
from pipcook_deploy.model import Model
from pipcook_deploy.preprocess.operations import Operation
from pipcook_deploy.preprocess.order import check as check_order
from pipcook_deploy.recipe import (
    ModelOptions,
    Recipe,
    make_converters,
    make_options,
    make_tolerances,
)
from pipcook_deploy.samples import SampleOptions
from pipcook_deploy.schedule import Listener
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.stage import StageRequest, run_stage

DEFAULT_FORMATS = ("tfjs", "onnx", "saved_model", "tflite")


def deploy(
    model_or_path: Any,
    *,
    out: Path | str = "bundle",
    to: Sequence[str] = DEFAULT_FORMATS,
    name: str | None = None,
    version: str | None = None,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Sequence[Operation | Mapping[str, Any]]
    | Mapping[str, Sequence[Operation | Mapping[str, Any]]]
    | None = None,
    license: str | None = None,
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
    samples: Path | str | None = None,
    sample_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    tolerances: Mapping[str, Tolerance | Mapping[str, Any]] | None = None,
    signature: str | None = None,
    trust_source: bool = False,
    jobs: int = 2,
    data: DataOptions | Mapping[str, Any] | None = None,
    budget: BudgetOptions | Mapping[str, Any] | None = None,
    passes: Sequence[ModelPass | Mapping[str, Any]] = (),
    bench: BenchOptions | Mapping[str, Any] | None = None,
    keep_going: bool = False,
    listener: Listener | None = None,
) -> Bundle:
    """Convert, verify and bundle a model; the end of a training script.

    `model_or_path` is a live Keras model (Keras 3 or tf_keras), a path to any source, or a Pipcook
    workspace. `options` holds converter options by format: {"onnx": {"opset": 17}}.

    With `data` and `budget` the smallest or fastest artifacts inside the budget are searched for. `data` has the
    keys of the recipe's table; "evaluation", "train" and "calibration" may also be an iterable of (input, target) or a
    tf.data.Dataset. `passes` are applied in order instead of the search's own: [{"pass": "prune", "sparsity": 0.8}].

    Raises a `DeployError` of `pipcook_deploy.errors`; the place `out` is then as it was before.
    """
    changes = {
        "name": name,
        "version": version,
        "task": task,
        "labels": None if labels is None else list(labels),
        "preprocessing": preprocessing,
        "license": license,
        "description": description,
        "metrics": None if metrics is None else dict(metrics),
    }
    converters = make_converters(tuple(to), options or {})
    given = {} if samples is None else {"path": samples}
    sampling = make_options(SampleOptions, given | dict(sample_options or {}), "samples")
    checked = make_tolerances(tolerances or {}, tuple(to))
    compression = make_request(data, budget, passes, bench)
    with opened(model_or_path, trust_source=trust_source, signature=signature) as model:
        model = with_changes(model, changes)
        request = StageRequest(
            model=model,
            converters=converters,
            out=Path(out),
            samples=sampling,
            tolerances=checked,
            jobs=jobs,
            keep_going=keep_going,
            recipe=_record(converters, sampling, checked, compression),
            compression=compression,
        )
        return run_stage(request, listener)


def run_recipe(
    recipe: Recipe, *, keep_going: bool = False, listener: Listener | None = None
) -> Bundle:
    """Run a whole recipe; its targets are packaged by the caller."""
    model_options = recipe.model
    with opened(
        model_options.source,
        trust_source=model_options.trust_source,
        signature=model_options.signature,
    ) as model:
        request = StageRequest(
            model=with_recipe(model, model_options),
            converters=tuple(recipe.convert.values()),
            out=recipe.bundle.out,
            samples=recipe.samples,
            tolerances=recipe.verify,
            jobs=recipe.bundle.jobs,
            keep_going=keep_going,
            recipe=_record(
                tuple(recipe.convert.values()), recipe.samples, recipe.verify, recipe.compression
            ),
            compression=recipe.compression,
        )
        return run_stage(request, listener)


@contextmanager
def opened(
    model_or_path: Any, *, trust_source: bool = False, signature: str | None = None
) -> Iterator[Model]:
    """A loaded `Model`; what had to be unpacked or saved for it is removed at the end of the block.

    Raises `SourceError` when the source is refused.
    """
    from pipcook_deploy.sources import load

    with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
        path, workdir = Path(scratch) / "live", Path(scratch) / "work"
        workdir.mkdir()
        if isinstance(model_or_path, Model):
            yield model_or_path
        elif isinstance(model_or_path, str | Path):
            yield load(
                Path(model_or_path),
                workdir=workdir,
                trust_source=trust_source,
                signature=signature,
            )
        else:
            saved = _save_live(model_or_path, path)
            # The user's own process made this model: its code is the user's.
            yield load(saved, workdir=workdir, trust_source=True)


def load(source: Path | str, *, trust_source: bool = False, signature: str | None = None) -> Model:
    """Load a source for as long as the program runs; see `opened` for a bounded life.

    Raises `SourceError` when the source is refused.
    """
    import atexit

    from pipcook_deploy import sources

    workdir = Path(tempfile.mkdtemp(prefix="pipcook-deploy-"))
    atexit.register(shutil.rmtree, workdir, ignore_errors=True)
    return sources.load(
        Path(source), workdir=workdir, trust_source=trust_source, signature=signature
    )


def with_changes(model: Model, changes: Mapping[str, Any]) -> Model:
    """The model with the parts of its spec that are given (None: left as they are), checked."""
    from pydantic import ValidationError

    given = {key: value for key, value in changes.items() if value is not None}
    if "preprocessing" in given:
        given["preprocessing"] = _by_input(model.spec, given["preprocessing"])
    try:
        spec = model.spec.with_changes(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"model: {where}: {first['msg']}") from error
    _check_labels(spec)
    for key, text in (("name", given.get("name")), ("version", given.get("version"))):
        # Both are parts of the server's paths: /v2/models/NAME/versions/VERSION.
        if text is not None and (not text.isprintable() or "/" in text or not 0 < len(text) <= 100):
            raise UsageError(
                f"model: {key}: {text[:100]!r} is not 1 to 100 printable letters without /"
            )
    for operations in spec.preprocessing.values():
        check_order(operations)
    return replace(model, spec=spec)


def with_recipe(model: Model, options: ModelOptions) -> Model:
    """The model as `[model]` of a recipe describes it; raises `UsageError`."""
    fields = ("name", "version", "task", "license", "description", "metrics", "preprocessing")
    changes = {field: getattr(options, field) for field in fields}
    changes["labels"] = _read_labels(options.labels)
    return with_changes(model, changes)


def _by_input(spec: ModelSpec, preprocessing: Any) -> Any:
    names = [tensor.name for tensor in spec.inputs]
    if isinstance(preprocessing, Mapping):
        for name in preprocessing:
            if name not in names:
                raise UsageError(
                    f"model: preprocessing: the model has no input {name!r} (it has {', '.join(names)})"
                )
        return dict(preprocessing)
    if len(names) != 1:
        raise UsageError(
            f"model: preprocessing: the model has {len(names)} inputs; say which: "
            "[[model.preprocessing.NAME]]"
        )
    return {names[0]: preprocessing}


def _check_labels(spec: ModelSpec) -> None:
    if len(set(spec.labels)) != len(spec.labels):
        twice = next(label for label in spec.labels if spec.labels.count(label) > 1)
        raise UsageError(f"model: labels: {twice!r} stands there twice")
    if not spec.labels or not spec.outputs or not spec.outputs[0].shape:
        return
    size = spec.outputs[0].shape[-1]
    if spec.task.endswith("classification") and size is not None and size != len(spec.labels):
        raise UsageError(
            f"model: labels: {len(spec.labels)} given for {size} scores of {spec.outputs[0].name!r}",
            "name every class, in the order of the scores",
        )


def _read_labels(labels: Any) -> list[str] | None:
    if not isinstance(labels, Path):
        return None if labels is None else list(labels)
    try:
        text = labels.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"model: labels: {labels}: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _record(
    converters: tuple[Converter, ...],
    samples: SampleOptions,
    tolerances: Mapping[str, Tolerance],
    compression: CompressionRequest | None,
) -> dict[str, Any]:
    """What the manifest keeps of the recipe: options, and no path of this machine."""
    sampling = samples.model_dump(mode="json")
    if samples.path is not None:
        sampling["path"] = samples.path.name
    return record(compression) | {
        "convert": {c.format: portable(c.model_dump(mode="json"), c) for c in converters},
        "samples": sampling,
        "verify": {name: value.model_dump(mode="json") for name, value in tolerances.items()},
    }


def _save_live(model: Any, folder: Path) -> Path:
    """Save a model object without importing its framework here: it is loaded already."""
    folder.mkdir()
    modules = [kind.__module__ for kind in type(model).__mro__]
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in getattr(model, "name", "model"))
    if any(module.startswith("tf_keras.") for module in modules):
        path = folder / f"{name}.h5"
        model.save(path, include_optimizer=False)
    elif any(module.startswith("keras.") for module in modules):
        path = folder / f"{name}.keras"
        model.save(path)
    else:
        kind = type(model)
        raise UsageError(
            f"cannot deploy a {kind.__module__}.{kind.__qualname__}",
            "give a Keras model or the path of a saved one",
        )
    return path
