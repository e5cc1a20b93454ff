"""Signatures with a key of the user's own, by cosign: of the record of an image, and of the image in its registry.

Nothing is sent to a public log: signing has to work where only the registry can be reached. The key's password is
cosign's own affair, in COSIGN_PASSWORD.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipcook_deploy.errors import ImageError, MissingDependencyError, UsageError
from pipcook_deploy.run import run

SECONDS = 300.0
SIGNATURE = ".sig"
SIGNING_CONFIG = (
    "--signing-config"  # what tells the newer ones apart: builds of distributions tell no version
)
PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - its name


@dataclass(frozen=True)
class Signer:
    """A private key, and its public half."""

    program: str
    key: Path
    public: str

    @classmethod
    def of(cls, key: Path) -> "Signer":
        """Raises `MissingDependencyError` without cosign, `UsageError` for what is no key or needs another password."""
        program = shutil.which("cosign")
        if program is None:
            raise MissingDependencyError(
                "signing needs cosign", "install it, or leave --sign-key out"
            )
        if SIGNING_CONFIG in run(
            [program, "sign-blob", "--help"], timeout=SECONDS, failure=ImageError
        ):
            raise MissingDependencyError(
                f"{program} is too new: signing is tried with cosign 2.0 to 2.5",
                "newer ones leave the public log out in another way: install 2.5, or leave --sign-key out",
            )
        if not key.is_file():
            raise UsageError(
                f"--sign-key: {key}: there is no such file", "run: cosign generate-key-pair"
            )
        if PASSWORD not in os.environ:
            raise UsageError(
                f"--sign-key: the key's password is not in {PASSWORD}",
                f"run: read -rs {PASSWORD} && export {PASSWORD}  (empty for a key without one)",
            )
        return cls(program, key.absolute(), cls._public(program, key))

    def sign_file(self, path: Path) -> None:
        """Write PATH.sig. Raises `ImageError`."""
        signature = f"{path}{SIGNATURE}"
        self._run(
            "sign-blob",
            "--key",
            self.key,
            "--tlog-upload=false",
            "--output-signature",
            signature,
            path,
        )

    def check_file(self, path: Path) -> None:
        """Raises `ImageError` if the file is not what was signed with this key."""
        signature = Path(f"{path}{SIGNATURE}")
        if not signature.is_file():
            raise ImageError(f"{path}: is not signed", "build the image again with --sign-key")
        with self._public_file() as public:
            self._run(
                "verify-blob",
                "--key",
                public,
                "--insecure-ignore-tlog=true",
                "--signature",
                signature,
                path,
            )

    def sign_image(self, reference: str, digest: str) -> None:
        """Sign an image in its registry, and check the signature there. Raises `ImageError`."""
        place = f"{reference.rpartition(':')[0]}@{digest}"
        self._run("sign", "--yes", "--key", self.key, "--tlog-upload=false", place)
        with self._public_file() as public:
            self._run("verify", "--key", public, "--insecure-ignore-tlog=true", place)

    def _run(self, *arguments: str | Path) -> None:
        run([self.program, *arguments], timeout=SECONDS, failure=ImageError)

    @contextmanager
    def _public_file(self) -> Iterator[Path]:
        """The public key as a file for the time of a block."""
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-key-") as folder:
            path = Path(folder, "cosign.pub")
            path.write_text(self.public)
            yield path

    @staticmethod
    def _public(program: str, key: Path) -> str:
        text = run([program, "public-key", "--key", key], timeout=SECONDS, failure=UsageError)
        start = text.find("-----BEGIN PUBLIC KEY-----")
        if start < 0:
            raise UsageError(f"--sign-key: {key}: cosign finds no key in it")
        return text[start:]
