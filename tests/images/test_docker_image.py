"""Real images: built, looked into, run as strangers run them, pushed."""

import base64
import json
import os
import shutil
import socket
import subprocess
import tarfile
from io import BytesIO

import httpx
import numpy as np
import pytest

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import BootError, ImageError
from pipcook_deploy.images.docker_engine import DockerEngine
from pipcook_deploy.images.engine import Build, RunOptions
from pipcook_deploy.package import package_one
from tests.server import scale_bundles
from tests.targets.test_every_target import HOSTILE

pytestmark = [pytest.mark.timeout(900)]
MEGABYTE = 1 << 20


def package(bundle, out, **options):
    return package_one(Bundle.open(bundle), "docker", options, out)


@pytest.fixture(scope="module")
def folder(docker_client, tmp_path_factory):
    """Of several bundles, with images of them."""
    folder = tmp_path_factory.mktemp("images")
    yield folder
    for image in docker_client.images.list():
        for tag in image.tags:
            if tag.rpartition("/")[2].startswith("shop-test"):
                docker_client.images.remove(tag, force=True)


@pytest.fixture(scope="module")
def shipped(folder):
    """The package of a bundle whose name tries to be a command."""
    bundle = scale_bundles.write(folder / "first", 3, name=HOSTILE)
    return package(bundle, folder / "first-docker", tag="shop-test", build=True)


@pytest.fixture(scope="module")
def files(docker_client, shipped):
    """Of the image: every path with its tar header."""
    container = docker_client.containers.create(shipped.image.tags[0])
    try:
        data = BytesIO(b"".join(container.export()))
    finally:
        container.remove()
    with tarfile.open(fileobj=data) as archive:
        return {member.name: member for member in archive.getmembers()}


@pytest.fixture
def engine(docker_client):
    engine = DockerEngine.connect()
    yield engine
    engine.close()


def test_it_was_booted_and_asked_in_every_way(shipped):
    boot = shipped.image.boot
    assert boot.memory == 256 * MEGABYTE
    assert len(boot.starts) == 5 and boot.drain.lost == 0 and boot.drain.exit_code == 0
    judged = [row for row in boot.contracts if row.skipped is None]
    assert len(judged) == 9 and all(row.samples == 2 for row in judged)


def test_it_is_small_and_every_layer_is_told(shipped):
    model = next(layer for layer in shipped.image.layers if layer.what == "model")
    assert shipped.image.size - model.size < 250_000_000
    assert [layer.what for layer in shipped.image.layers] == [
        "interpreter and libraries",
        "packages",
        "server",
        "model",
        "bill of materials, provenance",
    ]


def test_there_is_no_shell_no_installer_and_no_framework_in_it(files):
    names = {name.rpartition("/")[2] for name, member in files.items() if not member.isdir()}
    assert not names & {"sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "gcc", "cc"}
    assert not names & {"pip", "pip3", "ensurepip"}
    packages = {
        name.split("/site-packages/")[1].split("/")[0]
        for name in files
        if "/site-packages/" in name
    }
    assert {"onnxruntime", "granian", "pipcook_deploy"} <= packages
    assert not packages & {"pip", "setuptools", "tensorflow", "keras", "h5py", "rich", "onnx"}
    assert {"python3", "SHA256SUMS", "sbom.cdx.json", "provenance.json"} <= names
    assert not [name for name in files if name.startswith(("build/", "root/.cache", "var/cache"))]


def test_nothing_in_it_belongs_to_or_can_be_written_by_its_user(files):
    own = {
        name: member
        for name, member in files.items()
        if not name.startswith(("dev", "proc", "sys"))
    }
    assert {member.uid for member in own.values()} == {0}
    writable = {name for name, m in own.items() if m.mode & 0o022 and not m.issym()}
    assert writable <= {"tmp", "tmp/"}
    assert not [name for name, member in own.items() if member.mode & 0o6000]


def test_its_labels_say_what_the_model_says(docker_client, shipped):
    image = docker_client.images.get(shipped.image.tags[0])
    labels = image.labels
    assert labels["org.opencontainers.image.title"] == 'a "b"; $(touch x)`touch y` {z}'
    assert labels["org.opencontainers.image.version"] == "1"
    assert labels["io.github.pipcook-deploy.bundle"] == shipped.image.bundle
    config = image.attrs["Config"]
    assert config["User"] == "10001:10001" and config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert image.attrs["Created"].startswith("1980-01-01T00:00:00")


def test_its_bill_of_materials_is_what_is_installed(docker_client, shipped):
    beside = json.loads((shipped.path / "sbom.cdx.json").read_text())
    listed = {
        (row["name"].lower().replace("_", "-"), row["version"])
        for row in beside["components"]
        if row.get("purl", "").startswith("pkg:pypi/")
    }
    code = "import importlib.metadata as m; print([[d.name, d.version] for d in m.distributions()])"
    said = docker_client.containers.run(
        shipped.image.tags[0], ["-c", code], entrypoint="python3", remove=True
    )
    installed = {(n.lower().replace("_", "-"), v) for n, v in json.loads(said.replace(b"'", b'"'))}
    assert listed == installed
    assert "machine-learning-model" in {row["type"] for row in beside["components"]}
    assert any(
        row.get("purl", "").startswith("pkg:deb/debian/libc6") for row in beside["components"]
    )


def test_a_second_build_without_the_cache_is_the_same_image(shipped, engine):
    build = Build(shipped.path, "shop-test:again", 315_532_800, cache=False)
    assert engine.build(build, lambda *now: None).id == shipped.image.id


def test_it_runs_locked_down(docker_client, shipped, engine):
    image = engine.image(shipped.image.tags[0])
    container = engine.start(image, RunOptions(8080, 256 * MEGABYTE, user="4242:0"))
    try:
        host = docker_client.containers.get(container.name).attrs["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Memory"] == host["MemorySwap"] == 256 * MEGABYTE and host["PidsLimit"] == 64
        code = "import os; print(os.getuid(), os.access('/model', os.W_OK)); open('/x', 'w')"
        status, said = container.execute("python3", "-c", code)
        assert status == 1 and said.startswith("4242 False") and "Read-only file system" in said
    finally:
        container.remove()


def test_compose_runs_it_and_calls_it_healthy(shipped, docker_client):
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    compose = ["docker", "compose", "--project-name", "shop-test-compose"]

    def run(*arguments):
        return subprocess.run(
            [*compose, *arguments],
            cwd=shipped.path,
            env=os.environ | {"PORT": "0"},
            capture_output=True,
            text=True,
            timeout=180,
        )

    checked = run("--profile", "metrics", "config", "--quiet")
    assert checked.returncode == 0, checked.stderr
    try:
        up = run("up", "--wait", "--no-build")
        assert up.returncode == 0, up.stderr
        place = run("port", "server", "8080").stdout.strip()
        answer = httpx.get(f"http://{place}/metrics")
        assert answer.status_code == 200 and "# HELP" in answer.text
    finally:
        assert run("down", "--timeout", "10").returncode == 0


# ---- the next version, and registries


@pytest.fixture(scope="module")
def second(folder, shipped):
    """The same with another model."""
    bundle = scale_bundles.write(folder / "second", 4, name=HOSTILE, version="2")
    return package(bundle, folder / "second-docker", tag="shop-test", build=True)


def test_a_new_model_changes_its_own_layers_only(shipped, second):
    pairs = zip(shipped.image.layers, second.image.layers, strict=True)
    changed = [after.what for before, after in pairs if before.diff_id != after.diff_id]
    assert changed == ["model", "bill of materials, provenance"]


def test_a_new_model_pushes_its_own_bytes_only(shipped, second, registry, folder, tmp_path):
    def push(made, version):
        bundle = folder / ("first" if version == 1 else "second")
        return package(bundle, tmp_path / str(version), tag=f"{registry}/shop-test", push=True)

    def stored():
        with httpx.Client(base_url=f"http://{registry}/v2/shop-test/") as client:
            sizes = {}
            for tag in client.get("tags/list").json()["tags"]:
                accept = {
                    "accept": "application/vnd.docker.distribution.manifest.v2+json, "
                    "application/vnd.oci.image.manifest.v1+json"
                }
                manifest = client.get(f"manifests/{tag}", headers=accept)
                rows = [manifest.json()["config"], *manifest.json()["layers"]]
                sizes |= {row["digest"]: row["size"] for row in rows}
                sizes[tag] = len(manifest.content)
            return sum(sizes.values())

    first = push(shipped, 1)
    before = stored()
    after = push(second, 2)
    grown = stored() - before
    model = sum(p.stat().st_size for p in (tmp_path / "2" / "bundle").rglob("*") if p.is_file())
    assert 0 < grown <= model + 64 * 1024
    assert {push.digest for push in after.image.pushes} != {p.digest for p in first.image.pushes}
    assert len({push.digest for push in after.image.pushes}) == 1


def test_what_was_pushed_is_pulled_and_is_the_same(
    docker_client, shipped, registry, folder, tmp_path
):
    tag = f"{registry}/shop-test-pull"
    made = package(folder / "first", tmp_path / "p", tag=tag, push=True)
    (pushed, *_) = made.image.pushes
    with httpx.Client(base_url=f"http://{registry}/v2/shop-test-pull/") as client:
        accept = {
            "accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        }
        answer = client.get("manifests/1", headers=accept)
    assert answer.headers["docker-content-digest"] == pushed.digest
    for name in made.image.tags:
        docker_client.images.remove(name)
    pulled = docker_client.images.pull(tag, tag="1")
    assert pulled.attrs["RootFS"]["Layers"] == [layer.diff_id for layer in made.image.layers]


def test_a_registry_that_wants_a_password(
    shipped, private_registry, folder, tmp_path, monkeypatch, capfd
):
    tag = f"{private_registry.host}/shop-test"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    with pytest.raises(ImageError, match="cannot be pushed") as raised:
        package(folder / "first", tmp_path / "p", tag=tag, push=True)
    assert "docker login" in raised.value.hint
    (tmp_path / "config").mkdir()
    credentials = f"{private_registry.user}:{private_registry.password}"
    auth = base64.b64encode(credentials.encode()).decode()
    config = {"auths": {private_registry.host: {"auth": auth}}}
    (tmp_path / "config" / "config.json").write_text(json.dumps(config))
    made = package(folder / "first", tmp_path / "p", tag=tag, push=True, build=False)
    assert len(made.image.pushes) == 2
    said = capfd.readouterr()
    everything = said.out + said.err + (tmp_path / "p" / "image.json").read_text()
    assert private_registry.password not in everything and auth not in everything


def test_a_signature_is_checked_before_the_push_and_after_it(
    docker_client, shipped, registry, folder, tmp_path, monkeypatch
):
    if shutil.which("cosign") is None:
        pytest.skip("cosign is not installed")
    monkeypatch.setenv("COSIGN_PASSWORD", "a secret of the tests")
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, check=True, capture_output=True)
    key, out = tmp_path / "cosign.key", tmp_path / "p"
    options = {"tag": f"{registry}/shop-test-signed", "sign_key": key}
    package(folder / "first", out, build=True, **options)
    made = package(folder / "first", out, build=False, push=True, **options)
    assert [push.signed for push in made.image.pushes] == [True, True]
    place = f"{registry}/shop-test-signed@{made.image.pushes[0].digest}"
    verify = ["cosign", "verify", "--insecure-ignore-tlog=true", "--key", tmp_path / "cosign.pub"]
    assert subprocess.run([*verify, place], capture_output=True).returncode == 0
    # A record that says more than was signed is not believed.
    record = out / "image.json"
    record.write_text(record.read_text().replace('"lost": 0', '"lost": 1'))
    with pytest.raises(ImageError, match="cosign ended with exit code"):
        package(folder / "first", out, build=False, push=True, **options)


# ---- what goes wrong


def of_boot_tests(docker_client):
    """Containers that this process has started to try images."""
    name = f"pipcook-deploy-boot-{os.getpid()}-"
    return docker_client.containers.list(all=True, filters={"name": name})


def test_an_image_of_wrong_answers_is_taken_away(docker_client, shipped, folder, tmp_path):
    bundle = scale_bundles.write(tmp_path / "wrong", 5, recorded=6, name=HOSTILE)
    with pytest.raises(BootError, match="ended with exit code 9 before it answered") as raised:
        package(bundle, tmp_path / "p", tag="shop-test-wrong", build=True)
    assert "otherwise than was recorded" in raised.value.hint
    names = {tag for image in docker_client.images.list() for tag in image.tags}
    assert not [
        n for n in names if n.startswith("shop-test-wrong") or n.endswith(f"-{os.getpid()}")
    ]
    assert not of_boot_tests(docker_client)
    assert not (tmp_path / "p").exists()


def test_a_server_with_too_little_memory(docker_client, shipped, folder, tmp_path):
    with pytest.raises(BootError, match=r"exit code 137 before it answered: .* docker\.memory="):
        package(folder / "first", tmp_path / "p", tag="shop-test-small", memory=20, build=True)
    assert not of_boot_tests(docker_client)


def test_a_port_that_is_taken(docker_client, shipped, folder, tmp_path):

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ImageError, match="a port for the container is taken") as raised:
            package(folder / "first", tmp_path / "p", tag="shop-test", boot_port=port, build=True)
    assert "docker.boot_port" in raised.value.hint
    assert not of_boot_tests(docker_client)
    assert not (tmp_path / "p").exists()


def test_a_base_image_that_there_is_not(docker_client, folder, shipped, tmp_path):
    with pytest.raises(ImageError, match="cannot be built"):
        package(folder / "first", tmp_path / "p", base="127.0.0.1:1/none:1", build=True)
    assert not (tmp_path / "p").exists()


def test_a_package_whose_hash_is_not_the_locked_one(engine, shipped, tmp_path):
    context = tmp_path / "p"
    shutil.copytree(shipped.path, context)
    path = context / "requirements.txt"
    lines = path.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("click=="))
    path.write_text("\n".join([*lines[:at], f"click==8.5.1 --hash=sha256:{'0' * 64}"]) + "\n")
    with pytest.raises(ImageError, match="cannot be built") as raised:
        engine.build(Build(context, "shop-test:bad", 315_532_800), lambda *now: None)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in raised.value.hint
    assert engine.image("shop-test:bad") is None


def test_the_lambda_variant_has_the_adapter(docker_client, engine, folder, shipped, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "lambda-adapter").write_bytes(b"stands in for the adapter")
    (tmp_path / "adapter" / "Dockerfile").write_text("FROM scratch\nCOPY lambda-adapter /\n")
    name = "public.ecr.aws/awsguru/aws-lambda-adapter:1.0.0-rc1"
    if engine.image(name) is None:
        docker_client.images.build(path=str(tmp_path / "adapter"), tag=name)
    made = package(
        folder / "first", tmp_path / "p", tag="shop-test-lambda", variant="lambda", build=True
    )
    image = engine.image(made.image.tags[0])
    assert engine.read(image, "/opt/extensions/lambda-adapter") == b"stands in for the adapter"
    assert len(made.image.boot.starts) == 5
    names = [layer.what for layer in made.image.layers]
    assert names[3:5] == ["Lambda Web Adapter", "model"] and names[0] == "interpreter and libraries"
    docker_client.images.remove(name)
    assert np.isfinite(made.image.boot.seconds_to_first_answer)
