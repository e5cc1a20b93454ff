"""`image.json`: an image, and how its boot test went."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue

from pipcook_deploy.errors import ImageError
from pipcook_deploy.options import Options

RECORD = "image.json"


class LayerEntry(Options):
    """A layer; sizes are bytes, `compressed` as a registry stores it."""

    what: str
    diff_id: str
    size: int
    compressed: int | None


class ContractEntry(Options):
    """One way to ask the server, with the golden samples: what came back, compared with what the bundle recorded."""

    contract: str
    start: str
    samples: int
    largest_difference: float | None = None
    skipped: str | None = Field(default=None, description="Why this model cannot be asked so.")


class DrainEntry(Options):
    """The end under load: requests answered, of these after SIGTERM, and lost."""

    answered: int
    after_sigterm: int
    lost: int
    seconds: float
    exit_code: int


class BootEntry(Options):
    """A boot test that passed: one that fails leaves no image and no record."""

    engine: str
    memory: int
    seconds_to_first_answer: float
    starts: tuple[str, ...]
    contracts: tuple[ContractEntry, ...]
    drain: DrainEntry


class PushEntry(Options):
    """Where the image is: a registry's digest of it, and whether that was signed and the signature checked."""

    reference: str
    digest: str
    signed: bool = False


class ScanEntry(Options):
    """What a scanner found: how many of each severity."""

    scanner: str
    findings: dict[str, int]


class ImageRecord(Options):
    """All that is known of a built image."""

    record_version: Literal[1] = 1
    id: str
    tags: tuple[str, ...]
    content: str = Field(description="sha256 over the build context.")
    bundle: str = Field(description="sha256 of the SHA256SUMS of the bundle in it.")
    built_by: str
    parameters: dict[str, JsonValue]
    layers: tuple[LayerEntry, ...]
    boot: BootEntry | None = None
    scan: ScanEntry | None = None
    pushes: tuple[PushEntry, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all layers, uncompressed."""
        return sum(layer.size for layer in self.layers)

    @property
    def compressed(self) -> int | None:
        """Bytes of all layers as a registry stores them, where the engine tells."""
        sizes = [layer.compressed for layer in self.layers]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def dump(self) -> str:
        """The text of `image.json`."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> "ImageRecord":
        """Raises `ImageError` if there is none, or it is not one."""
        try:
            data: Any = json.loads(path.read_bytes())
            return cls.model_validate(data)
        except FileNotFoundError:
            raise ImageError(
                f"{path}: there is no image that was built and booted",
                "build it: pipcook-deploy package BUNDLE --target docker --build",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ImageError(f"{path}: cannot be read: {error}", "build the image again") from error
