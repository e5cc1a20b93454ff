"""A model that answers otherwise than was recorded is refused when it is loaded, and says what differs."""

import numpy as np
import pytest

from pipcook_deploy.errors import ServerError
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.server.models import golden as golden_module
from pipcook_deploy.server.models.golden import check_golden
from pipcook_deploy.server.models.load import load
from pipcook_deploy.server.settings import Settings
from tests.server import tiny_models
from tests.server.engine_cases import images, pictures, served, with_golden


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPCOOK_DEPLOY_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served(pictures(tmp_path_factory.mktemp("m"), channels=4))


def answers(model, inputs):
    return OnnxRuntime().run_artifact(model.artifact, inputs)


def one_wrong(model, inputs, sample, by):
    recorded = answers(model, inputs)
    recorded["scores"] = recorded["scores"].copy()
    recorded["scores"][sample, 0] += by
    return recorded


def test_right_answers_load(model, tmp_path):
    inputs = images(5)
    loaded = load(with_golden(model, tmp_path, answers(model, inputs), inputs), Settings())
    assert loaded.engine.name == "onnxruntime" and "onnxruntime (onnx)" in loaded.chosen


def test_a_wrong_answer_is_refused_by_name_place_and_size(model, tmp_path):
    wrong = with_golden(model, tmp_path, one_wrong(model, images(5), 1, 0.25), images(5))
    with pytest.raises(ServerError) as raised:
        load(wrong, Settings())
    assert "'scores' of sample 1" in raised.value.message
    assert "0.25" in raised.value.message and "pictures" in raised.value.message
    assert "pipcook-deploy verify" in raised.value.hint


def test_a_cached_choice_is_checked_all_the_same(model, tmp_path):
    inputs = images(5)
    load(with_golden(model, tmp_path / "right", answers(model, inputs), inputs), Settings())
    wrong = with_golden(model, tmp_path / "wrong", one_wrong(model, inputs, 0, 1.0), inputs)
    with pytest.raises(ServerError, match="sample 0"):
        load(wrong, Settings())


def test_the_tolerance_is_the_manifests(model, tmp_path):
    inputs = images(5)
    near = with_golden(model, tmp_path, one_wrong(model, inputs, 1, 0.01), inputs, absolute=0.02)
    load(near, Settings())


def test_agreement_counts_all_samples_if_the_first_do_not_agree(model, tmp_path, monkeypatch):
    """3 of 32 winners may differ; that they are all among the first is no reason to refuse."""
    inputs = images(32)
    recorded = {"scores": answers(model, inputs)["scores"].copy()}
    for sample in range(3):
        row = recorded["scores"][sample]
        row[row.argmin()] = row.max() * 2
    may = with_golden(model, tmp_path / "9", recorded, inputs, agreement=0.9, tie=0)
    load(may, Settings())
    strict = with_golden(model, tmp_path / "95", recorded, inputs, agreement=0.95, tie=0)
    with pytest.raises(ServerError, match=r"agrees on 90\.6%"):
        load(strict, Settings())


def test_a_slow_model_answers_two(model, tmp_path, monkeypatch):
    monkeypatch.setattr(golden_module, "SECONDS", 0.0)
    given = with_golden(model, tmp_path, one_wrong(model, images(8), 2, 1.0), images(8))
    engine = Counting(load(given, Settings()).engine)
    check_golden(engine, given.candidates[0], "m")
    assert engine.sizes == [1, 1]
    nearer = with_golden(model, tmp_path / "b", one_wrong(model, images(8), 1, 1.0), images(8))
    with pytest.raises(ServerError, match="sample 1"):
        load(nearer, Settings())


class Counting:
    def __init__(self, engine):
        self.engine, self.sizes = engine, []
        self.name = engine.name

    def run(self, inputs):
        self.sizes.append(len(next(iter(inputs.values()))))
        return self.engine.run(inputs)


def test_a_fixed_batch_is_filled_up(tmp_path):
    fixed = served(pictures(tmp_path, batch=3, channels=4))
    inputs = images(5)
    recorded = answers(fixed, inputs)
    load(with_golden(fixed, tmp_path / "right", recorded, inputs), Settings())
    recorded["scores"] = recorded["scores"].copy()
    recorded["scores"][4] += 1
    with pytest.raises(ServerError, match="sample 4"):
        load(with_golden(fixed, tmp_path / "wrong", recorded, inputs), Settings())


def test_text_is_compared_as_text(tmp_path):
    model = served(tiny_models.save(
        tmp_path, "text", [("Identity", ("in:x",), ("out:y",), {})],
        [tiny_models.tensor("x", "string", None)], [tiny_models.tensor("y", "string", None)],
    ))  # fmt: skip
    inputs = {"x": np.array(["a", "ü", ""], dtype=object)}
    load(with_golden(model, tmp_path / "right", {"y": inputs["x"]}, inputs), Settings())
    other = {"y": np.array(["a", "u", ""], dtype=object)}
    with pytest.raises(ServerError, match="'u'"):
        load(with_golden(model, tmp_path / "wrong", other, inputs), Settings())


def test_a_missing_output_is_told(model, tmp_path):
    recorded = answers(model, images(2)) | {"more": np.zeros((2, 1), np.float32)}
    with pytest.raises(ServerError, match="'more' is missing"):
        load(with_golden(model, tmp_path, recorded, images(2)), Settings())


def test_an_output_without_a_batch_axis_is_answered_as_it_was_verified(tmp_path):
    """Its sum over all samples is not that of one."""
    total = served(tiny_models.save(
        tmp_path, "total", [("ReduceSum", ("in:x", "axes"), ("out:y",), {"keepdims": 0})],
        [tiny_models.tensor("x", "float32", None, 2)], [tiny_models.tensor("y", "float32", 2)],
        [("axes", np.array([0], np.int64))],
    ))  # fmt: skip
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    load(with_golden(total, tmp_path, {"y": x.sum(axis=0)}, {"x": x}), Settings())
