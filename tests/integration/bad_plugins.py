"""Converters and runtimes that go wrong, each in its own way, and the files that install them.

They copy a tiny ONNX model, so that no test of the stage's own conduct needs TensorFlow.
"""

import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.runtime import Runtime
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime

ROOT = Path(__file__).parents[2]
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
OFF_BY = 0.25  # what `wrong_weights` adds to the bias of `second`


def save_source(path, logarithm=False):
    """x -> first = x W (or log x), second = x W + 1. Both outputs have the same shape."""
    import onnx
    from onnx import helper, numpy_helper

    first = [helper.make_node("MatMul", ["x", "w"], ["first"])]
    if logarithm:
        first = [
            helper.make_node("Log", ["x"], ["l"]),
            helper.make_node("MatMul", ["l", "w"], ["first"]),
        ]
    nodes = [
        *first,
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["second"]),
    ]
    info = helper.make_tensor_value_info
    constants = {"w": WEIGHTS, "b": np.ones(3, np.float32)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info("x", 1, ["n", 4])],
        [info("first", 1, ["n", 3]), info("second", 1, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    return path


class Copy(Converter):
    """Copies the source as it is: a converter that does everything right."""

    format: ClassVar[str] = "copy"
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)

    def needs_tensorflow(self, source_format):
        return False

    def writes(self):
        return "onnx"

    def convert(self, model, into):
        shutil.copy(model.path, into / "model.onnx")
        ins, outs = (
            tuple(Binding(t.name, t.name, t.dtype, t.shape) for t in tensors)
            for tensors in (model.spec.inputs, model.spec.outputs)
        )
        return Artifact(self.format, self.writes(), into, "model.onnx", ins, outs)


class WrongWeights(Copy):
    """One bias is another."""

    format: ClassVar[str] = "wrong_weights"

    def bias(self):
        return np.array([1, 1 + OFF_BY, 1], np.float32)

    def convert(self, model, into):
        import onnx

        artifact = super().convert(model, into)
        proto = onnx.load(artifact.file)
        proto.graph.initializer[1].raw_data = self.bias().tobytes()
        onnx.save(proto, artifact.file)
        return artifact


class GivesNan(WrongWeights):
    """A weight is NaN."""

    format: ClassVar[str] = "gives_nan"

    def bias(self):
        return np.array([1, np.nan, 1], np.float32)


class Swapped(Copy):
    """Says that each output is the other one: same shapes, same types."""

    format: ClassVar[str] = "swapped"

    def convert(self, model, into):
        artifact = super().convert(model, into)
        first, second = artifact.outputs
        swapped = replace(first, tensor=second.tensor), replace(second, tensor=first.tensor)
        return replace(artifact, outputs=swapped)


class WrongName(Copy):
    """Names an output that is not there."""

    format: ClassVar[str] = "wrong_name"

    def convert(self, model, into):
        artifact = super().convert(model, into)
        first, second = artifact.outputs
        return replace(artifact, outputs=(first, replace(second, tensor="third")))


class Forgetful(Copy):
    """Forgets an output."""

    format: ClassVar[str] = "forgetful"

    def convert(self, model, into):
        artifact = super().convert(model, into)
        return replace(artifact, outputs=artifact.outputs[:1])


class Crashing(Copy):
    """Ends by a signal."""

    format: ClassVar[str] = "crashing"

    def convert(self, model, into):
        print("the last words", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class Leaving(Copy):
    """Ends the process as if all were well."""

    format: ClassVar[str] = "leaving"

    def convert(self, model, into):
        os._exit(0)


class Raising(Copy):
    """Raises what no one foresaw, on two lines."""

    format: ClassVar[str] = "raising"

    def convert(self, model, into):
        raise ZeroDivisionError("by\nzero")


class Idle(Copy):
    """Writes nothing."""

    format: ClassVar[str] = "idle"

    def convert(self, model, into):
        artifact = super().convert(model, into)
        artifact.file.unlink()
        return artifact


class Elsewhere(Copy):
    """Returns the source itself as its artifact."""

    format: ClassVar[str] = "elsewhere"

    def convert(self, model, into):
        artifact = super().convert(model, into)
        return replace(artifact, path=model.path.parent, entry=model.path.name)


class Chatty(Copy):
    """Does right, and prints megabytes to both streams."""

    format: ClassVar[str] = "chatty"

    def convert(self, model, into):
        for stream in (sys.stdout, sys.stderr):
            stream.write("blah " * 400_000)
        os.write(1, b"\xff\xfe not text\n" * 1000)
        return super().convert(model, into)


class Cursed(Copy):
    """Writes a format whose runtime raises."""

    format: ClassVar[str] = "cursed"

    def writes(self):
        return "cursed"


class CursedRuntime(Runtime):
    """Raises."""

    name: ClassVar[str] = "cursed-runtime"
    formats: ClassVar[tuple[str, ...]] = ("cursed",)

    def run_artifact(self, artifact, inputs):
        raise RuntimeError("the kernel panicked")

    run_model = run_artifact


class Brief(Copy):
    """Writes a format whose runtime answers the first sample only."""

    format: ClassVar[str] = "brief"

    def writes(self):
        return "brief"


class BriefRuntime(OnnxRuntime):
    """Answers one sample."""

    name: ClassVar[str] = "brief-runtime"
    formats: ClassVar[tuple[str, ...]] = ("brief",)

    def run_artifact(self, artifact, inputs):
        return {name: value[:1] for name, value in super().run_artifact(artifact, inputs).items()}


CONVERTERS = (
    Copy, WrongWeights, GivesNan, Swapped, WrongName, Forgetful, Crashing, Leaving, Raising, Idle,
    Elsewhere, Chatty, Cursed, Brief,
)  # fmt: skip
RUNTIMES = (CursedRuntime, BriefRuntime)


def install(folder):
    """A distribution below `folder`, which with `ROOT` has to be on the path of Python."""
    info = folder / "bad_plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-plugins\nVersion: 1\n")

    def rows(group, kinds, key):
        lines = [f"{key(kind)} = {__name__}:{kind.__name__}" for kind in kinds]
        return f"[pipcook_deploy.{group}]\n" + "\n".join(lines) + "\n"

    (info / "entry_points.txt").write_text(
        rows("converters", CONVERTERS, lambda kind: kind.format)
        + rows("runtimes", RUNTIMES, lambda kind: kind.name)
    )
    return folder
