"""Serves a bundle, an ONNX or TFLite file, or any other source by way of a bundle of its own."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipcook_deploy.api import deploy, opened
from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.bundle import MANIFEST, Bundle
from pipcook_deploy.bundle_safety import check_models
from pipcook_deploy.model import Model
from pipcook_deploy.schedule import Listener
from pipcook_deploy.spec import TensorSpec
from pipcook_deploy.text import printable

SERVED = ("onnx", "tflite")  # what the server runs, the best first


def serve_source(
    source: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 9091,
    trust_source: bool = False,
    watch: Callable[[], AbstractContextManager[Listener]] = lambda: nullcontext(Listener()),
) -> None:
    """Serve until SIGTERM or Ctrl-C. `watch` gives a listener for the time of a conversion.

    Raises `BundleError` if a bundle's files were changed, `ServerError` if the port is taken, and for other
    sources what converting them raises.
    """
    if (source / MANIFEST).exists():
        _serve_bundle(Bundle.open(source), host, port)
        return
    with opened(source, trust_source=trust_source) as model:
        if model.format in SERVED:
            _serve(model, as_artifact(model), host, port)
            return
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
            with watch() as listener:
                made = deploy(model, to=("onnx",), out=Path(scratch) / "bundle", listener=listener)
            _serve_bundle(made, host, port)


def as_artifact(model: Model) -> Artifact:
    """An ONNX or TFLite source as an artifact: its tensors are called what they are called."""

    def bindings(tensors: tuple[TensorSpec, ...]) -> tuple[Binding, ...]:
        return tuple(Binding(spec.name, spec.name, spec.dtype, spec.shape) for spec in tensors)

    return Artifact(
        format=model.format,
        model_format=model.format,
        path=model.path.parent,
        entry=model.path.name,
        inputs=bindings(model.spec.inputs),
        outputs=bindings(model.spec.outputs),
        details={"signature": model.signature},
    )


def _serve_bundle(bundle: Bundle, host: str, port: int) -> None:
    bundle.check_files()
    format = next((name for name in SERVED if name in bundle.formats), SERVED[0])
    check_models(bundle, [bundle.entry(format)], trusted=False)
    _serve(bundle, bundle.artifact(format), host, port)


def _serve(owner: Bundle | Model, artifact: Artifact, host: str, port: int) -> None:
    from pipcook_deploy.server import ServedModel, serve

    name = f"{owner.spec.name} {owner.spec.version}"
    served = ServedModel(owner.spec, artifact)
    serve(served, host=host, port=port, ready=lambda url: _announce(name, url))


def _announce(name: str, url: str) -> None:
    print(printable(f"serving {name} at {url} (Ctrl-C ends it)"), flush=True)  # noqa: T201
