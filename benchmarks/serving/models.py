"""The models that are served: bundles made once, from fixed seeds, and what belongs in their requests."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from measure import ROOT, needed, timed

from serving.bodies import Answer, Request, array_json, oip_binary, oip_json, tensor

FOLDER = ROOT / "dist" / "bench" / "models"
MAKER = Path(__file__).with_name("make_model.py")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Served:
    """A bundle with one input and one output."""

    name: str
    bundle: Path
    onnx: Path
    input: str
    output: str
    shape: tuple[int, ...]

    @property
    def value(self) -> Any:
        """The tensor that is sent."""
        return tensor(self.shape)

    def json(self) -> Request:
        """With numbers."""
        return oip_json(self.name, self.input, self.value)

    def binary(self) -> Request:
        """With bytes."""
        return oip_binary(self.name, self.input, self.value, self.output)

    def array(self, path: str) -> Request:
        """{"input": [[...]]}."""
        return array_json(path, self.input, self.value)

    def wrong(self, answer: Answer) -> str:
        """What is wrong with an answer, or ""; a number that differs begins with "wrong"."""
        import numpy as np

        if answer.status != 200:
            return f"status {answer.status}: {answer.body[:200].decode(errors='replace')}"
        try:
            numbers = answer.numbers()
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return f"wrong: no tensor in the answer ({error}): {answer.body[:200]!r}"
        wanted = expected(self)
        if numbers.shape != wanted.shape or not np.allclose(numbers, wanted, atol=TOLERANCE):
            return f"wrong numbers: {numbers[:3]}..., ONNX Runtime says {wanted[:3]}..."
        return ""


@cache
def expected(served: Served) -> Any:
    """What ONNX Runtime answers to `served.value`, flat."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(served.onnx), providers=["CPUExecutionProvider"])
    return session.run([served.output], {served.input: served.value})[0].ravel()


@cache
def model(name: str) -> Served:
    """ "mlp", "mlp_other", "mobilenet_v2" or "resnet50"; made if it is not there."""
    from pipcook_deploy.bundle import Bundle

    folder = FOLDER / name
    if not (folder / "manifest.json").exists():
        print(f"making {name} ...", file=sys.stderr, flush=True)
        # -P: the modules beside the maker are not for TensorFlow to find.
        needed(timed([sys.executable, "-P", MAKER, name, folder]), f"making {name}")
    bundle = Bundle.open(folder)
    source, output = bundle.spec.inputs[0], bundle.spec.outputs[0]
    onnx = bundle.artifact("onnx").file
    shape = tuple(1 if size is None else size for size in source.shape)
    return Served(name, folder, onnx, source.name, output.name, shape)
