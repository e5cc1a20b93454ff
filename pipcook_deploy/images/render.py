"""The build context as text: Dockerfile, locked requirements, compose.yaml and what was said about them. Pure."""

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from pipcook_deploy import __version__
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import UsageError
from pipcook_deploy.images.engine import UNPRIVILEGED
from pipcook_deploy.images.labels import labels
from pipcook_deploy.images.locks import requirements
from pipcook_deploy.images.names import package_url, tags
from pipcook_deploy.images.provenance import provenance
from pipcook_deploy.images.quoting import dockerfile_pairs, one_line, yaml_quoted
from pipcook_deploy.images.wheel import wheel_bytes, wheel_name
from pipcook_deploy.model_card import plain
from pipcook_deploy.spec import ModelSpec

EPOCH = 315_532_800  # 1980-01-01: the first time that zip files can hold
FORMATS = {"onnxruntime": "onnx", "openvino": "onnx", "litert": "tflite"}
GRPC_PORT = 8001
MEGABYTE = 1 << 20
LEAST_MEMORY = 256 * MEGABYTE
USERS = {"sagemaker": "0:0"}
SAGEMAKER_ROOT = "# SageMaker runs containers as root.\n# hadolint ignore=DL3002"


@dataclass(frozen=True)
class Plan:
    """What an image is to be; see the fields of the target `docker`."""

    engine: str
    variant: str
    base: str
    port: int
    grpc: bool
    memory: int
    tag: str
    epoch: int

    @property
    def format(self) -> str:
        """Of the artifact that the image's engine runs."""
        return FORMATS[self.engine]

    def names(self, spec: ModelSpec, content: str = "") -> tuple[str, str]:
        """The image's: by version, and by version and content."""
        return tags(self.tag, spec.name, spec.version, content)

    @property
    def user(self) -> str:
        """Who the server runs as."""
        return USERS.get(self.variant, UNPRIVILEGED)


def epoch() -> int:
    """The time of everything in an image: SOURCE_DATE_EPOCH, or a fixed one. Raises `UsageError`."""
    text = os.environ.get("SOURCE_DATE_EPOCH") or str(EPOCH)
    if not (text.isascii() and text.isdecimal() and len(text) < 11):
        raise UsageError(f"SOURCE_DATE_EPOCH={text[:50]} is no number of seconds since 1970")
    return int(text)


@cache
def public_image(name: str) -> str:
    """A public image as images.toml names it."""
    text = files("pipcook_deploy.dockerfiles").joinpath("images.toml").read_text("utf-8")
    return str(tomllib.loads(text)[name])


def memory_for(bundle: Bundle, format: str) -> int:
    """Bytes that a server of this artifact is given: several times its size, as engines copy and prepack weights."""
    size = bundle.entry(format).size
    wanted = LEAST_MEMORY + 5 * max(0, size - 10 * MEGABYTE)
    return -(-wanted // (64 * MEGABYTE)) * 64 * MEGABYTE


def render_context(bundle: Bundle, content: str, plan: Plan) -> dict[str, str]:
    """Every text file of the context by its name; `content` is the digest of the bundle in it."""
    values = _values(bundle, content, plan)
    locked = _lock(bundle, plan)
    dockerfile = "Dockerfile.gpu.in" if plan.variant == "gpu" else "Dockerfile.in"
    return {
        "Dockerfile": _filled(dockerfile, values),
        "requirements.txt": locked,
        "compose.yaml": _filled("compose.yaml.in", values | _yaml_values(values)),
        "prometheus.yml": _filled("prometheus.yml.in", values),
        ".dockerignore": _filled("dockerignore.in", values),
        "README.md": _filled("README.md.in", values),
        "provenance.json": _provenance(bundle, content, locked, plan),
        **_build_scripts(),
    }


def _values(bundle: Bundle, content: str, plan: Plan) -> dict[str, str]:
    spec = bundle.spec
    adapter = public_image("lambda_adapter")
    said = labels(bundle, engine=plan.engine, content=content, base=plan.base, epoch=plan.epoch)
    return {
        "comment": one_line(f"{spec.name} {spec.version}: a prediction server"),
        "title": plain(f"{spec.name} {spec.version}"),
        "version": __version__,
        "base": plan.base,
        "epoch": str(plan.epoch),
        "wheel": wheel_name(),
        "adapter_stage": f"FROM {adapter} AS adapter" if plan.variant == "lambda" else "",
        "adapter_copy": "COPY --from=adapter /lambda-adapter /opt/extensions/lambda-adapter"
        if plan.variant == "lambda"
        else "",
        "labels": dockerfile_pairs(said),
        "environment": dockerfile_pairs(_environment(plan)),
        "ports": f"{plan.port} {GRPC_PORT}" if plan.grpc else str(plan.port),
        "port": str(plan.port),
        "user": plan.user,
        "lint": SAGEMAKER_ROOT if plan.variant == "sagemaker" else "",
        "image": plan.names(spec)[0],
        "memory": f"{plan.memory // MEGABYTE}m",
        "format": plan.format,
    }


def _yaml_values(values: Mapping[str, str]) -> dict[str, str]:
    return {
        "image": yaml_quoted(values["image"]),
        "user": yaml_quoted(values["user"]),
        "prometheus": yaml_quoted(public_image("prometheus")),
    }


def _environment(plan: Plan) -> dict[str, str]:
    found = {
        "PATH": "/usr/local/bin:/usr/bin",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108 - what can be written to in a read-only container
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PIPCOOK_DEPLOY_HOME": "/tmp/pipcook-deploy",  # noqa: S108
        "PIPCOOK_DEPLOY_ENGINE": f"{plan.engine}-cuda" if plan.variant == "gpu" else plan.engine,
        "PORT": str(plan.port),
    }
    if plan.grpc:
        found["PIPCOOK_DEPLOY_GRPC_PORT"] = str(GRPC_PORT)
    if plan.variant == "lambda":
        found |= {"AWS_LWA_PORT": str(plan.port), "AWS_LWA_READINESS_CHECK_PATH": "/ping"}
    return found


def _lock(bundle: Bundle, plan: Plan) -> str:
    parts = ["server", f"{plan.engine}-gpu" if plan.variant == "gpu" else plan.engine]
    tensors = (*bundle.spec.inputs, *bundle.spec.outputs)
    if any(tensor.dtype == "bfloat16" for tensor in tensors):
        parts.append("bfloat16")
    return requirements([*parts, "grpc"] if plan.grpc else parts)


def _provenance(bundle: Bundle, content: str, locked: str, plan: Plan) -> str:
    materials: list[tuple[str, Mapping[str, str]]] = [
        package_url(plan.base),
        ("requirements.txt", {"sha256": hashlib.sha256(locked.encode()).hexdigest()}),
        (wheel_name(), {"sha256": hashlib.sha256(wheel_bytes()).hexdigest()}),
        (bundle.manifest.source.name, {"sha256": bundle.manifest.source.sha256}),
    ]
    return provenance(
        subjects=[("/model/SHA256SUMS", {"sha256": content})],
        materials=materials,
        parameters=parameters(plan),
        builder="urn:pipcook-deploy:target:docker",
        version=__version__,
        epoch=plan.epoch,
    )


def parameters(plan: Plan) -> dict[str, str | int | bool]:
    """What was asked for, for the record."""
    return {
        "engine": plan.engine,
        "variant": plan.variant,
        "base": plan.base,
        "port": plan.port,
        "grpc": plan.grpc,
    }


def _build_scripts() -> dict[str, str]:
    folder = files("pipcook_deploy.dockerfiles").joinpath("layers")
    found = (path for path in folder.iterdir() if path.name.endswith((".py", ".txt")))
    return {f"layers/{path.name}": path.read_text("utf-8") for path in found if path.name[0] != "_"}


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = files("pipcook_deploy.dockerfiles").joinpath(template).read_text("utf-8")
    return Template(text).substitute(values)
