"""Engines: each gives what the runtime that verified the artifact gives, refuses what it refuses, and waits for no one."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.server.engines import cpu
from pipcook_deploy.server.engines.make import make_engine
from pipcook_deploy.server.errors import InferenceError, OverloadedError
from tests.server import tiny_models
from tests.server.engine_cases import images, pictures, served, small_pictures, small_tflite


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served(pictures(tmp_path_factory.mktemp("m")))


def openvino(artifact, **options):
    pytest.importorskip("openvino")
    return make_engine(artifact, engine="openvino", **options)


def litert(**options):
    pytest.importorskip("ai_edge_litert")
    return make_engine(small_tflite(), **options)


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 5, 1])
def test_openvino_answers_any_batch_in_float32(model, count, streams):
    engine = openvino(model.artifact, threads=1, streams=streams)
    expected = OnnxRuntime().run_artifact(model.artifact, images(count))["scores"]
    for _ in range(2):
        np.testing.assert_allclose(engine.run(images(count))["scores"], expected, atol=1e-6)


def test_openvino_takes_what_is_not_contiguous_and_casts(model):
    image = images(1)["image"]
    expected = OnnxRuntime().run_artifact(model.artifact, {"image": image})["scores"]
    turned = np.asfortranarray(image.astype(np.float64))
    np.testing.assert_allclose(
        openvino(model.artifact).run({"image": turned})["scores"], expected, atol=1e-6
    )


def test_openvino_keeps_answers_apart(model):
    """An answer is the caller's own: the next one does not change it."""
    engine = openvino(model.artifact)
    first = engine.run(images(1, 0))["scores"]
    kept = first.copy()
    engine.run(images(1, 1))
    np.testing.assert_array_equal(first, kept)


def test_openvino_refuses_a_wrong_shape_and_goes_on(model):
    engine = openvino(model.artifact)
    with pytest.raises(InferenceError):
        engine.run({"image": np.zeros((1, 24, 24, 4), np.float32)})
    assert engine.run(images(1))["scores"].shape == (1, 10)


def test_openvino_runs_a_fixed_batch(tmp_path):
    fixed = served(pictures(tmp_path, batch=3))
    expected = OnnxRuntime().run_artifact(fixed.artifact, images(3))["scores"]
    np.testing.assert_allclose(
        openvino(fixed.artifact).run(images(3))["scores"], expected, atol=1e-6
    )


def test_openvino_says_that_it_takes_no_text(tmp_path):
    with pytest.raises(ServerError, match="string") as raised:
        openvino(served(tiny_models.echo(tmp_path)).artifact)
    assert "--engine onnxruntime" in raised.value.hint


def test_an_engine_that_is_not_installed_names_its_extra(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingDependencyError) as raised:
        make_engine(model.artifact, engine="openvino")
    assert "pipcook-deploy[openvino]" in raised.value.hint


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert", "litert apart"])
def test_what_views_a_requests_body_is_taken(model, name):
    """Such an array cannot be written to."""
    if name.startswith("litert"):
        engine, inputs = litert(threads=1, apart=name == "litert apart"), small_pictures(2)
    else:
        pytest.importorskip(name)
        engine, inputs = make_engine(model.artifact, engine=name), images(2)
    image = inputs["image"]
    view = np.frombuffer(image.tobytes(), np.float32).reshape(image.shape)
    found = engine.run({"image": view})["scores"]
    np.testing.assert_array_equal(found, engine.run(inputs)["scores"])


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_threads_get_their_own_answers(model, name):
    if name == "openvino":
        pytest.importorskip("openvino")
    engine = make_engine(model.artifact, threads=1, streams=3, engine=name)
    inputs = [images(1 + seed % 2, seed) for seed in range(12)]
    expected = [engine.run(one)["scores"] for one in inputs]
    found = [None] * len(inputs)

    def work(first):
        for _ in range(20):
            for number in range(first, len(inputs), 3):
                found[number] = engine.run(inputs[number])["scores"]
                np.testing.assert_array_equal(found[number], expected[number])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("apart", [False, True])
def test_litert_answers_any_batch_like_the_runtime_that_verified_it(apart):
    engine = litert(threads=1, apart=apart)
    for count in (1, 3, 2, 7, 4, 5, 6, 1, 3):
        expected = LiteRtRuntime().run_artifact(small_tflite(), small_pictures(count))["scores"]
        np.testing.assert_allclose(
            engine.run(small_pictures(count))["scores"], expected, rtol=1e-5, atol=1e-6
        )
    with pytest.raises(InferenceError):
        engine.run({"image": np.zeros((2, 8, 8, 4), np.float32)})
    assert engine.run(small_pictures(2))["scores"].shape == (2, 3)


def test_a_litert_process_that_dies_is_replaced():
    engine = litert(threads=1, apart=True)
    before = engine.run(small_pictures(1))["scores"]
    os.kill(engine._children[0]._process.pid, signal.SIGKILL)
    with pytest.raises(OverloadedError):
        engine.run(small_pictures(1))
    np.testing.assert_array_equal(engine.run(small_pictures(1))["scores"], before)


def test_litert_processes_end_with_their_engine():
    engine = litert(threads=1, apart=True)
    (child,) = engine._children
    process = child._process
    del engine, child
    assert process.wait(10) == 0


def test_a_damaged_tflite_file_is_refused_in_a_process_too(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    damaged = replace(small_tflite(), path=tmp_path, entry="x.tflite")
    with pytest.raises(ServerError, match=r"x\.tflite"):
        make_engine(damaged, apart=True)


@pytest.mark.parametrize(
    ("text", "count"),
    [("150000 100000", 2), ("max 100000", None), ("50000 100000", 1), ("", None), ("x y", None)],
)
def test_a_containers_quota_bounds_the_cores(text, count, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(cpu, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cpu.cores() == (count or 8)


def test_cuda_is_asked_for_by_name_and_says_where_there_is_none(tmp_path):
    folder = tiny_models.colours(tmp_path)
    command = [sys.executable, "-m", "pipcook_deploy.server", "--engine", "onnxruntime-cuda"]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=30)
    assert done.returncode == ServerError.exit_code
    assert "finds no CUDA here" in done.stderr and "--engine onnxruntime" in done.stderr
    assert "Traceback" not in done.stderr
