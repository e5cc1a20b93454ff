"""Pushes an image whose boot test passed, and no other."""

from collections.abc import Callable
from functools import partial

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.build import Context
from pipcook_deploy.images.engine import Engine
from pipcook_deploy.images.record import ImageRecord, PushEntry
from pipcook_deploy.images.sign import Signer
from pipcook_deploy.schedule import Listener, watched_step

BUILD = "build and boot it: pipcook-deploy package BUNDLE --target docker --build --push"


def push_image(
    record: ImageRecord,
    context: Context,
    engine: Engine,
    signer: Signer | None,
    listener: Listener,
    keep: Callable[[ImageRecord], None],
) -> ImageRecord:
    """Push every name of the image; `keep` gets the record with the digests so far.

    Raises `ImageError` if the image was not booted, is another one than was booted, or is not accepted.
    """
    check_booted(record, context, engine)
    for reference in record.tags:
        _check_identity(record, reference, engine)  # a name may have moved in the meantime
        done = watched_step(
            f"push {reference}",
            listener,
            partial(_pushed, reference, engine, signer, listener),
        )
        others = tuple(entry for entry in record.pushes if entry.reference != reference)
        record = record.model_copy(update={"pushes": (*others, done)})
        keep(record)
    return record


def _pushed(reference: str, engine: Engine, signer: Signer | None, listener: Listener) -> PushEntry:
    def progress(text: str, done: int, total: int | None) -> None:
        listener.advanced(f"push {reference}", text, done, total)

    digest = engine.push(reference, progress)
    if signer:
        signer.sign_image(reference, digest)
    return PushEntry(reference=reference, digest=digest, signed=signer is not None)


def is_of(record: ImageRecord, context: Context) -> bool:
    """Whether an image is what a context makes: the same content and names, booted with the same memory."""
    memory = record.boot is None or record.boot.memory == context.plan.memory
    return (record.content, record.tags) == (context.content, context.tags) and memory


def check_booted(record: ImageRecord, context: Context, engine: Engine) -> None:
    """Raises `ImageError` unless the image under each of its names is the one that passed its boot test."""
    if record.boot is None:
        raise ImageError(f"{record.tags[0]}: was not booted, and so is not pushed", BUILD)
    if not is_of(record, context):
        raise ImageError(
            f"{record.tags[0]}: was built of another bundle, or with other options, than are given now",
            BUILD,
        )
    for reference in record.tags:
        _check_identity(record, reference, engine)


def _check_identity(record: ImageRecord, reference: str, engine: Engine) -> None:
    image = engine.image(reference)
    if image is None:
        raise ImageError(f"{reference}: the engine has no such image any more", BUILD)
    if image.id != record.id:
        raise ImageError(
            f"{reference}: is another image ({image.id[:19]}) than the one that was booted "
            f"({record.id[:19]})",
            BUILD,
        )
