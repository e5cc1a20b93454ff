"""Runs TF.js models in Node with TF.js itself, on its cpu and wasm backends."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import UnsupportedRuntimeError, VerificationError
from pipcook_deploy.formats.tfjs_model import read_model
from pipcook_deploy.model import Model
from pipcook_deploy.run import run
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.tools import find_node, node_packages, node_script

Backend = Literal["cpu", "wasm"]
BATCH = 32  # samples at once where the batch axis is dynamic: bounds memory
ROWS = 256  # samples that are written at once

_KERNEL = re.compile(r"Kernel '(\w+)' not registered for backend '(\w+)'")


class MissingKernelError(UnsupportedRuntimeError):
    """A backend of TF.js lacks a kernel that the model needs."""

    def __init__(self, kernel: str, backend: str) -> None:
        super().__init__(
            f"TF.js: the {backend} backend has no kernel {kernel}",
            f"run the model on another backend than {backend}",
        )
        self.kernel = kernel
        self.backend = backend


class TfjsNodeRuntime(Runtime):
    """TF.js in a Node child process.

    Samples go to the model in batches of up to 32, or one by one where the batch axis is fixed. Stopped
    after `timeout` seconds.
    """

    name: ClassVar[str] = "tfjs-node"
    formats: ClassVar[tuple[str, ...]] = ("tfjs_layers", "tfjs_graph")
    backends: ClassVar[tuple[Backend, ...]] = ("cpu", "wasm")

    def __init__(self, backend: Backend = "cpu", timeout: float = 300) -> None:
        self.backend = backend
        self.timeout = timeout
        # 2 samples of 224x224x3 take seconds on the cpu backend; wasm runs them all.
        self.most_elements = 300_000 if backend == "cpu" else None

    @property
    def label(self) -> str:
        """ "tfjs-cpu" or "tfjs-wasm"."""
        return f"tfjs-{self.backend}"

    @classmethod
    def variants(cls) -> tuple["TfjsNodeRuntime", ...]:
        """One a backend. The cpu backend has every kernel; wasm, ten times faster, lacks some."""
        return tuple(cls(backend) for backend in cls.backends)

    @classmethod
    def require(cls) -> None:
        """Node and the TF.js packages."""
        find_node()
        node_packages()

    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names. Raises `VerificationError` with the message of TF.js."""
        return self._run(artifact.file, artifact.inputs, artifact.outputs, inputs)

    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """The same for a source model, whose tensors have the spec's names."""
        ins, outs = (
            tuple(Binding(t.name, t.name, t.dtype, t.shape) for t in tensors)
            for tensors in (model.spec.inputs, model.spec.outputs)
        )
        return self._run(model.path, ins, outs, inputs)

    def _run(
        self,
        file: Path,
        ins: tuple[Binding, ...],
        outs: tuple[Binding, ...],
        inputs: Tensors,
    ) -> Tensors:
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
            request = _request(file, ins, outs, inputs, Path(scratch))
            response = self._answer(request, Path(scratch), self.timeout)
            rows = zip(outs, response["outputs"], strict=True)
            return {binding.name: _read(row) for binding, row in rows}

    def time_calls(
        self,
        artifact: Artifact,
        inputs: Tensors,
        *,
        seconds: float,
        calls: int = 1_000_000,
        warm_up: float = 0.3,
    ) -> list[float]:
        """Milliseconds of every call that answers all of `inputs` at once, on one thread, in one process.

        Calls go on for `seconds`, or until there were `calls` of them; there is one at least. What loading
        and the first `warm_up` seconds of calls take is not counted, nor what goes in or out of Node.
        """
        timing = {"warmUp": warm_up, "seconds": seconds, "calls": calls}
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
            request = _request(
                artifact.file, artifact.inputs, artifact.outputs, inputs, Path(scratch)
            )
            timeout = self.timeout + seconds + warm_up
            response = self._answer(request | {"timing": timing}, Path(scratch), timeout)
        times: list[float] = response["times"]
        return times

    def _answer(self, request: dict[str, Any], folder: Path, timeout: float) -> dict[str, Any]:
        request_file, response_file = folder / "request.json", folder / "response"
        request_file.write_text(json.dumps(request | {"backend": self.backend}))
        with node_script("run.mjs") as script:
            run(
                [find_node(), script, node_packages(), request_file, response_file],
                env={"NODE_OPTIONS": ""},
                timeout=timeout,
                failure=VerificationError,
            )
        response: dict[str, Any] = json.loads(response_file.read_text())
        if "error" in response:
            raise self._error(**response["error"])
        return response

    def _error(self, stage: str, message: str) -> VerificationError:
        if match := _KERNEL.search(message):
            return MissingKernelError(match[1], match[2])
        what = {"start": "does not start", "load": "cannot load the model"}
        return VerificationError(
            f"TF.js ({self.backend}) {what.get(stage, 'cannot run the model')}: {message}"
        )


def _request(
    file: Path,
    ins: tuple[Binding, ...],
    outs: tuple[Binding, ...],
    inputs: Tensors,
    folder: Path,
) -> dict[str, Any]:
    model = read_model(file)
    missing = [binding.name for binding in ins if binding.name not in inputs]
    if missing:
        raise VerificationError(f"no values for the input {', '.join(missing)}")
    if unknown := sorted(inputs.keys() - {binding.name for binding in ins}):
        raise VerificationError(f"the model has no input {', '.join(unknown)}")
    samples = {len(inputs[binding.name]) for binding in ins}
    if len(samples) != 1:
        raise VerificationError(f"the inputs have different numbers of samples: {sorted(samples)}")
    fixed = {binding.shape[0] for binding in ins if binding.shape} - {None}
    rows = [_write(folder / f"input.{i}", b, inputs[b.name]) for i, b in enumerate(ins)]
    return {
        "model": str(file.absolute()),
        "format": model.format,
        "inputs": rows,
        "outputs": [binding.tensor for binding in outs],
        "samples": samples.pop(),
        "batch": fixed.pop() if fixed else BATCH,
    }


def _write(file: Path, binding: Binding, value: Any) -> dict[str, Any]:
    import numpy as np

    value = np.asarray(value)
    kind = value.dtype.kind
    row = {"tensor": binding.tensor, "file": str(file), "shape": list(value.shape)}
    if kind in "OSU":
        texts = [t.decode() if isinstance(t, bytes) else str(t) for t in value.ravel().tolist()]
        file.write_text(json.dumps(texts))
        return row | {"dtype": "string"}
    dtype, stored = {"b": ("bool", "|b1"), "i": ("int32", "<i4"), "u": ("int32", "<i4")}.get(
        kind, ("float32", "<f4")
    )
    with file.open("wb") as stream:
        for start in range(0, len(value), ROWS):  # mapped arrays stay on disk
            rows = value[start : start + ROWS]
            if kind in "iu" and rows.size and (rows.min() < -(2**31) or rows.max() >= 2**31):
                raise VerificationError(
                    f"input {binding.name!r} has values beyond int32, all that TF.js has"
                )
            stream.write(rows.astype(stored).tobytes())
    return row | {"dtype": dtype}


def _read(row: dict[str, Any]) -> Any:
    import numpy as np

    file = Path(row["file"])
    if row["dtype"] == "string":
        texts = np.empty(row["shape"], dtype=object)
        texts.ravel()[:] = json.loads(file.read_text())
        return texts
    stored = {"float32": "<f4", "int32": "<i4", "bool": "|b1"}[row["dtype"]]
    value = np.frombuffer(file.read_bytes(), stored).reshape(row["shape"])
    return value.astype(row["dtype"])
