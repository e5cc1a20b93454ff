"""tritonclient over HTTP and gRPC: `python triton.py HTTP_ADDRESS GRPC_ADDRESS`."""

import queue
import runpy
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from checks import VALUES, run, same
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

SERVER = Path(__file__).parents[3] / "pipcook_deploy" / "server"
# The Open Inference Protocol's own, where Triton has nothing.
BESIDE = {
    "RepositoryModelLoadResponse": ("model_name", "is_loaded"),
    "RepositoryModelUnloadResponse": ("model_name", "is_unloaded"),
}


def clients(http, grpc):
    return (
        (over_http, over_http.InferenceServerClient(http)),
        (over_grpc, over_grpc.InferenceServerClient(grpc)),
    )


def inputs(module, **more):
    """All of echo's, binary unless `binary_data=False` is given."""
    made = []
    for name, (datatype, array) in VALUES.items():
        tensor = module.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array, **more)
        made.append(tensor)
    return made


def refusal(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except InferenceServerException as error:
        return error
    raise AssertionError("was not refused")


def health(http, grpc):
    for _, client in clients(http, grpc):
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("echo") and client.is_model_ready("echo", "1")
        assert not client.is_model_ready("echo", "9") and not client.is_model_ready("x")


def schema(http, grpc):
    """The server's table of messages has the numbers, names and types of Triton's own."""
    table = runpy.run_path(str(SERVER / "grpc" / "schema.py"))["MESSAGES"]
    theirs = {}
    for module in (service_pb2, model_config_pb2):
        pending = list(module.DESCRIPTOR.message_types_by_name.values())
        while pending:
            message = pending.pop()
            theirs[message.name] = message
            pending += message.nested_types
    for name, fields in table.items():
        for row in filter(None, fields.split(", ")):
            number, field, kind = row.split()
            if field in BESIDE.get(name, ()):
                continue
            found = theirs[name].fields_by_number[int(number)]
            assert found.name == field, (name, row)
            assert found.is_repeated == kind.endswith(("*", "}")), (name, row)
            assert kind_of(found) == kind.strip("{}*?"), (name, row)


def kind_of(field):
    if field.message_type is not None:
        entry = field.message_type
        map_value = entry.fields_by_name["value"] if entry.GetOptions().map_entry else None
        return map_value.message_type.name if map_value else entry.name
    if field.enum_type is not None:
        return field.enum_type.name
    names = descriptor_pb2.FieldDescriptorProto.Type
    return names.Name(field.type).removeprefix("TYPE_").lower()


def metadata(http, grpc):
    (_, one), (_, two) = clients(http, grpc)
    for found in (one.get_server_metadata(), two.get_server_metadata(as_json=True)):
        assert found["name"] == "pipcook-deploy" and "statistics" in found["extensions"]
    rest, rpc = one.get_model_metadata("echo"), two.get_model_metadata("echo", as_json=True)
    assert rest["platform"] == rpc["platform"] == "onnx_onnxv1"
    for side in ("inputs", "outputs"):
        sizes = [[str(size) for size in tensor["shape"]] for tensor in rest[side]]
        assert sizes == [tensor["shape"] for tensor in rpc[side]]
        assert [t["datatype"] for t in rest[side]] == [t["datatype"] for t in rpc[side]]
    assert {t["name"]: t["datatype"] for t in rest["inputs"]} == {
        name: datatype for name, (datatype, _) in VALUES.items()
    }
    config = two.get_model_config("echo", as_json=True)["config"]
    assert config["backend"] == one.get_model_config("echo")["backend"] == "onnxruntime"
    assert [t["data_type"] for t in config["input"]] == [
        t["data_type"] for t in one.get_model_config("echo")["input"]
    ]


def every_datatype_binary(http, grpc):
    for module, client in clients(http, grpc):
        answer = client.infer("echo", inputs(module), request_id="42")
        assert all(same(name, answer.as_numpy(f"{name}_out")) for name in VALUES)
        got = answer.get_response() if module is over_http else answer.get_response(as_json=True)
        assert (got["id"], got["model_name"], got["model_version"]) == ("42", "echo", "1")


def every_datatype_json(http, grpc):
    (module, client), _ = clients(http, grpc)
    wanted = [module.InferRequestedOutput(f"{n}_out", binary_data=False) for n in VALUES]
    answer = client.infer("echo", inputs(module, binary_data=False), outputs=wanted)
    assert all(same(name, answer.as_numpy(f"{name}_out")) for name in VALUES)


def some_binary_and_some_not(http, grpc):
    (module, client), _ = clients(http, grpc)
    rows = inputs(module)
    json_row = module.InferInput("float32", [1, 2], "FP32")
    json_row.set_data_from_numpy(VALUES["float32"][1], binary_data=False)
    wanted = [
        module.InferRequestedOutput("float32_out", binary_data=True),
        module.InferRequestedOutput("string_out", binary_data=False),
    ]
    answer = client.infer("echo", [json_row, *rows[1:]], outputs=wanted)
    assert same("float32", answer.as_numpy("float32_out"))
    assert same("string", answer.as_numpy("string_out"))
    assert answer.as_numpy("int8_out") is None


def half_floats(http, grpc):
    half = np.array([[1.5, -65504]], np.float16)
    brain = np.array([[1.5, -2]], ml_dtypes.bfloat16)
    for module, client in clients(http, grpc):
        rows = [
            module.InferInput("float16", [1, 2], "FP16"),
            module.InferInput("bfloat16", [1, 2], "BF16"),
        ]
        rows[0].set_data_from_numpy(half)
        rows[1].set_data_from_numpy(brain)
        answer = client.infer("halves", rows)
        assert answer.as_numpy("float16_out").tolist() == half.tolist()
        assert answer.as_numpy("bfloat16_out").tolist() == brain.tolist()
        assert answer.as_numpy("sum").tolist() == [[3.0, -65506.0]]


def versions(http, grpc):
    """Two versions of `scale`: 1 doubles, 2 triples; 2 was loaded last."""
    for module, client in clients(http, grpc):
        row = module.InferInput("x", [1, 2], "FP32")
        row.set_data_from_numpy(np.array([[1, 2]], np.float32))
        for version, expected in (("1", [[2, 4]]), ("2", [[3, 6]]), ("", [[3, 6]])):
            answer = client.infer("scale", [row], model_version=version)
            assert answer.as_numpy("y").tolist() == expected


def wrong_requests(http, grpc):
    for module, client in clients(http, grpc):
        error = refusal(client.infer, "x", inputs(module))
        assert "no model 'x'" in error.message()
        assert error.status() in ("404", "StatusCode.NOT_FOUND")
        error = refusal(client.infer, "echo", inputs(module), model_version="9")
        assert error.status() in ("404", "StatusCode.NOT_FOUND")
        row = module.InferInput("float32", [1, 3], "FP32")
        row.set_data_from_numpy(np.zeros((1, 3), np.float32))
        error = refusal(client.infer, "echo", [row, *inputs(module)[1:]])
        assert "does not fit" in error.message()
        assert error.status() in ("400", "StatusCode.INVALID_ARGUMENT")
        error = refusal(client.infer, "echo", inputs(module)[1:])
        assert "missing input: 'float32'" in error.message()
        error = refusal(client.get_model_metadata, "x")
        assert "no model 'x'" in error.message()


def timeouts(http, grpc):
    """By the request's own parameter, in microseconds, and by gRPC's deadline, in seconds."""
    for module, client in clients(http, grpc):
        row = module.InferInput("x", [1, 256, 256], "FP32")
        row.set_data_from_numpy(np.zeros((1, 256, 256), np.float32))
        error = refusal(client.infer, "slow", [row], timeout=1)
        assert "deadline" in error.message(), error.message()
        assert error.status() in ("503", "StatusCode.DEADLINE_EXCEEDED")
        if module is over_grpc:
            error = refusal(client.infer, "slow", [row], client_timeout=0.01)
            assert error.status() == "StatusCode.DEADLINE_EXCEEDED"


def at_the_same_time(http, grpc):
    client = over_http.InferenceServerClient(http, concurrency=4)
    asked = [client.async_infer("echo", inputs(over_http)) for _ in range(16)]
    answers = [one.get_result() for one in asked]
    done = queue.SimpleQueue()
    client = over_grpc.InferenceServerClient(grpc)
    for _ in range(16):
        client.async_infer(
            "echo", inputs(over_grpc), lambda result, error: done.put((result, error))
        )
    for _ in range(16):
        result, error = done.get(timeout=20)
        assert error is None, error
        answers.append(result)
    assert all(same("int64", answer.as_numpy("int64_out")) for answer in answers)


def compressed(http, grpc):
    """gRPC's own compression; HTTP bodies are not taken compressed."""
    client = over_grpc.InferenceServerClient(grpc)
    answer = client.infer("echo", inputs(over_grpc), compression_algorithm="gzip")
    assert same("uint64", answer.as_numpy("uint64_out"))


def repository_and_statistics(http, grpc):
    (_, one), (_, two) = clients(http, grpc)
    rest = one.get_model_repository_index()
    rpc = two.get_model_repository_index(as_json=True)["models"]
    names = [(row["name"], row["version"], row["state"]) for row in rest]
    assert names == [(row["name"], row["version"], row["state"]) for row in rpc]
    assert ("echo", "1", "READY") in names and ("scale", "2", "READY") in names
    (stats,) = one.get_inference_statistics("echo")["model_stats"]
    (again,) = two.get_inference_statistics("echo", "1", as_json=True)["model_stats"]
    assert stats["inference_count"] == int(again["inference_count"]) > 0
    assert stats["inference_stats"]["success"]["count"] > 0
    everything = one.get_inference_statistics()["model_stats"]
    assert {(row["name"], row["version"]) for row in everything} == {row[:2] for row in names}


def loading_is_not_for_everyone(http, grpc):
    for _, client in clients(http, grpc):
        for action in (client.load_model, client.unload_model):
            error = refusal(action, "echo")
            assert error.status() in ("403", "StatusCode.PERMISSION_DENIED"), error.status()


if __name__ == "__main__":
    run(
        [
            health, schema, metadata, every_datatype_binary, every_datatype_json, some_binary_and_some_not,
            half_floats, versions, wrong_requests, timeouts, at_the_same_time, compressed,
            repository_and_statistics, loading_is_not_for_everyone,
        ],
        *sys.argv[1:],
    )  # fmt: skip
