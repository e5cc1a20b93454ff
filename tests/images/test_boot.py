"""The boot test: what passes, and what each way of being wrong is called."""

import numpy as np
import pytest

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import BootError
from pipcook_deploy.images import boot as boot_module
from pipcook_deploy.images import starts as starts_module
from pipcook_deploy.images.boot import boot
from pipcook_deploy.images.engine import RunOptions
from pipcook_deploy.images.golden import Golden
from tests.images.process_engine import IMAGE, ProcessEngine
from tests.server import scale_bundles

OPTIONS = RunOptions(8080, 256 << 20)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(scale_bundles.write(tmp_path_factory.mktemp("bundle") / "b", 3))


def booted(bundle, golden=None, *, notes=None, **engine):
    made = ProcessEngine(bundle.path, **engine)
    note = (lambda text: None) if notes is None else notes.append
    try:
        return boot(made, IMAGE, golden or Golden.of(bundle, "onnx"), OPTIONS, note)
    finally:
        assert all(container.removed for container in made.started)


def test_every_contract_is_asked_with_every_sample(bundle):
    notes = []
    entry = booted(bundle, notes=notes)
    asked = {row.contract: row for row in entry.contracts}
    assert set(asked) == {
        "Open Inference Protocol, binary",
        "Open Inference Protocol, JSON",
        "TF Serving :predict",
        "SageMaker, MLflow /invocations",
        "Azure ML /score",
        "Vertex AI AIP_PREDICT_ROUTE",
        "Function Compute /invoke",
        "Pipcook /predict",
    }
    # The model has no labels: there is nothing to be right about.
    skipped = asked.pop("Pipcook /predict")
    assert skipped.samples == 0 and "no pictures" in skipped.skipped
    for row in asked.values():
        assert row.samples == 2 and row.largest_difference == 0.0
    assert len(entry.starts) == 5
    assert entry.drain.lost == 0 and entry.drain.exit_code == 0
    assert entry.drain.answered >= 40
    assert 0 < entry.seconds_to_first_answer < 60
    assert [note for note in notes if note.startswith("starting")] == [
        f"starting: {start}" for start in entry.starts
    ]


def test_each_start_has_what_its_platform_sets(bundle):
    made = ProcessEngine(bundle.path)
    boot(made, IMAGE, Golden.of(bundle, "onnx"), OPTIONS, lambda text: None)
    plain, sagemaker, vertex, cloud, event = [container.options for container in made.started]
    assert plain.arguments == () and not plain.environment and plain.user is None
    assert not plain.tmpfs and sagemaker.tmpfs
    assert sagemaker.arguments == ("serve",)
    assert vertex.environment["AIP_HTTP_PORT"] == str(vertex.port)
    assert vertex.environment["AIP_PREDICT_ROUTE"].startswith("/v1/endpoints/")
    assert cloud.environment["PORT"] == str(cloud.port) != "8080"
    assert cloud.user is not None and cloud.user.endswith(":0")
    assert event.port == 9000 and event.environment["PORT"] == "9000"


def test_other_answers_than_were_recorded(bundle):
    golden = Golden.of(bundle, "onnx")
    # The server is right about its own samples; the bundle that is compared with says otherwise.
    outputs = {name: value * 1.01 for name, value in golden.outputs.items()}
    other = Golden(golden.bundle, golden.format, golden.inputs, outputs, golden.tolerance)
    with pytest.raises(BootError, match="other answers than the bundle recorded") as raised:
        booted(bundle, other)
    assert "output 'y' of sample 0 differs by" in raised.value.message
    assert "the container's log ends with" in raised.value.hint


def test_only_the_last_sample_is_wrong(bundle):
    golden = Golden.of(bundle, "onnx")
    outputs = {name: value.copy() for name, value in golden.outputs.items()}
    outputs["y"][-1, -1] += 1
    other = Golden(golden.bundle, golden.format, golden.inputs, outputs, golden.tolerance)
    with pytest.raises(BootError, match="Open Inference Protocol, binary: other answers"):
        booted(bundle, other)


def test_a_server_that_refuses_its_bundle(tmp_path):
    wrong = Bundle.open(scale_bundles.write(tmp_path / "b", 3, recorded=4))
    with pytest.raises(BootError, match="ended with exit code 9 before it answered") as raised:
        booted(wrong)
    assert "otherwise than was recorded" in raised.value.hint


def test_a_server_that_never_is_ready(bundle, monkeypatch):
    monkeypatch.setattr(boot_module, "READY_SECONDS", 0.5)
    monkeypatch.setattr(starts_module, "READY", ("/ping", "/no-such-path"))
    with pytest.raises(BootError, match=r"was not ready after 0 s: GET /no-such-path answers 404"):
        booted(bundle)


def test_requests_that_are_lost_at_the_end(bundle):
    with pytest.raises(BootError, match=r"requests were lost at SIGTERM|ended with exit code -9"):
        booted(bundle, deaf=True)


def test_a_server_that_does_not_end(bundle, monkeypatch):
    monkeypatch.setattr("pipcook_deploy.images.drain.LONGEST_END", 0.2)
    monkeypatch.setattr(
        "tests.images.process_engine.ProcessContainer.signal", lambda self, name: None
    )
    with pytest.raises(BootError, match="did not end within 0 s of SIGTERM"):
        booted(bundle)


def test_a_health_check_that_fails(bundle, monkeypatch):
    monkeypatch.setattr(
        "tests.images.process_engine.ProcessContainer.execute", lambda self, *c: (1, "no socket")
    )
    with pytest.raises(BootError, match=r"health check fails \(exit code 1\): no socket"):
        booted(bundle)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_json_cannot_say_is_skipped_and_said(bundle, value):
    golden = Golden.of(bundle, "onnx")
    inputs = {"x": golden.inputs["x"].copy()}
    inputs["x"][0, 0] = value
    outputs = {"y": inputs["x"] * 3}
    odd = Golden(golden.bundle, golden.format, inputs, outputs, golden.tolerance)
    entry = booted(bundle, odd)
    judged = {row.contract for row in entry.contracts if row.skipped is None}
    assert judged == {"Open Inference Protocol, binary"}
    reasons = {
        row.skipped for row in entry.contracts if row.skipped and "Pipcook" not in row.contract
    }
    assert reasons == {"'x' has NaN or infinities, which JSON has not"}
