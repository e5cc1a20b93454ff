"""`python many_models.py GRPC_PORT FOLDER...`: one server of several models, versions in the order given."""

import asyncio
import json
import sys
from pathlib import Path

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.server import run
from pipcook_deploy.server.models.load import load
from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.spec import ModelSpec


def served(folder: Path) -> ServedModel:
    """What `tiny_models.save` wrote."""
    spec = ModelSpec.model_validate_json((folder / "spec.json").read_bytes())
    return ServedModel(spec, Artifact.from_json(json.loads((folder / "artifact.json").read_text())))


def main(grpc_port: str, *folders: str) -> None:
    """Serve until SIGTERM."""
    settings = Settings(grpc_port=int(grpc_port))
    first, *others = (served(Path(folder)) for folder in folders)
    app = run.build_app(first, settings)
    for other in others:
        app.context.registry.add(load(other, settings))
    with asyncio.Runner(loop_factory=run._new_loop()) as runner:
        port = run.free_port("127.0.0.1", 0)
        runner.run(
            run._serve(app, "127.0.0.1", port, lambda url: print("serving at", url, flush=True))
        )
    app.context.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
