"""A bundle with some of another's formats: what a server needs, without what only browsers do."""

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path

from pipcook_deploy.bundle import ANSWERS, CARD, MANIFEST, SUMS, Bundle, sums
from pipcook_deploy.files import sha256
from pipcook_deploy.manifest import Manifest
from pipcook_deploy.model_card import render_card


def subset_of(manifest: Manifest, formats: Collection[str]) -> tuple[Manifest, str]:
    """The manifest of a bundle that has only these formats, and no report; and its card. Pure."""
    artifacts = tuple(entry for entry in manifest.artifacts if entry.format in formats)
    others = tuple(
        f"{ANSWERS}/{entry.format}/" for entry in manifest.artifacts if entry not in artifacts
    )
    files = tuple(f for f in manifest.samples.files if not f.path.startswith(others))
    samples = manifest.samples.model_copy(update={"files": files})
    bench = tuple(row for row in manifest.bench if row.format in formats)
    changes = {"artifacts": artifacts, "samples": samples, "report": (), "bench": bench}
    changed = manifest.model_copy(update=changes)
    card = render_card(changed)
    data = card.encode()
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return changed.model_copy(update={"card": manifest.card.model_copy(update=entry)}), card


def write_subset(bundle: Bundle, formats: Collection[str], into: Path) -> Bundle:
    """Write it into `into`, which must not exist. Raises `BundleError` if a format is missing, `OSError`."""
    for format in formats:
        bundle.entry(format)
    manifest, card = subset_of(bundle.manifest, formats)
    for entry in manifest.artifacts:
        place = Path("artifacts", entry.format)
        shutil.copytree(bundle.path / place, into / place)
    for file in manifest.samples.files:
        target = into / "samples" / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / "samples" / file.path, target)
    (into / CARD).write_text(card, encoding="utf-8")
    (into / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    (into / SUMS).write_bytes(sums(into))
    return Bundle.open(into)


def subset_sums(bundle: Bundle, formats: Collection[str]) -> str:
    """What `content_digest` is of a subset, without writing it. Raises `BundleError` if a format is missing."""
    for format in formats:
        bundle.entry(format)
    manifest, _ = subset_of(bundle.manifest, formats)
    digests = {CARD: manifest.card.sha256, MANIFEST: _sha256(manifest.dump())}
    for entry in manifest.artifacts:
        digests |= {f"artifacts/{entry.format}/{file.path}": file.sha256 for file in entry.files}
    digests |= {f"samples/{file.path}": file.sha256 for file in manifest.samples.files}
    rows = [f"{digests[name]}  {name}\n" for name in sorted(digests)]
    return _sha256("".join(rows))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def content_digest(bundle: Bundle) -> str:
    """Of a bundle whose files are as they were made: of its sums, which are of all of them."""
    return sha256(bundle.path / SUMS)
