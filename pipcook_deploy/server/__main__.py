"""`python -m pipcook_deploy.server --spec spec.json --artifact artifact.json`: a server from two files.

`spec.json` is a ModelSpec, `artifact.json` an Artifact, as a manifest holds them. For bundles there is
`pipcook-deploy serve`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import DeployError
from pipcook_deploy.server import ServedModel, Settings, serve
from pipcook_deploy.server.listen import address
from pipcook_deploy.spec import ModelSpec

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; the exit code of the error that ended it, or 0."""
    parser = argparse.ArgumentParser(prog="python -m pipcook_deploy.server")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    # SageMaker runs an image with this argument, after all that the image's entrypoint has.
    parser.add_argument("again", nargs="?", choices=["serve"], help=argparse.SUPPRESS)
    for field in fields(Settings):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = parser.parse_args(argv)
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    try:
        settings = Settings(**given)
        spec = ModelSpec.model_validate_json(options.spec.read_bytes())
        artifact = Artifact.from_json(json.loads(options.artifact.read_bytes()))
        served = ServedModel(spec, artifact)
        host, port = address(options.host, options.port, os.environ)
        serve(served, host=host, port=port, settings=settings, ready=_say)
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # a second signal: nothing is waited for
    return 0


def _say(url: str, _: Any) -> None:
    sys.stdout.write(f"serving at {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
