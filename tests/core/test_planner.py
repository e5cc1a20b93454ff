from pathlib import Path
from typing import ClassVar

import pytest

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.model import Model
from pipcook_deploy.planner import describe_plan, needs_tensorflow, plan


class _Fake(Converter):
    def convert(self, model: Model, into: Path) -> Artifact:
        raise AssertionError("planning converts nothing")


class _ToH5(_Fake):
    format: ClassVar[str] = "keras_h5"
    accepts: ClassVar[tuple[str, ...]] = ("tfjs_layers", "keras")
    intermediate: ClassVar[bool] = True


class _ToSavedModel(_Fake):
    format: ClassVar[str] = "saved_model"
    accepts: ClassVar[tuple[str, ...]] = ("keras", "keras_h5", "saved_model")
    suffix: str = ""


class _ToOnnx(_Fake):
    format: ClassVar[str] = "onnx"
    accepts: ClassVar[tuple[str, ...]] = ("saved_model",)


class _ToWeb(_Fake):
    format: ClassVar[str] = "web"
    accepts: ClassVar[tuple[str, ...]] = ("saved_model", "tfjs_layers")


INSTALLED = [_ToH5, _ToSavedModel, _ToOnnx, _ToWeb]


def test_the_chain_leads_through_intermediate_formats():
    steps = plan("tfjs_layers", [_ToOnnx()], INSTALLED)
    assert describe_plan("tfjs_layers", steps) == ["tfjs_layers -> keras_h5 -> saved_model -> onnx"]


def test_a_format_read_directly_takes_one_step():
    steps = plan("saved_model", [_ToOnnx()], INSTALLED)
    assert describe_plan("saved_model", steps) == ["saved_model -> onnx"]


def test_the_first_accepted_format_that_can_be_had_wins():
    assert describe_plan("tfjs_layers", plan("tfjs_layers", [_ToWeb()], INSTALLED)) == [
        "tfjs_layers -> keras_h5 -> saved_model -> web"
    ]


def test_chains_share_their_common_steps_with_the_users_options():
    steps = plan("keras", [_ToSavedModel(suffix="x"), _ToOnnx()], INSTALLED)
    assert steps["onnx"].after.key == steps["saved_model"].key
    assert steps["onnx"].after.converter.suffix == "x"


def test_every_unreachable_format_is_named_at_once():
    with pytest.raises(UnsupportedConversionError) as caught:
        plan("tflite", [_ToOnnx(), _ToWeb()], INSTALLED)
    assert "onnx: no chain" in caught.value.message
    assert "web: no chain" in caught.value.message


class _Choosy(_Fake):
    format: ClassVar[str] = "choosy"
    accepts: ClassVar[tuple[str, ...]] = ("keras", "saved_model")

    def accepted_from(self, details):
        return ("saved_model",) if details.get("recurrent") is False else self.accepts


def test_a_converter_may_choose_by_what_the_source_is():
    plain = plan("keras", [_Choosy()], INSTALLED, {"recurrent": False})
    assert describe_plan("keras", plain) == ["keras -> saved_model -> choosy"]
    unknown = plan("keras", [_Choosy()], INSTALLED)
    assert describe_plan("keras", unknown) == ["keras -> choosy"]


@pytest.mark.parametrize(
    ("source", "to", "needed"),
    [
        ("onnx", "onnx", False),
        ("tflite", "tflite", False),
        ("keras", "onnx", True),  # to answer the samples, and to convert
        ("tfjs_graph", "tfjs", True),  # to convert
        ("tfjs_layers", "onnx", True),  # to convert on the way
    ],
)
def test_tensorflow_is_needed_where_a_runtime_or_a_conversion_needs_it(source, to, needed):
    installed = [plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)]
    steps = plan(source, [plugins.converter(to)()], installed)
    assert needs_tensorflow(source, steps) is needed


class _Light(_Fake):
    """Writes a SavedModel without TensorFlow, which only answers it."""

    format: ClassVar[str] = "saved_model"
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)

    def needs_tensorflow(self, source_format):
        return False


def test_tensorflow_is_needed_for_the_answers_of_an_artifact():
    assert needs_tensorflow("onnx", plan("onnx", [_Light()], [_Light]))
