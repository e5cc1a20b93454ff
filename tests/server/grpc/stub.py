"""A client over grpcio, with the server's own message classes."""

from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from pipcook_deploy.server.grpc.messages import messages
from pipcook_deploy.server.grpc.schema import SERVICE
from pipcook_deploy.server.ports import free_port
from tests.server import tiny_models

T = messages()
# Where a value goes that is not sent raw.
CONTENTS = {
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents",
    "INT64": "int64_contents", "UINT64": "uint64_contents",
}  # fmt: skip


class Stub:
    """Calls by name: `stub("ModelReady", name="m")`."""

    def __init__(self, channel, address=""):
        self._channel = channel
        self.address = address

    def method(self, name):
        return self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=T[f"{name}Request"].SerializeToString,
            response_deserializer=T[f"{name}Response"].FromString,
        )

    def __call__(self, name, request=None, /, *, timeout=20, metadata=None, **fields):
        request = T[f"{name}Request"](**fields) if request is None else request
        return self.method(name)(request, timeout=timeout, metadata=metadata)

    def refused(self, name, request=None, /, code="INVALID_ARGUMENT", **fields):
        """The reason why the call was refused, with this status."""
        with pytest.raises(grpc.RpcError) as caught:
            self(name, request, **fields)
        assert caught.value.code().name == code, caught.value.details()
        return caught.value.details()


@contextmanager
def serving(folder, *options):
    """A server, and a stub of its gRPC port."""
    address = f"127.0.0.1:{free_port('127.0.0.1', 0)}"
    with (
        tiny_models.serving(folder, "--grpc-port", address.split(":")[1], *options) as server,
        grpc.insecure_channel(address) as channel,
    ):
        yield Stub(channel, address), server


def typed(name, datatype, values, shape=(1, 2)):
    """An input with typed contents."""
    row = T["InferInputTensor"](name=name, datatype=datatype, shape=shape)
    small = "uint_contents" if datatype.startswith("U") else "int_contents"
    items = [v.encode() if isinstance(v, str) else v for v in values]
    getattr(row.contents, CONTENTS.get(datatype, small)).extend(items)
    return row


def bare(name, datatype, shape=(1, 2)):
    """An input whose tensor is raw."""
    return T["InferInputTensor"](name=name, datatype=datatype, shape=shape)


def values(row):
    """What an output with typed contents holds."""
    ((_, items),) = row.contents.ListFields()
    return [item.decode() if isinstance(item, bytes) else item for item in items]


def raw_arrays(response, **dtypes):
    """Raw outputs by name, read as these numpy types."""
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        row.name: np.frombuffer(data, dtypes[row.name]).reshape(tuple(row.shape))
        for row, data in pairs
    }
