"""What workers do: each function takes and returns JSON, and is called in a child process."""

import errno
import os
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.compare import Tolerance, compare_outputs, top1_accuracy
from pipcook_deploy.errors import (
    ConversionError,
    DeployError,
    MissingDependencyError,
    OutputError,
    UnsupportedConversionError,
    VerificationError,
)
from pipcook_deploy.files import files_below, sha256, sync_tree, wire_sizes
from pipcook_deploy.jobs.child import is_disk
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.tensors import load_tensors, save_tensors

NO_SPACE = os.strerror(errno.ENOSPC)


def convert(converter: str, options: dict[str, Any], model: dict[str, Any], into: str) -> Any:
    """Run one converter; a framework's own exception becomes a `ConversionError`."""
    made, source = plugins.converter(converter)(**options), Model.from_json(model)
    if source.format not in made.accepted():
        raise UnsupportedConversionError(
            f"{converter} does not read {source.format} (it reads {', '.join(made.accepted())})",
            "run: pipcook-deploy plugins",
        )
    try:
        artifact = made.convert(source, Path(into))
    except DeployError:
        raise
    except ImportError as error:
        raise MissingDependencyError(
            f"the {converter} converter needs {error.name or error}, which is not installed",
            "run: pip install 'pipcook-deploy[tensorflow]'",
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and is_disk(error):
            raise
        if NO_SPACE in str(error):  # frameworks wrap the error of the system in their own
            raise OutputError(
                f"{converter}: {NO_SPACE.lower()}", "free some space or choose another --out"
            ) from error
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        raise ConversionError(f"{converter}: {type(error).__name__}: {lines[0][:500]}") from error
    _check_place(converter, artifact, Path(into))
    return artifact.to_json()


def _check_place(converter: str, artifact: Artifact, into: Path) -> None:
    """What an artifact names is moved into the bundle: it has to be what the converter wrote."""
    if artifact.path != into or not artifact.file.resolve().is_relative_to(into.resolve()):
        raise ConversionError(f"{converter}: its artifact is not where it was to be written")
    if not artifact.file.exists() or not files_below(into):
        raise ConversionError(f"{converter}: wrote nothing that is called {artifact.entry!r}")


def run_source(model: dict[str, Any], inputs: str, outputs: str) -> Any:
    """Answer the inputs with the source model itself; the outputs go to a folder."""
    source = Model.from_json(model)
    runtime = runtime_for(source.format).variants()[0]
    results = runtime.run_model(source, load_tensors(Path(inputs)))
    missing = [spec.name for spec in source.spec.outputs if spec.name not in results]
    if missing:
        raise VerificationError(f"the source gave no output called {', '.join(missing)}")
    save_tensors(Path(outputs), results)
    return {"outputs": list(results)}


def run_artifact(
    artifact: dict[str, Any],
    variant: int,
    inputs: str,
    outputs: str,
    tolerance: dict[str, Any],
    labels: list[int] | None,
) -> Any:
    """Run an artifact in one variant of its runtime and compare; returns a verification as data."""
    built = Artifact.from_json(artifact)
    runtime = checks_for(built.model_format)[variant]
    given = load_tensors(Path(inputs))
    count = _affordable(given, runtime)
    expected = load_tensors(Path(outputs), count)
    actual = runtime.run_artifact(built, {name: value[:count] for name, value in given.items()})
    compared = compare_outputs(expected, actual, Tolerance(**tolerance))
    first = next(iter(expected))
    accuracy = top1_accuracy(actual[first], labels[:count]) if labels and first in actual else None
    return {
        "samples": len(next(iter(expected.values()))),
        "outputs": [asdict(row) for row in compared],
        "accuracy": accuracy,
    }


def _affordable(inputs: Tensors, runtime: Runtime) -> int:
    """How many samples a runtime is given: all, or as many as a slow one bears, at least two."""
    samples = len(next(iter(inputs.values())))
    if runtime.most_elements is None:
        return samples
    elements = sum(value.size for value in inputs.values()) / samples
    return min(samples, max(2, int(runtime.most_elements / max(elements, 1))))


def measure_files(folder: str) -> Any:
    """Size, wire sizes and hash of every file below a folder, in the order of their names.

    The files are flushed to disk here, while other tasks compute, not when the bundle is moved.
    """
    root = Path(folder)
    sync_tree(root)
    return [_measure(root, path) for path in files_below(root)]


def _measure(root: Path, path: Path) -> dict[str, Any]:
    gzip, brotli = wire_sizes(path)
    return {
        "path": path.relative_to(root).as_posix(),
        "size": path.stat().st_size,
        "gzip": gzip,
        "brotli": brotli,
        "sha256": sha256(path),
    }


def runtime_for(model_format: str) -> type[Runtime]:
    """The runtime class that judges a model format; a missing one is the user's to install."""
    for runtime in plugins.runtimes():
        if model_format in runtime.formats and not runtime.additional:
            return runtime
    raise MissingDependencyError(
        f"no installed runtime runs {model_format}", "run: pipcook-deploy plugins"
    )


def checks_for(model_format: str) -> list[Runtime]:
    """Every way to run a model format: the variants of its runtime, then those of additional ones."""
    judge = runtime_for(model_format)
    more = (kind for kind in plugins.runtimes() if kind.additional and model_format in kind.formats)
    return [variant for kind in (judge, *more) for variant in kind.variants()]
