"""Which models a search makes of the source, in a lab whose measurements are given."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipcook_deploy.compression.candidates import Judged, Variant
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.compression.variants import make_variants
from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.model import Model
from pipcook_deploy.report.entries import IntervalEntry
from pipcook_deploy.spec import ModelSpec

ROWS = [
    {"name": "dense/kernel", "parameters": 100, "care": None, "damage": {"prune": [[0.5, 0.1]]}}
]


class FakeLab:
    """Loses `drops[sparsity]`; `uneven` is what the pass equalize finds."""

    def __init__(self, drops, format="keras", uneven=1.0, train=True):
        self.source = Model(Path("m.keras"), format, ModelSpec())
        self.drops, self.uneven = drops, uneven
        splits = ["calibration", "selection", "verdict", *(["train"] if train else [])]
        self.data = SimpleNamespace(
            splits={n: SimpleNamespace(to_json=lambda n=n: {"name": n}, count=640) for n in splits}
        )
        self.rungs, self.installed = [], ()

    def source_variant(self):
        return Variant("source", "source", self.source)

    def trainable(self):
        return self.source if self.source.format == "keras" else None

    def apply(self, model_pass, before, train):
        if isinstance(self.uneven, Exception):
            raise self.uneven
        passes = (*before.passes, model_pass.name)
        return Variant(
            "+".join(passes), ", ".join(passes), before.model, passes, None, {"uneven": self.uneven}
        )

    def worked_out(self, function, arguments, key, *, heavy):
        return ROWS

    def made_by(self, function, arguments, key):
        (sparsity,) = arguments["sparsity"].values()
        self.epochs = arguments["epochs"]
        self.rungs.append(
            (round(sparsity, 3), arguments["model"]["path"], arguments["train"] is not None)
        )
        model = Model(Path(f"rung-{sparsity:.3f}"), "keras", ModelSpec())
        return PassResult(model, {"sparsity": round(sparsity, 3)})

    def judge_model(self, variant, split):
        assert split == "selection"
        drop = self.drops[variant.sparsity]
        interval = IntervalEntry(value=drop, low=drop, high=drop)
        return Judged(split, interval, interval, 100, 0, Path(), "r")


def made(lab, deadline=1e12, **budget):
    shown = []

    def step(name, run):
        shown.append(name)
        return run()

    options = BudgetOptions(**{"max_drop": 0.005, "sparsities": (0.5, 0.7, 0.9)} | budget)
    return make_variants(lab, CompressionRequest(DataOptions(), options), deadline, step), shown


def test_it_climbs_until_the_budget_is_spent_and_tries_halfway_to_what_was_too_much():
    lab = FakeLab({0.5: 0.0, 0.7: 0.001, 0.9: 0.02, 0.8: 0.004})
    found, _ = made(lab)
    assert [v.label for v in found.found] == [
        "prune 80% + fine-tuning", "prune 70% + fine-tuning", "prune 50% + fine-tuning", "source"
    ]  # fmt: skip
    assert [rung[0] for rung in lab.rungs] == [0.5, 0.7, 0.9, 0.8]
    assert [trial.state for trial in found.trials] == [
        *["in budget"] * 2,
        "out of budget",
        "in budget",
    ]


def test_each_rung_goes_on_from_the_last_that_was_good():
    lab = FakeLab({0.5: 0.0, 0.7: 0.001, 0.9: 0.02, 0.8: 0.03})
    made(lab)
    assert [rung[1] for rung in lab.rungs] == ["m.keras", "rung-0.500", "rung-0.700", "rung-0.700"]


def test_what_cannot_even_bear_the_first_rung_is_tried_with_half_of_it():
    found, _ = made(FakeLab({0.5: 0.1, 0.25: 0.001}))
    assert [v.sparsity for v in found.found] == [0.25, None]


def test_without_training_data_nothing_is_trained():
    lab = FakeLab({0.5: 0.1, 0.25: 0.001}, train=False)
    found, _ = made(lab)
    assert not any(rung[2] for rung in lab.rungs)
    assert found.found[0].label == "prune 25%"


def test_a_small_training_set_is_gone_through_more_often():
    lab = FakeLab({0.5: 0.0, 0.7: 0.0, 0.9: 0.0})
    made(lab, epochs=2, batch=64)
    assert lab.epochs == 30  # 300 steps
    made(lab, epochs=40, batch=64)
    assert lab.epochs == 40


def test_uneven_channels_are_evened_out_first_and_pruned_from_there():
    lab = FakeLab({0.5: 0.0, 0.7: 0.0, 0.9: 0.0}, uneven=32.0)
    found, shown = made(lab)
    assert [v.passes for v in found.found] == [*[("equalize", "prune")] * 3, ("equalize",), ()]
    assert any("32 times" in note for note in found.notes)
    assert shown.index("pass equalize") < shown.index("sensitivity of each layer")


def test_a_model_that_cannot_be_equalized_is_pruned_as_it_is():
    lab = FakeLab({0.5: 0.0, 0.7: 0.0, 0.9: 0.0}, uneven=CompressionError("a class of its own"))
    found, _ = made(lab)
    assert found.found[0].passes == ("prune",)
    assert "not equalized: a class of its own" in found.notes


def test_for_latency_nothing_is_pruned_and_that_is_said():
    lab = FakeLab({}, uneven=1.0)
    found, _ = made(lab, goal="latency")
    assert lab.rungs == []
    assert any("no runtime here answers faster for zeros" in note for note in found.notes)


def test_a_source_without_layers_is_left_as_it_is():
    found, shown = made(FakeLab({}, format="onnx"))
    assert [v.key for v in found.found] == ["source"]
    assert "onnx models have no layers" in found.notes[0]
    assert shown == []


def test_passes_of_ones_own_need_layers():
    lab = FakeLab({}, format="saved_model")
    request = CompressionRequest(DataOptions(), None, (SimpleNamespace(name="prune"),))
    with pytest.raises(CompressionError, match="saved_model models cannot be changed by passes"):
        make_variants(lab, request, 1e12, lambda name, run: run())


def test_out_of_time_it_stops_climbing():
    found, _ = made(FakeLab({}), deadline=0.0)
    assert [v.key for v in found.found] == ["source"]
    assert "time left" in found.notes[-1]
