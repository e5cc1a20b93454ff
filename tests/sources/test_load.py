"""Every kind of model is told by its content, and its interface read without TensorFlow."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipcook_deploy.model import Model
from pipcook_deploy.sources import load
from pipcook_deploy.spec import TensorSpec
from tests.sources import builders as make


@pytest.fixture
def opened(tmp_path: Path):
    work = tmp_path / "work"
    work.mkdir()

    def run(path: Path, **options) -> Model:
        return load(path, workdir=work, **options)

    return run


X = TensorSpec(name="x", dtype="float32", shape=(None, 4))
ANSWER = TensorSpec(name="answer", dtype="float32", shape=(None, 3))


@pytest.mark.parametrize(
    ("maker", "version", "kind"),
    [
        (make.keras_archive, "3.15.1", "keras"),
        (make.keras_archive, "2.15.0", "keras_h5"),
        (make.keras_h5, "2.15.0", "keras_h5"),
        (make.keras_h5, "3.4.0", "keras"),
    ],
)
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "thing.bin", "noname"])
def test_keras_under_any_name(tmp_path, opened, maker, version, kind, name):
    model = opened(maker(tmp_path / name, version=version))
    assert model.format == kind
    assert model.spec.inputs == (X,)
    assert model.spec.outputs == (ANSWER,)
    assert model.details["parameters"] == 15  # without the optimizer's
    right = {make.keras_archive: (".keras",), make.keras_h5: (".h5",)}[maker]
    assert model.path.suffix in right  # Keras goes by the suffix
    assert model.path.read_bytes() == (tmp_path / name).read_bytes()


def test_no_framework_is_imported(tmp_path):
    paths = [
        make.keras_archive(tmp_path / "a.keras"),
        make.keras_h5(tmp_path / "b.h5"),
        make.tfjs_layers(tmp_path / "c"),
        make.DATA / "two_signatures",
        make.DATA / "small.tflite",
    ]
    program = """
import sys, tempfile
from pathlib import Path
from pipcook_deploy.inspect_model import inspect
from pipcook_deploy.sources import load
for path in sys.argv[1:]:
    inspect(load(Path(path), workdir=Path(tempfile.mkdtemp(dir=Path(sys.argv[1]).parent))))
print(sorted({"tensorflow", "keras", "tf_keras", "onnx", "onnxruntime"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_functional_of_keras_3_with_two_outputs_of_one_layer(tmp_path, opened):
    def tensor(name, index=0):
        history = {"shape": [None, 5, 2], "dtype": "float32", "keras_history": [name, 0, index]}
        return {"class_name": "__keras_tensor__", "config": history}

    lstm = {
        "class_name": "LSTM",
        "name": "cell",
        "config": {"name": "cell", "units": 6, "return_state": True, "return_sequences": True},
        "inbound_nodes": [{"args": [tensor("a")], "kwargs": {}}],
    }
    first = make.input_layer([None, 5, 2], "a", "batch_shape") | {"name": "a", "inbound_nodes": []}
    config = {
        "name": "f",
        "layers": [first, lstm],
        "input_layers": [["a", 0, 0]],
        "output_layers": {"p": ["cell", 0, 0], "q": ["cell", 0, 2]},
    }
    path = make.keras_archive(tmp_path / "f.keras", {"class_name": "Functional", "config": config})
    outputs = opened(path).spec.outputs
    assert [(o.name, o.shape) for o in outputs] == [("cell", (None, 5, 6)), ("cell_1", (None, 6))]


def test_unknown_layers_leave_the_shape_open_and_say_so(tmp_path, opened):
    topology = make.sequential(
        make.input_layer([None, 4]), {"class_name": "Mystery", "config": {"name": "m"}}
    )
    spec = opened(make.keras_h5(tmp_path / "m.h5", topology)).spec
    assert "'m'" in " ".join(spec.notes)


def test_keras_2_numbers_nested_models_from_one(tmp_path, opened):
    inner = make.sequential(make.input_layer([None, 4], "in"), make.dense("d", 7), name="inner")
    call = {"name": "inner", "inbound_nodes": [[["x", 0, 0, {}]]]}
    last = make.dense("end", 2) | {"name": "end", "inbound_nodes": [[["inner", 1, 0, {}]]]}
    first = make.input_layer([None, 4]) | {"name": "x", "inbound_nodes": []}
    config = {
        "layers": [first, inner | call, last],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["end", 0, 0]],
    }
    topology = {"class_name": "Functional", "config": config}
    assert opened(make.keras_h5(tmp_path / "n.h5", topology)).spec.outputs[0].shape == (None, 2)


def test_tfjs_folder_file_and_zip_are_the_same_model(tmp_path, opened):
    folder = make.tfjs_layers(tmp_path / "net")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"model/{path.name}")
    models = [opened(p) for p in (folder, folder / "model.json", tmp_path / "z.zip")]
    assert {m.format for m in models} == {"tfjs_layers"}
    assert {m.spec.outputs for m in models} == {(ANSWER,)}
    assert len({m.source_hash for m in models}) == 1


def test_source_hash_covers_the_weights_and_nothing_else(tmp_path, opened):
    folder = make.tfjs_layers(tmp_path / "net")
    before = opened(folder).source_hash
    (folder / "notes.txt").write_text("x")
    assert opened(folder).source_hash == before
    (folder / "weights.bin").write_bytes(b"\1" + bytes(59))
    assert opened(folder).source_hash != before


def test_tfjs_graph_signature(tmp_path, opened):
    def info(size):
        dims = {"dim": [{"size": "-1"}, {"size": str(size)}]}
        return {"name": "t:0", "dtype": "DT_FLOAT", "tensorShape": dims}

    make.tfjs_layers(
        tmp_path / "g",
        {"node": [{"name": "t", "op": "Placeholder"}, {"name": "r", "op": "Relu"}]},
        format="graph-model",
        signature={"inputs": {"t": info(4)}, "outputs": {"r": info(3)}},
    )
    model = opened(tmp_path / "g")
    assert model.format == "tfjs_graph"
    assert model.spec.inputs[0] == TensorSpec(name="t", dtype="float32", shape=(None, 4))
    assert model.details["ops"] == {"Placeholder": 1, "Relu": 1}


def test_saved_model_signatures_and_text(opened):
    folder = make.DATA / "two_signatures"
    model = opened(folder)
    assert model.signature == "serving_default"
    assert model.details["tensorflow"] == "2.21.0"
    assert set(model.spec.signatures) == {"serving_default", "tok"}
    text = opened(folder, signature="tok")
    assert text.spec.inputs == (TensorSpec(name="text", dtype="string", shape=(None,)),)


def test_tflite_signature_and_weights(opened):
    model = opened(make.DATA / "small.tflite")
    assert model.format == "tflite"
    assert model.spec.inputs[0].shape == (None, 8, 8, 3)
    assert model.details["ops"]["CONV_2D"] == 1


def test_onnx_under_any_name_with_external_data(tmp_path, opened):
    (tmp_path / "w.data").write_bytes(bytes(60))
    path = tmp_path / "model.dat"
    path.write_bytes(make.onnx_bytes(external={"location": "w.data", "offset": "12"}))
    model = opened(path)
    assert [s.name for s in model.spec.inputs] == ["x"]  # w is an initializer
    assert model.spec.outputs[0].shape == (None, 3)
    assert (model.details["opset"], model.details["producer"]) == (18, "by hand 1.0")
    before = model.source_hash
    (tmp_path / "w.data").write_bytes(b"\1" * 60)
    assert opened(path).source_hash != before


def test_a_folder_with_one_model_among_other_files(tmp_path, opened):
    make.keras_archive(tmp_path / "best.keras")
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "history.json").write_text('{"loss": [1]}')
    (tmp_path / "labels.txt").write_text("a\nb")
    assert opened(tmp_path).format == "keras"


def test_a_workspace_is_read_to_the_last_option(tmp_path, opened):
    model = opened(make.workspace(tmp_path / "birds"))
    assert model.format == "tfjs_layers"
    assert model.spec.task == "image-classification"
    assert model.spec.labels == ("cat", "dog", "owl")
    assert model.spec.notes == ()
    assert [step.op for step in model.spec.preprocessing["image"]] == ["decode", "resize", "cast"]
    resize = model.spec.preprocessing["image"][1]
    assert (resize.height, resize.width, resize.method) == (8, 8, "area_bilinear")
    assert model.details["pipcook_framework"] == "tfjs@3.8"


@pytest.mark.parametrize("value", ["true", "false", "0"])
def test_any_text_switches_pipcooks_normalize_on(tmp_path, opened, value):
    url = f"https://example.org/d.js?size=8&size=8&normalize={value}"
    spec = opened(make.workspace(tmp_path / "w", [url])).spec
    last = spec.preprocessing["image"][-1]
    assert (last.op, last.rounded, last.per_channel) == ("normalize_per_image", True, False)
    assert bool(spec.notes) == (value != "true")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"dataflow": ["https://e.org/d.js?size=9&size=9"]}, "resizes to 9 x 9"),
        ({"dataflow": ["https://e.org/d.js?size=8"]}, "not two numbers"),
        ({"dataflow": ["https://e.org/d.js?size=8&size=big"]}, "not two numbers"),
        ({"dataflow": []}, "no dataflow"),
        ({"dataflow": ["https://e.org/mine.js", "https://e.org/d.js?size=8&size=8"]}, "mine.js"),
        ({"labels": None}, "labels are not known"),
        ({"labels": ["one"]}, "1 labels"),
        ({"kind": "Dreaming"}, "'Dreaming'"),
        ({"kind": "ObjectDetection"}, "boxes"),
        ({"kind": "TextClassification"}, "text becomes numbers"),
    ],
)
def test_what_a_pipeline_does_not_tell_is_said(tmp_path, opened, changes, note):
    spec = opened(make.workspace(tmp_path / "w", **changes)).spec
    assert note in " ".join(spec.notes)
    if "dataflow" in changes:
        assert spec.preprocessing == {}


def test_a_workspace_without_its_pipeline(tmp_path, opened):
    root = make.workspace(tmp_path / "w")
    (root / "model" / "pipeline.json").unlink()
    spec = opened(root).spec
    assert "pipeline.json is missing" in " ".join(spec.notes)
    assert (spec.task, spec.preprocessing) == ("tensor", {})
    assert spec.labels == ("cat", "dog", "owl")


def test_a_zip_of_a_workspace(tmp_path, opened):
    root = make.workspace(tmp_path / "w")
    archive = shutil.make_archive(str(tmp_path / "birds"), "zip", root)
    model = opened(Path(archive))
    assert model.spec.labels == ("cat", "dog", "owl")
    assert model.spec.name == "birds"


def test_trust_lets_code_pass(tmp_path, opened):
    topology = json.loads(json.dumps(make.NET))
    topology["config"]["layers"].append(
        {"class_name": "Lambda", "config": {"name": "evil", "function_type": "lambda"}}
    )
    path = make.keras_h5(tmp_path / "l.h5", topology)
    assert opened(path, trust_source=True).trusted


@pytest.mark.node
def test_models_that_tfjs_saved(tmp_path, opened):
    """Names and shapes are those that TF.js gives its own inputs and outputs."""
    from pipcook_deploy.inspect_model import inspect
    from tests import tfjs_made

    tfjs_made.make_all(tmp_path / "made")
    for name in tfjs_made.NAMES:
        model = opened(tmp_path / "made" / name)
        for kind, specs in (("inputs", model.spec.inputs), ("outputs", model.spec.outputs)):
            own = tfjs_made.tensors(tmp_path / "made" / name, kind)
            assert list(own) == [spec.name for spec in specs]
            assert all(spec.matches(own[spec.name].shape) for spec in specs)
        found = inspect(model)
        assert sum(row.parameters or 0 for row in found.layers) == found.parameters
    assert opened(tmp_path / "made" / "text").details["ids"].keys() == {
        "embedding_Embedding1_input"
    }
