"""A compression as Python asks for it, and as the manifest records it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.compression.model_pass import ModelPass
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.errors import UsageError
from pipcook_deploy.options import Options
from pipcook_deploy.recipe import make_options, make_passes


def make_request(
    data: DataOptions | Mapping[str, Any] | None,
    budget: BudgetOptions | Mapping[str, Any] | None,
    passes: Sequence[ModelPass | Mapping[str, Any]],
    bench: BenchOptions | Mapping[str, Any] | None,
) -> CompressionRequest | None:
    """What `deploy()` is given, checked; None without data.

    Raises `RecipeError` for options that do not exist, `UsageError` for what needs data and has none.
    """
    if data is None:
        if budget is not None or passes or bench is not None:
            raise UsageError(
                "a budget, passes and a bench need data", 'give data={"evaluation": FOLDER}'
            )
        return None
    given: dict[str, Any] = {}
    if not isinstance(data, DataOptions | Mapping):
        raise UsageError(
            f"data: a {type(data).__name__} is given; it takes a table",
            'say what the samples are for: data={"evaluation": ...}',
        )
    if isinstance(data, Mapping):
        given = {
            role: data[role]
            for role in ("evaluation", "train", "calibration")
            if role in data and not isinstance(data[role], str | Path)
        }
        data = {key: value for key, value in data.items() if key not in given}
    return CompressionRequest(
        data=make_options(DataOptions, data, "data"),
        budget=None if budget is None else make_options(BudgetOptions, budget, "budget"),
        passes=tuple(p if isinstance(p, ModelPass) else make_passes([p])[0] for p in passes),
        bench=BenchOptions() if bench is None else make_options(BenchOptions, bench, "bench"),
        given=given,
    )


def record(compression: CompressionRequest | None) -> dict[str, Any]:
    """The options of a compression, and no path of this machine."""
    if compression is None:
        return {}
    data, budget = compression.data, compression.budget
    return {
        "data": portable(data.model_dump(mode="json"), data),
        "budget": None if budget is None else budget.model_dump(mode="json"),
        "compress": [{"pass": p.name} | p.model_dump(mode="json") for p in compression.passes],
        "bench": compression.bench.model_dump(mode="json"),
    }


def portable(options: dict[str, Any], made: Options) -> dict[str, Any]:
    """Options as data, paths by their names only."""
    return {
        name: value.name if isinstance(value := getattr(made, name), Path) else options[name]
        for name in options
    }
