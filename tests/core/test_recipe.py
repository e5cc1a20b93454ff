from pathlib import Path

import numpy as np
import onnx
import pytest

from pipcook_deploy.check_recipe import check_recipe
from pipcook_deploy.errors import DeployError, RecipeError, UsageError
from pipcook_deploy.recipe import (
    make_converters,
    make_options,
    make_tolerances,
    parse_settings,
    read_recipe,
)
from pipcook_deploy.samples import SampleOptions

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion-mnist"
GOOD = """
[model]
source = "m.keras"
labels = ["a", "b"]
[[model.preprocessing]]
op = "decode"
[convert.onnx]
opset = 17
[convert.tfjs]
[samples]
path = "data"
[bundle]
out = "dist/b"
"""


def _write(tmp_path, text):
    path = tmp_path / "deploy.toml"
    path.write_text(text)
    return path


def _mistakes(tmp_path, text, settings=()):
    with pytest.raises(RecipeError) as caught:
        read_recipe(_write(tmp_path, text), settings)
    return caught.value.mistakes


def test_a_good_recipe_gives_converters_with_their_options(tmp_path):
    recipe = read_recipe(_write(tmp_path, GOOD))
    assert recipe.convert["onnx"].opset == 17
    assert list(recipe.convert) == ["onnx", "tfjs"]
    assert recipe.model.preprocessing[0].op == "decode"


def test_paths_count_from_the_recipes_folder(tmp_path):
    recipe = read_recipe(_write(tmp_path, GOOD))
    assert recipe.model.source == tmp_path / "m.keras"
    assert recipe.samples.path == tmp_path / "data"
    assert recipe.bundle.out == tmp_path / "dist" / "b"


def test_settings_replace_values_and_know_plugins_by_name(tmp_path):
    recipe = read_recipe(
        _write(tmp_path, GOOD), ("onnx.opset=14", "model.name=fancy", "bundle.jobs=1")
    )
    assert recipe.convert["onnx"].opset == 14
    assert recipe.model.name == "fancy"
    assert recipe.bundle.jobs == 1


def test_every_mistake_is_reported_at_once_with_its_place(tmp_path):
    text = """
[modle]
[model]
source = "m"
versoin = "1"
[convert.onx]
[convert.onnx]
opset = 99
[samples]
count = 0
[verify.tflite]
"""
    mistakes = _mistakes(tmp_path, text)
    file = str(tmp_path / "deploy.toml")
    for expected in (
        f"{file}: modle: is not a table (did you mean 'model'?)",
        f"{file}: model: versoin: is not an option (did you mean 'version'?)",
        f"{file}: convert: onx: is not known (did you mean 'onnx'?)",
        f"{file}: convert.onnx: opset: ",
        f"{file}: samples: count: ",
        f"{file}: verify: tflite: is not converted to",
    ):
        assert any(line.startswith(expected) for line in mistakes), (expected, mistakes)
    assert len(mistakes) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model: the table is missing"),
        ("[model]\n", "model: source: is missing"),
        ("[model]\nsource='m'\n", "convert: no format is asked for"),
        ("[model\n", "deploy.toml: "),
        ("model = 3\n[convert.onnx]\n", "model: "),
    ],
)
def test_incomplete_recipes_say_what_is_missing(tmp_path, text, message):
    assert any(message in line for line in _mistakes(tmp_path, text))


def test_a_missing_recipe_says_how_to_make_one(tmp_path):
    with pytest.raises(RecipeError, match="pipcook-deploy init MODEL"):
        read_recipe(tmp_path / "deploy.toml")


def test_a_broken_setting_is_a_mistake(tmp_path):
    assert "--set opset: is not TABLE.KEY=VALUE" in _mistakes(tmp_path, GOOD, ("opset=3",))
    with pytest.raises(RecipeError):
        parse_settings(("onnx.opset",))


def test_intermediate_formats_cannot_be_asked_for():
    with pytest.raises(RecipeError, match="keras_h5: is not known"):
        make_converters(("keras_h5",), {})


def test_options_for_a_format_that_is_not_wanted_are_a_mistake():
    with pytest.raises(RecipeError, match="tfjs: is not among"):
        make_converters(("onnx",), {"tfjs": {"kind": "graph"}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_options(SampleOptions, {"cout": 3}, "samples"),
            "samples: cout: is not an option .*'count'",
        ),
        (lambda: make_tolerances({"onxx": {}}, ("onnx",)), "onxx: is not converted to .*'onnx'"),
        (lambda: make_tolerances({"onnx": {"absolute": -1}}, ("onnx",)), "verify.onnx: absolute"),
    ],
)
def test_settings_of_samples_and_tolerances_are_checked_too(make, message):
    with pytest.raises(RecipeError, match=message) as caught:
        make()
    assert "plugins" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * 50_000,
        "[model]\nsource='x'\n[convert.onnx]\nopset=" + "9" * 5000,
        "model=5\nconvert=5\nverify=5\ntarget=5\nsamples=5\nbundle=5",
        "[[model]]\n[[convert]]\n[[verify]]\n[[target]]\n[[samples]]\n[[bundle]]",
        "convert = 'x'\n[verify.onnx]",
    ],
)
def test_tables_of_the_wrong_kind_are_mistakes(tmp_path, text):
    assert _mistakes(tmp_path, text)
    assert _mistakes(tmp_path, text, ("onnx.opset=18",))


@pytest.mark.parametrize(
    "setting", ["model.source.x=1", "convert.onnx.opset.x=1", "onnx.opset=" + "9" * 5000]
)
def test_settings_below_what_is_no_table_are_mistakes(tmp_path, setting):
    assert _mistakes(tmp_path, GOOD, (setting,))


def test_a_misspelt_operation_is_one_mistake_in_the_words_of_the_recipe(tmp_path):
    (mistake,) = _mistakes(tmp_path, GOOD.replace('"decode"', '"decod"'))
    assert "model: preprocessing.0: op 'decod' is not known (did you mean 'decode'?)" in mistake
    assert "tuple" not in mistake


def test_a_misspelt_operation_of_a_named_input_too(tmp_path):
    text = GOOD.replace("[[model.preprocessing]]", "[[model.preprocessing.photo]]")
    (mistake,) = _mistakes(tmp_path, text.replace('"decode"', '"decod"'))
    assert "model: preprocessing.photo.0: op 'decod' is not known" in mistake


def test_what_is_no_text_is_no_recipe(tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(b"PK\x03\x04\xff")
    with pytest.raises(RecipeError, match="is not a recipe"):
        read_recipe(path)


def test_a_check_names_every_file_that_is_not_there(tmp_path):
    recipe = read_recipe(_write(tmp_path, GOOD.replace('["a", "b"]', '"labels.txt"')))
    with pytest.raises(UsageError) as caught:
        check_recipe(recipe)
    for missing in ("m.keras", "labels.txt", "data"):
        assert f"{tmp_path / missing} does not exist" in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("height = 28", "height = 32"), "preprocessing: gives [32, 28, 3]"),
        (
            ('source = "workspace"', 'source = "workspace"\nlabels = ["a"]'),
            "1 given for 10 scores",
        ),
    ],
)
def test_a_check_refuses_what_the_run_would(tmp_path, change, message):
    (tmp_path / "workspace").symlink_to(EXAMPLE / "workspace")
    text = """
[model]
source = "workspace"
[[model.preprocessing]]
op = "decode"
[[model.preprocessing]]
op = "resize"
height = 28
width = 28
[convert.onnx]
"""
    assert check_recipe(read_recipe(_write(tmp_path, text))).chains
    sizes_of_the_caller = text.replace(
        'op = "resize"\nheight = 28\nwidth = 28', 'op = "color"\nto = "rgb"'
    )
    assert check_recipe(read_recipe(_write(tmp_path, sizes_of_the_caller))).chains
    with pytest.raises(UsageError) as caught:
        check_recipe(read_recipe(_write(tmp_path, text.replace(*change))))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": 5}, "is not the position of a class"),
        ({"count": 50}, "cannot be measured on"),
        (('"accuracy"', '"map"'), "map does not judge what the evaluation data says: classes"),
        (("0.02", "2"), "is all of accuracy"),
        (("[bench]", '[[compress]]\npass = "prune"\n[bench]'), "no layers to work on"),
        (("[convert.onnx]", '[convert.onnx]\ncalibration = "no.npz"'), "no.npz does not exist"),
    ],
)
def test_a_check_refuses_data_and_budgets_that_the_run_would(tmp_path, change, message):
    text = """
[model]
source = "m.onnx"
[convert.onnx]
[data]
evaluation = "data.npz"
[budget]
metric = "accuracy"
max_drop = 0.02
[bench]
"""
    _tiny_onnx(tmp_path / "m.onnx")
    _tiny_data(tmp_path / "data.npz")
    assert check_recipe(read_recipe(_write(tmp_path, text))).chains
    if isinstance(change, dict):
        _tiny_data(tmp_path / "data.npz", **change)
    else:
        text = text.replace(*change)
    with pytest.raises(DeployError) as caught:
        check_recipe(read_recipe(_write(tmp_path, text)))
    assert message in caught.value.message


def _tiny_onnx(path):
    weights = onnx.numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [weights],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def _tiny_data(path, count=3000, more=0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    np.savez(path, x=x, label=x[:, :3].argmax(1) + more)


COMPRESSED = (
    GOOD
    + """
[data]
evaluation = "test"
train = "train"
[budget]
max_drop = 0.01
goal = "latency"
[[compress]]
pass = "prune"
sparsity = 0.8
[bench]
seconds = 1
"""
)


def test_a_compression_is_data_budget_passes_and_bench_together(tmp_path):
    request = read_recipe(_write(tmp_path, COMPRESSED), ("budget.max_drop=0.02",)).compression
    assert request.data.evaluation == tmp_path / "test"
    assert request.data.train == tmp_path / "train"
    assert (request.budget.max_drop, request.budget.goal) == (0.02, "latency")
    assert [p.name for p in request.passes] == ["prune"]
    assert request.bench.seconds == 1


def test_without_data_there_is_no_compression(tmp_path):
    assert read_recipe(_write(tmp_path, GOOD)).compression is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[data]\nevaluation = "test"\ntrain = "train"', "", "data: the table is missing; [budget] needs it"),
        ('pass = "prune"', 'pass = "prone"', "compress: 1: pass 'prone' is not known (did you mean 'prune'?)"),
        ('pass = "prune"', "", "compress: 1: pass None is not known"),
        ("sparsity = 0.8", "sparsity = 1.8", "compress: 1 (prune): "),
        ("[[compress]]", "[compress]", "compress: is not a list of tables"),
        ('goal = "latency"', 'goal = "speed"', "budget: goal: "),
        ("max_drop = 0.01", "max_drop = -1", "budget: max_drop: "),
        ("max_drop = 0.01", "sparsities = [0.9, 0.5]", "budget: sparsities: "),
        ('evaluation = "test"', 'evaluate = "test"', "data: evaluate: is not an option"),
    ],
)  # fmt: skip
def test_mistakes_in_a_compression_are_told_with_their_place(tmp_path, old, new, message):
    assert old in COMPRESSED
    mistakes = _mistakes(tmp_path, COMPRESSED.replace(old, new))
    assert any(message in mistake for mistake in mistakes), mistakes
