"""Pushes an image whose boot test passed, and no other."""

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.engine import Engine
from pipcook_deploy.images.record import ImageRecord, PushEntry
from pipcook_deploy.images.sign import Signer
from pipcook_deploy.schedule import Listener, watched_step

BUILD = "build and boot it: pipcook-deploy package BUNDLE --target docker --build --push"


def push_image(
    record: ImageRecord, content: str, engine: Engine, signer: Signer | None, listener: Listener
) -> ImageRecord:
    """Push every name of the image; the record with the digests.

    `content` is that of the context as it is now. Raises `ImageError` if the image was not booted, is another one than was booted,
    or is not accepted.
    """
    check_booted(record, content, engine)
    pushes = []
    for reference in record.tags:

        def push(reference: str = reference) -> PushEntry:
            name = f"push {reference}"
            digest = engine.push(reference, lambda *now: listener.advanced(name, *now))
            if signer:
                signer.sign_image(reference, digest)
            return PushEntry(reference=reference, digest=digest, signed=signer is not None)

        pushes.append(watched_step(f"push {reference}", listener, push))
    return record.model_copy(update={"pushes": tuple(pushes)})


def check_booted(record: ImageRecord, content: str, engine: Engine) -> None:
    """Raises `ImageError` unless the image under each of its names is the one that passed its boot test."""
    name = record.tags[0]
    if record.boot is None:
        raise ImageError(f"{name}: was not booted, and so is not pushed", BUILD)
    if record.content != content:
        raise ImageError(
            f"{name}: was built of something else than the bundle and options now", BUILD
        )
    for reference in record.tags:
        image = engine.image(reference)
        if image is None:
            raise ImageError(f"{reference}: the engine has no such image any more", BUILD)
        if image.id != record.id:
            raise ImageError(
                f"{reference}: is another image ({image.id[:19]}) than the one that was booted ({record.id[:19]})",
                BUILD,
            )
