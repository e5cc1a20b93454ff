"""A bundle of some of another's formats: whole in itself, and known before it is written."""

import hashlib
import shutil

import pytest

from pipcook_deploy.bundle import CARD, MANIFEST, SUMS, Bundle, sums
from pipcook_deploy.errors import BundleError
from pipcook_deploy.files import files_below
from pipcook_deploy.manifest import Manifest
from pipcook_deploy.model_card import render_card
from pipcook_deploy.steps import measure_files
from pipcook_deploy.subset import content_digest, subset_of, subset_sums, write_subset
from tests.bundles import write_small_bundle

FORMATS = ("onnx", "tfjs", "tflite")
COMPRESSED = ("onnx", "tflite")
TIMED = {
    "artifact": "compressed", "precision": "int8", "runtime": "onnxruntime", "threads": 1, "batch": 1,
    "p50_ms": 1.0, "throughput": 1000.0, "stable": True, "p95_ms": 2.0, "windows": [1.0],
}  # fmt: skip
SMALLER = {
    "model": "prune 80 %", "sparsity": 0.8, "float_size": 1000, "float_wire_size": 900, "blessed_by": None
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    """Three formats, of which two are compressed and have answers of their own; a report; times."""
    folder = tmp_path / "whole"
    small = write_small_bundle(folder, name="schöne Schuhe", format="onnx").manifest
    for format in FORMATS[1:]:
        shutil.copytree(folder / "artifacts" / "onnx", folder / "artifacts" / format)
        (folder / "artifacts" / format / "model.bin").write_bytes(format.encode() * 9)
        (folder / "artifacts" / format / "more").mkdir()
        (folder / "artifacts" / format / "more" / "shard-1.bin").write_bytes(b"1")
    for format in COMPRESSED:
        (folder / "samples" / "answers" / format).mkdir(parents=True)
        (folder / "samples" / "answers" / format / "000.npy").write_bytes(format.encode())
    (folder / "report").mkdir()
    (folder / "report" / "report.json").write_text("{}")
    (card := folder / CARD).unlink()
    (folder / MANIFEST).unlink()
    (folder / SUMS).unlink()
    rows = [{k: r[k] for k in ("path", "size", "sha256")} for r in measure_files(str(folder))]
    data = small.model_dump(mode="json")
    (entry,) = data["artifacts"]
    data["artifacts"] = [
        entry
        | {
            "format": format,
            "model_format": format,
            "files": measure_files(str(folder / "artifacts" / format)),
            "compression": SMALLER if format in COMPRESSED else None,
        }
        for format in FORMATS
    ]
    samples = [r | {"path": r["path"][8:]} for r in rows if r["path"].startswith("samples/")]
    data["samples"]["files"] = samples
    data["report"] = [r for r in rows if r["path"].startswith("report/")]
    data["bench"] = [TIMED | {"format": format} for format in ("tflite", "onnx")]
    manifest = Manifest.model_validate(data)
    card.write_text(render_card(manifest), encoding="utf-8")
    text = card.read_bytes()
    described = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    manifest = manifest.model_copy(update={"card": manifest.card.model_copy(update=described)})
    (folder / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    (folder / SUMS).write_bytes(sums(folder))
    whole = Bundle.open(folder)
    whole.check_files()
    return whole


def names(bundle):
    return {path.relative_to(bundle.path).as_posix() for path in files_below(bundle.path)}


@pytest.mark.parametrize(
    "formats", [["onnx"], ["tfjs"], ["tflite", "onnx"], list(FORMATS)], ids="+".join
)
def test_a_part_is_a_bundle_of_its_own(bundle, tmp_path, formats):
    part = write_subset(bundle, formats, tmp_path / "part")
    part.check_files()
    assert part.formats == [format for format in FORMATS if format in formats]
    assert Bundle.open(tmp_path / "part").manifest == part.manifest
    expected = {
        name
        for name in names(bundle)
        if not name.startswith("report/")
        and not any(f"/{f}/" in name for f in FORMATS if f not in formats)
    }
    assert names(part) == expected
    for name in expected - {CARD, MANIFEST, SUMS}:
        assert (part.path / name).read_bytes() == (bundle.path / name).read_bytes()
    for format in formats:
        assert part.expected_outputs(format).is_dir()
        assert part.entry(format) == bundle.entry(format)
    assert {row.format for row in part.manifest.bench} == set(formats) & set(COMPRESSED)


@pytest.mark.parametrize("formats", [["onnx"], ["tfjs"], ["tflite", "onnx"]], ids="+".join)
def test_its_digest_is_known_before_it_is_written(bundle, tmp_path, formats):
    expected = subset_sums(bundle, formats)
    assert expected == content_digest(write_subset(bundle, formats, tmp_path / "part"))
    assert expected != content_digest(bundle)


def test_its_digest_is_of_what_is_in_it_and_nothing_else(bundle):
    manifest, _ = subset_of(bundle.manifest, ["onnx"])
    again, card = subset_of(manifest, ["onnx"])
    assert again == manifest
    assert "| tflite |" not in card
    assert subset_sums(bundle, ["onnx"]) != subset_sums(bundle, ["tflite"])


def test_what_was_not_asked_for_is_not_in_the_card(bundle, tmp_path):
    card = (write_subset(bundle, ["tfjs"], tmp_path / "part").path / CARD).read_text("utf-8")
    assert "| tfjs |" in card
    assert "| onnx |" not in card
    assert "schöne Schuhe" in card


@pytest.mark.parametrize("formats", [["keras"], ["onnx", "keras"]])
def test_a_format_that_is_not_there_is_refused_before_anything_is_written(
    bundle, tmp_path, formats
):
    with pytest.raises(BundleError, match="has no keras artifact"):
        write_subset(bundle, formats, tmp_path / "part")
    assert not (tmp_path / "part").exists()
    with pytest.raises(BundleError, match="has no keras artifact"):
        subset_sums(bundle, formats)


def test_the_whole_stays_as_it_was(bundle, tmp_path):
    before = content_digest(bundle), names(bundle)
    write_subset(bundle, ["onnx"], tmp_path / "part")
    assert (content_digest(bundle), names(bundle)) == before
    bundle.check_files()


def test_a_part_of_a_part_is_the_same_part(bundle, tmp_path):
    two = write_subset(bundle, ["onnx", "tflite"], tmp_path / "two")
    assert subset_sums(two, ["onnx"]) == subset_sums(bundle, ["onnx"])
