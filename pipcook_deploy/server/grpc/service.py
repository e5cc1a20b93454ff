"""The methods of `inference.GRPCInferenceService`: messages in, messages out.

Each is called with the request's message and a `GrpcCall`, and raises what the REST handlers raise.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pipcook_deploy.server.app import Context
from pipcook_deploy.server.call import Call
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.grpc.inference import elements, read_request, write_response
from pipcook_deploy.server.grpc.messages import messages
from pipcook_deploy.server.grpc.schema import SERVICE
from pipcook_deploy.server.models.lane import elements as computed
from pipcook_deploy.server.observe.trace import request_id, traceparent
from pipcook_deploy.server.protocols import triton_repository
from pipcook_deploy.server.protocols.oip import IN_LOOP
from pipcook_deploy.server.protocols.oip_facts import configuration, model_facts, server_facts
from pipcook_deploy.server.protocols.triton_statistics import statistics

if TYPE_CHECKING:
    from pipcook_deploy.server.models.loaded import LoadedModel

Method = Callable[[Any, "GrpcCall"], Awaitable[Any]]
LONGEST_TIMEOUT = 3600.0


class GrpcCall(Call):
    """One call. grpc cancels the task that answers it when the client has left: nothing is to be watched."""

    __slots__ = ("metadata", "model", "name")

    method = "gRPC"  # as the log names it

    def __init__(self, name: str, seconds: float, metadata: dict[str, Any]) -> None:
        super().__init__(min(seconds, LONGEST_TIMEOUT))
        self.name = name
        self.metadata = metadata
        self.model: LoadedModel | None = None

    @property
    def path(self) -> str:
        """As HTTP/2 has it."""
        return f"/{SERVICE}/{self.name}"

    @property
    def request_id(self) -> str:
        """The client's, from the metadata `x-request-id`, or one that no other request has."""
        return request_id(self.metadata.get("x-request-id"))

    @property
    def traceparent(self) -> str:
        """From the metadata, if it is valid."""
        return traceparent(self.metadata.get("traceparent"))


class Service:
    """The methods, over the same models and limits as every other protocol."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._types = messages()

    def methods(self) -> dict[str, Method]:
        """By the names that the schema has."""
        return {
            "ServerLive": self.live,
            "ServerReady": self.ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server,
            "ModelMetadata": self.model,
            "ModelInfer": self.infer,
            "ModelConfig": self.config,
            "ModelStatistics": self.statistics,
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }

    async def live(self, request: Any, call: GrpcCall) -> Any:
        return self._made("ServerLiveResponse", {"live": True})

    async def ready(self, request: Any, call: GrpcCall) -> Any:
        return self._made("ServerReadyResponse", {"ready": self._context.ready})

    async def model_ready(self, request: Any, call: GrpcCall) -> Any:
        """A model that is not there is not ready: that is an answer, not an error, as in Triton."""
        try:
            self._context.registry.resolve(request.name, request.version or None)
        except HttpError:
            return self._made("ModelReadyResponse", {"ready": False})
        return self._made("ModelReadyResponse", {"ready": not self._context.draining})

    async def server(self, request: Any, call: GrpcCall) -> Any:
        return self._made("ServerMetadataResponse", server_facts())

    async def model(self, request: Any, call: GrpcCall) -> Any:
        facts = model_facts(self._context, request.name, request.version or None)
        return self._made("ModelMetadataResponse", facts)

    async def infer(self, request: Any, call: GrpcCall) -> Any:
        """Large messages are read and written by another thread."""
        context = self._context
        found = call.model = context.registry.resolve(
            request.model_name, request.model_version or None
        )
        if elements(request) <= IN_LOOP:
            message = read_request(request, found.spec, context.settings)
        else:
            message = await context.compute(
                lambda: read_request(request, found.spec, context.settings)
            )
        if message.timeout:
            call.shorten(message.timeout)
        outputs = await found.infer(message.inputs, call)
        if computed(outputs) <= IN_LOOP:
            return write_response(found, message, outputs)
        return await context.compute(lambda: write_response(found, message, outputs))

    async def config(self, request: Any, call: GrpcCall) -> Any:
        found = self._context.registry.resolve(request.name, request.version or None)
        return self._made("ModelConfigResponse", {"config": configuration(found)})

    async def statistics(self, request: Any, call: GrpcCall) -> Any:
        found = await statistics(self._context, request.name or None, request.version or None)
        return self._made("ModelStatisticsResponse", found)

    async def index(self, request: Any, call: GrpcCall) -> Any:
        rows = triton_repository.index(self._context, request.ready)
        return self._made("RepositoryIndexResponse", {"models": rows})

    async def load(self, request: Any, call: GrpcCall) -> Any:
        self._require_admin(call)
        name = _model_name(request)
        await triton_repository.load(self._context, name, dict(request.parameters))
        return self._made("RepositoryModelLoadResponse", {"model_name": name, "is_loaded": True})

    async def unload(self, request: Any, call: GrpcCall) -> Any:
        self._require_admin(call)
        name = _model_name(request)
        await triton_repository.unload(self._context, name)
        done = {"model_name": name, "is_unloaded": True}
        return self._made("RepositoryModelUnloadResponse", done)

    def _made(self, name: str, facts: dict[str, Any]) -> Any:
        from google.protobuf.json_format import ParseDict

        return ParseDict(facts, self._types[name]())

    def _require_admin(self, call: GrpcCall) -> None:
        self._context.access.require_admin_token(key_of(call))


def key_of(call: GrpcCall) -> str:
    """The key that came with the call, in the metadata `authorization` or `x-api-key`, or ""."""
    from pipcook_deploy.server.access.guard import presented

    return presented(call.metadata.get("authorization", ""), call.metadata.get("x-api-key", ""))


def _model_name(request: Any) -> str:
    """Clients of the Open Inference Protocol itself have it where Triton's have a repository's name."""
    name: str = request.model_name or request.repository_name
    return name
