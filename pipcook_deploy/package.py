"""Packages a bundle through targets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipcook_deploy import plugins
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import UsageError
from pipcook_deploy.schedule import Listener
from pipcook_deploy.target import Package, Target
from pipcook_deploy.text import did_you_mean


def package_all(
    bundle: Bundle, targets: Mapping[str, Target], listener: Listener | None = None
) -> list[Package]:
    """Package for every target of a recipe, each beside the bundle."""
    return [
        target.package(bundle, default_place(bundle, name), listener)
        for name, target in targets.items()
    ]


def package_one(
    bundle: Bundle,
    name: str,
    options: Mapping[str, Any],
    out: Path | None = None,
    listener: Listener | None = None,
) -> Package:
    """Package for one target.

    Raises `UsageError` for an unknown target or option, `BundleError` if the bundle's files were changed.
    """
    kind = plugins.target(name)
    for key in options:
        if key not in kind.model_fields:
            near = did_you_mean(key, kind.model_fields)
            raise UsageError(
                f"the target {name} has no option {key!r}{near}", "run: pipcook-deploy plugins"
            )
    try:
        target = kind(**options)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *map(str, first["loc"])])
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--set {place}: {reason}") from error
    bundle.check_files()
    return target.package(bundle, out or default_place(bundle, name), listener)


def default_place(bundle: Bundle, target: str) -> Path:
    """`BUNDLE-TARGET`, beside the bundle."""
    path = bundle.path.absolute()
    return path.with_name(f"{path.name}-{target}")
