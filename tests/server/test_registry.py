"""What is served of what is there: versions, labels, shares, the way back. Plain data, no server."""

import random

import pytest

from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.models import edits
from pipcook_deploy.server.models.registry import Entry, Registry
from pipcook_deploy.server.models.shelf import Sight
from pipcook_deploy.server.models.state import State, durable, read_state, write_state
from pipcook_deploy.server.models.versions import natural


def there(*versions, name="m", edition="a"):
    return Sight({name: dict.fromkeys(versions, edition)})


def serve(*steps, keep="previous"):
    """The state of the model `m` after these edits."""
    state = State()
    for step in steps:
        state = step(state).settled(keep)
    return state.models["m"]


def status_of(*steps):
    with pytest.raises(HttpError) as caught:
        serve(*steps)
    return caught.value.status


def test_versions_are_ordered_as_people_count():
    ordered = ["1", "1.2", "1.10", "2.0-rc1", "2.0-rc2", "2.0", "2.0.1", "9", "10", "20240101"]
    assert sorted(random.sample(ordered, len(ordered)), key=natural) == ordered
    sorted(["v2", "2", "-", "a-b-", "", "1..2", "²", "2-"], key=natural)  # nothing breaks it


def test_the_newest_version_is_current_and_the_one_before_is_kept():
    model = serve(edits.seen(there("9")), edits.seen(there("9", "10")))
    assert (model.current, model.previous, list(model.loaded)) == ("10", "9", ["9", "10"])
    model = serve(edits.seen(there("9", "10")))
    assert list(model.loaded) == ["10"]
    model = serve(edits.seen(there("9")), edits.seen(there("9", "10")), keep="current")
    assert list(model.loaded) == ["10"]
    assert list(serve(edits.seen(there("9", "10", "8")), keep="all").loaded) == ["8", "9", "10"]


def test_settling_twice_changes_nothing():
    state = edits.seen(there("1", "2"))(State()).settled("previous")
    state = edits.label("m", "canary", "1")(state).settled("previous")
    assert state.settled("previous") == state


def test_a_rollback_is_kept_until_the_newest_is_asked_for():
    first, second = edits.seen(there("1")), edits.seen(there("1", "2"))
    model = serve(first, second, edits.rollback("m"))
    assert (model.current, model.previous, model.pinned) == ("1", "2", True)
    third = there("1", "2", "3")
    assert serve(first, second, edits.rollback("m"), edits.seen(third)).current == "1"
    back = edits.load(third, "m", None)
    assert serve(first, second, edits.rollback("m"), edits.seen(third), back).current == "3"
    assert serve(first, second, edits.rollback("m"), edits.rollback("m")).current == "2"
    assert status_of(first, edits.rollback("m")) == 409


def test_stable_is_current_and_goes_back_as_well():
    first, second = edits.seen(there("1")), edits.seen(there("1", "2"))
    stable = edits.label("m", "stable", "1")
    model = serve(first, second, stable)
    assert model.current == "1"
    model = serve(first, second, stable, edits.rollback("m"))
    assert (model.current, model.labels) == ("2", {"stable": "2"})
    assert serve(first, second, stable, edits.label("m", "stable", None)).current == "2"


def test_stable_without_a_label_is_what_serves():
    seen, canary = edits.seen(there("1", "2", "3")), edits.label("m", "canary", "2")
    split = edits.split("m", {"stable": 90, "canary": 10})
    model = serve(seen, canary, split)
    assert (model.shares, model.current) == ({"3": 0.9, "2": 0.1}, "3")
    newer = serve(seen, canary, split, edits.seen(there("1", "2", "3", "4")))
    assert (newer.shares, newer.current) == ({"3": 0.9, "2": 0.1}, "3")
    assert serve(seen, edits.split("m", {"stable": 1, "3": 1})).shares == {"3": 1.0}
    put = serve(seen, canary, edits.label("m", "stable", "1"), split)
    assert put.shares == {"1": 0.9, "2": 0.1}
    entry = Entry("m", {v: Stub(v) for v in "12"}, "2", labels={"canary": "1"})
    assert [entry.labelled(label) for label in ("stable", "canary")] == ["2", "1"]
    entry.labels["stable"] = "1"
    assert entry.labelled("stable") == "1"
    with pytest.raises(HttpError, match="no label 'x'; it has 'canary', 'stable'"):
        entry.labelled("x")


def test_labels_and_shares_keep_versions_loaded():
    seen = edits.seen(there("1", "2", "3"))
    model = serve(seen, edits.label("m", "canary", "1"), edits.split("m", {"canary": 1, "3": 3}))
    assert list(model.loaded) == ["1", "3"]
    assert model.shares == {"1": 0.25, "3": 0.75}
    moved = serve(
        seen,
        edits.label("m", "canary", "1"),
        edits.split("m", {"canary": 1, "3": 3}),
        edits.label("m", "canary", "2"),
    )
    assert moved.shares == {"2": 0.25, "3": 0.75}
    newer = edits.seen(there("1", "2", "3", "4"))
    assert serve(seen, edits.split("m", {"3": 1, "2": 1}), newer).current == "3"
    ended = serve(seen, edits.split("m", {"3": 1, "2": 1}), newer, edits.rollback("m"))
    assert (ended.split, ended.current) == ({}, "3")


def test_mistakes_have_a_status():
    seen = edits.seen(there("1", "2"))
    labelled = edits.label("m", "canary", "1")
    assert status_of(seen, edits.label("m", "canary", "9")) == 404
    assert status_of(seen, edits.label("m", "canary", None)) == 404
    assert status_of(seen, edits.label("m", "1", "2")) == 400
    assert status_of(seen, edits.label("m", "a b", "2")) == 400
    assert status_of(seen, edits.label("x", "canary", "1")) == 404
    assert status_of(seen, edits.split("m", {"9": 1})) == 404
    assert status_of(seen, edits.split("m", {"1": -1, "2": 2})) == 400
    assert status_of(seen, edits.split("m", {"1": 0})) == 400
    assert status_of(seen, edits.split("m", {"1": float("nan")})) == 400
    assert status_of(seen, labelled, edits.unload("m", "1")) == 409
    shared = edits.split("m", {"canary": 1})
    assert status_of(seen, labelled, shared, edits.label("m", "canary", None)) == 409
    assert status_of(seen, edits.unload("m", "7")) == 404
    assert status_of(seen, edits.unload("x", None)) == 404
    assert status_of(seen, edits.load(there("1"), "x", None)) == 404
    assert status_of(seen, edits.load(there("1"), "m", "5")) == 404
    assert status_of(seen, edits.unload("m", None), edits.unload("m", None)) == 404
    assert status_of(edits.seen(Sight(broken={"m": {"1": "half"}})), edits.rollback("m")) == 400


def test_what_was_unloaded_stays_so():
    seen = edits.seen(there("1", "2"))
    off = serve(seen, edits.unload("m", None), edits.seen(there("1", "2", "3")))
    assert (off.loaded, off.current) == ({}, "")
    only = serve(seen, edits.unload("m", None), edits.load(there("1", "2"), "m", "1"))
    assert (list(only.loaded), only.current) == (["1"], "1")
    assert serve(seen, edits.unload("m", "2")).current == "1"
    assert serve(seen, edits.unload("m", "2"), edits.seen(there("1", "2"))).current == "1"
    assert (
        serve(seen, edits.unload("m", "2"), edits.load(there("1", "2"), "m", None)).current == "2"
    )


def test_a_refused_edition_leaves_the_old_one_and_another_is_tried():
    state = edits.seen(there("1", "2"))(State()).settled("previous")
    state = state.refusing({("m", "2", "a"): "wrong answers"}).settled("previous")
    assert state.models["m"].current == "1"
    better = edits.seen(Sight({"m": {"1": "a", "2": "b"}}))(state).settled("previous")
    assert better.models["m"].current == "2"
    replaced = edits.seen(Sight({"m": {"1": "b"}}))(State()).settled("previous")
    replaced = edits.seen(Sight({"m": {"1": "c"}}))(replaced)
    kept = replaced.refusing({("m", "1", "c"): "wrong"}).settled("previous")
    assert kept.models["m"].loaded == {"1": "b"}


def test_versions_that_are_gone_take_their_labels_along():
    seen = edits.seen(there("1", "2"))
    stable, less = edits.label("m", "stable", "2"), edits.seen(there("1"))
    model = serve(seen, stable, less)
    assert (model.current, model.labels) == ("1", {})
    state = edits.seen(there("1"))(State()).settled("previous")
    assert edits.seen(Sight())(state).settled("previous").models == {}


def test_the_state_is_kept_whole_or_not_at_all(tmp_path):
    file = tmp_path / "state.json"
    assert read_state(file) == State()
    state = edits.seen(there("1", "2"))(State()).settled("previous")
    state = edits.label("m", "stable", "1")(state)
    write_state(file, state)
    assert read_state(file) == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    write_state(file, durable(state))
    assert read_state(file).models["m"].labels == {"stable": "1"}
    for damaged in (b"", b"{", b"[]", b'{"models": {"m": {"labels": 1}}}', b'{"x": 1}', b"\xff"):
        file.write_bytes(damaged)
        with pytest.raises(ServerError, match=r"state\.json: is damaged"):
            read_state(file)


class Stub:
    """A model with a name."""

    def __init__(self, version):
        self.name, self.version = "m", version


def test_requests_are_shared_out_by_weight():
    entry = Entry("m", {v: Stub(v) for v in "12"}, current="1", split={"1": 0.9, "2": 0.1})
    picked = [entry.pick().version for _ in range(3000)]
    assert 200 < picked.count("2") < 420
    entry.split = {}
    assert entry.pick().version == "1"


def test_the_default_model_is_the_chosen_one_or_stays_what_it_was():
    state = edits.seen(there("1", name="b"))(State()).settled("previous")
    assert state.default == "b"
    both = Sight({"a": {"1": "a"}, "b": {"1": "a"}})
    state = edits.seen(both)(state).settled("previous")
    assert (list(state.models), state.default) == (["a", "b"], "b")
    assert durable(state).default == "b"
    assert edits.unload("b", None)(state).settled("previous").default == "a"
    chosen = Registry("z")
    chosen.replace({"a": Entry("a", {"1": Stub("1")}, "1")}, "a")
    with pytest.raises(HttpError, match="there is no model 'z'; there is 'a'"):
        chosen.resolve()
