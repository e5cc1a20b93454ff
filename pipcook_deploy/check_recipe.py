"""What a recipe would do, and what is missing for it, without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipcook_deploy import plugins
from pipcook_deploy.api import opened, with_recipe
from pipcook_deploy.compression.budget_check import check_by_count, check_metric
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.compression.workshop import require_layers
from pipcook_deploy.converter import Converter
from pipcook_deploy.data.prepare import check_data
from pipcook_deploy.errors import MissingDependencyError, UsageError
from pipcook_deploy.metrics import default_metric, metric_called
from pipcook_deploy.model import Model
from pipcook_deploy.planner import Step, describe_plan, needs_tensorflow, plan
from pipcook_deploy.recipe import Recipe
from pipcook_deploy.samples import check_preprocessing


@dataclass(frozen=True)
class RecipeCheck:
    """The chains a recipe would run, and what this machine lacks for them."""

    chains: list[str]
    missing: list[str]


def check_recipe(recipe: Recipe) -> RecipeCheck:
    """Load the source, describe it as the recipe does, plan the chains, look for what they need.

    Raises what a run would: `SourceError`, `UnsupportedConversionError`, `UsageError`.
    """
    source = recipe.model
    paths = [("[model] labels", source.labels), ("[samples] path", recipe.samples.path)]
    if recipe.data is not None:
        paths += [(f"[data] {name}", value) for name, value in recipe.data]
    paths += [
        (f"[convert.{converter.format}] {name}", value)
        for converter in recipe.convert.values()
        for name, value in converter
    ]
    mistakes = [
        f"{key}: {path} does not exist"
        for key, path in paths
        if isinstance(path, Path) and not path.exists()
    ]
    if mistakes:
        if not source.source.exists():
            mistakes.insert(0, f"[model] source: {source.source} does not exist")
        raise UsageError("\n".join(mistakes), "paths start at the recipe's folder")
    installed = [plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)]
    with opened(
        source.source, trust_source=source.trust_source, signature=source.signature
    ) as model:
        model = with_recipe(model, source)
        check_preprocessing(model.spec)
        steps = plan(model.format, tuple(recipe.convert.values()), installed, model.details)
        if recipe.compression is not None:
            _check_compression(model, recipe.compression, installed)
        missing = _missing(model.format, steps) + _missing_for_compression(recipe)
        return RecipeCheck(describe_plan(model.format, steps), missing)


def _check_compression(
    model: Model, asked: CompressionRequest, installed: Sequence[type[Converter]]
) -> None:
    """What can be told before samples are read."""
    if asked.passes:
        require_layers(model, installed)
    kind, verdict = check_data(model.spec, asked.data)
    if asked.budget is None:
        return
    likely = np.zeros(0, np.int64 if kind == "class" else np.float32)
    name = asked.budget.metric or default_metric(model.spec, likely)
    check_metric(name, asked.budget, kind)
    check_by_count(metric_called(name), asked.budget, verdict)


def _missing(source_format: str, steps: dict[str, Step]) -> list[str]:
    formats = {source_format, *(step.converter.writes() for step in steps.values())}
    found = []
    if needs_tensorflow(source_format, steps) and find_spec("tensorflow") is None:
        found.append("tensorflow (run: pip install 'pipcook-deploy[tensorflow]')")
    if "tflite" in formats and find_spec("ai_edge_litert") is None:
        found.append("ai-edge-litert (run: pip install 'pipcook-deploy[tensorflow]')")
    if any(name.startswith("tfjs") for name in formats):
        found += _missing_node()
    return found


def _missing_for_compression(recipe: Recipe) -> list[str]:
    if recipe.compression is None:
        return []
    extra = "run: pip install 'pipcook-deploy[tensorflow,compress]'"
    modules = {"jinja2": "jinja2", "matplotlib": "matplotlib"}
    if "tflite" in recipe.convert:
        modules["ai_edge_quantizer"] = "ai-edge-quantizer"
    return [f"{name} ({extra})" for module, name in modules.items() if find_spec(module) is None]


def _missing_node() -> list[str]:
    from pipcook_deploy.tools import find_node, node_packages

    try:
        find_node()
        node_packages()
    except MissingDependencyError as error:
        return [f"{error.message} ({error.hint})"]
    return []
