"""The deploy stage with a compression in it: prove the source in every format, then search, then bundle."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipcook_deploy import __version__, plugins
from pipcook_deploy.assemble import TOOLS, Built, write_bundle
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compression.budget_check import check_by_count, check_metric, kind_of
from pipcook_deploy.compression.compress import Compressed, Compressor
from pipcook_deploy.compression.journal import Journal, check_place
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.compression.summary import summarize
from pipcook_deploy.compression.workshop import require_layers
from pipcook_deploy.converter import Converter
from pipcook_deploy.data.prepare import prepare_data
from pipcook_deploy.data.prepared import PreparedData
from pipcook_deploy.errors import DeployError, UsageError
from pipcook_deploy.files import staged_folder
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.metrics import default_metric, metric_called
from pipcook_deploy.model import Model
from pipcook_deploy.planner import describe_plan, needs_tensorflow, plan
from pipcook_deploy.report.entries import Report
from pipcook_deploy.report.write import write_report
from pipcook_deploy.samples import Samples, make_samples
from pipcook_deploy.schedule import Listener, Task, run_tasks, watched_step
from pipcook_deploy.stage import StageRequest, truth_task, with_real_outputs
from pipcook_deploy.steps import runtime_for
from pipcook_deploy.tensors import save_tensors
from pipcook_deploy.verification import Check, joined, verifications


def run_compressed(
    request: StageRequest, compression: CompressionRequest, listener: Listener
) -> Bundle:
    """Convert, verify, compress inside the budget, verify again, and bundle what kept it.

    Raises `BudgetError` when a format has nothing that keeps the budget (with `keep_going` after the others are
    bundled); what was found out stays in a folder beside `out`, where the next run goes on.
    """
    installed = [plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)]
    plain = [converter.uncompressed() for converter in request.converters]
    steps = plan(request.model.format, plain, installed, request.model.details)
    for converter in plain:
        runtime_for(converter.writes()).require()
    listener.chosen(describe_plan(request.model.format, steps))
    _check_files(request.converters)
    if compression.passes:
        require_layers(request.model, installed)
    with staged_folder(request.out) as staging, Workers(staging) as workers:
        check_place(_journal_folder(request.out))
        if needs_tensorflow(request.model.format, steps):
            workers.warm()
        data = _prepared(request, compression, staging, listener)
        metric = _metric(request.model, compression, data)
        with (
            Journal(_journal_folder(request.out), _about(request, data)) as journal,
            _told_to_go_on(),
        ):
            if journal.resumed:
                listener.noted(f"goes on with {journal.resumed} results of an earlier run")
            data = _moved(data, journal.folder)
            lab = Lab(request.model, data, metric, journal, workers, installed)
            samples, accuracy = _proven_source(request, lab, plain, staging, listener)
            compressor = Compressor(
                lab,
                compression,
                request.converters,
                samples,
                staging / "samples" / "inputs",
                request.jobs,
                listener,
            )
            done = compressor.run()
            report = summarize(lab, compression.budget, done)
            failure = joined(list(done.errors.values()))
            _write(request, done, report, (samples, accuracy), staging, journal)
            if failure and not (request.keep_going and done.made):
                raise _told(failure, journal)
    if failure:
        raise _told(failure, journal)
    journal.remove()  # the bundle is in its place
    return Bundle.open(request.out)


@contextmanager
def _told_to_go_on() -> Iterator[None]:
    """An interrupt says that nothing of the search is lost."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note("what the search found out is kept: run the same again to go on")
        raise


def _check_files(converters: Sequence[Converter]) -> None:
    """Without its calibration set a precision would only be one that failed, among others."""
    for converter in converters:
        for name, value in converter:
            if isinstance(value, Path) and not value.exists():
                raise UsageError(f"convert.{converter.format}: {name}: {value} does not exist")


def _journal_folder(out: Path) -> Path:
    final = Path(os.path.abspath(out))  # noqa: PTH100 - as the bundle's place is found
    return final.with_name(f".{final.name}.search")


def _about(request: StageRequest, data: PreparedData) -> dict[str, Any]:
    """What the results of a search depend on, and nothing that may change between two runs of it."""
    model = request.model
    return {
        "folder": str(_journal_folder(request.out)),  # results name files in it
        "source": model.source_hash,
        "signature": model.signature,
        "spec": model.spec.model_dump(mode="json"),
        "data": data.sha256,
        "tools": {name: _version(name) for name in (*TOOLS, *MORE_TOOLS)},
        "program": __version__,
        "plugins": plugins.owners(),
    }


MORE_TOOLS = ("ai-edge-quantizer", "openvino", "tensorflow-model-optimization")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# ---- data


def _prepared(
    request: StageRequest, compression: CompressionRequest, staging: Path, listener: Listener
) -> PreparedData:
    name = "prepare data"

    def prepare() -> PreparedData:
        return prepare_data(
            request.model.spec,
            compression.data,
            staging / "data",
            compression.given,
            partial(listener.advanced, name),
        )

    prepared: PreparedData = watched_step(name, listener, prepare)
    return prepared


def _moved(data: PreparedData, folder: Path) -> PreparedData:
    """The data beside the journal, whose results name it; what an earlier run left is the same."""
    place = folder / "data"
    shutil.rmtree(place, ignore_errors=True)
    shutil.move(next(iter(data.splits.values())).folder.parent, place)
    splits = {
        name: replace(split, folder=place / split.folder.name)
        for name, split in data.splits.items()
    }
    return replace(data, splits=splits)


def _metric(model: Model, compression: CompressionRequest, data: PreparedData) -> str:
    """The metric's name; raises `BudgetError` when the budget cannot be measured with this data."""
    budget = compression.budget
    verdict = data.splits["verdict"]
    name = (budget and budget.metric) or default_metric(model.spec, verdict.targets())
    metric = metric_called(name)
    if budget is not None:
        check_metric(name, budget, kind_of(verdict.targets()))
        check_by_count(metric, budget, verdict.count)
    return name


# ---- the source in every format


def _proven_source(
    request: StageRequest,
    lab: Lab,
    plain: list[Converter],
    staging: Path,
    listener: Listener,
) -> tuple[Samples, float | None]:
    """Golden samples and the source's accuracy on them; every format answers them like the source, before anything is compressed."""
    ids: Any = request.model.details.get("ids") or {}
    samples = make_samples(request.model.spec, request.samples, ids)
    save_tensors(staging / "samples" / "inputs", samples.inputs)
    tasks = [truth_task(request.model, samples, staging, lab.workers)]
    for converter in plain:
        name = f"convert {converter.format}"
        tasks.append(Task(name, partial(_build, lab, converter)))
        check = Check(
            format=converter.format,
            model_format=converter.writes(),
            inputs=staging / "samples" / "inputs",
            outputs=staging / "samples" / "outputs",
            hint="the conversion is not right: nothing was compressed",
            tolerance=request.tolerances.get(converter.format),
            labels=samples.labels,
        )
        tasks += verifications(check, itemgetter(name), lab.workers, ("run source", name))
    outcome = run_tasks(tasks, jobs=request.jobs, listener=listener)
    failure = joined(list(outcome.errors.values()))
    if failure:
        raise failure
    return samples, outcome.results["run source"]


def _build(lab: Lab, converter: Converter, _: Mapping[str, Any]) -> Any:
    return lab.build(lab.source_variant(), converter).artifact


# ---- results


def _write(
    request: StageRequest,
    done: Compressed,
    report: Report,
    golden: tuple[Samples, float | None],
    staging: Path,
    journal: Journal,
) -> None:
    folder = journal.place("report")
    write_report(report, folder)
    if done.made:
        model = with_real_outputs(request.model, staging)
        runtime = runtime_for(model.format).variants()[0].label
        built = Built(
            model, request.recipe, done.made, golden[0], runtime, golden[1], folder, done.bench
        )
        write_bundle(built, staging)


def _told(error: DeployError, journal: Journal) -> DeployError:
    """The error with where to read more; what was found out is kept."""
    page = journal.folder / "report" / "report.html"
    hint = "\n".join(part for part in (error.hint, f"all that was tried: {page}") if part)
    told = DeployError.__new__(type(error))
    DeployError.__init__(told, error.message, hint)
    return told
