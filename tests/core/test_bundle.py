import errno
import hashlib
import json
import subprocess

import numpy as np
import pytest

from pipcook_deploy.bundle import SUMS, Bundle
from pipcook_deploy.errors import BundleError
from pipcook_deploy.files import files_below
from pipcook_deploy.manifest import SCHEMA, schema
from pipcook_deploy.model_card import render_card
from pipcook_deploy.tensors import load_tensors, save_tensors
from tests.bundles import write_small_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_small_bundle(tmp_path / "bundle").path


def test_an_untouched_bundle_passes(bundle):
    opened = Bundle.open(bundle)
    opened.check_files()
    assert opened.formats == ["onnx"]
    assert opened.artifact("onnx").outputs[0].tensor == "y:0"
    assert np.array_equal(opened.golden_outputs()["y"], np.ones((2, 2)))


def test_a_changed_byte_of_any_file_is_found(bundle):
    for path in files_below(bundle):
        original = path.read_bytes()
        for place in (0, len(original) // 2, len(original) - 1):
            changed = bytearray(original)
            changed[place] ^= 0x20
            path.write_bytes(changed)
            with pytest.raises(BundleError) as caught:
                Bundle.open(bundle).check_files()
            assert path.name in caught.value.message
        path.write_bytes(original)
    Bundle.open(bundle).check_files()


def test_a_missing_and_an_added_file_are_found_together(bundle):
    (bundle / "artifacts" / "onnx" / "model.bin").unlink()
    (bundle / "artifacts" / "onnx" / "extra.bin").write_bytes(b"")
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle).check_files()
    assert "model.bin: is missing" in caught.value.message
    assert "extra.bin: does not belong" in caught.value.message


def test_the_sums_are_what_sha256sum_reads(bundle):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=bundle, capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_manifest_obeys_the_committed_schema(bundle):
    import jsonschema

    committed = json.loads(SCHEMA.read_text())
    data = json.loads((bundle / "manifest.json").read_text())
    jsonschema.validate(data, committed)
    data["artifacts"][0]["files"][0]["size"] = "big"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, committed)


def test_the_committed_schema_is_that_of_the_code():
    assert SCHEMA.read_text() == schema(), "run: python -m pipcook_deploy.manifest"


def test_a_newer_manifest_says_what_to_do(bundle):
    data = json.loads((bundle / "manifest.json").read_text()) | {"manifest_version": 2}
    (bundle / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle)
    assert "upgrade" in caught.value.hint


def test_an_older_manifest_says_what_to_do(bundle):
    data = json.loads((bundle / "manifest.json").read_text()) | {"manifest_version": 0}
    (bundle / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="manifest version 0; this program reads 1") as caught:
        Bundle.open(bundle)
    assert "again" in caught.value.hint


def test_a_folder_without_manifest_is_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"is not a bundle"):
        Bundle.open(tmp_path)


def test_the_card_carries_no_markup_of_the_model(bundle):
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "<b>" not in card.replace("\\<b\\>", "")
    assert "| onnx | float32 |" in card


def test_the_card_of_many_labels_stays_readable_and_moves_no_cursor(bundle):
    manifest = Bundle.open(bundle).manifest
    labels = ("\x1b[31mred", *(f"class {n}" for n in range(5000)))
    card = render_card(
        manifest.model_copy(update={"spec": manifest.spec.with_changes(labels=labels)})
    )
    assert "\x1b" not in card
    assert "Labels (5001)" in card and "class 98" in card and "class 99" not in card


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {
        "a/b:0": np.arange(6, dtype=np.float16).reshape(2, 3),
        "t": np.array(["x", "ü"], dtype=object),
    }
    save_tensors(tmp_path / "t", tensors)
    loaded = load_tensors(tmp_path / "t")
    assert list(loaded) == ["a/b:0", "t"]
    assert loaded["a/b:0"].dtype == np.float16
    assert loaded["t"].tolist() == ["x", "ü"]
    assert len(load_tensors(tmp_path / "t", 1)["t"]) == 1


def test_a_disk_that_numpy_finds_full_is_a_full_disk(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("Not enough free space to write 8 bytes after offset 128")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_tensors(tmp_path / "t", {"x": np.ones(1)})
    assert caught.value.errno == errno.ENOSPC


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save_tensors(tmp_path / name, {"x": np.ones((2, 2), np.float32)})
    digests = [
        [hashlib.sha256(path.read_bytes()).digest() for path in files_below(tmp_path / name)]
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]
