"""`serve`: its options are the server's settings."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from pipcook_deploy.cli.app import PathArgument, app, stop_on_sigterm, trust_option
from pipcook_deploy.server.listen import address
from pipcook_deploy.server.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
PREFIX = "PIPCOOK_DEPLOY_"


def settings_options(command: Command) -> Command:
    """An option for each field of `Settings`, in its order."""
    for field in reversed(fields(Settings)):
        choices = field.metadata["choices"]
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=click.Choice(choices) if choices else type(field.default),
            default=field.default,
            show_default=True,
            envvar=f"{PREFIX}{field.name.upper()}",
            help=field.metadata["help"],
        )(command)
    return command


@app.command()
@click.argument("source", type=PathArgument, metavar="BUNDLE|MODEL")
@click.argument("again", nargs=-1, metavar="")
@click.option(
    "--host",
    envvar=f"{PREFIX}HOST",
    help="Address to listen on.  [default: 127.0.0.1; 0.0.0.0 if a platform sets PORT or AIP_HTTP_PORT]",
)
@click.option(
    "--port", "-p", type=click.IntRange(0, 65535), envvar=f"{PREFIX}PORT",
    help="Port; 0 takes a free one.  [default: AIP_HTTP_PORT, PORT or 9091]",
)  # fmt: skip
@trust_option
@settings_options
def serve(
    source: Path,
    again: tuple[str, ...],
    host: str | None,
    port: int | None,
    trust_source: bool,
    **settings: Any,
) -> int:
    """Serve BUNDLE (or a model, converted first) over HTTP, with a page to try it on."""
    from pipcook_deploy.cli.progress import watched
    from pipcook_deploy.serve_source import serve_source

    # SageMaker runs an image with the argument `serve`, after all that the image's entrypoint has.
    unexpected = [argument for argument in again if argument != "serve"]
    if unexpected:
        raise click.UsageError(f"unexpected argument: {' '.join(unexpected)}")
    host, port = address(host, port, os.environ)
    stop_on_sigterm()
    serve_source(
        source,
        host=host,
        port=port,
        settings=Settings(**settings),
        trust_source=trust_source,
        watch=watched,
    )
    return 0
