"""What every container engine must do, asked of each that this machine has: a tiny server is built, run and read."""

import json
import os
import secrets
import shutil
import socket
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.engine import MOST_PIDS, Build, Container, Engine, Image, RunOptions

EPOCH = 315_532_800
PORT = 8080
MEMORY = 128 << 20
TINY = Path(__file__).with_name("tiny")


class Built(NamedTuple):
    image: Image
    name: str
    progress: list[tuple[str, int, int | None]]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    for path in folder.iterdir():
        path.chmod(0o644)
        os.utime(path, (EPOCH, EPOCH))
    return folder


@pytest.fixture(scope="module")
def built(container_engine, context):
    progress = []
    name = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    build = Build(context, name, EPOCH, cache=False)
    image = container_engine.build(build, lambda *now: progress.append(now))
    yield Built(image, name, progress)
    container_engine.untag(name)


@pytest.fixture
def started(container_engine, built):
    with running(container_engine, built.image, RunOptions(PORT, MEMORY)) as container:
        yield container


class running:
    """A container for the time of a block, once it answers."""

    def __init__(self, engine: Engine, image: Image, options: RunOptions):
        self._container = engine.start(image, options)

    def __enter__(self) -> Container:
        try:
            self._container.facts = facts(self._container)
        except BaseException:
            self._container.remove()
            raise
        return self._container

    def __exit__(self, *_):
        self._container.remove()


def facts(container):
    """What the server says of itself."""
    end = time.monotonic() + 20
    while True:
        try:
            host, port, _ = container.address()
            return ask(host, port)
        except OSError:
            assert time.monotonic() < end, container.logs()
            time.sleep(0.05)


def ask(host, port):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{host}:{port}/", timeout=5) as answer:
        return json.load(answer)


def test_the_same_context_gives_the_same_image_without_a_cache(container_engine, built, context):
    name = f"{built.name}-again"
    try:
        again = container_engine.build(Build(context, name, EPOCH, cache=False), lambda *_: None)
        assert again == built.image
        assert container_engine.image(name).id == built.image.id
    finally:
        container_engine.untag(name)


def test_an_image_has_its_labels_and_the_sizes_of_its_layers(container_engine, built):
    assert built.image.id.startswith("sha256:")
    assert built.image.labels["title"] == 'a "b"; $(touch x)'
    base, server = built.image.layers
    # A tar file of one small file: a header, its blocks, the end.
    size = TINY.joinpath("server.py").stat().st_size
    assert size < server.size <= size + 4096
    assert base.size > 10_000_000
    for layer in (base, server):
        assert layer.diff_id.startswith("sha256:")
        assert layer.compressed is None or 0 < layer.compressed < layer.size
    found = container_engine.image(built.name)
    assert (found.id, found.labels) == (built.image.id, built.image.labels)


def test_a_build_says_how_far_it_is(built):
    [(_, done, steps)] = [row for row in built.progress if "COPY server.py" in row[0]]
    assert steps is not None
    assert 0 < done < steps


def test_a_container_may_do_no_more_than_it_is_told(started):
    found = started.facts
    assert found["user"] == 10001
    assert found["capabilities"] == 0
    assert found["no_new_privileges"] == "1"
    assert found["memory"] == MEMORY
    assert found["pids"] == MOST_PIDS
    assert found["writable"] == ["/tmp"]
    assert {"noexec", "nosuid", "nodev", "size=65536k"} <= set(found["tmp"])


def test_a_container_has_what_it_is_given_and_nothing_of_this_machine(
    container_engine, built, monkeypatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = RunOptions(
        PORT, MEMORY, ("serve", 'a "b"'), {"GIVEN": "a=b $c"}, "1000650000:0", host_port=port
    )
    with running(container_engine, built.image, options) as container:
        assert container.facts["arguments"] == ["serve", 'a "b"']
        assert container.facts["environment"]["GIVEN"] == "a=b $c"
        assert "HTTP_PROXY" not in container.facts["environment"]
        assert container.facts["user"] == 1000650000
        assert ask("127.0.0.1", port)["user"] == 1000650000


def test_programs_run_in_a_container_and_its_health_is_known(started):
    assert started.execute("python3", "-c", "import os; print(os.getuid())") == (0, "10001\n")
    code, said = started.execute("python3", "-c", "print(1, flush=True); raise SystemExit('no')")
    assert (code, sorted(said.split())) == (1, ["1", "no"])
    end = time.monotonic() + 20
    while started.health() != "healthy":
        assert time.monotonic() < end, started.health()
        time.sleep(0.1)


def test_a_container_ends_at_a_signal_with_its_own_code(started):
    assert started.running()
    assert started.wait(0.3) is None
    started.signal("SIGTERM")
    assert started.wait(10) == 7
    assert not started.running()
    assert started.logs().split() == ["listening", "ending"]
    started.remove()
    started.remove()


def test_a_file_of_an_image_is_read(container_engine, built):
    data = container_engine.read(built.image, "/server.py")
    assert data == TINY.joinpath("server.py").read_bytes()


@pytest.mark.parametrize("path", ["/no/such/file", "/etc"])
def test_what_is_no_file_of_an_image_is_an_error(container_engine, built, path):
    with pytest.raises(ImageError, match=path):
        container_engine.read(built.image, path)


def test_names_come_and_go(container_engine, built):
    name = f"pipcook-deploy-other:{secrets.token_hex(6)}"
    assert container_engine.image(name) is None
    container_engine.tag(built.image, name)
    assert container_engine.image(name).id == built.image.id
    container_engine.untag(name)
    container_engine.untag(name)
    assert container_engine.image(name) is None
    assert container_engine.image(built.name).id == built.image.id


def test_a_build_that_fails_says_what_the_builder_said(container_engine, tmp_path):
    program = "print('said before', flush=True); raise SystemExit(3)"
    tmp_path.joinpath("Dockerfile").write_text(
        f'FROM python:3.11-slim\nRUN ["python3", "-c", "{program}"]\n'
    )
    name = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    with pytest.raises(ImageError, match="the image cannot be built") as failure:
        container_engine.build(Build(tmp_path, name, EPOCH), lambda *_: None)
    assert "3" in failure.value.message
    assert "said before" in failure.value.hint
    assert container_engine.image(name) is None


def test_a_port_that_is_taken_is_said(container_engine, built):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = RunOptions(PORT, MEMORY, host_port=taken.getsockname()[1])
        with pytest.raises(ImageError, match="a port for the container is taken") as failure:
            container_engine.start(built.image, options).remove()
    assert "docker.boot_port" in failure.value.hint
