"""Serves bundles, a repository of bundles, ONNX or TFLite files, or any other source by way of a bundle of its own."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.bundle import MANIFEST
from pipcook_deploy.errors import UsageError
from pipcook_deploy.model import Model
from pipcook_deploy.schedule import Listener
from pipcook_deploy.server import Settings
from pipcook_deploy.server.models.shelf import is_repository, open_served
from pipcook_deploy.server.served import FORMATS, ServedModel
from pipcook_deploy.spec import TensorSpec
from pipcook_deploy.text import printable

Watch = Callable[[], AbstractContextManager[Listener]]


def serve_source(
    source: Path | Sequence[Path],
    *,
    repository: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 9091,
    settings: Settings | None = None,
    trust_source: bool = False,
    watch: Watch = lambda: nullcontext(Listener()),
) -> None:
    """Serve until SIGTERM or Ctrl-C. `watch` gives a listener for the time of a conversion.

    `repository` is a folder NAME/VERSION of bundles; one of the sources may be such a folder as well. Raises
    `BundleError` if a bundle's files were changed, `ServerError` if the port is taken, and for other sources what
    converting them raises.
    """
    from pipcook_deploy.server import serve

    sources = [source] if isinstance(source, Path) else list(source)
    for folder in [one for one in sources if is_repository(one)]:
        if repository is not None:
            raise UsageError(f"{folder}: one repository is enough, and {repository} is one")
        sources.remove(folder)
        repository = folder
    if repository is not None and not repository.is_dir():
        raise UsageError(f"{repository}: is not a folder", f"run: mkdir {repository}")
    if not sources and repository is None:
        raise UsageError("nothing to serve", "run: pipcook-deploy serve BUNDLE")
    with ExitStack() as stack:
        given = [_given(one, trust_source, watch, stack) for one in sources]
        serve(
            given,
            repository=repository,
            host=host,
            port=port,
            settings=settings,
            ready=_announce,
        )


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


def _given(source: Path, trust_source: bool, watch: Watch, stack: ExitStack) -> ServedModel:
    """What a source is served as; `stack` keeps the files that this takes."""
    if (source / MANIFEST).exists():
        return open_served(source)
    from pipcook_deploy.api import deploy, opened

    model = stack.enter_context(opened(source, trust_source=trust_source))
    if model.format in FORMATS:
        return ServedModel(model.spec, as_artifact(model))
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="pipcook-deploy-"))
    with watch() as listener:
        made = deploy(model, to=("onnx",), out=Path(scratch) / "bundle", listener=listener)
    return open_served(made.path)


def _announce(url: str, index: list[dict[str, Any]]) -> None:
    for row in index:
        line = f"{row['name']} {row['version']}: {row['chosen'] or row['reason']}"
        print(printable(line), flush=True)  # noqa: T201
    served = [f"{row['name']} {row['version']}" for row in index if row["current"]]
    what = served[0] if len(served) == 1 else f"{len(served)} models"
    print(printable(f"serving {what} at {url} (Ctrl-C ends it)"), flush=True)  # noqa: T201
