"""Packages a bundle through targets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipcook_deploy import plugins
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import UsageError
from pipcook_deploy.target import Package, Target


def package_all(bundle: Bundle, targets: Mapping[str, Target]) -> list[Package]:
    """Package for every target of a recipe, each beside the bundle."""
    return [target.package(bundle, default_place(bundle, name)) for name, target in targets.items()]


def package_one(
    bundle: Bundle, name: str, options: Mapping[str, Any], out: Path | None = None
) -> Package:
    """Package for one target.

    Raises `UsageError` for an unknown target or option, `BundleError` if the bundle's files were changed.
    """
    try:
        target = plugins.target(name)(**options)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"--set {name}.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    bundle.check_files()
    return target.package(bundle, out or default_place(bundle, name))


def default_place(bundle: Bundle, target: str) -> Path:
    """`BUNDLE-TARGET`, beside the bundle."""
    path = bundle.path.absolute()
    return path.with_name(f"{path.name}-{target}")
