"""What is special to podman and buildah, asked of the real programs."""

import json
import os
import secrets
import shutil
import subprocess
import urllib.request

import pytest

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.choose import connect
from pipcook_deploy.images.engine import Build, RunOptions

EPOCH = 315_532_800
DOCKERFILE = """\
FROM scratch AS made
COPY file /kept/file
FROM scratch
COPY --from=made /kept/ /
COPY file /other
LABEL a="b"
HEALTHCHECK --interval=5s CMD ["/other"]
ENTRYPOINT ["/other"]
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    folder.joinpath("Dockerfile").write_text(DOCKERFILE)
    folder.joinpath("file").write_text("content")
    os.utime(folder / "file", (EPOCH, EPOCH))
    return folder


@pytest.fixture(scope="module")
def podman(image_store):
    return connect("podman")


@pytest.fixture(scope="module")
def buildah(image_store):
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed: apt-get install buildah")
    return connect("buildah")


@pytest.fixture(scope="module")
def made(podman, context):
    """An image, and its name."""
    name = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    yield podman.build(Build(context, name, EPOCH, cache=False), lambda *_: None), name
    podman.untag(name)


def inspected(name):
    said = subprocess.run(
        ["podman", "image", "inspect", name], capture_output=True, text=True, check=True
    )
    return json.loads(said.stdout)[0]


def test_the_health_check_and_the_time_are_in_the_image(made):
    found = inspected(made[1])
    assert found["Healthcheck" if "Healthcheck" in found else "HealthCheck"]["Test"] == [
        "CMD",
        "/other",
    ]
    assert found["Created"].startswith("1980-01-01T00:00:00")
    assert found["RepoTags"] == [f"localhost/{made[1]}"]


def test_each_copy_is_a_layer(made):
    assert len(made[0].layers) == 2
    assert all(layer.size % 512 == 0 for layer in made[0].layers)


def test_buildah_builds_what_podman_does(made, buildah, context):
    name = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    try:
        image = buildah.build(Build(context, name, EPOCH, cache=False), lambda *_: None)
        assert image == made[0]
    finally:
        buildah.untag(name)


def test_buildah_alone_reads_and_does_not_run(buildah, made, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    folder.joinpath("buildah").symlink_to(shutil.which("buildah"))
    monkeypatch.setenv("PATH", str(folder))
    alone = connect("buildah")
    assert not alone.runs
    assert alone.read(made[0], "/other") == b"content"
    with pytest.raises(ImageError, match="is no file of the image"):
        alone.read(made[0], "/kept")
    with pytest.raises(ImageError, match="runs no containers"):
        alone.start(made[0], RunOptions(8080, 1 << 28))


@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_what_is_pushed_has_the_digest_that_the_registry_says(
    name, request, registry, made, tmp_path, monkeypatch
):
    engine = request.getfixturevalue(name)
    settings = tmp_path / "registries.conf"
    settings.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(settings))
    reference = f"{registry}/model:1"
    engine.tag(made[0], reference)
    try:
        said = []
        digest = engine.push(reference, lambda *now: said.append(now))
        assert said
    finally:
        engine.untag(reference)
    request = urllib.request.Request(
        f"http://{registry}/v2/model/manifests/{digest}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as answer:
        manifest = json.load(answer)
    assert manifest["config"]["digest"] == made[0].id


@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_a_build_that_fails_leaves_nothing_behind(name, request, tmp_path):
    engine = request.getfixturevalue(name)
    tmp_path.joinpath("Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\nCOPY none /\n")
    trial = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    with pytest.raises(ImageError, match="none"):
        engine.build(Build(tmp_path, trial, EPOCH), lambda *_: None)
    assert engine.image(trial) is None
    left = subprocess.run(["podman", "ps", "--all", "--external", "--quiet"], capture_output=True)
    assert left.stdout == b""


def test_a_registry_that_does_not_answer_is_an_error(podman, made):
    reference = "127.0.0.1:1/model:1"
    podman.tag(made[0], reference)
    try:
        with pytest.raises(ImageError, match="cannot be pushed") as failure:
            podman.push(reference, lambda *_: None)
        assert "podman login" in failure.value.hint
    finally:
        podman.untag(reference)


def test_a_link_of_the_image_is_not_followed_into_this_machine(podman, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    context.joinpath("link").symlink_to("/etc/hostname")
    context.joinpath("Dockerfile").write_text('FROM scratch\nCOPY . /files/\nENTRYPOINT ["/x"]\n')
    name = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    try:
        image = podman.build(Build(context, name, EPOCH), lambda *_: None)
        with pytest.raises(ImageError, match="/files/link"):
            podman.read(image, "/files/link")
    finally:
        podman.untag(name)


def test_a_name_that_another_build_has_is_kept(podman, made, context):
    """Builds with a cache end in the same image; the other's name is no part of this one."""
    mine = f"localhost/pipcook-deploy-mine:{secrets.token_hex(6)}"
    command = ["podman", "build", "--format", "docker", "--layers", "--timestamp", str(EPOCH)]
    subprocess.run(
        [*command, "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", "--tag", mine, context],
        check=True,
        capture_output=True,
    )
    name = f"pipcook-deploy-trial:{secrets.token_hex(6)}"
    try:
        assert podman.build(Build(context, name, EPOCH), lambda *_: None).id == made[0].id
        assert podman.image(mine) is not None
    finally:
        podman.untag(name)
        podman.untag(mine)
