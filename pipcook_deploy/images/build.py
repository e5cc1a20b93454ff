"""From a bundle to an image that was built, booted, scanned, signed and pushed: one step each, in this order."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import ImageError, OutputError
from pipcook_deploy.files import files_below, remove_stale, replace_folder, sha256
from pipcook_deploy.images.boot import boot
from pipcook_deploy.images.engine import Build, Engine, Image, Progress, RunOptions
from pipcook_deploy.images.failures import passing_through
from pipcook_deploy.images.golden import Golden
from pipcook_deploy.images.record import RECORD, BootEntry, ImageRecord, LayerEntry, ScanEntry
from pipcook_deploy.images.render import Plan, parameters, render_context
from pipcook_deploy.images.scan import scan, scanner
from pipcook_deploy.images.wheel import wheel_bytes, wheel_name
from pipcook_deploy.schedule import Listener, watched_step
from pipcook_deploy.subset import content_digest, write_subset

Result = TypeVar("Result")

MADE_BY = "# Made by pipcook-deploy"
BUNDLE, DOCKERFILE, SBOM = "bundle", "Dockerfile", "sbom.cdx.json"
SBOM_IN_IMAGE = f"/usr/share/doc/image/{SBOM}"
# Written about an image, not into it.
ABOUT = frozenset({"README.md", "compose.yaml", "prometheus.yml", SBOM, RECORD, f"{RECORD}.sig"})
LAYERS = (
    "interpreter and libraries",
    "packages",
    "server",
    "model",
    "bill of materials, provenance",
)
ADAPTER = "Lambda Web Adapter"  # between the server and the model
TRIAL = "pipcook-deploy-trial"


@dataclass(frozen=True)
class Wanted:
    """What is to be done with an image that was built."""

    boot: bool = True
    host_port: int = 0
    scan: bool = False
    fail_on: str | None = None


@dataclass(frozen=True)
class Context:
    """A build context on disk; `content` is the sha256 of all that goes into the image."""

    path: Path
    bundle: Bundle
    plan: Plan
    content: str

    @property
    def tags(self) -> tuple[str, str]:
        """The image's names: by version, and by version and content."""
        return self.plan.names(self.bundle.spec, self.content)


def is_context(folder: Path) -> bool:
    """Whether a folder is what this target writes, and may be replaced."""
    try:
        with (folder / DOCKERFILE).open(encoding="utf-8") as file:
            ours = file.readline().startswith(MADE_BY)
    except (OSError, UnicodeDecodeError):
        return False
    return ours and (folder / "provenance.json").is_file() and (folder / BUNDLE).is_dir()


@contextmanager
def staged(into: Path) -> Iterator[Path]:
    """A folder beside `into` that takes its place when the block ends well; nothing is left of it otherwise.

    Raises `OutputError` if `into` is something else, or nothing can be written.
    """
    into = Path(os.path.abspath(into))  # noqa: PTH100 - resolve() would follow a link
    if not into.name or into.is_symlink() or (into.exists() and not is_context(into)):
        raise OutputError(f"{into}: is there already and is left alone", "choose another --out")
    staging = into.with_name(f".{into.name}.staging-{os.getpid()}")
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(into)
        staging.mkdir()
        yield staging
        replace_folder(staging, into)
    except OSError as error:
        raise OutputError(
            f"{error.filename or into}: cannot be written: {error.strerror or error}",
            "free some space or choose another --out",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_context(bundle: Bundle, plan: Plan, folder: Path) -> Context:
    """Everything that `docker build` needs. Raises `BundleError` if the bundle lacks the engine's format, `OSError`."""
    part = write_subset(bundle, [plan.format], folder / BUNDLE)
    for name, text in render_context(part, content_digest(part), plan).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / wheel_name()).write_bytes(wheel_bytes())
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Context(folder, part, plan, _content(folder))


def make_image(
    context: Context,
    wanted: Wanted,
    engine: Engine,
    listener: Listener,
    keep: Callable[[ImageRecord], None],
) -> ImageRecord:
    """Build the image under a name of its own, boot it, let `keep` write its record, and only then give it its names.

    Raises `ImageError` or `BootError`; what had the names before keeps them then, and the new image is removed.
    """
    trial = f"{TRIAL}:{context.content[:12]}-{os.getpid()}"
    build = Build(context.path, trial, context.plan.epoch)
    try:
        image = _step("build image", listener, lambda p: engine.build(build, p))
        (context.path / SBOM).write_bytes(engine.read(image, SBOM_IN_IMAGE))
        booted = _booted(context, wanted, engine, image, listener)
        record = ImageRecord(
            id=image.id,
            tags=context.tags,
            content=context.content,
            bundle=content_digest(context.bundle),
            built_by=engine.describe(),
            parameters=parameters(context.plan),
            layers=_layers(image, context.plan),
            boot=booted,
            scan=_scanned(wanted, engine, image, listener),
        )
        keep(record)
        _name(engine, image, context.tags)
    finally:
        with suppress(ImageError):  # an engine that has died keeps what it had
            engine.untag(trial)
    return record


def _name(engine: Engine, image: Image, names: tuple[str, ...]) -> None:
    """Give the image all names or none."""
    before = {name: engine.image(name) for name in names}
    given: list[str] = []
    try:
        for name in names:
            engine.tag(image, name)
            given.append(name)
    except BaseException:
        with suppress(ImageError):
            for name in given:
                old = before[name]
                if old is None:
                    engine.untag(name)
                else:
                    engine.tag(old, name)
        raise


def _scanned(wanted: Wanted, engine: Engine, image: Image, listener: Listener) -> ScanEntry | None:
    if not wanted.scan:
        return None

    def look(progress: Progress) -> ScanEntry:
        with (
            passing_through(),
            tempfile.TemporaryDirectory(prefix="pipcook-deploy-scan-") as folder,
        ):
            archive = Path(folder, "image.tar")
            engine.save(image, archive)
            progress(f"asking {scanner()}", 0, None)
            return scan(archive, wanted.fail_on)

    scanner()  # said before the image is written
    return _step("scan image", listener, look)


def _booted(
    context: Context, wanted: Wanted, engine: Engine, image: Image, listener: Listener
) -> BootEntry | None:
    if not (wanted.boot and engine.runs):
        return None
    plan = context.plan
    golden = Golden.of(context.bundle, plan.format)
    options = RunOptions(plan.port, plan.memory, host_port=wanted.host_port)
    return _step(
        "boot image",
        listener,
        lambda p: boot(engine, image, golden, options, lambda text: p(text, 0, None)),
    )


def _step(name: str, listener: Listener, run: Callable[[Progress], Result]) -> Result:
    def progress(text: str, done: int, total: int | None) -> None:
        listener.advanced(name, text, done, total)

    found: Result = watched_step(name, listener, lambda: run(progress))
    return found


def _layers(image: Image, plan: Plan) -> tuple[LayerEntry, ...]:
    """In the order of the Dockerfile's COPY instructions; a base that is kept comes first."""
    names = [*LAYERS[:3], *([ADAPTER] if plan.variant == "lambda" else []), *LAYERS[3:]]
    extra = len(image.layers) - len(names)
    said = [f"base {number + 1}" for number in range(extra)] + names[-len(image.layers) :]
    return tuple(
        LayerEntry(what=what, diff_id=row.diff_id, size=row.size, compressed=row.compressed)
        for what, row in zip(said, image.layers, strict=True)
    )


def _content(folder: Path) -> str:
    rows = []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name not in ABOUT:
            rows.append(f"{sha256(path)}  {name}\n")
    return hashlib.sha256("".join(rows).encode()).hexdigest()
