"""Candidates of the TF.js converter with a number of levels for each weight."""

from pipcook_deploy.converters.tfjs.assign_levels import assign
from pipcook_deploy.converters.to_tfjs import TfjsConverter

LEVELS = (4, 8, 16, 32, 64, 128, 256)


def row(name, harm, parameters=1000):
    """A weight whose damage falls with the square of the levels, `harm` at 8 of them."""
    stored = [{"levels": None, "damage": 0.0, "bytes": 4 * parameters}]
    for bits, levels in reversed([*enumerate(LEVELS, 2)]):
        stored.append(
            {"levels": levels, "damage": harm * (8 / levels) ** 2, "bytes": parameters * bits // 8}
        )
    return {
        "name": name,
        "kind": "Conv2D",
        "shape": [1],
        "parameters": parameters,
        "stored": stored,
    }


ROWS = [row("sturdy", 0.001), row("middling", 0.1), row("frail*[0]", 10.0)]


def test_bytes_go_where_they_do_the_most_good():
    for candidate, levels in zip(TfjsConverter().mixed(ROWS), (8, 16, 32), strict=True):
        chosen = {row["name"]: candidate.precision_of(row["name"], 2) for row in ROWS}
        assert {storage.precision for storage in chosen.values()} == {"uint8"}
        spent = sum(_at(row, chosen[row["name"]].levels)["bytes"] for row in ROWS)
        even = sum(_at(row, levels)["bytes"] for row in ROWS)
        assert spent <= even
        assert _damage(chosen) < sum(_at(row, levels)["damage"] for row in ROWS)
        assert chosen["frail*[0]"].levels > levels > chosen["sturdy"].levels


def test_a_chosen_precision_is_not_mixed_with_others():
    assert TfjsConverter(precision="uint8").mixed(ROWS) == ()
    assert TfjsConverter().mixed([]) == ()


def test_only_graphs_have_parts_to_try():
    assert TfjsConverter().parts_call() is not None
    assert TfjsConverter(kind="layers").parts_call() is None


def test_a_limit_on_damage_is_kept():
    levels = assign(ROWS, limit=0.05)
    spent = sum(
        0 if k is None else _at(row, k)["damage"]
        for row, k in zip(ROWS, levels.values(), strict=True)
    )
    assert spent <= 0.05


def _at(row, levels):
    return next(entry for entry in row["stored"] if entry["levels"] == levels)


def _damage(chosen):
    return sum(_at(row, chosen[row["name"]].levels)["damage"] for row in ROWS)
