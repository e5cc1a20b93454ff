"""The whole way of a bundle into an image, as far as it is asked for and an engine answers."""

import shutil
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
from pipcook_deploy.images.push import check_booted, push_image
from pipcook_deploy.images.record import RECORD, ImageRecord
from pipcook_deploy.images.render import Plan
from pipcook_deploy.images.sign import Signer
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
                check_booted(ImageRecord.load(into / RECORD), context.content, engine)
                _keep_record(into, context)
            else:
                record = make_image(context, request.wanted, engine, listener)
                (folder / RECORD).write_text(record.dump(), encoding="utf-8")
                if signer:
                    signer.sign_file(folder / RECORD)
        if request.push:
            record = _pushed(into, context, engine, signer, listener)
        return Made(record, None)


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
    """What is known of an image of the same content stays beside the context that is written again."""
    try:
        record = ImageRecord.load(into / RECORD)
    except ImageError:
        return
    if record.content == context.content:
        for name in (RECORD, f"{RECORD}.sig", SBOM):
            if (into / name).is_file():
                shutil.copyfile(into / name, context.path / name)


def _pushed(
    into: Path, context: Context, engine: Engine, signer: Signer | None, listener: Listener
) -> ImageRecord:
    record = ImageRecord.load(into / RECORD)
    if signer:
        signer.check_file(into / RECORD)
    pushed = push_image(record, context.content, engine, signer, listener)
    write_atomically(into / RECORD, pushed.dump())
    if signer:
        signer.sign_file(into / RECORD)
    return pushed
