"""The same source and recipe give the same bytes in every process."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipcook_deploy.files import files_below
from tests import keras_made, zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras 3
]


def convert(source: Path, out: Path) -> dict[str, bytes]:
    """Every file of a bundle that a process of its own writes."""
    command = [sys.executable, "-m", "pipcook_deploy", "convert", str(source), "--out", str(out)]
    subprocess.run(
        [*command, "--to", "saved_model,onnx,tflite", "--json"], check=True, capture_output=True
    )
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files_below(out)}


@pytest.mark.parametrize("name", ["lstm_mask", "multi_io"])
def test_two_processes_write_the_same_bundle(name, tmp_path):
    """A masked loop, whose states tf2onnx once put in the order of addresses; several inputs and outputs."""
    source = keras_made.save(zoo.ZOO[name](), tmp_path).model.path
    first, second = (convert(source, tmp_path / str(number)) for number in range(2))
    assert first.keys() == second.keys()
    assert {"artifacts/onnx/model.onnx", "artifacts/tflite/model.tflite"} <= first.keys()
    assert [name for name in first if first[name] != second[name]] == []
