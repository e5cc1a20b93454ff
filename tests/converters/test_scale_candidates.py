"""What a search tries of the formats whose kernels have scales."""

import pytest

from pipcook_deploy import plugins


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_int8_is_tried_with_one_scale_a_tensor_too(name: str):
    tried = [(c.precision, c.per_channel) for c in plugins.converter(name)().candidates()]
    assert tried[0] == ("int8", False)
    assert ("int8", True) in tried
    assert all(each for precision, each in tried if precision != "int8")


@pytest.mark.parametrize("name", ["onnx", "tflite"])
@pytest.mark.parametrize("each", [True, False])
def test_scales_that_the_user_chose_are_the_only_ones(name: str, each: bool):
    converter = plugins.converter(name)(per_channel=each)
    assert {c.per_channel for c in converter.candidates()} == {each}
    assert converter.damage_options() == {"per_channel": each}


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_a_precision_that_the_user_chose_is_the_only_one(name: str):
    converter = plugins.converter(name)(precision="int8")
    assert converter.candidates() == (converter,)
