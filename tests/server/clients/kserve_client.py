"""kserve's clients over REST and gRPC: `python kserve_client.py HTTP_ADDRESS GRPC_ADDRESS`."""

import asyncio
import logging
import sys

import grpc
import httpx
import numpy as np
from checks import VALUES, run, same
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def inputs(binary):
    made = []
    for name, (datatype, array) in VALUES.items():
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


def echoed(answer):
    outputs = {output.name: output for output in answer.outputs}
    assert answer.model_name == "echo"
    return all(same(name, outputs[f"{name}_out"].as_numpy()) for name in VALUES)


async def rest(http, work):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    try:
        return await work(client, f"http://{http}")
    finally:
        await client.close()


async def rpc(address, work):
    async with InferenceGRPCClient(address) as client:
        return await work(client)


def rest_health(http, grpc):
    async def work(client, url):
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, "echo")
        assert not await client.is_model_ready(url, "x")

    asyncio.run(rest(http, work))


def rest_json(http, grpc):
    async def work(client, url):
        asked = InferRequest("echo", inputs(binary=False), request_id="42")
        answer = await client.infer(url, asked, model_name="echo")
        assert echoed(answer) and answer.id == "42"

    asyncio.run(rest(http, work))


def rest_binary(http, grpc):
    async def work(client, url):
        asked = InferRequest("echo", inputs(True), parameters={"binary_data_output": True})
        assert echoed(await client.infer(url, asked, model_name="echo"))

    asyncio.run(rest(http, work))


def rest_refusals(http, grpc):
    async def work(client, url):
        asked = InferRequest("echo", inputs(False)[1:])
        for name, status in (("x", 404), ("echo", 400)):
            try:
                await client.infer(url, asked, model_name=name)
            except httpx.HTTPStatusError as error:
                assert error.response.status_code == status
            else:
                raise AssertionError("was not refused")

    asyncio.run(rest(http, work))


def grpc_health(http, grpc_address):
    async def work(client):
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("echo")
        assert not await client.is_model_ready("x")

    asyncio.run(rpc(grpc_address, work))


def grpc_raw_and_typed(http, grpc_address):
    async def work(client):
        assert echoed(await client.infer(InferRequest("echo", inputs(True), request_id="1")))
        typed = inputs(False)
        for row in typed:
            if row.datatype == "BYTES":
                row.data = [item.encode() for item in row.data]
        assert echoed(await client.infer(InferRequest("echo", typed, request_id="2")))

    asyncio.run(rpc(grpc_address, work))


def grpc_half_floats(http, grpc_address):
    async def work(client):
        half = np.array([[1.5, -65504]], np.float16)
        row = InferInput("x", [1, 2], "FP16")
        row.set_data_from_numpy(half, binary_data=True)
        answer = await client.infer(InferRequest("half_echo", [row], request_id="1"))
        assert answer.outputs[0].as_numpy().tolist() == half.tolist()

    asyncio.run(rpc(grpc_address, work))


def grpc_refusals(http, grpc_address):
    async def work(client):
        for name, code in (("x", "NOT_FOUND"), ("echo", "INVALID_ARGUMENT")):
            try:
                await client.infer(InferRequest(name, inputs(True)[1:], request_id="1"))
            except grpc.RpcError as error:
                assert error.code().name == code
            else:
                raise AssertionError("was not refused")

    asyncio.run(rpc(grpc_address, work))


if __name__ == "__main__":
    logging.disable()  # it logs what it raises
    run(
        [
            rest_health, rest_json, rest_binary, rest_refusals, grpc_health, grpc_raw_and_typed,
            grpc_half_floats, grpc_refusals,
        ],
        *sys.argv[1:],
    )  # fmt: skip
