"""Loading a trained model from disk: what it is, told by content, and its spec; nothing of it is run."""

from pathlib import Path

from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model

_HINT = "copy it again from where it was made, or save it anew; run: pipcook-deploy inspect MODEL"


def load(
    source: Path, *, workdir: Path, trust_source: bool = False, signature: str | None = None
) -> Model:
    """The model at `source`: a file, a folder, or a zip, which is unpacked below `workdir`.

    `workdir` is an existing empty folder that must outlive the model; the caller removes it. `signature`
    chooses one of a SavedModel's or TFLite file's. `trust_source` lets models pass that carry code.

    Raises `SourceError` for what is not a model, is damaged or reaches out of its folder, and
    `UntrustedSourceError` for embedded code.
    """
    from pipcook_deploy.sources.open_source import open_source

    try:
        return open_source(source, workdir, trust_source, signature)
    except PermissionError as error:
        raise SourceError(
            f"{error.filename or source}: cannot be read: permission denied",
            "check the path and its permissions",
        ) from error
    except SourceError as error:
        error.hint = error.hint or _HINT
        raise


__all__ = ["load"]
