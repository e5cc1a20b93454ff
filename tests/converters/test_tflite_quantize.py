"""Quantizing float32 TFLite files: which operators, how well, how small, and the same bytes each time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.answer_damage import answer_damage
from pipcook_deploy.converters.tflite_layers import layers
from pipcook_deploy.converters.to_tflite import TfliteConverter
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.files import wire_sizes
from pipcook_deploy.formats.tflite_file import read_tflite
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
from pipcook_deploy.tensors import save_tensors
from tests import keras_made, zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras 3
]
UNEVEN = 2.0 ** np.array([-9, 5, -7, 3, -3, 9, 0, 7])


def uneven():
    """A depthwise CNN whose channels differ in range by 2^18, which the next layer undoes."""
    import keras

    keras.utils.set_random_seed(3)
    layer = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12, 12, 8), name="picture"),
            layer.Conv2D(8, 1, name="first"),
            layer.DepthwiseConv2D(3, activation="relu", name="depthwise", use_bias=False),
            layer.Conv2D(32, 3, activation="relu", name="mix"),
            layer.GlobalAveragePooling2D(name="pool"),
            layer.Dense(5, activation="softmax", name="label"),
        ]
    )
    kernel = model.get_layer("depthwise").kernel
    kernel.assign(kernel * UNEVEN[:, None])
    (mix, bias) = model.get_layer("mix").get_weights()
    model.get_layer("mix").set_weights([mix / UNEVEN[:, None], bias])
    dense, bias = model.get_layer("label").get_weights()
    model.get_layer("label").set_weights([dense * 20, bias])
    return model


class Made:
    """A model's float32 TLite file as a source, with samples, answers and a calibration set."""

    def __init__(self, live, folder: Path) -> None:
        self.one = keras_made.save(live, folder, samples=48)
        self.folder = folder
        self.float32 = self.convert("float32", self.one.model)
        details = self.float32.details
        self.source = Model(
            self.float32.file, "tflite", self.one.model.spec, signature=details["signature"]
        )
        np.savez(folder / "calibration.npz", **self.one.inputs)
        save_tensors(folder / "inputs", self.one.inputs)

    def convert(self, name: str, model: Model | None = None, **options):
        into = self.folder / name
        into.mkdir()
        if options.get("precision", "float32").startswith("int"):
            options["calibration"] = self.folder / "calibration.npz"
        return TfliteConverter(**options).convert(model or self.source, into)

    def damage(self, artifact) -> float:
        return answer_damage(
            self.one.outputs, LiteRtRuntime().run_artifact(artifact, self.one.inputs)
        )


@pytest.fixture(scope="module")
def collapsing(tmp_path_factory):
    return Made(uneven(), tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    from pipcook_deploy.sources.keras_source import load_archive

    folder = tmp_path_factory.mktemp("fashion")
    source = load_archive(Path("examples/fashion-mnist/model.keras").absolute(), folder, False)
    import keras

    return Made(keras.models.load_model(source.path, compile=False), folder)


def kinds(path: Path) -> dict[str, set[str]]:
    """Element types by operator: of weights and of outputs."""
    (graph, *_) = read_tflite(memoryview(path.read_bytes())).subgraphs
    found: dict[str, set[str]] = {}
    for operator in graph.operators:
        tensors = [graph.tensors[i] for i in (*operator.inputs[1:], *operator.outputs) if i >= 0]
        found.setdefault(operator.name, set()).update(t.dtype for t in tensors)
    return found


def test_int8_of_the_example_takes_less_than_028_of_float32(convolutional) -> None:
    artifact = convolutional.convert("small", precision="int8")
    for measure in (lambda path: path.stat().st_size, lambda path: wire_sizes(path)[1]):
        assert measure(artifact.file) <= 0.28 * measure(convolutional.float32.file)
    assert convolutional.damage(artifact) < 0.05


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8", "int16x8"])
def test_the_same_model_gives_the_same_bytes(convolutional, precision) -> None:
    first, second = (
        convolutional.convert(f"{precision}{i}", precision=precision).file.read_bytes()
        for i in range(2)
    )
    assert first == second


def test_int16_activations_are_nearer_to_float_than_int8(convolutional) -> None:
    coarse, fine = (convolutional.convert(f"a-{p}", precision=p) for p in ("int8", "int16x8"))
    assert fine.precision == "int16x8"
    assert kinds(fine.file)["CONV_2D"] == {"int8", "int16", "int64"}  # weights, activations, biases
    assert convolutional.damage(fine) < 0.8 * convolutional.damage(coarse)


def test_operators_are_left_in_float_by_output_or_weight(convolutional) -> None:
    rows = {row["kind"]: row for row in layers(str(convolutional.float32.file))}
    softmax, dense = rows["SOFTMAX"]["name"], rows["FULLY_CONNECTED"]["weight"]
    for name in (softmax, dense, "*MatMul*"):
        artifact = convolutional.convert(f"x{len(name)}", precision="int8", exclude=(name,))
        kind = "SOFTMAX" if name == softmax else "FULLY_CONNECTED"
        assert kinds(artifact.file)[kind] == {"float32"}
        assert "int8" in kinds(artifact.file)["CONV_2D"]
        assert artifact.details["excluded"] == [rows[kind]["name"]]


def test_excluding_what_is_not_there_is_refused(convolutional) -> None:
    with pytest.raises(ConversionError, match="'conv9' is no operator"):
        convolutional.convert("none", precision="int8", exclude=("conv9",))
    with pytest.raises(ConversionError, match="exclude is for quantized models"):
        convolutional.convert("plain", exclude=("*",))


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integers_in_and_out_with_a_float_operator_at_the_end(convolutional, io) -> None:
    (last,) = (r["name"] for r in layers(str(convolutional.float32.file)) if r["kind"] == "SOFTMAX")
    artifact = convolutional.convert(f"io-{io}", precision="int8", io=io, exclude=(last,))
    (graph,) = read_tflite(memoryview(artifact.file.read_bytes())).subgraphs
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {io}
    assert convolutional.damage(artifact) < 0.05


def test_names_stay_if_asked_for(convolutional) -> None:
    short, told = (
        convolutional.convert(f"strip{strip}", precision="dynamic", strip=strip)
        for strip in (True, False)
    )
    wanted = {row["name"] for row in layers(str(convolutional.float32.file))}
    assert wanted <= {row["name"] for row in layers(str(told.file))}
    assert told.file.stat().st_size > short.file.stat().st_size


def test_what_is_quantized_is_not_quantized_again(convolutional) -> None:
    done = convolutional.convert("once", precision="int8")
    source = replace(convolutional.source, path=done.file)
    with pytest.raises(ConversionError, match="quantized already"):
        convolutional.convert("twice", source, precision="dynamic")


def test_one_scale_for_all_channels_loses_the_small_ones(tmp_path) -> None:
    import keras

    keras.utils.set_random_seed(5)
    live = keras.Sequential([keras.Input((64,), name="row"), keras.layers.Dense(32, name="all")])
    kernel, bias = live.layers[0].get_weights()
    live.layers[0].set_weights([kernel * np.repeat(UNEVEN, 4), bias])
    made = Made(live, tmp_path)
    (truth,) = made.one.outputs.values()
    lost = {}
    for each in (True, False):
        artifact = made.convert(f"each-{each}", precision="dynamic", per_channel=each)
        (answer,) = LiteRtRuntime().run_artifact(artifact, made.one.inputs).values()
        lost[each] = (np.square(answer - truth).mean(0) / np.square(truth).mean(0)).max()
    assert lost[True] < 0.01 and lost[False] > 0.9


def test_scales_that_litert_refuses_are_left_in_float(collapsing) -> None:
    artifact = collapsing.convert("refused", precision="int8")
    assert artifact.details["excluded"]  # without them the file does not open
    assert collapsing.damage(artifact) < 10


def test_damage_names_the_operator_whose_exclusion_repairs(collapsing) -> None:
    from pipcook_deploy.converters.tflite_damage import int8_damage

    inputs = str(collapsing.folder / "inputs")
    found = int8_damage(str(collapsing.float32.file), inputs, 32)
    names = {row["name"]: row["kind"] for row in layers(str(collapsing.float32.file))}
    assert set(found) == set(names)
    worst = max(found, key=found.__getitem__)
    assert names[worst] in ("DEPTHWISE_CONV_2D", "CONV_2D")
    before = collapsing.convert("before", precision="int8")
    converter = TfliteConverter(precision="int8").without([worst])
    assert converter is not None and converter.exclude == (worst,)
    ordered = sorted(found, key=found.__getitem__, reverse=True)
    after = collapsing.convert("after", precision="int8", exclude=tuple(ordered[:3]))
    assert collapsing.damage(after) < collapsing.damage(before) / 5


def test_a_loop_gets_integer_weights_and_answers_alike(tmp_path) -> None:
    made = Made(zoo.ZOO["gru"](), tmp_path)
    artifact = made.convert("loop", precision="int8")
    found = read_tflite(memoryview(artifact.file.read_bytes()))
    inner = {t.dtype for graph in found.subgraphs[1:] for t in graph.tensors}
    assert found.ops["WHILE"] == 1 and "int8" in inner
    assert artifact.file.stat().st_size < 0.8 * made.float32.file.stat().st_size
    assert made.damage(artifact) < 1e-3


def test_half_floats_of_a_tflite_source(convolutional) -> None:
    artifact = convolutional.convert("half", precision="float16")
    assert artifact.file.stat().st_size < 0.53 * convolutional.float32.file.stat().st_size
    assert 0 < convolutional.damage(artifact) < 1e-5
