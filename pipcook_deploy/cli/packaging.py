"""`package`: a target's options, the usual ones as options of their own."""

from pathlib import Path
from typing import Any

import click

from pipcook_deploy.cli.app import PathArgument, app, json_option, set_option, stop_on_sigterm


@app.command()
@click.argument("bundle", type=PathArgument)
@click.option("--target", required=True, help="Where it will run; see `plugins`.")
@click.option("--out", type=PathArgument, help="Where the package goes [default: BUNDLE-TARGET].")
@click.option("--tag", metavar="NAME[:TAG]", help="Name of the image [default: the model's].")
@click.option("--engine", metavar="NAME", help="onnxruntime, openvino or litert.")
@click.option("--variant", metavar="NAME", help="standard, sagemaker, lambda or gpu.")
@click.option(
    "--build/--no-build",
    default=None,
    help="Build and boot the image, or write its context only [default: build if an engine answers].",
)
@click.option("--builder", metavar="NAME", help="docker, buildx, podman or buildah.")
@click.option("--push", is_flag=True, default=None, help="Push the image once it is booted.")
@click.option("--scan", is_flag=True, default=None, help="Scan the image with trivy or grype.")
@click.option("--sign-key", type=PathArgument, help="Sign with this private key of cosign's.")
@set_option
@json_option
def package(
    bundle: Path,
    target: str,
    out: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **shortcuts: Any,
) -> int:
    """Package BUNDLE for a target.

    Every other option of a target is set with --set TARGET.KEY=VALUE.
    """
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.cli.progress import watched
    from pipcook_deploy.cli.report import report_packages
    from pipcook_deploy.package import package_one
    from pipcook_deploy.recipe import parse_settings

    options = parse_settings(settings).get(target, {})
    options |= {name: value for name, value in shortcuts.items() if value is not None}
    stop_on_sigterm()
    with watched(quiet=as_json) as listener:
        made = package_one(Bundle.open(bundle), target, options, out, listener)
    report_packages([made], as_json=as_json)
    return 0
