"""What every installed converter must obey, from every format that it reads."""

import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipcook_deploy import plugins
from pipcook_deploy.compare import Tolerance, compare_outputs
from pipcook_deploy.errors import ConversionError, DeployError, UnsupportedConversionError
from pipcook_deploy.files import files_below
from pipcook_deploy.model import FORMATS, Model
from pipcook_deploy.planner import plan
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.steps import convert, runtime_for
from pipcook_deploy.text import did_you_mean
from pipcook_deploy.verification import variants_of

CONVERTERS = {name: plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)}
# Options that change what is read or written, besides the defaults.
MORE = [("tfjs", {"kind": "layers"})]
HEAVY = (
    "tensorflow",
    "keras",
    "tf_keras",
    "tf2onnx",
    "onnx",
    "onnxslim",
    "onnxruntime",
    "h5py",
    "PIL",
)
TIGHT = Tolerance(absolute=1e-5, relative=0)

_numbers = count()


def cases():
    """Each converter with each format it reads."""
    found = []
    for name, options in [*((name, {}) for name in CONVERTERS), *MORE]:
        converter = CONVERTERS[name](**options)
        for source in converter.accepted():
            marks = [pytest.mark.heavy]
            formats = (source, converter.writes())
            marks += [pytest.mark.node] if any(f.startswith("tfjs") for f in formats) else []
            label = "-".join([source, name, *map(str, options.values())])
            found.append(pytest.param(converter, source, marks=marks, id=label))
    return found


@pytest.fixture(params=CONVERTERS)
def kind(request):
    return CONVERTERS[request.param]


@pytest.fixture(scope="session")
def converted(twins):
    """Each case once: (source, artifact, litter, whether the source's files changed)."""
    done = {}

    def run(converter, source_format):
        key = (converter.format, repr(converter), source_format)
        if key not in done:
            source = twins.source(source_format)
            before, left = contents(source.path), set(twins.litter)
            artifact = twins.convert(converter, source, fresh(twins))
            changed = before != contents(source.path)
            done[key] = (source, artifact, sorted(set(twins.litter) - left), changed)
        return done[key]

    return run


def fresh(twins):
    return twins.folder / "cases" / str(next(_numbers)) / "into"


def contents(path: Path) -> dict[str, bytes]:
    folder = path if path.is_dir() else path.parent
    files = files_below(folder) if path.is_dir() or path.name == "model.json" else [path]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


# ---- its declaration


def test_it_says_what_it_reads_and_writes(kind):
    assert plugins.converter(kind.format) is kind, "its entry point is called like its format"
    assert kind.__doc__
    assert set(kind.accepts) <= set(FORMATS)
    assert kind().writes() in FORMATS
    assert runtime_for(kind().writes()), "what it writes can be run, and so verified"


def test_its_options_are_documented_and_have_defaults(kind):
    for name, field in kind.model_fields.items():
        assert field.description and field.description.endswith("."), f"{kind.format}.{name}"
    kind()


def test_an_unknown_option_is_refused(kind):
    with pytest.raises(ValidationError, match="no_such_option"):
        kind(no_such_option=1)
    for name in kind.model_fields:
        assert repr(name) in did_you_mean(f"{name}x", kind.model_fields)


def test_formats_that_it_does_not_read_are_refused(kind, tmp_path):
    foreign = [name for name in FORMATS if name not in kind().accepted()]
    assert foreign
    for number, name in enumerate(foreign):
        if name != kind().writes():
            with pytest.raises(UnsupportedConversionError, match=f"{kind.format}: no chain"):
                plan(name, (kind(),), [kind])
        (tmp_path / str(number)).mkdir()
        model = Model(tmp_path / "model", name, ModelSpec()).to_json()
        with pytest.raises(ConversionError, match=f"does not read {name}"):
            convert(kind.format, {}, model, str(tmp_path / str(number)))
        assert not any((tmp_path / str(number)).iterdir())


def test_importing_it_imports_nothing_heavy(kind):
    code = f"import sys, {kind.__module__}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- its work


@pytest.mark.parametrize(("converter", "source_format"), cases())
def test_its_artifact_answers_like_the_source(converter, source_format, twins, converted):
    source, artifact, _, _ = converted(converter, source_format)
    if converter.intermediate:  # only ever read by another converter, as a source
        step = replace(source, path=artifact.file, format=artifact.model_format)
        compared = compare_outputs(twins.outputs, twins.answers(step), TIGHT)
        assert {row.name: row.reason for row in compared} == dict.fromkeys(twins.outputs)
        return
    for variant in variants_of(artifact.model_format):
        arguments = {
            "artifact": artifact.to_json(),
            "variant": variant,
            "inputs": str(twins.truth / "inputs"),
            "outputs": str(twins.truth / "outputs"),
            "tolerance": TIGHT.model_dump(mode="json"),
            "labels": None,
        }
        call = "pipcook_deploy.steps:run_artifact"
        heavy = runtime_for(artifact.model_format).heavy
        answer = twins.workers.call(call, arguments, heavy=heavy)
        assert {row["name"]: row["reason"] for row in answer["outputs"]} == dict.fromkeys(
            twins.outputs
        )


@pytest.mark.parametrize(("converter", "source_format"), cases())
def test_its_bindings_are_the_specs_tensors(converter, source_format, converted):
    source, artifact, _, _ = converted(converter, source_format)
    assert (artifact.format, artifact.model_format) == (converter.format, converter.writes())
    assert artifact.file.exists()
    for bound, specs in (
        (artifact.inputs, source.spec.inputs),
        (artifact.outputs, source.spec.outputs),
    ):
        assert {b.name: b.dtype for b in bound} == {s.name: s.dtype for s in specs}
        assert {b.name: b.shape[1:] for b in bound} == {s.name: s.shape[1:] for s in specs}
        assert len({b.tensor for b in bound}) == len(specs)


@pytest.mark.parametrize(("converter", "source_format"), cases())
def test_it_writes_below_its_folder_only(converter, source_format, converted):
    _, artifact, litter, changed = converted(converter, source_format)
    assert [path.name for path in artifact.path.parent.iterdir()] == ["into"]
    assert litter == []
    assert not changed, "the source is left as it is"
    assert all(not path.is_symlink() for path in files_below(artifact.path))


@pytest.mark.parametrize(("converter", "source_format"), cases())
def test_the_same_model_gives_the_same_bytes(converter, source_format, twins, converted):
    source, artifact, _, _ = converted(converter, source_format)
    again = twins.convert(converter, source, fresh(twins))
    first, second = contents(artifact.path), contents(again.path)
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert again.to_json() | {"path": ""} == artifact.to_json() | {"path": ""}


@pytest.mark.heavy
def test_a_damaged_source_is_refused(kind, twins):
    """Whatever a framework raises, the user reads one line, and nothing is taken for an artifact."""
    source_format = kind().accepted()[-1]
    source = twins.source(source_format)
    damaged = twins.folder / "cases" / str(next(_numbers)) / source.path.name
    for name, content in contents(source.path).items():
        place = (damaged if source.path.is_dir() else damaged.parent) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content[: len(content) // 2])
    broken = Model(damaged, source.format, source.spec)
    with pytest.raises(DeployError) as caught:
        twins.convert(kind(), broken, fresh(twins))
    assert caught.value.exit_code in (3, 4)
    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.heavy
def test_the_driver_would_see_swapped_tensors(twins):
    """The model of these tests gives other numbers when inputs or outputs change places."""
    west, east = twins.inputs.values()
    up, down = twins.outputs.values()
    assert up.shape == down.shape and west.shape == east.shape
    assert np.abs(up - down).max() > 0.1 and np.abs(west - east).max() > 0.1
