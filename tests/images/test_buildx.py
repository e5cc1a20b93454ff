"""What is special to buildx, asked of a real engine."""

import os
import secrets

import pytest

from pipcook_deploy.errors import EngineMissingError
from pipcook_deploy.images.choose import connect
from pipcook_deploy.images.engine import Build

EPOCH = 315_532_800


@pytest.fixture
def buildx(docker_client):
    try:
        engine = connect("buildx")
    except EngineMissingError as error:
        pytest.skip(str(error))
    yield engine
    engine.close()


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    folder.joinpath("Dockerfile").write_text(
        'FROM scratch\nCOPY file /file\nLABEL a="b"\nENTRYPOINT ["/file"]\n'
    )
    folder.joinpath("file").write_bytes(b"content" * 10_000)
    os.utime(folder / "file", (EPOCH, EPOCH))
    return folder


@pytest.fixture
def built(buildx, context):
    """Builds the context by an engine; what was built is taken away."""
    names = []

    def build(engine):
        names.append(f"pipcook-deploy-trial:{secrets.token_hex(6)}")
        return engine.build(Build(context, names[-1], EPOCH, cache=False), lambda *_: None)

    yield build
    for name in names:
        buildx.untag(name)


def test_layers_are_measured_as_docker_measures_its_own(buildx, built):
    docker = connect("docker")
    try:
        other = built(docker)
    finally:
        docker.close()
    image = built(buildx)
    sizes = [(layer.diff_id, layer.size) for layer in image.layers]
    assert sizes == [(layer.diff_id, layer.size) for layer in other.layers]
    assert (image.compressed is None) == (other.compressed is None)
    assert image.labels == other.labels


def test_the_image_is_of_the_epoch_and_nothing_is_stored_beside_it(buildx, built, docker_client):
    image = built(buildx)
    found = docker_client.api.inspect_image(image.id)
    assert found["Created"].startswith("1980-01-01T00:00:00")
    assert found["Architecture"] != "unknown"


def test_the_command_talks_to_the_engine_that_the_sdk_talks_to(buildx, built, monkeypatch):
    """Whatever context the docker command has chosen for itself."""
    monkeypatch.setenv("DOCKER_CONTEXT", "no-such-context")
    image = built(buildx)
    assert buildx.image(image.id) is not None
