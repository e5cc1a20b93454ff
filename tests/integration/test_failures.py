"""What the stage does when a plugin goes wrong: nothing bad is bundled, and the user is told why."""

import json
import os
import sys

import numpy as np
import pytest

from pipcook_deploy import deploy
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.cli import main
from pipcook_deploy.compare import Tolerance
from pipcook_deploy.errors import ConversionError, DeployError, VerificationError
from tests.integration import bad_plugins


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The plugins, for this process and for the workers."""
    folder = bad_plugins.install(tmp_path_factory.mktemp("site"))
    paths = [str(folder), str(bad_plugins.ROOT)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setattr(sys, "path", [*sys.path, *paths])
        yield


@pytest.fixture
def source(tmp_path):
    return bad_plugins.save_source(tmp_path / "tiny.onnx")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# What each says; "is not bundled" is said of all.
FAILURES = {
    "wrong_weights": "wrong_weights: output 'second' of sample 0 in onnxruntime: differs by 0.25",
    "gives_nan": "gives_nan: output 'second' of sample 0 in onnxruntime: sample 0 has NaN",
    "swapped": "swapped: output 'first' of sample",
    "wrong_name": "wrong_name: onnxruntime could not run it: model.onnx: has no output called third",
    "forgetful": "forgetful: output 'second' of sample 0 in onnxruntime: output 'second' is missing",
    "crashing": "crashing: the worker was ended by SIGSEGV",
    "leaving": "leaving: the worker ended with code 0 and no result",
    "raising": "raising: ZeroDivisionError: by",
    "idle": "idle: wrote nothing that is called 'model.onnx'",
    "elsewhere": "elsewhere: its artifact is not where it was to be written",
    "cursed": "cursed: cursed-runtime could not run it: RuntimeError: the kernel panicked",
    "brief": "brief: output 'first' of sample 0 in brief-runtime: shape [1, 3] instead of [16, 3]",
}


@pytest.fixture(scope="module")
def everything(installed, tmp_path_factory):
    """One run that asks for every plugin and keeps going: the error, and the bundle of what is good."""
    folder = tmp_path_factory.mktemp("everything")
    source = bad_plugins.save_source(folder / "tiny.onnx")
    wanted = [*FAILURES, "copy", "chatty"]
    with pytest.raises(DeployError) as caught:
        deploy(source, to=wanted, out=folder / "bundle", keep_going=True)
    return caught.value, Bundle.open(folder / "bundle")


def test_every_kind_of_plugin_is_in_the_table():
    assert {kind.format for kind in bad_plugins.CONVERTERS} == {*FAILURES, "copy", "chatty"}


@pytest.mark.parametrize("name", FAILURES)
def test_what_goes_wrong_is_told(name, everything):
    error, _ = everything
    assert any(line.startswith(FAILURES[name]) for line in error.message.splitlines()), (
        error.message
    )


def test_only_what_is_right_is_bundled(everything):
    error, bundle = everything
    assert error.exit_code in (4, 5)
    assert bundle.formats == ["copy", "chatty"]
    bundle.check_files()
    assert names(bundle.path / "artifacts") == ["chatty", "copy"]
    assert "wrong_weights" not in (bundle.path / "manifest.json").read_text().split('"recipe"')[0]
    assert names(bundle.path.parent) == ["bundle", "tiny.onnx"]


def test_a_failure_leaves_the_old_bundle_and_nothing_else(source, tmp_path, capsys):
    out = tmp_path / "bundle"
    arguments = ["convert", str(source), "--out", str(out), "--to"]
    assert main([*arguments, "copy"]) == 0
    before = snapshot(out)
    capsys.readouterr()
    assert main([*arguments, "copy,wrong_weights"]) == 5
    message = capsys.readouterr().err
    assert "output 'second' of sample 0" in message
    assert f"differs by {bad_plugins.OFF_BY}" in message
    assert snapshot(out) == before
    assert main([*arguments, "crashing"]) == 4
    assert "the last words" in capsys.readouterr().err
    assert snapshot(out) == before
    assert names(tmp_path) == ["bundle", "tiny.onnx"]


def test_keep_going_ends_with_the_code_of_what_failed(source, tmp_path, capsys):
    out = tmp_path / "bundle"
    arguments = ["convert", str(source), "--out", str(out), "--keep-going", "--json", "--to"]
    assert main([*arguments, "copy,wrong_weights"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "VerificationError"
    assert Bundle.open(out).formats == ["copy"]
    assert main([*arguments, "raising,wrong_weights"]) == 4, "nothing is good: nothing is written"
    assert Bundle.open(out).formats == ["copy"]


def test_the_kind_of_the_error_does_not_depend_on_who_ends_first(source, tmp_path):
    """Tasks are told in the order of the plan: conversions, then what judges them."""
    with pytest.raises(ConversionError, match=r"(?s)raising.*wrong_weights"):
        deploy(source, to=["wrong_weights", "raising"], out=tmp_path / "bundle", jobs=1)


@pytest.mark.parametrize(
    ("tolerance", "passes"),
    [({"absolute": 0.2}, False), ({"absolute": 0.3}, True)],
)
def test_tolerances_come_from_the_recipe(source, tmp_path, tolerance, passes, capsys):
    table = "\n".join(f"{key} = {value}" for key, value in tolerance.items())
    recipe = tmp_path / "deploy.toml"
    recipe.write_text(
        f"[model]\nsource = 'tiny.onnx'\n[convert.wrong_weights]\n[verify.wrong_weights]\n{table}\n"
    )
    assert main(["run", str(recipe)]) == (0 if passes else 5)
    if passes:
        verification, *_ = Bundle.open(tmp_path / "bundle").manifest.artifacts[0].verification
        assert verification.tolerance == Tolerance(**tolerance)
        assert verification.outputs[1].max_abs == pytest.approx(bad_plugins.OFF_BY, abs=1e-5)
        assert main(["verify", str(tmp_path / "bundle")]) == 0, "its own tolerance is kept"


def test_nan_of_the_source_is_right_where_the_artifact_has_it_too(tmp_path):
    source = bad_plugins.save_source(tmp_path / "tiny.onnx", logarithm=True)
    bundle = deploy(source, to=["copy"], out=tmp_path / "bundle")
    assert np.isnan(bundle.golden_outputs()["first"]).any(), "random samples go below zero"
    with pytest.raises(VerificationError, match="output 'second' of sample"):
        deploy(source, to=["gives_nan"], out=tmp_path / "bundle")


def test_a_source_that_does_not_answer_is_told_apart_from_a_bad_artifact(source, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((3, 5), np.float32))
    arguments = ["convert", str(source), "--to", "copy", "--out", str(tmp_path / "b")]
    assert main([*arguments, "--samples", str(tmp_path / "x.npy")]) == 2
    assert "'x' is [3, 5], the model takes [None, 4]" in capsys.readouterr().err
    assert names(tmp_path) == ["tiny.onnx", "x.npy"]
