"""From gRPC's calls to the service's methods: who may ask, how failures are worded, what is counted."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from pipcook_deploy.server.app import Context, logger
from pipcook_deploy.server.call import GoneError
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.grpc.messages import messages
from pipcook_deploy.server.grpc.schema import SERVICE
from pipcook_deploy.server.grpc.service import GrpcCall, Method, Service, key_of
from pipcook_deploy.server.grpc.status import code, trailing
from pipcook_deploy.server.http import Answer

# Asked by platforms, which have no key; they say nothing about models.
OPEN = ("ServerLive", "ServerReady")
INTERNAL = HttpError(500, "internal error")


def handlers(context: Context) -> Any:
    """What grpc's server is given."""
    import grpc

    types = messages()
    by_name = {
        name: grpc.unary_unary_rpc_method_handler(
            _Answering(context, name, method, types[f"{name}Request"].FromString).answer,
            response_serializer=types[f"{name}Response"].SerializeToString,
        )
        for name, method in Service(context).methods().items()
    }
    return grpc.method_handlers_generic_handler(SERVICE, by_name)


class _Answering:
    """One method for any call."""

    def __init__(
        self, context: Context, name: str, method: Method, decode: Callable[[bytes], Any]
    ) -> None:
        self._context = context
        self._name = name
        self._method = method
        self._decode = decode
        self._seconds = context.settings.request_timeout
        self._keyed = name not in OPEN and bool(context.access.keys)

    async def answer(self, data: bytes, rpc: Any) -> Any:
        """Cancelled by grpc when the client has left, or its deadline has passed."""
        seconds = rpc.time_remaining()
        metadata = dict(rpc.invocation_metadata() or ())
        call = GrpcCall(self._name, self._seconds if seconds is None else seconds, metadata)
        try:
            if self._keyed:
                self._context.access.require_key(key_of(call))
            response = await self._method(self._decode(data), call)
        except asyncio.CancelledError:
            call.gone = True
            raise
        except GoneError:
            return None  # no one reads it
        except Exception as error:  # noqa: BLE001 - each has its status
            refusal = self._refusal(error)
            self._count(call, refusal.status)
            await rpc.abort(code(refusal), refusal.reason, trailing(refusal))
        self._count(call, 200)
        return response

    def _refusal(self, error: Exception) -> HttpError:
        from google.protobuf.message import DecodeError

        if isinstance(error, HttpError):
            return error
        if isinstance(error, DecodeError):
            return HttpError(400, f"this is no {self._name}Request")
        # A bug: logged here, and never shown to the caller.
        logger.error("gRPC %s failed", self._name, exc_info=error)
        return INTERNAL

    def _count(self, call: GrpcCall, status: int) -> None:
        self._context.metrics.answered(call.model, status, perf_counter() - call.started)
        if status > 400 or self._context.log.all:
            self._context.log.answered(call, Answer(status, b""))
