"""Commands and their options. Each body calls one function; heavy imports stay inside."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipcook_deploy import __version__

PathArgument = click.Path(path_type=Path)
JOBS = min(4, os.cpu_count() or 1)


class _Group(click.Group):
    """Says which command was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from pipcook_deploy.text import did_you_mean

        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no such command: {args[0]!r}{did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pipcook-deploy")
def app() -> None:
    """Ship a trained model: convert it, prove it, bundle it, serve it.

    Exit codes: 0 done, 1 bug, 2 usage, 3 source refused, 4 conversion, 5 verification,
    6 something is not installed, 7 bundle damaged, 8 output, 9 server, 10 accuracy budget,
    11 container image, 130 interrupted.
    """


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
trust_option = click.option(
    "--trust-source", is_flag=True, help="Allow code inside the model (Lambda layers) to run."
)
signature_option = click.option("--signature", metavar="NAME", help="Signature of a SavedModel.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="Set an option; repeatable."
)
keep_option = click.option(
    "--keep-going", is_flag=True, help="Bundle what is good even if an artifact fails."
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 64), default=JOBS, show_default=True, help="Tasks at once."
)


@app.command()
@click.argument("recipe", type=PathArgument, default=Path("deploy.toml"))
@set_option
@keep_option
@json_option
def run(recipe: Path, settings: tuple[str, ...], keep_going: bool, as_json: bool) -> int:
    """Run a recipe (deploy.toml): convert, verify, bundle, package."""
    from pipcook_deploy.api import run_recipe
    from pipcook_deploy.cli.progress import watched
    from pipcook_deploy.cli.report import report_bundle
    from pipcook_deploy.package import package_all
    from pipcook_deploy.recipe import read_recipe

    checked = read_recipe(recipe, settings)
    stop_on_sigterm()
    with watched(quiet=as_json) as listener:
        bundle = run_recipe(checked, keep_going=keep_going, listener=listener)
        packages = package_all(bundle, checked.target, listener)
    report_bundle(bundle, packages, as_json=as_json)
    return 0


@app.command()
@click.argument("model", type=PathArgument)
@click.option("--to", "formats", required=True, help="Formats, separated by commas: tfjs,onnx.")
@click.option("--out", type=PathArgument, required=True, help="Where the bundle goes.")
@click.option("--name", help="Name of the model.")
@click.option("--version", "version", help="Version of the model.")
@click.option("--samples", type=PathArgument, help="Folder of images by class, or .npz/.npy.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random samples.")
@set_option
@signature_option
@trust_option
@keep_option
@jobs_option
@json_option
def convert(
    model: Path, formats: str, out: Path, settings: tuple[str, ...], as_json: bool, **more: Any
) -> int:
    """Convert MODEL to formats and prove each; the result is a bundle."""
    from pipcook_deploy.api import deploy
    from pipcook_deploy.cli.progress import watched
    from pipcook_deploy.cli.report import report_bundle
    from pipcook_deploy.recipe import parse_settings

    wanted = tuple(dict.fromkeys(part.strip() for part in formats.split(",") if part.strip()))
    if not wanted:
        raise click.UsageError("--to names no format; run: pipcook-deploy plugins")
    options = parse_settings(settings)
    samples = {"seed": more.pop("seed")} | options.pop("samples", {})
    tolerances = options.pop("verify", {})
    more |= {name: options.pop(name, None) for name in ("data", "budget", "bench")}
    stop_on_sigterm()
    with watched(quiet=as_json) as listener:
        bundle = deploy(
            model,
            to=wanted,
            out=out,
            options=options,
            sample_options=samples,
            tolerances=tolerances,
            listener=listener,
            **more,
        )
    report_bundle(bundle, [], as_json=as_json)
    return 0


@app.command()
@click.argument("model", type=PathArgument)
@signature_option
@trust_option
@json_option
def inspect(model: Path, signature: str | None, trust_source: bool, as_json: bool) -> int:
    """Show what MODEL is: interface, layers, parameters, MACs, sizes."""
    from pipcook_deploy.api import opened
    from pipcook_deploy.cli.report import report_inspection
    from pipcook_deploy.inspect_model import inspect as look

    with opened(model, trust_source=trust_source, signature=signature) as loaded:
        report_inspection(look(loaded), as_json=as_json)
    return 0


@app.command()
@click.argument("bundle", type=PathArgument)
@click.option("--only", help="Formats to run, separated by commas; all by default.")
@trust_option
@jobs_option
@json_option
def verify(bundle: Path, only: str | None, trust_source: bool, jobs: int, as_json: bool) -> int:
    """Check every byte of BUNDLE and run every artifact again."""
    from pipcook_deploy.check_bundle import verify_bundle
    from pipcook_deploy.cli.progress import watched
    from pipcook_deploy.cli.report import report_verification

    formats = tuple(part.strip() for part in (only or "").split(",") if part.strip())
    stop_on_sigterm()
    with watched(quiet=as_json) as listener:
        results = verify_bundle(
            bundle, only=formats, trusted=trust_source, jobs=jobs, listener=listener
        )
    report_verification(bundle, results, as_json=as_json)
    return 0


@app.command()
@click.argument("bundle", type=PathArgument)
@click.option("--out", type=PathArgument, help="Write the page here instead of printing a table.")
@json_option
def report(bundle: Path, out: Path | None, as_json: bool) -> int:
    """Show how BUNDLE was compressed; --out writes the page again."""
    from pipcook_deploy.cli.report import report_compression

    report_compression(bundle, out, as_json=as_json)
    return 0


@app.command()
@click.argument("model", type=PathArgument)
@click.option("--out", type=PathArgument, default=Path("deploy.toml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace a recipe that is there.")
@trust_option
def init(model: Path, out: Path, force: bool, trust_source: bool) -> int:
    """Write a commented deploy.toml for MODEL."""
    from pipcook_deploy.api import opened
    from pipcook_deploy.init_recipe import write_recipe

    with opened(model, trust_source=trust_source) as loaded:
        write_recipe(loaded, model, out, force=force)
    click.echo(f"wrote {out}\nrun: pipcook-deploy run {out}")
    return 0


@app.command()
@click.argument("recipe", type=PathArgument, default=Path("deploy.toml"))
@set_option
@json_option
def check(recipe: Path, settings: tuple[str, ...], as_json: bool) -> int:
    """Check a recipe without running it: every mistake, and the chains it would run."""
    from pipcook_deploy.check_recipe import check_recipe
    from pipcook_deploy.cli.report import report_check
    from pipcook_deploy.recipe import read_recipe

    report_check(recipe, check_recipe(read_recipe(recipe, settings)), as_json=as_json)
    return 0


@app.command()
@json_option
def plugins(as_json: bool) -> int:
    """List converters, passes, targets and runtimes, and the options of a recipe."""
    from pipcook_deploy.cli.report import report_plugins

    report_plugins(as_json=as_json)
    return 0


@app.command()
@click.argument("what", type=click.Choice(["node", "tensorflowjs"]))
def setup(what: str) -> int:
    """Install what pip cannot: TF.js for Node, or the isolated reference converter."""
    from pipcook_deploy.tools import install_node_packages, install_reference

    steps: dict[str, Callable[[], Path]] = {
        "node": install_node_packages,
        "tensorflowjs": install_reference,
    }
    click.echo(f"{what}: ready in {steps[what]()}")
    return 0


def stop_on_sigterm() -> None:
    """A polite kill, or a closed terminal, ends like Ctrl-C: workers stopped, nothing half-written."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) == signal.SIG_DFL:  # not under nohup
        signal.signal(hangup, stop)
