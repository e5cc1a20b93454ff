"""The search against a lab whose measurements are given: what it chooses, and in which order it asks."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import ClassVar

import pytest

from pipcook_deploy.compression.candidates import Build, Judged, Variant
from pipcook_deploy.compression.gate import refusal
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.parts import more_parts
from pipcook_deploy.compression.search import FormatSearch
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import ConversionError, OutputError
from pipcook_deploy.model import Model
from pipcook_deploy.report.entries import IntervalEntry
from pipcook_deploy.spec import ModelSpec

ERROR = 0.001  # standard error of every drop


class Fake(Converter):
    format: ClassVar[str] = "fake"
    accepts: ClassVar[tuple[str, ...]] = ("keras",)
    precision: str = "float32"
    exclude: tuple[str, ...] = ()
    per_channel: bool = False

    def uncompressed(self):
        return Fake()

    def candidates(self):
        if "precision" in self.model_fields_set:
            return (self,)
        return tuple(
            Fake(precision=p) if p != "float32" else Fake() for p in ("int8", "half", "float32")
        )

    def slowness(self):
        return int(self.precision != "int8")

    def without(self, parts):
        return self.model_copy(update={"exclude": tuple(parts)})

    def damage_call(self):
        return "fake:damage"

    def damage_options(self):
        return {"per_channel": self.per_channel}

    def convert(self, model, into):
        raise AssertionError("nothing here calls it")


@dataclass
class FakeLab:
    """`sizes` and `drops` by (variant, precision, number of parts left out)."""

    sizes: dict
    drops: dict  # (selection, verdict)
    damage: dict = field(default_factory=dict)
    models: dict = field(default_factory=dict)  # drop of a variant in float32
    metric: str = "accuracy"
    asked: list = field(default_factory=list)
    data: object = field(
        default_factory=lambda: SimpleNamespace(
            splits={
                "calibration": SimpleNamespace(folder=Path("calibration")),
                "selection": SimpleNamespace(count=5000),
            }
        )
    )

    def source_variant(self):
        return variant("source")

    def build(self, variant, converter):
        what = (variant.key, converter.precision, len(converter.exclude))
        if what not in self.sizes:
            raise ConversionError(f"{what} cannot be written")
        artifact = {
            "format": "fake", "model_format": "fake", "path": "x", "entry": "x", "inputs": [],
            "outputs": [], "precision": converter.precision, "details": {},
        }  # fmt: skip
        files = [{"size": self.sizes[what], "brotli": self.sizes[what]}]
        return Build(f"{what}{converter.exclude}", variant, converter, artifact, (), files)

    def judge(self, build, split, count=None):
        what = (build.variant.key, build.converter.precision, len(build.converter.exclude))
        self.asked.append((*what, split if count is None else f"first {count}"))
        drop = self.drops.get(what, (0.0, 0.0))[split == "verdict"]
        half = 1.96 * ERROR * (1 if count is None else 3)
        interval = IntervalEntry(value=drop, low=drop - half, high=drop + half)
        return Judged(
            split, IntervalEntry(value=0.9 - drop, low=0, high=1), interval, 5000, 9, Path(), "r"
        )

    def judge_model(self, variant, split):
        drop = self.models.get(variant.key, 0.0)
        interval = IntervalEntry(value=drop, low=drop, high=drop)
        return Judged(split, interval, interval, 5000, 9, Path(), "r")

    def worked_out(self, function, arguments, key, *, heavy):
        assert function == "fake:damage"
        self.told = arguments
        return self.damage


def variant(key):
    passes = () if key == "source" else ("prune",)
    return Variant(key, key, Model(Path("m"), "keras", ModelSpec()), passes)


def search(lab, *, converter=None, variants=("source",), deadline=None, **budget):
    converter = converter or Fake()
    return FormatSearch(
        lab,
        converter,
        [variant(key) for key in variants],
        BudgetOptions(**{"max_drop": 0.005, "explore": 0} | budget),
        monotonic() + 1000 if deadline is None else deadline,
        converter.candidates(),
    )


SIZES = {("source", "int8", 0): 25, ("source", "half", 0): 50, ("source", "float32", 0): 100}


def test_the_smallest_that_keeps_the_budget_wins():
    found = search(FakeLab(SIZES, {("source", "int8", 0): (0.002, 0.003)}))
    assert found.run().precision == "int8"
    what = ("source", "int8", 0)
    assert found.lab.asked[:3] == [(*what, "first 500"), (*what, "selection"), (*what, "verdict")]


def test_what_is_far_outside_is_told_by_a_first_look():
    found = search(FakeLab(SIZES, {("source", "int8", 0): (0.3, 0.3)}))
    found.run()
    assert ("source", "int8", 0, "selection") not in found.lab.asked
    assert "first look" in next(t.reason for t in found.trials if t.precision == "int8")
    near = search(FakeLab(SIZES, {("source", "int8", 0): (0.007, 0.007)}))
    near.run()
    assert ("source", "int8", 0, "selection") in near.lab.asked


def test_a_small_split_is_asked_whole_at_once():
    lab = FakeLab(SIZES, {})
    lab.data.splits["selection"].count = 400
    search(lab).run()
    assert not any(row[3].startswith("first") for row in lab.asked)


def test_what_loses_too_much_is_left_for_the_next_larger():
    assert search(FakeLab(SIZES, {("source", "int8", 0): (0.3, 0.3)})).run().precision == "half"


def test_a_standard_error_is_kept_to_spare_on_the_selection_split():
    lab = FakeLab(SIZES, {("source", "int8", 0): (0.0045, 0.0)})
    assert search(lab).run().precision == "half"
    lab = FakeLab(SIZES, {("source", "int8", 0): (0.0039, 0.0)})
    assert search(lab).run().precision == "int8"


def test_the_margin_leaves_most_of_a_small_budget():
    lab = FakeLab(SIZES, {("source", "int8", 0): (0.0006, 0.0)})
    assert search(lab, max_drop=0.001).run().precision == "int8"


def test_the_verdict_split_may_refuse_what_the_selection_split_let_through():
    found = search(FakeLab(SIZES, {("source", "int8", 0): (0.0, 0.006)}))
    assert found.run().precision == "half"
    refused = next(trial for trial in found.trials if trial.precision == "int8")
    assert refused.state == "out of budget"
    assert "verdict" in refused.reason


def test_harmful_parts_go_back_to_float_the_worst_first():
    sizes = SIZES | {("source", "int8", n): 25 + 5 * n for n in (1, 2, 4)}
    drops = {("source", "int8", n): (0.2 / (n + 1), 0.2 / (n + 1)) for n in (0, 1, 2)}
    lab = FakeLab(sizes, drops, damage={"a": 0.1, "b": 3.0, "c": 2.0, "d": 0.2, "e": 0.0})
    winner = search(lab).run()
    assert winner.build.converter.exclude == ("b", "c", "d", "a")
    assert winner.build.wire_size == 45


@pytest.mark.parametrize(
    ("parts", "tried"),
    [
        (0, []),
        (1, []),
        (2, [1]),
        (3, [1, 2]),
        (5, [1, 2, 4]),
        (8, [1, 2, 4, 7]),
        (40, [1, 2, 4, 8, 16, 32, 38, 39]),
    ],
)
def test_more_and_more_parts_go_back_to_float_but_never_all(parts: int, tried: list[int]):
    found, left_out = [], 0
    while (more := more_parts(left_out, parts)) != left_out:
        found.append(more)
        left_out = more
    assert found == tried


def test_damage_is_measured_as_the_candidate_is_written():
    sizes = SIZES | {("source", "int8", 1): 30}
    lab = FakeLab(sizes, {("source", "int8", 0): (0.2, 0.2)}, damage={"a": 1.0, "b": 0.5})
    search(lab).run()
    assert lab.told["per_channel"] is False


def test_a_coarser_scale_than_the_user_asked_for_is_not_repaired():
    sizes = SIZES | {("source", "int8", 1): 30}
    lab = FakeLab(sizes, {("source", "int8", 0): (0.2, 0.2)}, damage={"a": 1.0, "b": 0.5})
    found = search(lab, converter=Fake(per_channel=True))
    found.choices = (Fake(precision="int8"), Fake(precision="half"))
    assert found.run().precision == "half"
    assert ("source", "int8", 1, "selection") not in lab.asked


def test_what_pruning_broke_is_not_repaired_by_precision():
    sizes = SIZES | {("sparse", "int8", n): 10 + n for n in (0, 1, 2)}
    drops = {("sparse", "int8", n): (0.0045, 0.0045) for n in (0, 1, 2)}
    lab = FakeLab(sizes, drops, damage={"a": 1.0, "b": 0.5}, models={"sparse": 0.0044})
    assert search(lab, variants=("sparse", "source")).run().label == "source"
    assert ("sparse", "int8", 1, "selection") not in lab.asked


def test_a_repair_that_is_larger_than_another_candidate_waits_for_it():
    sizes = SIZES | {("source", "int8", 1): 60}
    lab = FakeLab(sizes, {("source", "int8", 0): (0.2, 0.2)}, damage={"a": 1.0, "b": 0.5})
    assert search(lab).run().precision == "half"
    assert ("source", "int8", 1, "selection") not in lab.asked


def test_of_two_of_about_the_same_size_the_faster_one_is_taken():
    sizes = {("source", "int8", 0): 50, ("source", "half", 0): 48, ("source", "float32", 0): 100}
    assert search(FakeLab(sizes, {})).run().precision == "int8"
    sizes[("source", "half", 0)] = 40
    assert search(FakeLab(sizes, {})).run().precision == "half"


def test_the_sparser_variant_wins_when_it_is_smaller():
    sizes = SIZES | {("sparse", p, 0): s // 2 for (_, p, _), s in SIZES.items()}
    found = search(FakeLab(sizes, {}), variants=("sparse", "source"))
    assert found.run().label == "sparse"


def test_float_is_the_last_resort():
    drops = {("source", "int8", 0): (0.3, 0.3), ("source", "half", 0): (0.3, 0.3)}
    assert search(FakeLab(SIZES, drops)).run().precision == "float32"


def test_before_a_refusal_what_has_nothing_to_spare_is_asked_too():
    lab = FakeLab(SIZES, {("source", "int8", 0): (0.0045, 0.004)})
    winner = search(lab, converter=Fake(precision="int8")).run()
    assert winner.precision == "int8"
    assert winner.reason is None
    lab = FakeLab(SIZES, {("source", "int8", 0): (0.0045, 0.006)})
    found = search(lab, converter=Fake(precision="int8"))
    assert found.run() is None
    assert "0.6 points" in refusal(found, has_train=True).message


def test_a_source_is_not_mended_with_floats_where_it_could_be_equalized():
    sizes = SIZES | {("source", "int8", 1): 30}
    lab = FakeLab(sizes, {("source", "int8", 0): (0.2, 0.2)}, damage={"a": 1.0, "b": 0.5})
    found = search(lab)
    equal = replace(variant("equal"), passes=("equalize",))
    found.variants = [equal, *found.variants]
    assert found.run().precision == "half"
    assert ("source", "int8", 1, "selection") not in lab.asked


def test_a_precision_that_the_user_chose_is_not_replaced_by_another():
    lab = FakeLab(SIZES, {("source", "int8", 0): (0.3, 0.3)})
    found = search(lab, converter=Fake(precision="int8"))
    assert found.run() is None
    error = refusal(found, has_train=False)
    assert error.exit_code == 10
    assert "int8" in error.message and "30 points" in error.message
    assert "leave out convert.fake.precision" in error.hint
    assert "max_drop = 0.3020" in error.hint
    assert "train" in error.hint
    graph = refusal(found, has_train=False, has_layers=False)
    assert "Keras file" in graph.hint and "[data] train" not in graph.hint


def test_a_full_disk_is_no_fault_of_a_candidate(monkeypatch):
    def full(*_):
        raise OutputError("the disk is full")

    found = search(FakeLab(SIZES, {}))
    monkeypatch.setattr(found.lab, "judge", full)
    with pytest.raises(OutputError):
        found.run()


def test_what_cannot_be_written_is_no_matter_of_the_budget():
    sizes = {key: size for key, size in SIZES.items() if key[1] != "int8"}
    found = search(FakeLab(sizes, {}), converter=Fake(precision="int8"))
    assert found.run() is None
    error = refusal(found, has_train=False)
    assert error.exit_code == 4
    assert "cannot be written" in error.message and "budget" not in error.message


def test_a_candidate_that_cannot_be_written_is_told_and_passed_over():
    sizes = {key: size for key, size in SIZES.items() if key[1] != "int8"}
    found = search(FakeLab(sizes, {}))
    assert found.run().precision == "half"
    assert [t.state for t in found.trials if t.precision == "int8"] == ["failed"]


def test_a_format_that_cannot_be_written_at_all_is_an_error():
    with pytest.raises(ConversionError, match="cannot be written"):
        search(FakeLab({}, {})).run()


def test_out_of_time_the_source_in_float_is_taken():
    found = search(FakeLab(SIZES, {}), deadline=monotonic() - 1)
    assert found.run().precision == "float32"


def test_more_is_measured_after_the_winner_to_show_what_else_there_is():
    found = search(FakeLab(SIZES, {}), explore=4)
    found.run()
    assert {t.precision: t.state for t in found.trials} == {
        "int8": "winner",
        "half": "in budget",
        "float32": "in budget",
    }


def test_the_goal_latency_asks_for_times():
    found = search(FakeLab(SIZES, {}), goal="latency")
    times = {"int8": 9.0, "half": 3.0, "float32": 5.0}
    found.latency = lambda build: times[build.converter.precision]
    assert found.run().precision == "half"


def test_the_verdict_split_is_asked_a_few_times_only():
    sizes = {(f"v{n}", "int8", 0): n for n in range(20)} | {("source", "float32", 0): 100}
    drops = {(f"v{n}", "int8", 0): (0.0, 0.01) for n in range(20)}
    lab = FakeLab(sizes, drops)
    found = search(lab, variants=[*(f"v{n}" for n in range(20)), "source"])
    assert found.run().precision == "float32"
    assert sum(row[3] == "verdict" for row in lab.asked) == 6  # five, and the source
