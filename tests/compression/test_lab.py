"""What a lab remembers, and what it must not: against workers that answer as told."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from pipcook_deploy.compression.journal import Journal
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import CompressionError, ConversionError
from pipcook_deploy.jobs.workers import RunEndedError, WorkerError, Workers
from pipcook_deploy.model import Model
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.tensors import save_tensors


class Fake(Converter):
    format: ClassVar[str] = "onnx"
    accepts: ClassVar[tuple[str, ...]] = ("keras",)
    calibration: Path | None = None
    calibration_samples: int = 200

    def convert(self, model, into):
        raise AssertionError("nothing here calls it")


class FakeWorkers:
    """Fails while `error` is set, and remembers what was asked."""

    def __init__(self):
        self.error, self.asked = None, []

    def call(self, function, arguments, *, heavy):
        self.asked.append((function.partition(":")[2], arguments))
        if self.error is not None:
            raise self.error
        if function.endswith(":measure_files"):
            return []
        if function.endswith(":answer_artifact"):
            return {"runtime": "fake"}
        artifact = {"path": arguments.get("into", ""), "entry": ".", "details": {}}
        return artifact | {"format": "onnx", "model_format": "onnx", "precision": "float32"}


@pytest.fixture
def lab(tmp_path):
    spec = ModelSpec(
        name="m", version="1", inputs=[{"name": "x", "dtype": "float32", "shape": [None, 1]}]
    )
    folder = tmp_path / "calibration"
    save_tensors(folder / "inputs", {"x": np.zeros((300, 1), np.float32)})
    split = SimpleNamespace(
        count=300, folder=folder, inputs=lambda: {"x": np.zeros((300, 1), np.float32)}
    )
    data = SimpleNamespace(splits={"calibration": split}, sha256="d")
    model = Model(tmp_path / "m.keras", "keras", spec, source_hash="s")
    with Journal(tmp_path / "j", {}) as journal:
        yield Lab(model, data, "accuracy", journal, FakeWorkers(), [Fake])


def test_a_worker_that_was_killed_is_no_reason_never_to_try_again(lab):
    lab.workers.error = WorkerError("the worker was ended by SIGKILL", Path("no.log"))
    with pytest.raises(ConversionError, match="SIGKILL"):
        lab.build(lab.source_variant(), Fake())
    lab.workers.error = None
    assert lab.build(lab.source_variant(), Fake()).artifact["format"] == "onnx"


def test_what_a_converter_refuses_is_refused_once(lab):
    lab.workers.error = ConversionError("has no such operator")
    for _ in range(2):
        with pytest.raises(ConversionError, match="has no such operator"):
            lab.build(lab.source_variant(), Fake())
    assert len(lab.workers.asked) == 1


def test_another_content_of_a_calibration_file_is_another_artifact(lab, tmp_path):
    path = tmp_path / "mine.npz"
    for value in (0, 0, 1):
        np.savez(path, x=np.full((2, 1), value, np.float32))
        lab.build(lab.source_variant(), Fake(calibration=path))
    assert [name for name, _ in lab.workers.asked].count("convert") == 2


def test_the_whole_calibration_split_is_used_unless_a_format_asks_for_less(lab):
    lab.build(lab.source_variant(), Fake())
    lab.build(lab.source_variant(), Fake(calibration_samples=50))
    options = [asked["options"] for name, asked in lab.workers.asked if name == "convert"]
    assert [row["calibration_samples"] for row in options] == [300, 50]
    assert len(np.load(options[0]["calibration"])["x"]) == 300


def test_answers_to_other_samples_in_the_same_folder_are_other_answers(lab, tmp_path):
    build = lab.build(lab.source_variant(), Fake())
    found = []
    for value in (0, 0, 1):
        shutil.rmtree(tmp_path / "golden", ignore_errors=True)
        save_tensors(tmp_path / "golden", {"x": np.full((2, 1), value, np.float32)})
        found.append(lab.answers(build, tmp_path / "golden", "golden"))
    assert found[0] == found[1] != found[2]


def test_a_measurement_whose_worker_dies_is_told_as_one_line(lab):
    lab.workers.error = WorkerError("the worker was ended by SIGSEGV", Path("no.log"))
    with pytest.raises(CompressionError, match="measure: the worker was ended by SIGSEGV"):
        lab.worked_out("some.module:measure", {}, "key", heavy=False)
    lab.workers.error = None
    assert json.dumps(lab.worked_out("some.module:measure", {}, "key", heavy=False))


def test_no_process_is_started_after_the_end_of_a_run(tmp_path):
    with Workers(tmp_path) as workers:
        pass
    with pytest.raises(RunEndedError):
        workers.call("pipcook_deploy.steps:measure_files", {"folder": "x"}, heavy=False)
