import tomllib

from pipcook_deploy.cli import main
from pipcook_deploy.init_recipe import render_recipe
from pipcook_deploy.model import Model
from pipcook_deploy.recipe import read_recipe
from pipcook_deploy.spec import ModelSpec, TensorSpec

HOSTILE = 'a "b"; $(touch x)\n[convert.onnx]\nopset = 99\x7f\\'


def _model(tmp_path, **spec):
    image = TensorSpec(name="image", dtype="float32", shape=(None, 32, 48, 3))
    return Model(tmp_path / "m.keras", "keras", ModelSpec(inputs=(image,), **spec))


def test_the_recipe_is_one_that_can_be_read(tmp_path):
    path = tmp_path / "deploy.toml"
    path.write_text(render_recipe(_model(tmp_path, labels=("cat", "dög")), "m.keras"))
    recipe = read_recipe(path)
    assert recipe.model.labels == ("cat", "dög")
    assert set(recipe.convert) == {"onnx", "saved_model", "tfjs", "tflite"}


def test_a_name_cannot_leave_its_string(tmp_path):
    text = render_recipe(_model(tmp_path, name=HOSTILE), HOSTILE)
    data = tomllib.loads(text)
    assert data["model"]["name"] == HOSTILE
    assert data["model"]["source"] == HOSTILE
    assert "opset" not in data["convert"]["onnx"]


def test_the_example_of_preprocessing_has_the_models_size(tmp_path):
    text = render_recipe(_model(tmp_path), "m.keras")
    uncommented = "\n".join(
        line.removeprefix("# ")
        for line in text.splitlines()
        if line.startswith(("# [[", "# op", "# height", "# width", "# factor"))
    )
    assert tomllib.loads(uncommented)["model"]["preprocessing"][1] == {
        "op": "resize",
        "height": 32,
        "width": 48,
    }


def test_a_recipe_that_is_there_is_kept(tmp_path, capsys, monkeypatch):
    from pathlib import Path

    workspace = Path(__file__).resolve().parents[2] / "examples" / "fashion-mnist" / "workspace"
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(workspace)]) == 0
    Path("deploy.toml").write_text("mine")
    assert main(["init", str(workspace)]) == 8
    assert "--force" in capsys.readouterr().err
    assert Path("deploy.toml").read_text() == "mine"
    assert main(["init", str(workspace), "--force"]) == 0
    assert main(["check"]) == 0


def test_notes_and_tensor_names_stay_in_their_comments(tmp_path):
    tensor = TensorSpec(name=HOSTILE, dtype="float32", shape=(None, 3))
    spec = ModelSpec(inputs=(tensor,), notes=(HOSTILE,))
    text = render_recipe(Model(tmp_path / "m", "keras", spec), "m")
    assert "opset" not in tomllib.loads(text)["convert"]["onnx"]
