"""Engines that are driven by commands, as far as it takes no engine: recorded output stands for the programs."""

import gzip
import hashlib
import io
import json
import shlex
import tarfile

import pytest

from pipcook_deploy.errors import EngineMissingError, ImageError
from pipcook_deploy.images import buildx_engine, store_engine
from pipcook_deploy.images.archive import file_in, layers_in, settle
from pipcook_deploy.images.buildah_engine import BuildahEngine
from pipcook_deploy.images.buildx_engine import BuildxEngine
from pipcook_deploy.images.choose import connect
from pipcook_deploy.images.engine import Build, Image, RunOptions
from pipcook_deploy.images.failures import failed, reason_in
from pipcook_deploy.images.podman_engine import PodmanEngine
from pipcook_deploy.images.store_engine import qualified

PODMAN_INFO = '{"host": {"arch": "amd64"}, "version": {"Version": "4.3.1"}}'
PODMAN_IMAGE = """[{"Id": "26c3043765e0", "RepoTags": ["localhost/a:1"], "Labels": {"a.b": "c d"},
 "Config": {"Labels": {"a.b": "c d"}}}]"""
BUILDAH_VERSION = '{"version": "1.28.2", "goVersion": "go1.19.8"}'
BUILDAH_IMAGE = """{"Type": "buildah 0.0.1", "FromImage": "localhost/a:1", "FromImageID": "c1c06b879e07",
 "Docker": {"config": {"Labels": {"a.b": "c d"}}}}"""
NOT_KNOWN = "Error: inspecting object: localhost/nothing:1: image not known"
NO_RUNTIME = 'Error: default OCI runtime "crun" not found: invalid argument'
PODMAN_FAILED = """\
STEP 1/2: FROM python:3.11-slim
STEP 2/2: RUN ["python3","-c","print(1);raise SystemExit(3)"]
1
Error: building at STEP "RUN python3": while running runtime: exit status 3
subprocess exited with status 3"""
BUILDX_LINES = """\
#0 building with "default" instance using docker driver
#3 [internal] load .dockerignore
#5 [packages 1/7] FROM docker.io/library/python:3.11-slim@sha256:e2836ee62498
#5 CACHED
#8 [packages 4/7] RUN ["python3", "tree.py"]
#8 0.379 [1/2] what the program says
#9 [2/2] COPY server.py /server.py
#9 DONE 0.0s"""
BUILDX_FAILED = """\
#5 ERROR: process "python3" did not complete successfully: exit code: 3
bad.Dockerfile:2
ERROR: failed to solve: process "python3" did not complete successfully: exit code: 3"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing but the programs that a test puts on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, **answers):
        """`answers`: by the first argument, what the program says; an `Error` is said to stderr, with code 125."""
        cases = "".join(
            f"{word}) printf '%s\\n' {shlex.quote(text)}"
            f"{' >&2; exit 125' if text.startswith('Error') else ''};;\n"
            for word, text in answers.items()
        )
        file = folder / name
        file.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}*) exit 1;;\nesac\n')
        file.chmod(0o755)

    return put


def steps(function, text):
    found = []
    for line in text.splitlines():
        function(line, lambda *now: found.append(now))
    return found


def test_without_an_engine_each_says_why(programs, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "nothing://answers")
    with pytest.raises(EngineMissingError) as failure:
        connect("auto")
    docker, podman = failure.value.message.splitlines()
    assert "Docker" in docker
    assert podman == "podman is not installed"
    assert "--no-build" in failure.value.hint


def test_auto_takes_podman_where_docker_does_not_answer(programs, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "nothing://answers")
    programs("podman", info=PODMAN_INFO)
    assert connect("auto").describe() == "podman 4.3.1"


@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_a_program_that_is_not_installed_is_named(programs, name):
    with pytest.raises(EngineMissingError, match=f"{name} is not installed") as failure:
        connect(name)
    assert "install it" in failure.value.hint


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (NO_RUNTIME, 'default OCI runtime "crun" not found'),
        ("what", "something else of itself"),
        ("{}", "something else of itself"),
        ('{"version": {"Version": "3.4.4"}}', "podman 3.4.4 is too old"),
    ],
)
def test_a_podman_that_does_not_work_is_not_taken(programs, said, why):
    programs("podman", info=said)
    with pytest.raises(EngineMissingError, match=why) as failure:
        PodmanEngine.connect()
    assert failure.value.hint


def test_buildx_says_what_is_missing(programs):
    with pytest.raises(EngineMissingError, match="needs the docker command"):
        BuildxEngine.connect()
    programs("docker", version="28.2.2")
    with pytest.raises(EngineMissingError, match="no plugin buildx") as failure:
        BuildxEngine.connect()
    assert "docker-buildx" in failure.value.hint


def test_buildah_alone_builds_and_does_not_run(programs):
    programs("buildah", info="{}", version=BUILDAH_VERSION, inspect=BUILDAH_IMAGE)
    engine = BuildahEngine.connect()
    assert (engine.describe(), engine.runs) == ("buildah 1.28.2", False)
    image = engine.image("a:1")
    assert image == Image("sha256:c1c06b879e07", (), {"a.b": "c d"})
    with pytest.raises(ImageError, match="runs no containers"):
        engine.start(image, RunOptions(8080, 1 << 28))


def test_buildah_runs_by_podman(programs):
    programs("buildah", info="{}", version=BUILDAH_VERSION)
    programs("podman", info=PODMAN_INFO)
    engine = BuildahEngine.connect()
    assert (engine.describe(), engine.runs) == ("buildah 1.28.2, podman 4.3.1", True)


def test_an_image_of_podman_is_read(programs):
    programs("podman", info=PODMAN_INFO, inspect=PODMAN_IMAGE)
    found = PodmanEngine.connect().image("a:1")
    assert found == Image("sha256:26c3043765e0", (), {"a.b": "c d"})


def test_an_image_that_is_not_known_is_none_and_may_be_untagged(programs):
    programs("podman", info=PODMAN_INFO, inspect=NOT_KNOWN, rmi=NOT_KNOWN)
    engine = PodmanEngine.connect()
    assert engine.image("nothing:1") is None
    engine.untag("nothing:1")


def test_another_failure_is_not_taken_for_that(programs):
    programs("podman", info=PODMAN_INFO, inspect=NO_RUNTIME, rmi=NO_RUNTIME)
    engine = PodmanEngine.connect()
    for ask in (engine.image, engine.untag):
        with pytest.raises(ImageError, match="crun") as failure:
            ask("a:1")
        assert failure.value.hint == "see whether it works: podman info"


def test_a_full_disk_is_told_apart(programs, tmp_path):
    full = "Error: committing container: write /var/x: no space left on device"
    programs("podman", info=PODMAN_INFO, build=full, rmi=NOT_KNOWN)
    with pytest.raises(ImageError, match="no space left for the image") as failure:
        PodmanEngine.connect().build(Build(tmp_path, "a:1", 1), lambda *_: None)
    assert failure.value.hint == "make some: podman system prune"


@pytest.mark.parametrize("reference", ["model:1", "team/model:1", "localhost/model:1"])
def test_what_names_no_registry_is_not_pushed(programs, reference):
    programs("podman", info=PODMAN_INFO)
    with pytest.raises(ImageError, match=f"{reference} names no registry") as failure:
        PodmanEngine.connect().push(reference, lambda *_: None)
    assert "--tag" in failure.value.hint


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model:1", "localhost/model:1"),
        ("team/model:1", "localhost/team/model:1"),
        ("localhost/model:1", "localhost/model:1"),
        ("registry.example/model:1", "registry.example/model:1"),
        ("registry:5000/model:1", "registry:5000/model:1"),
        ("sha256:26c3", "26c3"),
    ],
)
def test_a_name_without_a_registry_is_of_this_machine(name, found):
    assert qualified(name) == found


def test_steps_of_podman_are_counted_by_stage():
    said = "STEP 2/7: COPY a b\n--> fbd18b0b1d2\n[2/4] STEP 3/3: RUN x\nCOMMIT a:1"
    assert steps(store_engine.step, said) == [
        ("COPY a b", 1, 7),
        ("stage 2 of 4: RUN x", 2, 3),
    ]


def test_steps_of_buildkit_are_told_from_what_programs_say():
    assert [row[1:] for row in steps(buildx_engine.step, BUILDX_LINES)] == [(0, 7), (3, 7), (1, 2)]
    assert steps(buildx_engine.step, BUILDX_LINES)[1][0] == 'packages: RUN ["python3", "tree.py"]'


@pytest.mark.parametrize("text", [PODMAN_FAILED, BUILDX_FAILED])
def test_the_reason_of_a_failure_is_found_in_what_was_said(text):
    error = failed(reason_in(text.splitlines(), "otherwise"), text.splitlines())
    assert "3" in error.message
    assert "otherwise" not in error.message
    assert error.hint == text


def test_without_a_reason_the_exit_is_one():
    assert reason_in(["what", "else"], "ended with exit code 1") == "ended with exit code 1"


def tar_of(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def image_file(path, *layers, **config):
    """An archive as `docker save` writes it."""
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    plain = {"rootfs": {"diff_ids": ids}, "history": [], "config": {}} | config
    stored = {f"{number}.tar": data for number, data in enumerate(layers)}
    manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": list(stored)}]
    texts = {"c.json": json.dumps(plain).encode(), "manifest.json": json.dumps(manifest).encode()}
    path.write_bytes(tar_of(stored | texts))
    return path


def test_layers_are_measured_as_they_are_and_as_they_are_stored(tmp_path):
    plain = tar_of({"a": b"x" * 5000})
    packed = gzip.compress(plain)
    first, second = layers_in(image_file(tmp_path / "i.tar", plain, packed))
    assert (first.size, first.compressed) == (len(plain), None)
    assert (second.size, second.compressed) == (len(plain), len(packed))


def test_a_file_is_the_uppermost_of_its_name(tmp_path):
    below = tar_of({"./etc/a": b"old", "etc/b": b"b", "etc/c": b"c"})
    above = gzip.compress(tar_of({"etc/a": b"new", "etc/.wh.b": b""}))
    path = image_file(tmp_path / "i.tar", below, above)
    assert file_in(path, "/etc/a") == b"new"
    assert file_in(path, "/etc/b") is None
    assert file_in(path, "/etc/c") == b"c"
    assert file_in(path, "/etc/d") is None


def test_what_buildah_notes_of_its_machine_is_not_kept(tmp_path):
    def made(number):
        history = [
            {
                "created": f"2026-01-0{number}",
                "comment": f"FROM {number:012x}",
                "created_by": "COPY",
            },
            {"created": "2026", "comment": "FROM docker.io/library/python:3", "empty_layer": True},
        ]
        noted = {"Hostname": f"{number}", "Image": f"{number}", "User": "1"}
        return image_file(
            tmp_path / f"{number}.tar",
            tar_of({"a": b"a"}),
            history=history,
            config=noted,
            container=f"{number}",
            parent=f"{number}",
        )

    for number in (1, 2):
        settle(made(number), tmp_path / f"settled-{number}.tar", 0, "localhost/a:1")
    one, two = (tmp_path / f"settled-{number}.tar" for number in (1, 2))
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive:
        [row] = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(row["Config"]))
    assert row["RepoTags"] == ["localhost/a:1"]
    assert config["config"] == {"User": "1"}
    assert config["history"][1]["comment"] == "FROM docker.io/library/python:3"
