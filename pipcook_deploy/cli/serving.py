"""`serve`: its options are the server's settings."""

import os
import sys
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
# SageMaker runs an image with this argument, after all that the image's entrypoint has.
SAGEMAKER = Path("serve")
INTERRUPTED = 130


def settings_options(command: Command) -> Command:
    """An option for each field of `Settings`, in its order."""
    for field in reversed(fields(Settings)):
        choices = field.metadata["choices"]
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=click.Choice(choices) if choices else type(field.default),
            default=field.default,
            show_default=field.default != "",
            envvar=f"{PREFIX}{field.name.upper()}",
            help=field.metadata["help"],
        )(command)
    return command


@app.command()
@click.argument("sources", type=PathArgument, nargs=-1, metavar="[BUNDLE|MODEL|FOLDER]...")
@click.option(
    "--repository", type=PathArgument, envvar=f"{PREFIX}REPOSITORY",
    help="Folder NAME/VERSION of bundles, which is followed: new versions are served.",
)  # fmt: skip
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
    sources: tuple[Path, ...],
    repository: Path | None,
    host: str | None,
    port: int | None,
    trust_source: bool,
    **settings: Any,
) -> int:
    """Serve bundles (or a model, converted first) over HTTP, with a page to try them on.

    FOLDER holds bundles as NAME/VERSION, like --repository.
    """
    from pipcook_deploy.cli.progress import watched
    from pipcook_deploy.serve_source import serve_source

    if (sources[1:] or repository) and sources[-1:] == (SAGEMAKER,) and not SAGEMAKER.exists():
        sources = sources[:-1]
    if not sources and repository is None:
        raise click.UsageError("name a bundle, or a --repository")
    host, port = address(host, port, os.environ)
    stop_on_sigterm()
    try:
        serve_source(
            sources,
            repository=repository,
            host=host,
            port=port,
            settings=Settings(**settings),
            trust_source=trust_source,
            watch=watched,
        )
    except KeyboardInterrupt:
        # What computes in threads would be waited for.
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    return 0
