"""An engine that is not there, dies in the middle, or has no space left: one clear error, and nothing left behind."""

import errno
import gc
import os
import socket
import subprocess

import pytest
from docker.credentials.errors import StoreError

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.cli import main
from pipcook_deploy.errors import EngineMissingError, ImageError, OutputError
from pipcook_deploy.images.docker_engine import DockerEngine, failed, follow
from pipcook_deploy.images.docker_sdk import talking
from pipcook_deploy.package import package_one
from tests.images.failing_engine import engine_that_dies
from tests.server import scale_bundles

# docker-py leaves sockets open on which no one answered, or which someone closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return scale_bundles.write(tmp_path_factory.mktemp("bundle") / "b", 3)


def package(bundle, out, **options):
    return package_one(Bundle.open(bundle), "docker", options, out)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")


def test_no_engine(nowhere):
    with pytest.raises(
        EngineMissingError, match="no Docker engine answers: No such file"
    ) as raised:
        DockerEngine.connect()
    assert "DOCKER_HOST" in raised.value.hint
    gc.collect()


def test_someone_else_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr("pipcook_deploy.images.docker_engine.SECONDS", 1)
        with pytest.raises(EngineMissingError, match="no Docker engine answers"):
            DockerEngine.connect()
    gc.collect()


@pytest.mark.parametrize(
    ("until", "when"),
    [
        (b"tree.py", "the build"),  # in the middle of it
        (b"Successfully tagged", "the build"),
    ],
)
@pytest.mark.timeout(600)
def test_an_engine_that_dies(docker_client, bundle, tmp_path, monkeypatch, until, when):
    real = os.environ["DOCKER_HOST"]
    if not real.startswith("unix://"):
        pytest.skip("the engine is not reached by a socket of this machine")
    with engine_that_dies(tmp_path, real, until) as (address, proxy):
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(ImageError, match=f"Docker did not do {when}") as raised:
            package(bundle, tmp_path / "p", tag="shop-test-dies", build=True)
        assert proxy.dead.is_set()
    assert raised.value.hint == "see whether it runs: docker info"
    assert not (tmp_path / "p").exists()
    assert [path.name for path in tmp_path.iterdir() if "staging" in path.name] == []
    names = {tag for image in docker_client.images.list() for tag in image.tags}
    assert not [name for name in names if name.startswith("shop-test-dies")]
    # Who has died removes nothing: the name of the trial is all that may be left.
    for name in [name for name in names if name.endswith(f"-{os.getpid()}")]:
        docker_client.images.remove(name, force=True)
    gc.collect()


def test_a_full_disk_here(bundle, tmp_path, monkeypatch):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            package(bundle, place / "p", build=False)
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_an_address_that_is_none(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://host:abc")
    with pytest.raises(EngineMissingError, match="no Docker engine answers"):
        DockerEngine.connect()


def test_a_credential_helper_that_is_not_there():
    with (
        pytest.raises(ImageError, match=r"Docker did not do the push: .*docker-credential-none"),
        talking("the push"),
    ):
        raise StoreError("docker-credential-none not installed or not available in PATH")


def test_a_full_disk_where_images_pass_through():
    with (
        pytest.raises(OutputError, match="has no space for the image") as raised,
        talking("the build"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "TMPDIR" in raised.value.hint


def test_a_full_disk_of_the_engine():
    rows = [
        {"stream": "Step 7/31 : RUN x"},
        {"error": "write /var/lib/x: no space left on device"},
    ]
    with pytest.raises(ImageError, match="the engine has no space left") as raised:
        follow(iter(rows), lambda *now: None)
    assert raised.value.hint == "make some: docker system prune"
    assert "no space left" in failed("x", ["cp: No space left on device"]).message


def test_a_step_that_fails_is_shown_with_what_it_said():
    rows = [
        {"stream": "Step 2/3 : RUN x"},
        {"stream": "pip: no\n"},
        {"error": "returned a non-zero code: 1"},
        {"stream": "after"},
    ]
    seen = []
    with pytest.raises(ImageError, match="returned a non-zero code: 1") as raised:
        follow(iter(rows), lambda *now: seen.append(now))
    assert raised.value.hint == "Step 2/3 : RUN x\npip: no\nafter"
    assert seen == [("RUN x", 1, 3)]


def test_the_command_says_so_and_leaves_nothing(nowhere, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # nor podman
    arguments = ["package", str(bundle), "--target", "docker", "--out", str(tmp_path / "p")]
    assert main([*arguments, "--build"]) == EngineMissingError.exit_code
    said = capsys.readouterr().err
    assert "no Docker engine answers" in said and "--no-build" in said and "Traceback" not in said
    assert not (tmp_path / "p").exists()
    gc.collect()
