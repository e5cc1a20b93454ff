"""ModelInfer, typed and raw, by the server's own messages; other people's clients are in tests/server/clients."""

import struct

import grpc
import numpy as np
import pytest

from tests.server import tiny_models
from tests.server.grpc import stub as own
from tests.server.grpc.stub import T, bare, raw_arrays, typed
from tests.server.test_oip_v2 import SPELLED, VALUES


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with own.serving(tiny_models.echo(tmp_path_factory.mktemp("m"))) as (stub, _):
        yield stub


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    with own.serving(tiny_models.halves(tmp_path_factory.mktemp("m"))) as (stub, _):
        yield stub


def as_raw(name):
    if name == "string":
        return b"".join(
            struct.pack("<I", len(text.encode())) + text.encode() for text in VALUES[name]
        )
    return np.array(VALUES[name], name).astype(np.dtype(name).newbyteorder("<")).tobytes()


def request(rows, raw=(), **fields):
    return T["ModelInferRequest"](model_name="echo", inputs=rows, raw_input_contents=raw, **fields)


def all_typed(**changes):
    rows = {name: typed(name, SPELLED[name], VALUES[name]) for name in VALUES}
    return list((rows | changes).values())


def test_typed_contents_come_back_as_they_went(echo):
    answer = echo("ModelInfer", request(all_typed(), id="42"))
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "1", "42")
    assert {row.name: own.values(row) for row in answer.outputs} == {
        f"{name}_out": value for name, value in VALUES.items()
    }
    assert {row.name: row.datatype for row in answer.outputs} == {
        f"{name}_out": SPELLED[name] for name in VALUES
    }
    assert not answer.raw_output_contents
    assert all(list(row.shape) == [1, 2] for row in answer.outputs)


def test_raw_contents_come_back_raw(echo):
    rows = [bare(name, SPELLED[name]) for name in VALUES]
    answer = echo("ModelInfer", request(rows, [as_raw(name) for name in VALUES]))
    found = zip(answer.outputs, answer.raw_output_contents, strict=True)
    assert {row.name: data for row, data in found} == {f"{n}_out": as_raw(n) for n in VALUES}
    assert not any(row.HasField("contents") for row in answer.outputs)


def test_requested_outputs_come_in_the_order_asked_for(echo):
    wanted = [T["InferRequestedOutputTensor"](name=f"{name}_out") for name in ("bool", "int8")]
    answer = echo("ModelInfer", request(all_typed(), outputs=wanted))
    assert [row.name for row in answer.outputs] == ["bool_out", "int8_out"]


def test_half_floats_are_raw_both_ways(halves):
    half = np.array([[1.5, -65504]], "<f2")
    brain = np.array([[1.5, -2]], "<f4").view("<u2").reshape(1, 2, 2)[..., 1].copy()
    rows = [bare("float16", "FP16"), bare("bfloat16", "BF16")]
    asked = T["ModelInferRequest"](
        model_name="halves", inputs=rows, raw_input_contents=[half.tobytes(), brain.tobytes()]
    )
    answer = halves("ModelInfer", asked)
    found = raw_arrays(answer, float16_out="<f2", bfloat16_out="<u2", sum="<f4")
    assert [row.datatype for row in answer.outputs] == ["FP16", "BF16", "FP32"]
    assert found["float16_out"].tolist() == half.tolist()
    assert found["bfloat16_out"].tolist() == brain.tolist()
    assert found["sum"].tolist() == [[3.0, -65506.0]]
    rows[1].contents.fp32_contents.extend([1, 2])
    asked = T["ModelInferRequest"](model_name="halves", inputs=rows)
    assert "no typed contents" in halves.refused("ModelInfer", asked)


def test_an_output_without_typed_form_makes_the_answer_raw(tmp_path):
    with own.serving(tiny_models.half(tmp_path)) as (stub, _):
        rows = [typed("x", "FP32", [1.5], (1,))]
        answer = stub("ModelInfer", T["ModelInferRequest"](model_name="half", inputs=rows))
        assert raw_arrays(answer, y="<f2")["y"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("float32", typed("float32", "FP32", [1]), "needs 2 elements, fp32_contents has 1"),
        ("float32", typed("float32", "FP64", [1, 2]), "must be FP32"),
        ("float32", typed("float32", "FP32", [1, 2], (2,)), "does not fit"),
        ("float32", typed("float32", "FP32", [1, 2], (-1, 2)), "whole numbers"),
        ("float32", typed("float32", "FP32", [1, 2], (2**60, 2)), "elements are not taken"),
        ("float32", typed("float32", "FP32", [1, 2], (1,) * 40), "at most 16"),
        ("float32", typed("x", "FP32", [1, 2]), "unknown input 'x'"),
        ("float32", typed("float64", "FP64", [1, 2]), "duplicate input"),
        ("int8", typed("int8", "INT8", [128, 0]), "too large for int8"),
        ("uint16", typed("uint16", "UINT16", [65536, 0]), "too large for uint16"),
        ("bool", bare("bool", "BOOL"), "needs 2 elements, bool_contents has 0"),
    ],
)
def test_wrong_tensors_are_invalid_arguments(echo, name, row, reason):
    assert reason in echo.refused("ModelInfer", request(all_typed(**{name: row})))


def test_text_that_is_none_is_an_invalid_argument(echo):
    row = typed("string", "BYTES", [b"\xff", b""])
    assert "not UTF-8" in echo.refused("ModelInfer", request(all_typed(string=row)))


def test_raw_and_typed_cannot_be_mixed(echo):
    rows = [bare(name, SPELLED[name]) for name in VALUES]
    raw = [as_raw(name) for name in VALUES]
    assert "all are raw, or none" in echo.refused("ModelInfer", request(rows, raw[:-1]))
    assert "both contents and raw" in echo.refused("ModelInfer", request(all_typed(), raw))
    raw[0] += b"\0"
    assert "takes 8 bytes, not 9" in echo.refused("ModelInfer", request(rows, raw))


def test_missing_inputs_and_unknown_outputs(echo):
    assert "missing input: 'string'" in echo.refused("ModelInfer", request(all_typed()[:-1]))
    wanted = [T["InferRequestedOutputTensor"](name="x")]
    asked = request(all_typed(), outputs=wanted)
    assert "unknown output 'x'" in echo.refused("ModelInfer", asked)


def test_unknown_models_and_versions_are_not_found(echo):
    asked = request(all_typed())
    asked.model_name = "x"
    assert "no model 'x'" in echo.refused("ModelInfer", asked, "NOT_FOUND")
    asked = request(all_typed(), model_version="9")
    assert "not '9'" in echo.refused("ModelInfer", asked, "NOT_FOUND")


def test_a_timeout_must_be_whole_microseconds(echo):
    parameter = T["InferParameter"](string_param="1")
    asked = request(all_typed(), parameters={"timeout": parameter})
    assert "microseconds" in echo.refused("ModelInfer", asked)
    parameter = T["InferParameter"](int64_param=5_000_000)
    assert echo("ModelInfer", request(all_typed(), parameters={"timeout": parameter})).outputs


def test_large_typed_tensors_go_through_another_thread(echo):
    rows = {
        name: typed(name, SPELLED[name], VALUES[name] * 40_000, (40_000, 2)) for name in ("int8",)
    }
    rest = {
        name: typed(name, SPELLED[name], VALUES[name] * 40_000, (40_000, 2))
        for name in VALUES
        if name not in ("string", "int8")
    }
    rest["string"] = typed("string", "BYTES", ["a", ""] * 40_000, (40_000, 2))
    wanted = [T["InferRequestedOutputTensor"](name="int8_out")]
    answer = echo("ModelInfer", request(list((rows | rest).values()), outputs=wanted))
    assert list(answer.outputs[0].contents.int_contents) == VALUES["int8"] * 40_000


def test_a_message_above_the_limit_is_refused_and_the_server_goes_on(tmp_path):
    with own.serving(tiny_models.logarithm(tmp_path), "--max-body", "10000") as (stub, _):
        big = T["ModelInferRequest"](model_name="logarithm", raw_input_contents=[bytes(20_000)])
        stub.refused("ModelInfer", big, "RESOURCE_EXHAUSTED")
        assert stub("ServerLive").live


def test_what_is_no_message_is_an_invalid_argument(echo):
    method = echo._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"\xff\xff\xff", timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "this is no ModelInferRequest"
