"""The deploy stage: a model in, a bundle of proven artifacts out."""

from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipcook_deploy import plugins
from pipcook_deploy.assemble import Built, Made, write_bundle
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compare import Tolerance, top1_accuracy
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import (
    ConversionError,
    SourceError,
)
from pipcook_deploy.files import staged_folder
from pipcook_deploy.jobs.workers import WorkerError, Workers
from pipcook_deploy.model import Model
from pipcook_deploy.planner import Step, describe_plan, needs_tensorflow, plan
from pipcook_deploy.samples import SampleOptions, Samples, make_samples
from pipcook_deploy.schedule import Listener, Outcome, Task, run_tasks
from pipcook_deploy.steps import runtime_for
from pipcook_deploy.tensors import load_tensors, save_tensors
from pipcook_deploy.verification import Check, joined, verifications

MOST_CALIBRATION = 100  # samples that a calibration set of its own would have


@dataclass(frozen=True)
class StageRequest:
    """What to make: a loaded model, the converters with their options, and where the bundle goes.

    `recipe` is recorded in the manifest as it is. `keep_going` writes the bundle without the artifacts
    that failed; the stage still ends with their error.
    """

    model: Model
    converters: tuple[Converter, ...]
    out: Path
    samples: SampleOptions = field(default_factory=SampleOptions)
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    jobs: int = 2
    keep_going: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    compression: CompressionRequest | None = None


def plan_request(request: StageRequest) -> dict[str, Step]:
    """The chain of converters to each format."""
    installed = [plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)]
    model = request.model
    return plan(model.format, request.converters, installed, model.details)


def run_stage(request: StageRequest, listener: Listener | None = None) -> Bundle:
    """Convert, verify and bundle.

    Raises the `DeployError` of what failed; the place of the bundle is then as it was before.
    """
    listener = listener or Listener()
    if request.compression is not None:
        from pipcook_deploy.compression.stage import run_compressed

        return run_compressed(request, request.compression, listener)
    steps = plan_request(request)
    for step in steps.values():  # said now, not after minutes of converting
        runtime_for(step.converter.writes()).require()
    listener.chosen(describe_plan(request.model.format, steps))
    with staged_folder(request.out) as staging, Workers(staging) as workers:
        if needs_tensorflow(request.model.format, steps):
            workers.warm()
        ids: Any = request.model.details.get("ids") or {}
        samples = make_samples(request.model.spec, request.samples, ids)
        save_tensors(staging / "samples" / "inputs", samples.inputs)
        outcome = run_tasks(
            _tasks(request, steps, samples, staging, workers),
            jobs=request.jobs,
            listener=listener,
        )
        failure = joined(list(outcome.errors.values()))
        made = _made(request.model, steps, outcome)
        if failure and not (request.keep_going and made):
            raise failure
        model = with_real_outputs(request.model, staging)
        runtime = runtime_for(model.format).variants()[0].label
        accuracy = outcome.results["run source"]
        write_bundle(Built(model, request.recipe, made, samples, runtime, accuracy), staging)
    if failure:
        raise failure
    return Bundle.open(request.out)


# ---- tasks


def _tasks(
    request: StageRequest,
    steps: dict[str, Step],
    samples: Samples,
    staging: Path,
    workers: Workers,
) -> list[Task]:
    # Conversions come first: they are the longest, and what is left at the end should be short.
    conversions = [truth_task(request.model, samples, staging, workers)]
    checks: list[Task] = []
    names: dict[str, str] = {}
    for format, step in steps.items():
        for part in step.chain:
            if part.key not in names:
                names[part.key] = f"convert {part.converter.format}"
                options = _options(part.converter, samples, staging)
                conversions.append(_convert(part, options, names, request.model, staging, workers))
        checks += _verifications(request, step, names[step.key], samples, staging, workers)
        checks.append(_measure(format, names[step.key], workers))
    return conversions + checks


def truth_task(model: Model, samples: Samples, staging: Path, workers: Workers) -> Task:
    heavy = runtime_for(model.format).heavy

    def run(_: Any) -> Any:
        folder = staging / "samples"
        arguments = {
            "model": model.to_json(),
            "inputs": str(folder / "inputs"),
            "outputs": str(folder / "outputs"),
        }
        try:
            workers.call("pipcook_deploy.steps:run_source", arguments, heavy=heavy)
        except WorkerError as error:
            raise SourceError(
                f"the source model does not answer its samples ({samples.origin}): {error}",
                "give samples that fit it: [samples] path = ... in the recipe",
            ) from error
        outputs = load_tensors(folder / "outputs")
        if samples.labels and outputs:
            return top1_accuracy(next(iter(outputs.values())), samples.labels)
        return None

    return Task("run source", run)


def _options(converter: Converter, samples: Samples, staging: Path) -> dict[str, Any]:
    """The converter's options; a calibration set that the user did not name is drawn from the samples."""
    options = converter.model_dump(mode="json")
    if options.get("calibration", "") is None:
        path = staging / "calibration.npz"
        if not path.exists():
            import numpy as np

            np.savez(path, **{k: v[:MOST_CALIBRATION] for k, v in samples.inputs.items()})
        options["calibration"] = str(path)
    return options


def _convert(
    step: Step,
    options: dict[str, Any],
    names: dict[str, str],
    source: Model,
    staging: Path,
    workers: Workers,
) -> Task:
    before = names[step.after.key] if step.after else None
    into = staging / "steps" / str(len(names))
    converter = step.converter

    def run(results: Any) -> Any:
        model = source if before is None else _as_model(source, step.after, results[before])
        into.mkdir(parents=True)
        arguments = {
            "converter": converter.format,
            "options": options,
            "model": model.to_json(),
            "into": str(into),
        }
        heavy = converter.needs_tensorflow(model.format)
        try:
            return workers.call("pipcook_deploy.steps:convert", arguments, heavy=heavy)
        except WorkerError as error:
            raise ConversionError(f"{converter.format}: {error}", error.tail()) from error

    return Task(names[step.key], run, (before,) if before else ())


def _as_model(source: Model, step: Step | None, artifact: dict[str, Any]) -> Model:
    if step is None:
        return source
    path = Path(artifact["path"])
    entry = path / artifact["entry"] if artifact["entry"] != "." else path
    signature = artifact["details"].get("signature")
    return replace(source, path=entry, format=step.converter.writes(), signature=signature)


def _measure(format: str, convert: str, workers: Workers) -> Task:
    def run(results: Any) -> Any:
        folder = {"folder": results[convert]["path"]}
        return workers.call("pipcook_deploy.steps:measure_files", folder, heavy=False)

    return Task(f"measure {format}", run, (convert,))


def _verifications(
    request: StageRequest,
    step: Step,
    convert: str,
    samples: Samples,
    staging: Path,
    workers: Workers,
) -> list[Task]:
    format = step.converter.format
    check = Check(
        format=format,
        model_format=step.converter.writes(),
        inputs=staging / "samples" / "inputs",
        outputs=staging / "samples" / "outputs",
        hint="the artifact is not right: it is not bundled",
        tolerance=request.tolerances.get(format),
        labels=samples.labels,
    )
    return verifications(check, itemgetter(convert), workers, ("run source", convert))


# ---- results


def _made(model: Model, steps: dict[str, Step], outcome: Outcome) -> list[Made]:
    """The formats whose every conversion and check ended well."""
    results = outcome.results
    return [
        Made(
            format=format,
            artifact=results[f"convert {format}"],
            chain=(model.format, *(part.converter.format for part in step.chain)),
            options=step.converter.model_dump(mode="json"),
            files=results[f"measure {format}"],
            verification=tuple(
                results[name] for name in results if name.startswith(f"verify {format} (")
            ),
        )
        for format, step in steps.items()
        if _is_good(format, step, outcome)
    ]


def _is_good(format: str, step: Step, outcome: Outcome) -> bool:
    needed = [f"convert {part.converter.format}" for part in step.chain]
    done = all(name in outcome.results for name in [*needed, f"measure {format}", "run source"])
    return done and not any(name.startswith(f"verify {format} (") for name in outcome.errors)


def with_real_outputs(model: Model, staging: Path) -> Model:
    """Fill what the source's description left open (shapes of outputs) from its real answers."""
    outputs = load_tensors(staging / "samples" / "outputs", 1)
    known = {spec.name: spec for spec in model.spec.outputs}
    specs = []
    for name, value in outputs.items():
        dtype = "string" if value.dtype.kind in "OUS" else value.dtype.name
        old = known.get(name)
        shape: tuple[int | None, ...] = (None, *value.shape[1:])
        if old is not None and len(old.shape) == len(shape):
            shape = old.shape
        specs.append({"name": name, "dtype": dtype, "shape": shape})
    return model.with_spec(outputs=specs)
