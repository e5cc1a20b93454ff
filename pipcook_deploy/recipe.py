"""The recipe, `deploy.toml`: tables named by plugin, every mistake reported at once."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from pipcook_deploy import plugins
from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.compare import Tolerance
from pipcook_deploy.compression.model_pass import ModelPass
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.converter import Converter
from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.errors import RecipeError
from pipcook_deploy.options import Options
from pipcook_deploy.preprocess.operations import Operation
from pipcook_deploy.recipe_mistakes import validated
from pipcook_deploy.samples import SampleOptions
from pipcook_deploy.spec import Task
from pipcook_deploy.target import Target
from pipcook_deploy.text import did_you_mean


class ModelOptions(Options):
    """`[model]`: the source, and what it does not say about itself."""

    source: Path = Field(description="Model file or folder, Pipcook workspace or zip.")
    name: str | None = Field(
        default=None, min_length=1, description="Name; the source's own if not given."
    )
    version: str | None = Field(default=None, min_length=1)
    task: Task | None = None
    labels: tuple[str, ...] | Path | None = Field(
        default=None, description="Class names in the order of the scores, or a file, one a line."
    )
    preprocessing: tuple[Operation, ...] | dict[str, tuple[Operation, ...]] | None = None
    license: str | None = None
    description: str | None = None
    metrics: dict[str, float] | None = None
    signature: str | None = Field(default=None, description="Signature of a SavedModel.")
    trust_source: bool = Field(default=False, description="Allow code inside the model to run.")


class BundleOptions(Options):
    """`[bundle]`: where the bundle goes."""

    out: Path = Path("bundle")
    jobs: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1, le=64)


class Recipe(Options):
    """A whole recipe, checked. Paths are absolute."""

    model: ModelOptions
    samples: SampleOptions = SampleOptions()
    bundle: BundleOptions = BundleOptions()
    convert: dict[str, Converter] = Field(default_factory=dict)
    verify: dict[str, Tolerance] = Field(default_factory=dict)
    target: dict[str, Target] = Field(default_factory=dict)
    data: DataOptions | None = None
    budget: BudgetOptions | None = None
    compress: tuple[ModelPass, ...] = ()
    bench: BenchOptions = BenchOptions()

    @property
    def compression(self) -> CompressionRequest | None:
        """What `[data]`, `[budget]`, `[[compress]]` and `[bench]` ask for together."""
        if self.data is None:
            return None
        return CompressionRequest(self.data, self.budget, self.compress, self.bench)


AnyOptions = TypeVar("AnyOptions", bound=Options)

LIST_OPTIONS = "run: pipcook-deploy plugins"
TABLES: dict[str, type[Options]] = {
    "model": ModelOptions,
    "samples": SampleOptions,
    "bundle": BundleOptions,
    "data": DataOptions,
    "budget": BudgetOptions,
    "bench": BenchOptions,
}
OTHER_TABLES = ("convert", "verify", "target", "compress")


def read_recipe(path: Path, settings: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe; `settings` are `--set` values such as "onnx.opset=17".

    Raises `RecipeError` with every mistake as `file: table: key: message`.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError([f"{path}: does not exist"], "run: pipcook-deploy init MODEL") from None
    except RecursionError:
        raise RecipeError([f"{path}: is nested too deep"]) from None
    except UnicodeDecodeError:
        raise RecipeError(
            [f"{path}: is not a recipe (not text)"], "a model's: pipcook-deploy init MODEL"
        ) from None
    except (OSError, ValueError) as error:  # of the disk, of TOML, of a number's length
        raise RecipeError([f"{path}: {error}"]) from None
    mistakes: list[str] = []
    _apply_settings(data, settings, mistakes)
    recipe = _check(data, str(path), mistakes)
    if recipe is None or mistakes:
        raise RecipeError(mistakes, LIST_OPTIONS)
    return _anchored(recipe, path.absolute().parent)


def make_converters(
    formats: tuple[str, ...], options: Mapping[str, Mapping[str, Any]], where: str = "options"
) -> tuple[Converter, ...]:
    """Converters by name with their options; raises `RecipeError` with every mistake."""
    mistakes: list[str] = []
    tables: dict[str, Any] = {name: dict(options.get(name, {})) for name in formats}
    unused = [name for name in options if name not in formats]
    mistakes += [f"{where}: {name}: is not among the formats to convert to" for name in unused]
    converters = _plugins(tables, "convert", where, mistakes)
    if mistakes:
        raise RecipeError(mistakes, LIST_OPTIONS)
    return tuple(converters.values())


def make_options(
    kind: type[AnyOptions], options: AnyOptions | Mapping[str, Any], where: str
) -> AnyOptions:
    """The options of a table; raises `RecipeError` with every mistake."""
    if isinstance(options, kind):
        return options
    mistakes: list[str] = []
    plain = dict(options) if isinstance(options, Mapping) else options
    made: AnyOptions = validated(kind, plain, where, mistakes)
    if mistakes:
        raise RecipeError(mistakes, LIST_OPTIONS)
    return made


def make_tolerances(
    tables: Mapping[str, Tolerance | Mapping[str, Any]], formats: tuple[str, ...]
) -> dict[str, Tolerance]:
    """Tolerances by format; raises `RecipeError` with every mistake."""
    mistakes = [
        f"verify: {name}: is not converted to{did_you_mean(name, formats)}"
        for name in tables
        if name not in formats
    ]
    made = {
        name: validated(Tolerance, table, f"verify.{name}", mistakes)
        for name, table in tables.items()
    }
    if mistakes:
        raise RecipeError(mistakes, LIST_OPTIONS)
    return made


def parse_settings(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """`("onnx.opset=17",)` -> {"onnx": {"opset": 17}}."""
    data: dict[str, Any] = {}
    mistakes: list[str] = []
    for setting in settings:
        key, _, value = setting.partition("=")
        _set(data, key, value, mistakes)
    if mistakes:
        raise RecipeError(mistakes, LIST_OPTIONS)
    return data


def _apply_settings(data: dict[str, Any], settings: tuple[str, ...], mistakes: list[str]) -> None:
    for setting in settings:
        key, _, value = setting.partition("=")
        if not isinstance(data.get("convert", {}), dict):
            return  # said by the check of the table
        top = key.split(".")[0] in (*TABLES, *OTHER_TABLES)
        # A plugin may be named without its group: onnx.opset is convert.onnx.opset.
        _set(data if top else data.setdefault("convert", {}), key, value, mistakes)


def _set(data: dict[str, Any], key: str, value: str, mistakes: list[str]) -> None:
    *tables, last = key.split(".")
    if not tables or not all([*tables, last]) or not value:
        mistakes.append(f"--set {key}: is not TABLE.KEY=VALUE")
        return
    for name in tables:
        inner: object = data.setdefault(name, {})
        if not isinstance(inner, dict):
            mistakes.append(f"--set {key}: {name} is not a table")
            return
        data = inner
    try:
        data[last] = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        data[last] = value  # a bare word is a string


def _check(data: dict[str, Any], file: str, mistakes: list[str]) -> Recipe | None:
    known = [*TABLES, *OTHER_TABLES]
    for name in data:
        if name not in known:
            mistakes.append(f"{file}: {name}: is not a table{did_you_mean(name, known)}")
    if "model" not in data:
        mistakes.append(f"{file}: model: the table is missing; it needs at least a source")
    parts: dict[str, Any] = {}
    for name, kind in TABLES.items():
        if name in data:
            parts[name] = validated(kind, data[name], f"{file}: {name}", mistakes)
    convert = data.get("convert", {})
    verify = data.get("verify", {})
    if not isinstance(verify, dict):
        mistakes.append(f"{file}: verify: is not a table")
        verify = {}
    if not convert:
        mistakes.append(f"{file}: convert: no format is asked for; add [convert.onnx] or another")
    parts["convert"] = _plugins(convert, "convert", f"{file}: convert", mistakes)
    parts["compress"] = _passes(data.get("compress", []), f"{file}: compress", mistakes)
    mistakes += _without_data(data, file)
    parts["target"] = _plugins(data.get("target", {}), "target", f"{file}: target", mistakes)
    parts["verify"] = {
        name: validated(Tolerance, table, f"{file}: verify.{name}", mistakes)
        for name, table in verify.items()
    }
    for name in parts["verify"]:
        if isinstance(convert, dict) and name not in convert:
            mistakes.append(
                f"{file}: verify: {name}: is not converted to{did_you_mean(name, convert)}"
            )
    return None if mistakes else Recipe.model_construct(**_with_defaults(parts))


def _with_defaults(parts: dict[str, Any]) -> dict[str, Any]:
    return {"samples": SampleOptions(), "bundle": BundleOptions()} | parts


def _plugins(tables: Any, kind: str, where: str, mistakes: list[str]) -> dict[str, Any]:
    group = plugins.CONVERTERS if kind == "convert" else plugins.TARGETS
    known = _artifact_formats() if kind == "convert" else plugins.names(group)
    made: dict[str, Any] = {}
    if not isinstance(tables, dict):
        mistakes.append(f"{where}: is not a table")
        return made
    for name, table in tables.items():
        if name not in known:
            mistakes.append(
                f"{where}: {name}: is not known{did_you_mean(name, known)}; there are {', '.join(known)}"
            )
            continue
        plugin: Any = plugins.converter(name) if kind == "convert" else plugins.target(name)
        made[name] = validated(plugin, table, f"{where}.{name}", mistakes)
    return made


def make_passes(
    tables: Sequence[Mapping[str, Any]], where: str = "passes"
) -> tuple[ModelPass, ...]:
    """Passes by name with their options, in order; raises `RecipeError` with every mistake."""
    mistakes: list[str] = []
    rows = [dict(row) if isinstance(row, Mapping) else row for row in tables]
    made = _passes(rows, where, mistakes)
    if mistakes:
        raise RecipeError(mistakes, LIST_OPTIONS)
    return made


def _passes(tables: Any, where: str, mistakes: list[str]) -> tuple[ModelPass, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        mistakes.append(f'{where}: is not a list of tables; write [[compress]] pass = "prune"')
        return ()
    known, made = plugins.names(plugins.PASSES), []
    for number, table in enumerate(tables, 1):
        name = table.get("pass")
        if name not in known:
            near = did_you_mean(str(name), known)
            mistakes.append(
                f"{where}: {number}: pass {name!r} is not known{near}; there are {', '.join(known)}"
            )
            continue
        options = {key: value for key, value in table.items() if key != "pass"}
        kind = plugins.model_pass(name)
        made.append(validated(kind, options, f"{where}: {number} ({name})", mistakes))
    return tuple(made)


def _without_data(data: dict[str, Any], file: str) -> list[str]:
    asked = [name for name in ("budget", "compress", "bench") if name in data]
    if "data" in data or not asked:
        return []
    return [f'{file}: data: the table is missing; [{asked[0]}] needs it: evaluation = "FOLDER"']


def _artifact_formats() -> list[str]:
    names = plugins.names(plugins.CONVERTERS)
    return [name for name in names if not plugins.converter(name).intermediate]


def _anchored(recipe: Recipe, folder: Path) -> Recipe:
    """Relative paths count from the recipe's folder, not from where the command runs."""
    model = recipe.model
    changes: dict[str, Any] = {"source": folder / model.source}
    if isinstance(model.labels, Path):
        changes["labels"] = folder / model.labels
    samples = recipe.samples
    if samples.path is not None:
        samples = samples.model_copy(update={"path": folder / samples.path})
    convert = {name: _anchored_plugin(plugin, folder) for name, plugin in recipe.convert.items()}
    data = recipe.data if recipe.data is None else _anchored_plugin(recipe.data, folder)
    return recipe.model_copy(
        update={
            "data": data,
            "model": model.model_copy(update=changes),
            "samples": samples,
            "bundle": recipe.bundle.model_copy(
                update={"out": Path(os.path.normpath(folder / recipe.bundle.out))}
            ),
            "convert": convert,
        }
    )


def _anchored_plugin(plugin: AnyOptions, folder: Path) -> AnyOptions:
    paths = {name: value for name, value in plugin if isinstance(value, Path)}
    return plugin.model_copy(update={name: folder / value for name, value in paths.items()})
