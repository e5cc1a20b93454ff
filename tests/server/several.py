"""`python several.py FOLDER ...`: one server of several models, bundles or those of `tiny_models`."""

import json
import sys
from pathlib import Path

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.server import ServedModel, serve
from pipcook_deploy.spec import ModelSpec


def read(folder):
    if (folder / "manifest.json").exists():
        return ServedModel.of_bundle(Bundle.open(folder))
    spec = ModelSpec.model_validate_json((folder / "spec.json").read_bytes())
    return ServedModel(
        spec, Artifact.from_json(json.loads((folder / "artifact.json").read_bytes()))
    )


if __name__ == "__main__":
    models = [read(Path(name)) for name in sys.argv[1:]]
    serve(models, port=0, ready=lambda url, *_: print(f"serving at {url}", flush=True))
