"""The folder of bundles: what counts, what is broken; and a server that follows it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from pipcook_deploy.errors import BundleError, ServerError
from pipcook_deploy.server.models import shelf
from pipcook_deploy.server.models.shelf import Repository, Shelf, is_repository, open_served
from tests.server import scale_bundles
from tests.server.scale_bundles import TOKEN


@pytest.fixture
def place(tmp_path):
    return tmp_path / "models"


def looks(repository, count=2):
    for _ in range(count):
        sight = repository.look()
    return sight


def versions(sight, name="scale"):
    return sorted(sight.there.get(name, {}))


def until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_a_bundle_counts_once_it_is_whole_and_still(place):
    scale_bundles.add(place, 1)
    repository = Repository(place, patience=100)
    assert versions(repository.look()) == ["1"]  # nothing is waited for at the start
    scale_bundles.add(place, 2)
    assert versions(repository.look()) == ["1"]
    assert versions(repository.look()) == ["1", "2"]


def test_a_half_copied_bundle_is_waited_for(place, tmp_path):
    scale_bundles.add(place, 1)
    repository = Repository(place, patience=0.0)
    repository.look()
    whole = scale_bundles.write(tmp_path / "elsewhere", 2)
    half = place / "scale" / "2"
    shutil.copytree(whole, half)
    model = half / "artifacts" / "onnx" / "model.onnx"
    data = model.read_bytes()
    model.write_bytes(data[:40])
    sight = looks(repository)
    assert versions(sight) == ["1"]
    assert "model.onnx: was changed" in sight.broken["scale"]["2"]
    model.write_bytes(data)
    assert versions(looks(repository)) == ["1", "2"]
    assert not repository.look().broken


def test_patience_comes_before_broken(place):
    (place / "scale" / "7").mkdir(parents=True)
    assert not looks(Repository(place, patience=100)).broken
    assert "is not a bundle" in looks(Repository(place, patience=0.0)).broken["scale"]["7"]


def test_a_bundle_is_gone_after_two_looks_and_replaced_by_another_edition(place):
    scale_bundles.add(place, 1)
    scale_bundles.add(place, 2)
    repository = Repository(place, patience=100)
    before = repository.look().there["scale"]["2"]
    shutil.rmtree(place / "scale" / "1")
    assert versions(repository.look()) == ["1", "2"]
    assert versions(repository.look()) == ["2"]
    scale_bundles.add(place, 5, version="2")
    after = looks(repository).there["scale"]["2"]
    assert after != before
    scale_bundles.add(place, 5, version="2")
    assert looks(repository).there["scale"]["2"] == after  # the same bytes


def test_hidden_folders_and_files_do_not_count(place):
    scale_bundles.add(place, 1)
    scale_bundles.add(place, 2, version=".2")
    scale_bundles.add(place, 2, name=".hidden")
    (place / ".serving.json").write_text("{}")
    (place / "notes.txt").write_text("x")
    (place / "scale" / "link").symlink_to(place / "scale" / "1")
    assert Repository(place, patience=0.0).look().there.keys() == {"scale"}
    assert versions(Repository(place, patience=0.0).look()) == ["1", "link"]
    assert is_repository(place) and not is_repository(place / "scale" / "1")


def test_names_and_links_that_lead_nowhere_do_no_harm(place):
    whole = scale_bundles.add(place, 1)
    (place / "self").symlink_to("self")
    (place / "scale" / "self").symlink_to("self")
    shutil.copytree(whole, place / "half a character \udcff" / "1")
    (place / "pipe" / "1").mkdir(parents=True)
    os.mkfifo(place / "pipe" / "1" / "manifest.json")
    sight = Repository(place, patience=0.0).look()
    assert list(sight.there) == ["scale"] and versions(sight) == ["1"]
    assert list(sight.broken) == ["pipe"]


def test_a_folder_of_too_many_files_is_not_read_to_its_end(place, monkeypatch):
    monkeypatch.setattr(shelf, "MOST_FILES", 3)
    scale_bundles.add(place, 1)
    (place / "all").mkdir()
    (place / "all" / "1").symlink_to(place)
    for number in range(9):
        (place / f"folder{number}").mkdir()
    walked = []
    monkeypatch.setattr(os, "lstat", lambda file: walked.append(file) or Path(file).stat())
    assert versions(Repository(place, patience=0.0).look()) == ["1"]
    assert len(walked) < 12


def test_a_folder_that_cannot_be_read_is_no_empty_one(place):
    repository = Repository(place, patience=0.0)
    with pytest.raises(ServerError, match="cannot be read"):
        repository.look()


def test_what_changed_since_the_look_is_not_loaded(place):
    folder = scale_bundles.add(place, 1)
    shelf = Shelf((), Repository(place, patience=0.0))
    edition = shelf.look().there["scale"]["1"]
    assert shelf.open("scale", "1", edition).spec.name == "scale"  # the folder's name, not "other"
    scale_bundles.add(place, 3, version="1")
    with pytest.raises(ServerError, match="changed while"):
        shelf.open("scale", "1", edition)
    (folder / "artifacts" / "onnx" / "more").write_text("x")
    with pytest.raises(BundleError):
        shelf.open("scale", "1", edition)


def test_the_same_version_twice_is_refused(tmp_path):
    twice = tuple(open_served(scale_bundles.write(tmp_path / n, 1)) for n in "ab")
    with pytest.raises(ServerError, match="two of the bundles are scale 1"):
        Shelf(twice, None)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A server of a repository with the versions 1 and 2."""
    repository = tmp_path_factory.mktemp("followed")
    scale_bundles.add(repository, 1)
    scale_bundles.add(repository, 2)
    options = ("--repository-poll", "0.1", "--repository-patience", "0.3")
    with scale_bundles.serving("--repository", repository, *options) as server:
        yield server, repository


def command(server, *arguments, token=TOKEN):
    environment = os.environ | {"PIPCOOK_DEPLOY_ADMIN_TOKEN": token}
    arguments = [sys.executable, "-m", "pipcook_deploy", "models", *arguments, "--url", server.url]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=60)


def test_it_says_what_it_serves_and_how(followed):
    server, _ = followed
    assert server.said[0] == "scale 1: an older version"
    assert server.said[1].startswith("scale 2: onnxruntime (onnx)")
    assert server.factor() == 2


def test_a_new_version_is_served_and_a_wrong_one_refused(followed):
    server, repository = followed
    scale_bundles.add(repository, 3)
    until(lambda: server.factor() == 3)
    assert server.factor(version="2") == 2  # the one before stays
    scale_bundles.add(repository, 4, recorded=7)
    until(lambda: "4" in server.index() and "golden" in server.index()["4"]["reason"])
    assert server.factor() == 3
    triton = server.client.post("/v2/repository/index").json()
    assert {(row["version"], row["state"]) for row in triton if row["name"] == "scale"} == {
        ("1", "UNAVAILABLE"), ("2", "READY"), ("3", "READY"), ("4", "UNAVAILABLE"),
    }  # fmt: skip
    asked = server.admin("POST", "/scale/load", version="4")
    assert asked.status_code == 400 and "golden samples" in asked.json()["error"]
    shutil.rmtree(repository / "scale" / "4")
    until(lambda: "4" not in server.index())


def test_a_removed_version_goes_and_the_newest_left_serves(followed):
    server, repository = followed
    scale_bundles.add(repository, 30)
    until(lambda: server.factor() == 30)
    shutil.rmtree(repository / "scale" / "30")
    until(lambda: server.factor() == 3)
    assert server.client.get("/v2/models/scale/versions/30").status_code == 404


def test_another_model_comes_and_goes(followed):
    server, repository = followed
    scale_bundles.add(repository, 8, name="later")
    until(lambda: server.index("later").get("8", {}).get("current"))
    assert server.factor("later") == 8
    shutil.rmtree(repository / "later")
    until(lambda: not server.index("later"))


def test_a_broken_bundle_is_shown_with_its_reason(followed):
    server, repository = followed
    (repository / "scale" / "nothing").mkdir()
    until(lambda: "nothing" in server.index())
    assert "is not a bundle" in server.index()["nothing"]["reason"]
    (repository / "scale" / "nothing").rmdir()
    until(lambda: "nothing" not in server.index())


def test_every_refusal_is_in_the_log_once(tmp_path):
    scale_bundles.add(tmp_path, 1)
    options = ("--repository-poll", "0.1", "--repository-patience", "0.1")
    with scale_bundles.serving("--repository", tmp_path, *options) as server:
        damaged = scale_bundles.add(tmp_path, 2) / "artifacts" / "onnx" / "model.onnx"
        damaged.write_bytes(damaged.read_bytes() + b"x")
        until(lambda: "was changed" in server.index().get("2", {}).get("reason", ""))
        scale_bundles.add(tmp_path, 3, recorded=7)
        until(lambda: "golden" in server.index().get("3", {}).get("reason", ""))
        assert server.factor() == 1
    refused = [line for line in server.log.splitlines() if "model refused" in line]
    assert len(refused) == 2
    assert "model=scale version=2" in refused[0] and "was changed" in refused[0]
    assert "model=scale version=3" in refused[1] and "golden samples" in refused[1]


def test_administration_needs_the_token(followed):
    server, _ = followed
    wrong = {"authorization": "Bearer something-that-is-wrong"}
    for method, path in (("GET", ""), ("POST", "/scale/rollback"), ("DELETE", "/scale/split")):
        answer = server.client.request(method, f"/admin/models{path}", headers=wrong)
        assert answer.status_code == 401 and "token" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/scale/labels/canary", {}),
        ("PUT", "/scale/labels/canary", {"version": 2}),
        ("PUT", "/scale/labels/canary", {"version": "2", "more": 1}),
        ("PUT", "/scale/split", {}),
        ("PUT", "/scale/split", {"weights": {"2": "1"}}),
        ("PUT", "/scale/split", {"weights": {"2": True}}),
        ("PUT", "/scale/split", {"weights": {"2": 1e300}}),
        ("POST", "/scale/load", {"version": ""}),
        ("POST", "/scale/load", {"force": True}),
    ],
)
def test_requests_that_make_no_sense(followed, method, path, body):
    server, _ = followed
    answer = server.client.request(method, f"/admin/models{path}", json=body)
    assert answer.status_code == 400 and answer.json()["error"]


def test_the_command_line_administers(followed):
    server, repository = followed
    listed = command(server, "list")
    assert listed.returncode == 0 and "READY" in listed.stdout, listed.stderr
    assert command(server, "label", "scale", "canary", "1").returncode == 0
    assert server.factor(version="1") == 1
    split = command(server, "split", "scale", "canary=1", "3=0", "--json")
    assert '"share": 1.0' in split.stdout
    assert server.factor() == 1
    assert command(server, "split", "scale").returncode == 0
    assert command(server, "label", "scale", "canary", "--remove").returncode == 0
    assert command(server, "load", "scale", "1").returncode == 0
    assert command(server, "unload", "scale", "1").returncode == 0
    assert server.client.get("/v2/models/scale/versions/1").status_code == 404
    before = server.factor()
    scale_bundles.add(repository, 40)
    until(lambda: server.factor() == 40)
    assert command(server, "rollback", "scale").returncode == 0
    assert server.factor() == before
    assert command(server, "load", "scale").returncode == 0
    assert server.factor() == 40


def test_the_command_line_says_what_is_wrong(followed):
    server, _ = followed
    wrong = command(server, "list", token="something-that-is-wrong")
    assert wrong.returncode == ServerError.exit_code and "--token-file" in wrong.stderr
    missing = command(server, "rollback", "nobody")
    assert missing.returncode == ServerError.exit_code
    assert "no model 'nobody'; there is 'scale'" in missing.stderr
    for arguments in (("label", "scale", "x"), ("split", "scale", "1")):
        assert command(server, *arguments).returncode == 2
    done = subprocess.run(
        [sys.executable, "-m", "pipcook_deploy", "models", "list", "--url", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ServerError.exit_code and "Connection refused" in done.stderr


def test_labels_outlive_the_server_and_a_damaged_file_is_said(place):
    scale_bundles.add(place, 1)
    scale_bundles.add(place, 2)
    with scale_bundles.serving(place) as server:  # a repository by its look
        assert server.admin("PUT", "/scale/labels/stable", version="1").status_code == 200
        assert server.factor() == 1
    with scale_bundles.serving("--repository", place) as server:
        assert server.factor() == 1 and server.index()["1"]["labels"] == ["stable"]
    (place / ".serving.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "pipcook_deploy", "serve", "--port", "0", str(place)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ServerError.exit_code
    assert ".serving.json: is damaged" in done.stderr and "Traceback" not in done.stderr


def test_several_bundles_are_served_and_changed_without_a_repository(tmp_path):
    one = scale_bundles.write(tmp_path / "one", 1)
    two = scale_bundles.write(tmp_path / "two", 2, version="2")
    other = scale_bundles.write(tmp_path / "other", 5, name="other")
    with scale_bundles.serving(one, two, other) as server:
        assert server.factor() == 2 and server.factor("other") == 5
        assert server.admin("POST", "/scale/load", version="1").status_code == 200
        assert server.factor(version="1") == 1
        assert server.admin("POST", "/other/unload").status_code == 200
        assert server.client.get("/v2/models/other").status_code == 404
        assert server.admin("POST", "/other/load").status_code == 200
        assert server.factor("other") == 5


def test_a_wrong_bundle_on_the_command_line_is_an_error(tmp_path):
    wrong = scale_bundles.write(tmp_path / "wrong", 1, recorded=3)
    done = subprocess.run(
        [sys.executable, "-m", "pipcook_deploy", "serve", "--port", "0", str(wrong)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ServerError.exit_code
    assert "golden samples" in done.stderr and "Traceback" not in done.stderr


def test_a_server_without_a_model_is_alive_and_not_ready(place):
    place.mkdir()
    with scale_bundles.serving("--repository", str(place), "--repository-poll", "0.1") as server:
        paths = ("/v2/health/ready", "/ping", "/health")
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/healthz").status_code == 200
            assert [client.get(path).status_code for path in paths] == [503] * 3
            scale_bundles.add(place, 1)
            until(lambda: client.get("/ping").status_code == 200)
            assert [client.get(path).status_code for path in paths] == [200] * 3
