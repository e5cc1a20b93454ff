"""The other methods: health, metadata, Triton's extensions; deadlines, draining, keys, ports."""

import json
import math
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from pipcook_deploy.server.grpc.messages import messages
from pipcook_deploy.server.grpc.schema import MESSAGES, METHODS, SERVICE
from tests.server import tiny_models
from tests.server.grpc import stub as own
from tests.server.grpc.stub import T, typed

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with own.serving(tiny_models.logarithm(tmp_path_factory.mktemp("m"))) as pair:
        yield pair


@pytest.fixture(scope="module")
def stub(served):
    return served[0]


def asked(name="logarithm", values=(1, 1)):
    return T["ModelInferRequest"](model_name=name, inputs=[typed("x", "FP32", values)])


def test_health(stub):
    assert stub("ServerLive").live and stub("ServerReady").ready
    assert stub("ModelReady", name="logarithm").ready
    assert stub("ModelReady", name="logarithm", version="1").ready
    assert not stub("ModelReady", name="logarithm", version="2").ready
    assert not stub("ModelReady", name="x").ready


def test_metadata_is_that_of_rest(served):
    stub, server = served
    found, rest = stub("ServerMetadata"), httpx.get(f"{server.url}/v2").json()
    assert [found.name, found.version, list(found.extensions)] == list(rest.values())
    assert "statistics" in rest["extensions"] and "model_repository" in rest["extensions"]
    found = stub("ModelMetadata", name="logarithm")
    rest = httpx.get(f"{server.url}/v2/models/logarithm").json()
    assert [found.name, found.platform, list(found.versions)] == [
        rest["name"],
        rest["platform"],
        rest["versions"],
    ]
    tensors = zip([*found.inputs, *found.outputs], rest["inputs"] + rest["outputs"], strict=True)
    for ours, theirs in tensors:
        assert [ours.name, ours.datatype, list(ours.shape)] == list(theirs.values())
    assert "no model 'x'" in stub.refused("ModelMetadata", code="NOT_FOUND", name="x")


def test_configuration_is_that_of_rest(served):
    stub, server = served
    config = stub("ModelConfig", name="logarithm").config
    rest = httpx.get(f"{server.url}/v2/models/logarithm/config").json()
    assert rest == httpx.get(f"{server.url}/v2/models/logarithm/versions/1/config").json()
    assert (config.name, config.backend, config.max_batch_size) == ("logarithm", "onnxruntime", 0)
    assert (rest["name"], rest["backend"], rest["max_batch_size"]) == (
        "logarithm",
        "onnxruntime",
        0,
    )
    assert config.input[0].data_type == 11 and rest["input"][0]["data_type"] == "TYPE_FP32"
    assert list(config.input[0].dims) == rest["input"][0]["dims"] == [-1, 2]


def test_the_index_names_what_is_served(served):
    stub, server = served
    rows = stub("RepositoryIndex").models
    assert [(r.name, r.version, r.state, r.reason) for r in rows] == [
        ("logarithm", "1", "READY", "")
    ]
    for body in (b"", b"{}", b'{"ready": true}'):
        rest = httpx.post(f"{server.url}/v2/repository/index", content=body)
        assert rest.json() == [
            {"name": "logarithm", "version": "1", "state": "READY", "reason": ""}
        ]
    rest = httpx.post(f"{server.url}/v2/repository/index", content=b'{"ready": 1}')
    assert rest.status_code == 400 and "ready" in rest.json()["error"]


def test_statistics_count_samples_runs_and_failures(tmp_path):
    with own.serving(tiny_models.logarithm(tmp_path)) as (stub, server):
        before = int(time.time() * 1000)
        for _ in range(3):
            stub("ModelInfer", asked())
        four = {"name": "x", "datatype": "FP32", "shape": [4, 2], "data": [1] * 8}
        url = f"{server.url}/v2/models/logarithm"
        assert httpx.post(f"{url}/infer", json={"inputs": [four]}).status_code == 200
        stub.refused("ModelInfer", asked(values=(1,)))
        (found,) = stub("ModelStatistics").model_stats
        assert (found.inference_count, found.execution_count) == (7, 4)
        stats = found.inference_stats
        assert (stats.success.count, stats.fail.count, stats.compute_infer.count) == (4, 1, 4)
        assert 0 < stats.compute_infer.ns < stats.success.ns
        assert before <= found.last_inference <= time.time() * 1000
        for path in (url, f"{url}/versions/1", f"{server.url}/v2/models"):
            (rest,) = httpx.get(f"{path}/stats").json()["model_stats"]
            assert (rest["name"], rest["version"]) == ("logarithm", "1")
            assert (rest["inference_count"], rest["execution_count"]) == (7, 4)
            assert rest["inference_stats"]["success"] == {
                "count": 4,
                "ns": stats.success.ns,
            }
        assert httpx.get(f"{server.url}/v2/models/x/stats").status_code == 404
        stub.refused("ModelStatistics", code="NOT_FOUND", name="logarithm", version="7")


def test_loading_and_unloading_are_for_administrators(tmp_path):
    token = tmp_path / "token"
    token.write_text("t" * 40)
    folder = tiny_models.logarithm(tmp_path)
    with own.serving(folder, "--admin-token-file", str(token)) as (stub, server):
        admin = {"authorization": f"Bearer {'t' * 40}"}
        metadata = tuple(admin.items())
        url = f"{server.url}/v2/repository/models"
        for action in ("Load", "Unload"):
            name = f"RepositoryModel{action}"
            reason = stub.refused(name, code="UNAUTHENTICATED", model_name="logarithm")
            assert "token" in reason
            stub.refused(name, code="NOT_FOUND", model_name="x", metadata=metadata)
            assert httpx.post(f"{url}/logarithm/{action.lower()}").status_code == 401
            assert httpx.post(f"{url}/x/{action.lower()}", headers=admin).status_code == 404
        changed = {"parameters": {"config": "{}"}}
        assert httpx.post(f"{url}/logarithm/load", headers=admin, json=changed).status_code == 400

        stub("RepositoryModelUnload", model_name="logarithm", metadata=metadata)
        assert not stub("ModelReady", name="logarithm").ready
        stub.refused("ModelInfer", asked(), "NOT_FOUND")
        (row,) = stub("RepositoryIndex").models
        assert (row.name, row.version, row.state) == ("logarithm", "1", "UNAVAILABLE")
        assert row.reason and not stub("RepositoryIndex", ready=True).models
        assert httpx.post(f"{url}/logarithm/load", headers=admin).status_code == 200
        assert stub("ModelInfer", asked()).outputs

        assert httpx.post(f"{url}/logarithm/unload", headers=admin).status_code == 200
        # As clients of the Open Inference Protocol itself name it.
        loaded = stub("RepositoryModelLoad", repository_name="logarithm", metadata=metadata)
        assert loaded.is_loaded and stub("ModelReady", name="logarithm").ready


def test_what_is_answered_is_logged(tmp_path):
    folder = tiny_models.logarithm(tmp_path)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    options = ("--log-requests", "all", "--log-format", "json")
    with own.serving(folder, *options) as (stub, server):
        metadata = (("x-request-id", "mine"), ("traceparent", trace))
        stub("ModelInfer", asked(), metadata=metadata)
        stub.refused("ModelInfer", asked("x"), "NOT_FOUND")
        server.process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in server.process.stderr]
    good, bad = [line for line in lines if line["message"] == "answered"]
    assert (good["request_id"], good["trace_id"]) == ("mine", "a" * 32)
    assert (good["method"], good["path"]) == ("gRPC", f"/{SERVICE}/ModelInfer")
    assert (good["status"], good["model"], bad["status"], bad["model"]) == (
        200,
        "logarithm",
        404,
        "",
    )


def test_keys_lock_everything_but_health(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k" * 40)
    folder = tiny_models.logarithm(tmp_path)
    with own.serving(folder, "--api-key-file", str(keys)) as (stub, _):
        assert stub("ServerLive").live and stub("ServerReady").ready
        for name in METHODS:
            if name not in ("ServerLive", "ServerReady"):
                stub.refused(name, code="UNAUTHENTICATED")
        wrong = (("authorization", "Bearer wrong"),)
        stub.refused("ModelInfer", asked(), "UNAUTHENTICATED", metadata=wrong)
        for metadata in (("authorization", f"Bearer {'k' * 40}"), ("x-api-key", "k" * 40)):
            assert stub("ModelInfer", asked(), metadata=(metadata,)).outputs


def slow_request():
    from numpy import zeros

    rows = [own.bare("x", "FP32", (1, 256, 256))]
    raw = zeros((1, 256, 256), "f4").tobytes()
    return T["ModelInferRequest"](model_name="slow", inputs=rows, raw_input_contents=[raw])


def test_deadlines_a_full_queue_and_draining(tmp_path):
    """One at a time is computed; what waits is not when its client has gone; the end waits for the rest."""
    folder = tiny_models.slow(tmp_path, rounds=1500)
    with own.serving(folder, "--max-queue", "2", "--streams", "1") as (stub, server):
        first = stub.method("ModelInfer").future(slow_request(), timeout=60)
        while not pending(server):
            time.sleep(0.01)
        stub.refused("ModelInfer", slow_request(), "DEADLINE_EXCEEDED", timeout=0.05)
        brief = slow_request()
        brief.parameters["timeout"].int64_param = 1000
        second = stub.method("ModelInfer").future(brief, timeout=60)
        while pending(server) < 2:
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError) as caught:
            stub("ModelInfer", slow_request())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"].isdigit()
        assert second.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(first.result().raw_output_contents[0]) == 256 * 4
        assert metric(server, "expired_requests_total") == 2  # neither of them was computed
        last = stub.method("ModelInfer").future(slow_request(), timeout=60)
        while not pending(server):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert len(last.result().raw_output_contents[0]) == 256 * 4
        assert server.process.wait(20) == 0


def metric(server, name):
    text = httpx.get(f"{server.url}/metrics").text
    (row,) = [row for row in text.splitlines() if row.startswith(f"pipcook_{name}{{")]
    return float(row.rpartition(" ")[2])


def pending(server):
    """Requests that the model's queue has let in."""
    return metric(server, "pending_requests")


def test_the_certificate_of_https_is_that_of_grpc(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", key, "-out", cert,
    ]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    with own.serving(tiny_models.logarithm(tmp_path), *options) as (plain, _):
        plain.refused("ServerLive", code="UNAVAILABLE", timeout=5)
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        address = plain.address.replace("127.0.0.1", "localhost")
        with grpc.secure_channel(address, trusted) as channel:
            assert own.Stub(channel)("ModelInfer", asked()).outputs


def test_workers_share_the_port_and_count_together(tmp_path):
    with own.serving(tiny_models.logarithm(tmp_path), "--workers", "2") as (stub, _):
        for _ in range(12):  # connections of their own, which the kernel shares out
            option = ("grpc.use_local_subchannel_pool", 1)
            with grpc.insecure_channel(stub.address, options=[option]) as channel:
                assert own.Stub(channel)("ModelInfer", asked()).outputs
        (found,) = stub("ModelStatistics").model_stats
        assert (found.inference_count, found.inference_stats.success.count) == (12, 12)


def test_a_taken_port_is_said_before_anything_is_served(tmp_path, served):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        folder = tiny_models.logarithm(tmp_path)
        reason = f"gRPC cannot listen on 127.0.0.1:{port}"
        with (
            pytest.raises(AssertionError, match=reason),
            tiny_models.serving(folder, "--grpc-port", port),
        ):
            pass


def test_without_a_port_there_is_no_grpc_and_nothing_of_it_is_loaded(tmp_path):
    with tiny_models.serving(tiny_models.logarithm(tmp_path)) as server:
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "grpc/_cython" not in maps


def test_names_that_are_registered_elsewhere_do_not_clash():
    """Client libraries define the same messages in protobuf's default pool."""
    file = descriptor_pb2.FileDescriptorProto(name="other.proto", package="inference")
    file.message_type.add(name="ServerLiveRequest")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    theirs = descriptor_pool.Default().FindMessageTypeByName("inference.ServerLiveRequest")
    assert theirs is not messages()["ServerLiveRequest"].DESCRIPTOR


def test_every_method_has_its_messages():
    assert {f"{name}{side}" for name in METHODS for side in ("Request", "Response")} <= set(
        MESSAGES
    )
    assert SERVICE == "inference.GRPCInferenceService"


def test_calls_at_the_same_time_each_get_their_own_answer(stub):
    def ask(number):
        row = typed("x", "FP32", [number, 1])
        request = T["ModelInferRequest"](model_name="logarithm", inputs=[row], id=str(number))
        answers.append((number, stub("ModelInfer", request)))

    answers = []
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 33)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for n, _ in answers) == list(range(1, 33))
    for number, answer in answers:
        assert answer.id == str(number)
        (value, _) = own.values(answer.outputs[0])
        assert value == pytest.approx(math.log(number), rel=1e-6)


def test_a_call_is_counted_under_its_model(served):
    stub, server = served
    stub("ModelInfer", asked())
    text = httpx.get(f"{server.url}/metrics").text
    assert 'model="logarithm"' in text and json.dumps("200") in text
