"""Target `local`: a folder that starts the prediction server on any machine with Python."""

import os
import shlex
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import ClassVar

from pydantic import Field

from pipcook_deploy import __version__
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import OutputError
from pipcook_deploy.schedule import Listener
from pipcook_deploy.target import Package, Target


class LocalServerTarget(Target):
    """The bundle, a pinned requirements.txt without TensorFlow, and a script that starts the server."""

    name: ClassVar[str] = "local"

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9091, ge=1, le=65535, description="Port to listen on.")

    def render(self, bundle: Bundle) -> dict[str, str]:
        """`serve.sh`, `requirements.txt` and `README.md`."""
        bundle.artifact("onnx")  # what the server runs; says so if it is missing
        values = {
            "name": " ".join(bundle.spec.name.split()),
            "host": shlex.quote(self.host),
            "port": str(self.port),
            "url": f"http://{self.host}:{self.port}/",
        }
        templates = files("pipcook_deploy.targets").joinpath("local_server_files")
        rendered = {
            name: Template(templates.joinpath(name).read_text(encoding="utf-8")).substitute(values)
            for name in ("serve.sh", "README.md")
        }
        return rendered | {"requirements.txt": _requirements()}

    def package(self, bundle: Bundle, into: Path, listener: Listener | None = None) -> Package:
        """Raises `OutputError` if `into` is there and is not a package of this target."""
        from pipcook_deploy.files import replace_folder

        rendered = self.render(bundle)
        if into.exists() and not (into / "serve.sh").is_file():
            raise OutputError(f"{into}: is there already and is left alone", "choose another --out")
        staging = into.with_name(f".{into.name}.staging-{os.getpid()}")
        try:
            shutil.copytree(bundle.path, staging / "bundle")
            for name, text in rendered.items():
                (staging / name).write_text(text, encoding="utf-8")
            (staging / "serve.sh").chmod(0o755)
            replace_folder(staging, into)
        except OSError as error:
            raise OutputError(f"{into}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return Package(self.name, into, (str(into / "serve.sh"),))


def _requirements() -> str:
    """Exact versions of this package and of its own requirements, as they are installed here."""
    rows = [f"pipcook-deploy=={__version__}"]
    for requirement in requires("pipcook-deploy") or []:
        if ";" in requirement:
            continue  # an extra: nothing that serving needs
        name = requirement.split(">")[0].split("=")[0].split("<")[0].strip()
        try:
            rows.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            rows.append(requirement)
    return "\n".join(sorted(rows)) + "\n"
