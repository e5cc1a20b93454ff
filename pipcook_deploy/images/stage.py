"""The whole way of a bundle into an image, as far as it is asked for and an engine answers."""

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import ImageError, MissingDependencyError
from pipcook_deploy.files import write_atomically
from pipcook_deploy.images.build import (
    SBOM,
    Context,
    Wanted,
    make_image,
    staged,
    write_context,
)
from pipcook_deploy.images.choose import connect
from pipcook_deploy.images.engine import Engine
from pipcook_deploy.images.push import check_booted, is_of, push_image
from pipcook_deploy.images.record import RECORD, ImageRecord
from pipcook_deploy.images.render import Plan
from pipcook_deploy.images.sign import SIGNATURE, Signer
from pipcook_deploy.schedule import Listener


@dataclass(frozen=True)
class Request:
    """What is asked for. `build` None: if an engine answers; False: not, for the reason `why_not`."""

    plan: Plan
    wanted: Wanted
    build: bool | None
    builder: str
    push: bool
    sign_key: Path | None
    why_not: str = "not asked for: --no-build"


@dataclass(frozen=True)
class Made:
    """What came of it; `why_not` says why there is no image, if none was built."""

    record: ImageRecord | None
    why_not: str | None


def package(bundle: Bundle, into: Path, request: Request, listener: Listener) -> Made:
    """Write the context into `into`, whole or not at all; build, boot, sign and push.

    Raises `OutputError`, `EngineMissingError` where an engine is needed and none answers, `ImageError`, `BootError`.
    """
    signer = Signer.of(request.sign_key) if request.sign_key else None
    engine, why_not = _engine(request)  # with --no-build only to push
    if engine is None:
        with staged(into) as folder:
            _keep_record(into, write_context(bundle, request.plan, folder))
        return Made(None, why_not)
    with closing(engine):
        with staged(into) as folder:
            context = write_context(bundle, request.plan, folder)
            if request.build is False:
                # Before anything is replaced: what is refused here leaves the older package as it is.
                _check_signed(into, signer)
                check_booted(ImageRecord.load(into / RECORD), context, engine)
                _keep_record(into, context)
                record = ImageRecord.load(folder / RECORD)
            else:
                keep = _keeper(folder, signer)
                record = make_image(context, request.wanted, engine, listener, keep)
        if request.push:
            keep = _keeper(into, signer)
            record = push_image(record, context, engine, signer, listener, keep)
        return Made(record, None)


def _keeper(folder: Path, signer: Signer | None) -> Callable[[ImageRecord], None]:
    """Writes records into a folder, and signs them."""

    def keep(record: ImageRecord) -> None:
        write_atomically(folder / RECORD, record.dump())
        if signer:
            signer.sign_file(folder / RECORD)

    return keep


def _check_signed(into: Path, signer: Signer | None) -> None:
    """Raises `ImageError` if the record is not what was signed, or was signed and would now be pushed unsigned."""
    if signer:
        signer.check_file(into / RECORD)
    elif (into / f"{RECORD}{SIGNATURE}").exists():
        raise ImageError(
            f"{into / RECORD}: is signed", "push it with --sign-key, or build it again without"
        )


def _engine(request: Request) -> tuple[Engine | None, str | None]:
    """The engine if one is needed or answers; why there is none otherwise."""
    if request.build is False and not request.push:
        return None, request.why_not
    try:
        return connect(request.builder), None
    except MissingDependencyError as error:
        if request.build or request.push or request.builder != "auto":
            raise
        return None, error.message


def _keep_record(into: Path, context: Context) -> None:
    """What is known of the same image stays beside the context that is written again."""
    try:
        record = ImageRecord.load(into / RECORD)
    except ImageError:
        return
    if is_of(record, context):
        for name in (RECORD, f"{RECORD}{SIGNATURE}", SBOM):
            if (into / name).is_file():
                shutil.copyfile(into / name, context.path / name)
