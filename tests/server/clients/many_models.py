"""`python many_models.py GRPC_PORT FOLDER...`: one server of several models, some in several versions."""

import json
import sys
from pathlib import Path

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.server import ServedModel, Settings, serve
from pipcook_deploy.spec import ModelSpec


def served(folder: Path) -> ServedModel:
    """What `tiny_models.save` wrote."""
    spec = ModelSpec.model_validate_json((folder / "spec.json").read_bytes())
    return ServedModel(spec, Artifact.from_json(json.loads((folder / "artifact.json").read_text())))


if __name__ == "__main__":
    serve(
        [served(Path(folder)) for folder in sys.argv[2:]],
        port=0,
        settings=Settings(grpc_port=int(sys.argv[1]), keep_versions="all"),
        ready=lambda url, _: print("serving at", url, flush=True),
    )
