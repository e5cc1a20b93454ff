import gzip
import os
import subprocess
import sys

import pytest

from pipcook_deploy.errors import OutputError
from pipcook_deploy.files import files_below, staged_folder, wire_sizes, write_atomically


def _bundle(folder, text="old"):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)


def test_a_block_that_ends_well_puts_its_bundle_in_place(tmp_path):
    with staged_folder(tmp_path / "out") as staging:
        (staging / "bundle" / "manifest.json").write_text("new")
        (staging / "scratch").write_text("")
    assert [path.name for path in files_below(tmp_path)] == ["manifest.json"]


def test_an_error_leaves_the_old_bundle(tmp_path):
    _bundle(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out") as staging:
        (staging / "bundle" / "manifest.json").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_not_a_bundle_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="not a bundle"), staged_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "thesis.doc").exists()


def test_a_killed_run_leaves_the_old_bundle_and_the_next_run_cleans_up(tmp_path):
    _bundle(tmp_path / "out")
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from pipcook_deploy.files import staged_folder\n"
        "with staged_folder(Path(sys.argv[1])) as staging:\n"
        "    (staging / 'bundle' / 'manifest.json').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")])
    assert done.returncode == -9
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    with staged_folder(tmp_path / "out") as staging:
        (staging / "bundle" / "manifest.json").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "new"


def test_an_old_bundle_whose_replacement_was_killed_between_the_moves_comes_back(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    _bundle(tmp_path / f".out.old-{dead.pid}")
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"


def test_another_runs_staging_folder_is_not_touched(tmp_path):
    other = tmp_path / f".out.staging-{os.getppid()}"
    other.mkdir()
    with staged_folder(tmp_path / "out") as staging:
        (staging / "bundle" / "manifest.json").write_text("new")
    assert other.is_dir()


def test_a_full_disk_is_an_output_error(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="No space left"), staged_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_wire_sizes_are_what_a_server_would_send(tmp_path):
    content = os.urandom(1000) + b"abc" * 100_000
    (tmp_path / "f").write_bytes(content)
    gzip_size, brotli_size = wire_sizes(tmp_path / "f")
    assert abs(gzip_size - len(gzip.compress(content, 6))) < 32
    assert 1000 < brotli_size < gzip_size


def test_a_file_is_replaced_whole_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "image.json"
    write_atomically(path, "älter")
    write_atomically(path, "neu 鞋\n")
    assert path.read_bytes() == "neu 鞋\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_while_a_file_is_replaced_reads_the_old_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "image.json"
    path.write_text("old")
    seen = []
    replace = type(path).replace

    def watched(self, target):
        seen.append((path.read_text(), self.parent, self.read_text()))
        return replace(self, target)

    monkeypatch.setattr(type(path), "replace", watched)
    write_atomically(path, "new")
    assert seen == [("old", tmp_path, "new")]
    assert path.read_text() == "new"


@pytest.mark.parametrize("place", ["folder", "file/below", "none/below", "n" * 250])
def test_a_file_that_cannot_be_written_is_an_output_error_and_leaves_nothing(tmp_path, place):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / place, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupt_or_a_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "image.json"
    path.write_text("old")

    def fails(self, target):
        raise error

    monkeypatch.setattr(type(path), "replace", fails)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_is_none_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "image.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud83d")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
