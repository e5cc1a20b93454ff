import json
from dataclasses import replace

import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import SourceError
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from tests.server.tiny_models import logarithm


def written(folder):
    place = logarithm(folder)
    return Artifact.from_json(json.loads((place / "artifact.json").read_text()))


def test_bindings_that_do_not_fit_are_named(tmp_path):
    artifact = written(tmp_path)
    first = artifact.outputs[0]
    wrong = replace(artifact, outputs=(replace(first, tensor="nowhere"),))
    inputs = {
        row.name: np.zeros([size or 1 for size in row.shape], row.dtype) for row in artifact.inputs
    }
    with pytest.raises(SourceError, match="no output called nowhere"):
        OnnxRuntime().run_artifact(wrong, inputs)
    with pytest.raises(SourceError, match=f"has no input {artifact.inputs[0].name}"):
        OnnxRuntime().run_artifact(replace(artifact, inputs=()), inputs)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    artifact = written(tmp_path)
    artifact.file.write_bytes(b"\x08\x07garbage")
    with pytest.raises(SourceError, match="cannot open it"):
        OnnxRuntime().run_artifact(artifact, {row.name: np.zeros(1) for row in artifact.inputs})
