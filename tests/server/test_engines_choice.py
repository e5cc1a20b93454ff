"""What the settings leave open is measured once on a machine; the choice is kept, checked, and said."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.server.models import choice_cache, measure
from pipcook_deploy.server.models import load as load_module
from pipcook_deploy.server.models.choose import Choice, Trial, Trials, choose, fastest
from pipcook_deploy.server.models.load import load, plan
from pipcook_deploy.server.models.measure import equal
from pipcook_deploy.server.models.options import Option, possible
from pipcook_deploy.server.served import Candidate
from pipcook_deploy.server.settings import Settings
from tests.server import tiny_models
from tests.server.engine_cases import (
    images,
    pictures,
    served,
    small_pictures,
    small_tflite,
    with_golden,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPCOOK_DEPLOY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served(pictures(tmp_path_factory.mktemp("m")))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return served(tiny_models.colours(tmp_path_factory.mktemp("m")))


def both(model):
    """With a TFLite artifact beside its ONNX one."""
    return replace(model, others=(Candidate(small_tflite()),))


def shapes(groups):
    return [[(o.engine, o.threads, o.streams, o.apart) for o in group] for group in groups]


ORT = "onnxruntime"


@pytest.mark.parametrize(
    ("settings", "cores", "expected"),
    [
        ({}, 2, [(ORT, 2, 1, False), (ORT, 1, 2, False)]),
        ({}, 1, [(ORT, 1, 1, False)]),
        ({}, 8, [(ORT, 8, 1, False), (ORT, 4, 2, False), (ORT, 1, 8, False)]),
        ({"threads": 3}, 8, [(ORT, 3, 1, False), (ORT, 3, 2, False)]),
        ({"streams": 4}, 8, [(ORT, 2, 4, False)]),
        ({"streams": 1}, 8, [(ORT, 8, 1, False), (ORT, 1, 1, False)]),
        ({"threads": 2, "streams": 5}, 8, [(ORT, 2, 5, False)]),
    ],
)
def test_options_are_what_the_settings_leave(model, settings, cores, expected):
    assert shapes(possible(model, Settings(**settings), cores)) == [expected]


def test_litert_is_tried_inside_for_tiny_models_and_apart_for_others(model):
    (group,) = shapes(possible(both(model), Settings(engine="litert"), 2))
    assert group == [("litert", 1, 1, False), ("litert", 2, 1, True), ("litert", 1, 2, True)]


def test_auto_takes_every_installed_engine(model, monkeypatch):
    monkeypatch.setattr("pipcook_deploy.server.models.options.installed", lambda name: True)
    groups = possible(both(model), Settings(engine="auto"), 1)
    assert [group[0].engine for group in groups] == [ORT, "openvino", "litert"]
    monkeypatch.setattr("pipcook_deploy.server.models.options.installed", lambda name: name == ORT)
    assert [g[0].engine for g in possible(both(model), Settings(engine="auto"), 1)] == [ORT]
    monkeypatch.setattr("pipcook_deploy.server.models.options.installed", lambda name: False)
    with pytest.raises(MissingDependencyError, match="onnxruntime or openvino or litert"):
        possible(both(model), Settings(engine="auto"), 1)


def test_an_engine_that_lacks_its_format_is_refused(model):
    with pytest.raises(
        ServerError, match="litert runs tflite artifacts; pictures has onnx"
    ) as raised:
        load(model, Settings(engine="litert"))
    assert "--to tflite" in raised.value.hint


def test_the_default_runs_a_tflite_file_by_what_runs_it(tiny):
    pytest.importorskip("ai_edge_litert")
    only = replace(tiny, artifact=small_tflite())
    assert possible(only, Settings(), 1)[0][0].engine == "litert"


def trial(name, seconds, rate):
    found = Trial(Option(name, "onnx", 1, 1), None, {})
    found.seconds, found.rate = seconds, rate
    return found


def test_more_streams_have_to_gain_a_tenth():
    soon, many = trial("soon", 0.004, 100), trial("many", 0.008, 109)
    assert fastest([soon, many]) is soon
    many.rate = 111
    assert fastest([soon, many]) is many
    assert fastest([many, soon]) is many


def test_the_choice_is_kept_and_not_measured_again(model, home, monkeypatch):
    first = load(model, Settings())
    (file,) = (home / "engines").iterdir()
    assert "ms" in first.chosen and "\n" not in first.chosen
    monkeypatch.setattr(load_module, "choose", None)
    second = load(model, Settings())
    assert second.lane.plan == first.lane.plan and second.chosen == first.chosen
    assert list((home / "engines").iterdir()) == [file]


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"\xff\xff", b"{}", b"[" * 100_000,
        lambda d: d | {"seconds": "soon"},
        lambda d: d | {"batch": "always"},
        lambda d: d | {"option": d["option"] | {"engine": "rm -rf"}},
        lambda d: d | {"option": d["option"] | {"threads": 10**9}},
        lambda d: d | {"option": []},
    ],
)  # fmt: skip
def test_a_damaged_cache_is_ignored_and_written_anew(damage, model, home, monkeypatch):
    load(model, Settings())
    (file,) = (home / "engines").iterdir()
    kept = json.loads(file.read_bytes())
    file.write_bytes(json.dumps(damage(kept)).encode() if callable(damage) else damage)
    assert load(model, Settings()).lane.plan.streams >= 1
    assert Choice.from_json(json.loads(file.read_bytes())).seconds > 0


def test_workers_that_start_together_measure_once(model, monkeypatch):
    """The others wait for what the first one finds out."""
    measured = []
    real = load_module.choose
    monkeypatch.setattr(load_module, "choose", lambda *given: measured.append(1) or real(*given))
    threads = [threading.Thread(target=load, args=(model, Settings())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == 1


def test_other_settings_cpus_and_files_are_measured_anew(model, home, monkeypatch, tmp_path):
    key = choice_cache.cache_key
    options = possible(model, Settings(), 2)
    keys = {key(model, options), key(model, possible(model, Settings(), 4))}
    keys.add(key(replace(model, digest="other"), options))
    monkeypatch.setattr(choice_cache, "cpu_name", lambda: "another CPU")
    keys.add(key(model, options))
    monkeypatch.setattr(choice_cache, "version", lambda name: "99")
    keys.add(key(model, options))
    assert len(keys) == 5


def test_a_place_that_cannot_be_written_is_measured_at_each_start(model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PIPCOOK_DEPLOY_HOME", str(tmp_path / "file"))
    assert load(model, Settings()).chosen

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.delenv("PIPCOOK_DEPLOY_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert load(model, Settings()).chosen


def test_a_tiny_model_runs_in_the_loop_on_one_thread(tiny):
    loaded = load(tiny, Settings())
    assert loaded.engine.threads == 1
    assert loaded.lane.plan.streams == 1 and loaded.lane.plan.inline_elements >= 48


def test_auto_says_what_it_chose_and_what_it_tried(model):
    pytest.importorskip("openvino")
    loaded = load(model, Settings(engine="auto"))
    assert loaded.chosen.startswith(loaded.engine.name)
    assert "onnxruntime" in loaded.chosen and "openvino" in loaded.chosen
    assert load(model, Settings(engine="auto")).engine.name == loaded.engine.name


def test_auto_leaves_out_what_answers_otherwise(model, tmp_path):
    """The TFLite file beside it is another model; its golden samples say so."""
    pytest.importorskip("ai_edge_litert")
    inputs = small_pictures(2)
    wrong = with_golden(
        replace(model, artifact=small_tflite()), tmp_path, {"scores": np.ones((2, 3))}, inputs
    ).candidates[0]
    loaded = load(replace(model, others=(wrong,)), Settings(engine="auto"))
    assert loaded.engine.name != "litert"
    assert "litert: pictures: litert answers the golden samples" in loaded.chosen


def test_options_that_answer_with_other_bits_are_left_out(model, monkeypatch):
    calls = []

    class Odd:
        name, concurrent, threads = "odd", True, 1

        def __init__(self, bits):
            self.bits = bits

        def run(self, inputs):
            calls.append(self.bits)
            return {"scores": np.full((1, 10), self.bits, np.float32)}

    real = Option.open
    monkeypatch.setattr(
        Option, "open", lambda self, served: (Odd(self.streams), real(self, served)[1])
    )
    trials = Trials(model, 1)
    trials.try_engine(possible(model, Settings(), 2)[0], float("inf"))
    assert [t.option.streams for t in trials.done] == [1]
    assert "other bits" in trials.refused[0] and 2 in calls


def test_a_model_that_no_sample_fits_is_served_without_measuring(tmp_path, home):
    """Its table is empty: every index is refused."""
    model = served(tiny_models.save(
        tmp_path, "gather", [("Gather", ("table", "in:x"), ("out:y",), {})],
        [tiny_models.tensor("x", "int64", None)], [tiny_models.tensor("y", "float32", None)],
        [("table", np.zeros(0, np.float32))],
    ))  # fmt: skip
    loaded = load(model, Settings())
    assert "no samples" in loaded.chosen and loaded.lane.plan.inline_elements == 0
    assert not list(home.glob("engines/*"))


@pytest.mark.parametrize(
    ("batching", "gain", "most"),
    [
        ("auto", "pays", 16), ("auto", "changes bits", 1), ("auto", "little", 1),
        ("on", "changes bits", 16), ("on", "not tried", 16), ("on", "impossible", 1),
        ("off", "pays", 1),
    ],
)  # fmt: skip
def test_batches_are_computed_where_they_pay_and_change_nothing(batching, gain, most):
    choice = Choice(Option(ORT, "onnx", 2, 1), 0.01, 100, gain)
    assert plan(choice, Settings(batching=batching)).max_batch == most
    assert plan(choice, Settings(batching=batching, max_batch=4)).max_batch == min(most, 4)
    many = 64 if batching == "on" and most > 1 else most
    assert plan(choice, Settings(batching=batching, max_batch=64)).max_batch == many


class Batching:
    """An engine whose batches of one size differ in the last bit."""

    name, concurrent, threads = "batching", True, 1

    def __init__(self, changes=0):
        self.changes = changes

    def run(self, inputs):
        scores = np.ones((len(inputs["image"]), 10), np.float32)
        if len(scores) == self.changes:
            scores = np.nextafter(scores, 2)
        return {"scores": scores}


@pytest.fixture
def gain(model, monkeypatch):
    """Of an engine that takes `batch` seconds for eight samples and `seconds` for one."""

    def measured(seconds, batch, changes=0, candidate=model.candidates[0]):
        monkeypatch.setattr(measure, "perf_counter", lambda: 0.0)
        monkeypatch.setattr(measure, "alone", lambda *_: batch)
        return measure.batch_gain(Batching(changes), candidate, seconds)

    return measured


def test_a_batch_that_changes_the_last_bit_does_not_pay(gain):
    assert gain(0.002, 0.004) == "pays"
    for size in (2, 8, 16):
        assert gain(0.002, 0.004, changes=size) == "changes bits"
    assert gain(0.00005, 0.0001) == "pays"
    for size in range(2, 17):
        assert gain(0.00005, 0.0001, changes=size) == "changes bits"


def test_a_batch_has_to_spare_more_than_it_costs(gain):
    assert gain(0.002, 8 * 0.0015) == "little"
    assert gain(0.0004, 8 * 0.00025) == "little"  # less than the way to another thread
    assert gain(0.0002, 8 * 0.0001) == "pays"  # in the event loop there is no way
    assert gain(5.0, 1.0) == "not tried"


def test_a_fixed_batch_is_not_joined(gain, model):
    fixed = replace(model.artifact.inputs[0], shape=(1, 24, 24, 3))
    candidate = Candidate(replace(model.artifact, inputs=(fixed,)))
    assert gain(0.002, 0.004, candidate=candidate) == "impossible"


def test_bits_are_compared_not_values():
    assert equal({"y": np.array([np.nan])}, {"y": np.array([np.nan])})
    assert not equal({"y": np.array([0.0])}, {"y": np.array([-0.0])})
    assert not equal({"y": np.zeros(2)}, {"y": np.zeros((2, 1))})
    assert equal({"y": np.array(["a"], object)}, {"y": np.array(["a"], object)})


def test_choose_raises_what_made_the_only_engine_unfit(tmp_path, model):
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"\x08\x09")
    bad = replace(model, artifact=replace(model.artifact, path=tmp_path))
    with pytest.raises(ServerError, match=r"model\.onnx"):
        choose(bad, possible(bad, Settings(), 1))


def test_images_of_the_cases_are_alike():
    np.testing.assert_array_equal(images(2)["image"][:1], images(1)["image"])
