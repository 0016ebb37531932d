"""What happens around every call: validation at the edge, errors, metrics, one log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import grpc
import structlog
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import ServicerContext

from trana.jobs.api.errors import DETAILS_KEY, code_of, internal_status, status_of
from trana.jobs.domain.errors import InvalidRequest, TranaError
from trana.spec.validate import validate

log = structlog.get_logger("trana.api")
Context = ServicerContext[Any, Any]
# Enters a call's span, and gives what takes the name of its code.
OpenSpan = Callable[[], AbstractContextManager[Callable[[str], None]]]
_OWN = "/trana."


class RpcObserver(Protocol):
    """Counts calls."""

    def started(self, kind: str, service: str, method: str) -> None:
        """A call came in."""
        ...

    def received(self, kind: str, service: str, method: str) -> None:
        """A message came in."""
        ...

    def sent(self, kind: str, service: str, method: str) -> None:
        """A message went out."""
        ...

    def handled(self, kind: str, service: str, method: str, *, code: str, seconds: float) -> None:
        """A call is done."""
        ...


class CallTracing(Protocol):
    """Makes traces of calls."""

    def call(self, method: str, metadata: Any) -> AbstractContextManager[Callable[[str], None]]:
        """The span of the call that the block answers; what the block gets takes the name of its code."""
        ...


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every handler of Trana's own services; health checks are only counted."""

    def __init__(self, observer: RpcObserver, tracing: CallTracing | None = None) -> None:
        self._observer = observer
        self._tracing = tracing

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        # Of reflection: none of Trana's own services streams both ways.
        if handler is None or (handler.request_streaming and handler.response_streaming):
            return handler
        kind = _kind(handler)
        call = _Call(
            self._observer, handler_call_details.method, kind=kind, span=self._span(handler_call_details, kind)
        )
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            assert handler.unary_stream is not None
            return grpc.unary_stream_rpc_method_handler(call.stream(handler.unary_stream), **codec)
        if handler.request_streaming:
            assert handler.stream_unary is not None
            return grpc.stream_unary_rpc_method_handler(call.upload(handler.stream_unary), **codec)
        assert handler.unary_unary is not None
        return grpc.unary_unary_rpc_method_handler(call.unary(handler.unary_unary), **codec)

    def _span(self, details: grpc.HandlerCallDetails, kind: str) -> OpenSpan:
        """What opens the call's span; none for a stream of answers, which lives for as long as someone watches."""
        if self._tracing is None or kind == "server_stream" or not details.method.startswith(_OWN):
            return _no_span
        return partial(self._tracing.call, details.method[1:], details.invocation_metadata)


class _Call:
    """One call on its way through."""

    def __init__(self, observer: RpcObserver, path: str, *, kind: str, span: OpenSpan) -> None:
        _, service, method = path.split("/", 2)
        self._observer = observer
        self._names = (kind, service, method)
        self._own = path.startswith(_OWN)
        self._span = span

    def unary(self, handler: Any) -> Any:
        async def handle(request: Message, context: Context) -> Any:
            async def answer() -> Any:
                self._take(request)
                response = await handler(request, context)
                self._observer.sent(*self._names)
                return response

            return await self._around(answer, context)

        return handle

    def stream(self, handler: Any) -> Any:
        async def handle(request: Message, context: Context) -> None:
            async def answer() -> None:
                self._take(request)
                async for response in handler(request, context):
                    await context.write(response)
                    self._observer.sent(*self._names)

            await self._around(answer, context)

        return handle

    def upload(self, handler: Any) -> Any:
        async def handle(requests: AsyncIterator[Message], context: Context) -> Any:
            async def checked() -> AsyncIterator[Message]:
                async for request in requests:
                    self._take(request)
                    yield request

            async def answer() -> Any:
                response = await handler(checked(), context)
                self._observer.sent(*self._names)
                return response

            return await self._around(answer, context)

        return handle

    def _take(self, request: Message) -> None:
        self._observer.received(*self._names)
        if self._own and (violations := validate(request)):
            raise InvalidRequest(violations)

    async def _around(self, answer: Callable[[], Awaitable[Any]], context: Context) -> Any:
        with self._span() as told:
            return await self._counted(answer, context, told)

    async def _counted(
        self, answer: Callable[[], Awaitable[Any]], context: Context, told: Callable[[str], None]
    ) -> Any:
        self._observer.started(*self._names)
        start = time.perf_counter()
        code = StatusCode.OK
        try:
            return await answer()
        except TranaError as error:
            code = code_of(error)
            await _abort(context, code, status_of(error))
        except asyncio.CancelledError:
            code = StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            raise
        except Exception:
            code = StatusCode.INTERNAL
            log.exception("call failed", method=self._names[2])
            await _abort(context, code, internal_status())
        finally:
            seconds = time.perf_counter() - start
            told(code.name)
            self._observer.handled(*self._names, code=_camel(code), seconds=seconds)
            if self._own:
                log.debug("call", method=self._names[2], code=code.name, seconds=round(seconds, 4))


def _no_span() -> AbstractContextManager[Callable[[str], None]]:
    """The call is not traced."""
    return nullcontext(lambda _: None)


async def _abort(context: Context, code: StatusCode, status: Status) -> None:
    await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


def _kind(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """As go-grpc-prometheus names the kinds of calls."""
    if handler.request_streaming:
        return "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


def _camel(code: StatusCode) -> str:
    """`NotFound` for NOT_FOUND, and `OK`, as go-grpc-prometheus writes them."""
    return "OK" if code is StatusCode.OK else code.name.title().replace("_", "")
