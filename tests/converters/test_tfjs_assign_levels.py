import pytest

from pipcook_deploy.converters.tfjs.assign_levels import assign
from pipcook_deploy.converters.to_tfjs import TfjsConverter


def row(name: str, *stored: tuple[int | None, float, int]) -> dict:
    entries = [dict(zip(("levels", "damage", "bytes"), one, strict=True)) for one in stored]
    return {"name": name, "stored": entries}


ROWS = [
    row("tough", (None, 0.0, 1000), (64, 0.001, 250), (16, 0.002, 125)),
    row("tender", (None, 0.0, 1000), (64, 0.1, 250), (16, 0.5, 125)),
]


def test_the_cheapest_bytes_are_saved_first() -> None:
    assert assign(ROWS, goal=2000) == {"tough": None, "tender": None}
    assert assign(ROWS, goal=1300) == {"tough": 64, "tender": None}
    assert assign(ROWS, goal=500) == {"tough": 16, "tender": 64}


def test_the_damage_stays_below_the_limit() -> None:
    assert assign(ROWS, limit=0.0015) == {"tough": 64, "tender": None}
    assert assign(ROWS, limit=0.15) == {"tough": 16, "tender": 64}
    assert assign(ROWS, goal=1, limit=0.15) == {"tough": 16, "tender": 64}
    assert assign(ROWS, limit=0.0) == {"tough": None, "tender": None}


def test_without_a_goal_everything_is_as_small_as_it_gets() -> None:
    assert assign(ROWS) == {"tough": 16, "tender": 16}


def test_what_saves_nothing_is_not_chosen() -> None:
    flat = [row("w", (None, 0.0, 100), (64, 0.0, 120), (16, 0.3, 110))]
    assert assign(flat) == {"w": None}


def test_a_step_may_skip_levels() -> None:
    bumpy = [row("w", (None, 0.0, 1000), (64, 0.2, 900), (16, 0.21, 100))]
    assert assign(bumpy, goal=950) == {"w": 16}


def test_an_assignment_becomes_options() -> None:
    made = TfjsConverter().assigned({"a[0]/k*": 16, "b": None})
    stored = {name: str(made.precision_of(name, 2)) for name in ("a[0]/k*", "a0/kk", "b", "c")}
    assert stored == {
        "a[0]/k*": "uint8, 16 levels",
        "a0/kk": "float32",
        "b": "float32",
        "c": "float32",
    }


def test_a_search_tries_the_coarsest_first_and_respects_a_choice() -> None:
    tried = [(c.precision, c.levels) for c in TfjsConverter().candidates()]
    assert tried[0] == ("uint8", 8) and tried[-1] == ("float32", 256)
    assert {p for p, _ in tried} == {"uint8", "float16", "float32"}
    assert TfjsConverter(precision="float16").candidates() == (TfjsConverter(precision="float16"),)
    chosen = TfjsConverter(precision="uint8", levels=5)
    assert chosen.candidates() == (chosen,)
    assert chosen.uncompressed() == TfjsConverter()


@pytest.mark.parametrize("first", ["float32", "uint8"])
def test_parts_are_left_in_float32_whatever_was_said_of_them(first: str) -> None:
    made = TfjsConverter(precision="uint8", weights={"a[0]": first, "*": "uint8"})
    repaired = made.without(["a[0]", "c"])
    assert repaired is not None
    kept = [str(repaired.precision_of(name, 2)) for name in ("a[0]", "b", "c")]
    assert kept == ["float32", "uint8", "float32"]
    assert TfjsConverter().without(["a"]) is None
