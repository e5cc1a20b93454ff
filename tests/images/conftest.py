"""A container engine and registries for tests of images; without them tests skip, or fail in CI."""

import gc
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pytest

from pipcook_deploy.errors import EngineMissingError
from pipcook_deploy.images.choose import ENGINES, connect
from pipcook_deploy.images.engine import Engine

if TYPE_CHECKING:
    from docker import DockerClient

BASE = "python:3.11-slim"
# Where a hard limit cannot be raised and no one manages control groups, podman's defaults start nothing.
WITHOUT_SYSTEMD = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
NEEDED = {"docker_client", "registry", "private_registry", "image_store", "container_engine"}
RUN = 'run: make engine, then eval "$(tests/images/engine.sh env)"'


class PrivateRegistry(NamedTuple):
    """A registry that wants a password."""

    host: str
    user: str
    password: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the fixtures below, so that no test has to say it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and NEEDED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.engine)


def _missing(what: str) -> NoReturn:
    if os.environ.get("PIPCOOK_DEPLOY_REQUIRE_ENGINE"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def _program(name: str) -> str:
    return shutil.which(name) or _missing(f"{name} is not installed; {RUN}")


@pytest.fixture(scope="session")
def docker_client() -> "Iterator[DockerClient]":
    """The engine at DOCKER_HOST, with the base image in it."""
    try:
        import docker
        from docker.errors import DockerException, ImageNotFound
    except ImportError:
        _missing("docker-py is not installed; run: pip install 'pipcook-deploy[docker]'")
    client, why = None, ""
    with warnings.catch_warnings():
        # docker-py leaves the socket open on which no one answered.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env()
        except DockerException as error:
            why = str(error)
        gc.collect()
    if client is None:
        _missing(f"no container engine answers ({why}); {RUN}")
    try:
        client.images.get(BASE)
    except ImageNotFound:
        client.close()
        _missing(f"the engine has no image {BASE}; {RUN}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def image_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Podman and buildah have a store of their own for the time of the tests; where it is."""
    if shutil.which("podman") is None:
        _missing("podman is not installed; run: apt-get install podman buildah netavark")
    folder = tmp_path_factory.mktemp("store")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        if not Path("/run/systemd/system").is_dir() and "CONTAINERS_CONF" not in os.environ:
            (folder / "containers.conf").write_text(WITHOUT_SYSTEMD)
            patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        yield folder
    # The store is mounted on itself while it is in use.
    subprocess.run(["umount", folder / "graph" / "overlay"], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def filled_store(image_store: Path, docker_client: "DockerClient") -> None:
    """The base image is in the store of podman and buildah."""
    archive = image_store / "base.tar"
    with archive.open("wb") as file:
        for block in docker_client.api.get_image(BASE, chunk_size=1 << 20):
            file.write(block)
    loaded = subprocess.run(
        ["podman", "load", "--quiet", "--input", archive], capture_output=True, text=True
    )
    archive.unlink()
    assert loaded.returncode == 0, loaded.stderr


@pytest.fixture(scope="module", params=sorted(ENGINES))
def container_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each of the engines that this machine has."""
    stored = request.param in ("podman", "buildah")
    request.getfixturevalue("filled_store" if stored else "docker_client")
    try:
        engine = connect(request.param)
    except EngineMissingError as error:
        _missing(str(error))
    with closing(engine):
        yield engine


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that is open to all."""
    with _serving(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    """A registry that neither reads nor writes for who has no password."""
    folder = tmp_path_factory.mktemp("private-registry")
    user, password = "deployer", secrets.token_urlsafe(16)
    entry = subprocess.run(
        [_program("htpasswd"), "-niB", user], input=password, capture_output=True, text=True
    )
    assert entry.returncode == 0, entry.stderr
    passwords = folder / "htpasswd"
    passwords.write_text(entry.stdout)
    access = f"auth: {{htpasswd: {{realm: tests, path: '{passwords}'}}}}\n"
    with _serving(folder, access) as host:
        yield PrivateRegistry(host, user, password)


@contextmanager
def _serving(folder: Path, access: str = "") -> Iterator[str]:
    program = _program("docker-registry")
    for _ in range(5):  # the port that was free may be taken before the registry has it
        host = f"127.0.0.1:{_free_port()}"
        config, log = folder / "config.yml", folder / "log"
        config.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: '{folder}/storage'}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{host}'}}\n" + access
        )
        with log.open("w") as output:
            process = subprocess.Popen(
                [program, "serve", str(config)], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            if _answers(host, process):
                yield host
                return
        finally:
            process.terminate()
            process.wait(timeout=10)
    pytest.fail(f"{program} did not start:\n{log.read_text()[-2000:]}", pytrace=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(host: str, process: "subprocess.Popen[bytes]") -> bool:
    # No proxy of the environment stands between a test and its own machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        try:
            direct.open(f"http://{host}/v2/", timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
