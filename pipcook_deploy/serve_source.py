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
from pipcook_deploy.server import Settings
from pipcook_deploy.server.served import FORMATS, ServedModel
from pipcook_deploy.spec import TensorSpec
from pipcook_deploy.text import printable


def serve_source(
    source: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 9091,
    settings: Settings | None = None,
    trust_source: bool = False,
    watch: Callable[[], AbstractContextManager[Listener]] = lambda: nullcontext(Listener()),
) -> None:
    """Serve until SIGTERM or Ctrl-C. `watch` gives a listener for the time of a conversion.

    Raises `BundleError` if a bundle's files were changed, `ServerError` if the port is taken, and for other
    sources what converting them raises.
    """
    if (source / MANIFEST).exists():
        _serve_bundle(Bundle.open(source), host, port, settings)
        return
    with opened(source, trust_source=trust_source) as model:
        if model.format in FORMATS:
            _serve(ServedModel(model.spec, as_artifact(model)), host, port, settings)
            return
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
            with watch() as listener:
                made = deploy(model, to=("onnx",), out=Path(scratch) / "bundle", listener=listener)
            _serve_bundle(made, host, port, settings)


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


def _serve_bundle(bundle: Bundle, host: str, port: int, settings: Settings | None) -> None:
    bundle.check_files()
    served = ServedModel.of_bundle(bundle)
    formats = [candidate.artifact.format for candidate in served.candidates]
    check_models(bundle, [bundle.entry(format) for format in formats], trusted=False)
    _serve(served, host, port, settings)


def _serve(served: ServedModel, host: str, port: int, settings: Settings | None) -> None:
    from pipcook_deploy.server import serve

    name = f"{served.spec.name} {served.spec.version}"
    serve(
        served,
        host=host,
        port=port,
        settings=settings,
        ready=lambda url: _announce(name, url),
    )


def _announce(name: str, url: str) -> None:
    print(printable(f"serving {name} at {url} (Ctrl-C ends it)"), flush=True)  # noqa: T201
