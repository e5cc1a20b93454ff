"""Target `docker`: an image that serves the bundle, built and booted where a container engine answers."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.schedule import Listener
from pipcook_deploy.target import Package, Target

if TYPE_CHECKING:
    from pipcook_deploy.images.render import Plan

MEGABYTE = 1 << 20


class DockerTarget(Target):
    """A container image without TensorFlow: the build context, and the image where an engine answers."""

    name: ClassVar[str] = "docker"

    tag: str = Field(
        default="", description="[REGISTRY/]NAME[:TAG]; of the model's name by default."
    )
    engine: Literal["onnxruntime", "openvino", "litert"] = Field(
        default="onnxruntime", description="What computes in the image."
    )
    variant: Literal["standard", "sagemaker", "lambda", "gpu"] = Field(
        default="standard",
        description="sagemaker runs as root, lambda has the Lambda Web Adapter, gpu is not tested.",
    )
    base: str = Field(default="", description="Image with Python 3.11 or newer and glibc.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port in the container.")
    grpc: bool = Field(default=False, description="Answer over gRPC too, on port 8001.")
    memory: int = Field(
        default=0, ge=0, description="MiB that the server gets; 0: by the model's size."
    )
    build: bool | None = Field(
        default=None, description="Build the image; by default where an engine answers."
    )
    builder: Literal["auto", "docker", "buildx", "podman", "buildah"] = Field(
        default="auto", description="What builds; auto takes what answers."
    )
    boot: bool = Field(default=True, description="Start the image and ask it before it is kept.")
    boot_port: int = Field(
        default=0, ge=0, le=65535, description="Port of this machine for that; 0: any."
    )
    scan: bool = Field(default=False, description="Scan the image with trivy or grype.")
    fail_on: Literal["low", "medium", "high", "critical"] | None = Field(
        default=None, description="Least severity of a finding that ends the stage."
    )
    push: bool = Field(default=False, description="Push the image once it is booted.")
    sign_key: Path | None = Field(
        default=None, description="Cosign's private key; its password is in COSIGN_PASSWORD."
    )

    @field_validator("base")
    @classmethod
    def _a_reference(cls, value: str) -> str:
        from pipcook_deploy.images.names import is_reference

        if value and not is_reference(value):
            raise ValueError(f"{value[:200]!r} is no name of an image")
        return value

    @model_validator(mode="after")
    def _sensible(self) -> "DockerTarget":
        if self.variant == "gpu" and self.engine != "onnxruntime":
            raise ValueError(f"the variant gpu runs onnxruntime, not {self.engine}")
        if self.variant == "gpu" and self.build:
            raise ValueError("the variant gpu is written, not built: it cannot be booted here")
        if self.variant == "gpu" and self.grpc:
            raise ValueError("the variant gpu has no gRPC")
        if self.grpc and self.port == 8001:
            raise ValueError("port 8001 is that of gRPC")
        if self.variant == "gpu" and self.push:
            raise ValueError("the variant gpu is not booted, and so not pushed")
        if self.fail_on and not self.scan:
            raise ValueError("fail_on says what a scan may not find, and nothing is scanned")
        if self.scan and self.build is False:
            raise ValueError("an image is scanned when it is built")
        if self.sign_key and self.build is False and not self.push:
            raise ValueError("an image is signed when it is built or pushed")
        if self.push and not self.boot:
            raise ValueError("an image that was not booted is not pushed")
        return self

    def render(self, bundle: Bundle) -> dict[str, str]:
        """Dockerfile, requirements.txt with hashes, compose.yaml and the rest of the build context."""
        from pipcook_deploy.images.render import render_context
        from pipcook_deploy.subset import subset_sums

        plan = self.plan(bundle)
        return render_context(bundle, subset_sums(bundle, [plan.format]), plan)

    def plan(self, bundle: Bundle) -> "Plan":
        """What the image is to be. Raises `BundleError` if the bundle lacks what the engine runs."""
        from pipcook_deploy.images.render import (
            FORMATS,
            Plan,
            epoch,
            memory_for,
            public_image,
        )

        memory = self.memory * MEGABYTE or memory_for(bundle, FORMATS[self.engine])
        return Plan(
            engine=self.engine,
            variant=self.variant,
            base=self.base or public_image("python"),
            port=self.port,
            grpc=self.grpc,
            memory=memory,
            tag=self.tag,
            epoch=epoch(),
        )

    def package(self, bundle: Bundle, into: Path, listener: Listener | None = None) -> Package:
        """Write the context; build, boot and push as the fields say.

        Raises `OutputError`, `EngineMissingError` if an engine is needed and none answers, `ImageError`, `BootError`.
        """
        from pipcook_deploy.images.build import Wanted
        from pipcook_deploy.images.stage import Request, package

        plan = self.plan(bundle)
        request = Request(
            plan=plan,
            wanted=Wanted(self.boot, self.boot_port, self.scan, self.fail_on),
            build=self.build,
            builder=self.builder,
            push=self.push,
            sign_key=self.sign_key,
        )
        if self.variant == "gpu":
            request = replace(
                request, build=False, why_not="no GPU to boot it with: it is not tested"
            )
        made = package(bundle, into, request, listener or Listener())
        if made.record is None:
            command = ("docker", "build", "--tag", plan.names(bundle.spec)[0], str(into))
            return Package(self.name, into, command, notes=(f"no image: {made.why_not}",))
        # Podman and buildah have a store that Docker does not know.
        stored = made.record.built_by.startswith(("podman", "buildah"))
        program = "podman" if stored else "docker"
        published = f"127.0.0.1:{plan.port}:{plan.port}"
        run = (program, "run", "--rm", "--publish", published, made.record.tags[0])
        return Package(self.name, into, run, image=made.record)
