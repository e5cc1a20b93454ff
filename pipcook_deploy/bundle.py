"""A bundle on disk: opened, checked byte by byte, and handed to servers and targets."""

from dataclasses import dataclass
from pathlib import Path

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.bundle_safety import foreign_entries
from pipcook_deploy.errors import BundleError
from pipcook_deploy.files import files_below, sha256
from pipcook_deploy.manifest import ArtifactEntry, Manifest, StoredFile
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.tensors import load_tensors

MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"
REPORT = "report"
ANSWERS = "answers"  # below samples: what compressed artifacts answer, a folder a format
SUMS = "SHA256SUMS"  # as `sha256sum --check` reads it


@dataclass(frozen=True)
class Bundle:
    """A folder that holds artifacts, golden samples and the manifest that proves them."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> "Bundle":
        """Read the manifest only; `check_files` looks at the bytes.

        Raises `BundleError` if the folder is not a bundle.
        """
        path = Path(path)
        return cls(path, Manifest.load(path / MANIFEST))

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self.manifest.spec

    @property
    def formats(self) -> list[str]:
        """Formats of the artifacts, in the manifest's order."""
        return [entry.format for entry in self.manifest.artifacts]

    def entry(self, format: str) -> ArtifactEntry:
        """The manifest's row for a format; raises `BundleError` if there is none."""
        for entry in self.manifest.artifacts:
            if entry.format == format:
                return entry
        raise BundleError(
            f"{self.path}: has no {format} artifact (it has {', '.join(self.formats) or 'none'})",
            f"make it: pipcook-deploy convert MODEL --to {format} --out {self.path}",
        )

    def artifact(self, format: str) -> Artifact:
        """The artifact of a format, as runtimes take it."""
        return self.entry(format).artifact(self.path)

    def golden_inputs(self) -> Tensors:
        """Golden inputs by the spec's names."""
        return load_tensors(self.path / "samples" / "inputs")

    def golden_outputs(self) -> Tensors:
        """The source's own answers to them."""
        return load_tensors(self.path / "samples" / "outputs")

    def expected_outputs(self, format: str) -> Path:
        """The folder of the answers that an artifact is held to: the source's, or a compressed one's own."""
        own = self.path / "samples" / ANSWERS / format
        return own if self.entry(format).compression else self.path / "samples" / "outputs"

    def check_files(self) -> None:
        """Compare every file with the manifest and the sums.

        Raises `BundleError` that lists every file that is missing, changed, or not of the bundle, and every
        link.
        """
        # First of all, and alone: reading a link or a pipe is what must not happen.
        wrong = foreign_entries(self.path)
        if not wrong:
            digests = _digests(self.path)
            wrong = [*self._wrong_sums(digests), *self._wrong_files(digests)]
        if wrong:
            raise BundleError(
                "\n".join(f"{self.path}: {line}" for line in dict.fromkeys(wrong)),
                "the bundle was changed after it was made: make it again, or copy it again",
            )

    def _expected(self) -> dict[str, StoredFile]:
        found: dict[str, StoredFile] = {CARD: self.manifest.card}
        for artifact in self.manifest.artifacts:
            for file in artifact.files:
                found[f"artifacts/{artifact.format}/{file.path}"] = file
        found |= {file.path: file for file in self.manifest.report}
        for sample in self.manifest.samples.files:
            found[f"samples/{sample.path}"] = sample
        return found

    def _wrong_files(self, digests: dict[str, str]) -> list[str]:
        expected, present = self._expected(), digests.keys()
        wrong = [f"{name}: is missing" for name in sorted(expected.keys() - present)]
        extra = present - expected.keys() - {MANIFEST, SUMS}
        wrong += [f"{name}: does not belong to the bundle" for name in sorted(extra)]
        for name in sorted(expected.keys() & present):
            if digests[name] != expected[name].sha256:
                wrong.append(f"{name}: was changed (its sha256 is not the manifest's)")
        return wrong

    def _wrong_sums(self, digests: dict[str, str]) -> list[str]:
        try:
            text = (self.path / SUMS).read_bytes()
        except OSError:
            return [f"{SUMS}: is missing"]
        # Comparing the whole text finds a changed byte in the sums, in the manifest, or in any file.
        if text == _listed(digests):
            return []
        rows = (line.partition("  ") for line in text.decode(errors="replace").splitlines())
        listed = {name: digest for digest, _, name in rows}
        if listed.get(MANIFEST) != digests.get(MANIFEST):
            return [f"{MANIFEST}: was changed (its sha256 is not that of {SUMS})"]
        return [f"{SUMS}: does not fit the files"]


def sums(folder: Path) -> bytes:
    """The content of `SHA256SUMS` for a bundle as it lies there."""
    return _listed(_digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    """Of every file by its name in the folder, in order."""
    paths = ((path.relative_to(folder).as_posix(), path) for path in files_below(folder))
    return {name: sha256(path) for name, path in paths}


def _listed(digests: dict[str, str]) -> bytes:
    rows = [f"{digest}  {name}\n" for name, digest in digests.items() if name != SUMS]
    return "".join(rows).encode()
