"""Converters, runtimes and targets are found through entry points, so that other packages can add some."""

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from pipcook_deploy.errors import MissingDependencyError, UsageError
from pipcook_deploy.text import did_you_mean

if TYPE_CHECKING:
    from pipcook_deploy.compression.model_pass import ModelPass
    from pipcook_deploy.converter import Converter
    from pipcook_deploy.runtime import Runtime
    from pipcook_deploy.target import Target

CONVERTERS = "pipcook_deploy.converters"
TARGETS = "pipcook_deploy.targets"
RUNTIMES = "pipcook_deploy.runtimes"
PASSES = "pipcook_deploy.passes"


def names(group: str) -> list[str]:
    """Names of the installed plugins of a group, sorted."""
    return sorted(_points(group))


def converter(name: str) -> type["Converter"]:
    """The converter class that writes format `name`."""
    return _load(CONVERTERS, name, "converter")  # type: ignore[return-value]


def target(name: str) -> type["Target"]:
    """The target class called `name`."""
    return _load(TARGETS, name, "target")  # type: ignore[return-value]


def model_pass(name: str) -> type["ModelPass"]:
    """The pass class called `name`."""
    return _load(PASSES, name, "pass")  # type: ignore[return-value]


def runtimes() -> list[type["Runtime"]]:
    """Every installed runtime class, those that judge a format before those that only check it too."""
    found: list[type[Runtime]] = [
        _load(RUNTIMES, name, "runtime")  # type: ignore[misc]
        for name in names(RUNTIMES)
    ]
    return sorted((kind for kind in found if kind.installed()), key=lambda kind: kind.additional)


def owners() -> dict[str, str]:
    """The packages that plugins come from, with their versions."""
    points = [p for group in (CONVERTERS, RUNTIMES, PASSES) for p in entry_points(group=group)]
    return {point.dist.name: point.dist.version for point in points if point.dist}


def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def _load(group: str, name: str, kind: str) -> object:
    points = _points(group)
    if name not in points:
        raise UsageError(
            f"there is no {kind} called {name!r}{did_you_mean(name, points)}",
            "run: pipcook-deploy plugins",
        )
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        distribution = points[name].dist
        owner = distribution.name if distribution else "pipcook-deploy"
        raise MissingDependencyError(
            f"the {kind} {name!r} of {owner} cannot be loaded: {error}",
            f"run: pip install --upgrade --force-reinstall {owner}",
        ) from error
