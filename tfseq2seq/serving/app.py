"""ASGI application with the paths of TensorFlow Serving's REST API, /healthz and /metrics.

It has one more path, MODEL:stream, for texts that are sent while they are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tfseq2seq.serving.connections import DEADLINE
from tfseq2seq.serving.monitoring import Metrics
from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.repository import Poller, Repository
from tfseq2seq.serving.request_batching import Batcher
from tfseq2seq.serving.servable import Servable
from tfseq2seq.serving.signatures import DEFAULT_SIGNATURE, ERROR, SEED, STREAM_START, WARNING, Signature
from tfseq2seq.serving.tensors import ROWS, Arrays, parse, read_inputs, read_seed, write_outputs
from tfseq2seq.serving.text_streams import StreamResponse, TextStreams
from tfseq2seq.spec.limits import TOO_LONG

_LOG = logging.getLogger("tfseq2seq.serving")
_PATH = re.compile(r"/v1/models(?:/([^/:]+))?(?:/versions/([0-9]{1,18}))?(/metadata|:[a-z]+)?", re.IGNORECASE)
# Larger bodies are converted in a thread, so that they do not block the event loop.
_SHORT_BODY = 1 << 16
_CLIENT_CLOSED_REQUEST = 499


class Application:
    """Handles the requests.

    Args:
        repository: the models.
        batcher: calls the models.
        streams: write texts piece by piece.
        metrics: the metrics of the requests.
        body_limit: the maximum size of a request body in bytes.
        request_seconds: the time in seconds within which a request must arrive.
    """

    def __init__(
        self,
        repository: Repository,
        batcher: Batcher,
        streams: TextStreams,
        metrics: Metrics,
        body_limit: int,
        request_seconds: float,
    ):
        self._repository, self._batcher, self._streams, self._metrics = repository, batcher, streams, metrics
        self._body_limit, self._request_seconds = body_limit, request_seconds

    def asgi(self, poll_seconds: float, stop_seconds: float) -> Starlette:
        """Returns the ASGI application.

        Args:
            poll_seconds: the time between scans for new versions in seconds; 0 for no scans.
            stop_seconds: the maximum time in seconds that a stop waits for calls of models and for loading models.
        """
        poller = Poller(self._repository, poll_seconds)

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            if poll_seconds:
                poller.start()
            yield
            if poll_seconds:
                await asyncio.to_thread(poller.stop, stop_seconds)
            self._streams.close()
            await self._batcher.close(stop_seconds)

        routes = [
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models, methods=["GET", "POST"]),
            Route("/v1/models/{rest:path}", self.models, methods=["GET", "POST"]),
        ]
        handlers: Any = {HTTPException: _no_such_path, Refusal: _refusal, Exception: _internal_error}
        middleware = [Middleware(_CheckedFraming)]
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=middleware)

    async def health(self, _: Request) -> Response:
        if not self._repository.ready:
            raise Refusal(503, "no version of a model is loaded", 1)
        return _json({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": self._metrics.content_type})

    async def models(self, request: Request) -> Response:
        """Handles requests for status, metadata and predictions."""
        requested = f"{request.method} {request.scope['path']}"
        match = _PATH.fullmatch(request.scope["path"])
        if match is None:
            raise Refusal(404, f"Malformed request: {requested}")
        name, number, method_suffix = match[1], int(match[2]) if match[2] else None, (match[3] or "").lower()
        if name is None:
            raise Refusal(400, f"Missing model name in request; available: {', '.join(self._repository.names)}")
        if request.method == "POST" and method_suffix == ":predict":
            return await self._predict(request, name, number)
        if request.method == "POST" and method_suffix == ":stream":
            return await self._stream(request, name, number)
        if request.method == "POST" or method_suffix not in ("", "/metadata"):
            raise Refusal(
                400,
                f"Malformed request: {requested}; use POST with :predict or :stream, and GET with a model or its "
                "/metadata",
            )
        if not method_suffix:
            return _json({"model_version_status": self._repository.status(name, number)})
        version, servable = self._repository.find(name, number)
        spec = {"name": name, "signature_name": "", "version": str(version)}
        described = {key: signature.described for key, signature in servable.described.items()}
        return _json({"model_spec": spec, "metadata": {"signature_def": {"signature_def": described}}})

    async def _predict(self, request: Request, name: str, number: int | None) -> Response:
        start_time = time.perf_counter()
        model = signature = ""
        code = 500
        try:
            _, servable = self._repository.find(name, number)
            model = name
            body = await self._body(request)
            document = await _in_thread_if_large(len(body), parse, body)
            requested_signature = _signature(servable, document.get("signature_name") or DEFAULT_SIGNATURE)
            signature = requested_signature.name
            inputs = await _in_thread_if_large(len(body), read_inputs, document, requested_signature)
            outputs = await self._outputs(request, servable, requested_signature, inputs)
            _check_lengths(outputs)
            self._tell_warnings(name, signature, outputs)
            response = await _in_thread_if_large(
                sum(one.nbytes for one in outputs.values()), write_outputs, outputs, ROWS in document
            )
            code = 200
            return Response(response, media_type="application/json")
        except Refusal as refusal:
            code = refusal.code
            if code == 500:
                _LOG.error("model %s, signature %s: %s", name, signature, refusal.message)
            raise
        except ClientDisconnect:
            code = _CLIENT_CLOSED_REQUEST
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        finally:
            self._metrics.answered(model, signature, code, time.perf_counter() - start_time)

    async def _stream(self, request: Request, name: str, number: int | None) -> Any:
        """Handles a request for one text that is sent while it is written."""
        start_time = time.perf_counter()
        model = ""

        def ended(code: int) -> None:
            self._metrics.answered(model, STREAM_START, code, time.perf_counter() - start_time)

        try:
            _, servable = self._repository.find(name, number)
            model = name
            signature = servable.stream_signature
            body = await self._body(request)
            document = await _in_thread_if_large(len(body), parse, body)
            inputs = await _in_thread_if_large(len(body), read_inputs, document, signature)
            rows = {len(array) for array in inputs.values()}
            if rows != {1}:
                raise Refusal(400, f"a stream answers one input, got {max(rows)}")
            if servable.draws:
                # Below 0, it stands for the seed that the model was exported with.
                inputs[SEED] = np.array([read_seed(document)], "int32")
            elif SEED in document:
                raise Refusal(400, "'seed': must be left out, as this model does not draw (search.sample)")
            return StreamResponse(await self._streams.open(servable, inputs), request, ended)
        except ClientDisconnect:
            ended(_CLIENT_CLOSED_REQUEST)
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        except Exception as error:
            ended(error.code if isinstance(error, Refusal) else 500)
            raise

    def _tell_warnings(self, model: str, signature: str, outputs: Arrays) -> None:
        """Counts and logs what a model has to say about its answers, in its output "warning"."""
        given = [message for message in np.ravel(outputs.get(WARNING, np.zeros(0, object))) if message]
        if given and isinstance(given[0], bytes):
            self._metrics.warned(model, signature, len(given))
            first = given[0].decode("utf-8", "replace")
            _LOG.warning("model %s, signature %s: %d answers with a warning: %s", model, signature, len(given), first)

    async def _body(self, request: Request) -> bytes:
        too_large = Refusal(
            413,
            f"the request body: must have at most {self._body_limit} bytes (--max-body-mb); for recordings, the bytes "
            "of a WAV file (transcribe_wav) are shorter than samples in JSON",
        )
        if int(request.headers.get("content-length", 0)) > self._body_limit:
            raise too_large
        body = bytearray()
        now = asyncio.get_running_loop().time()
        deadline = request.scope.get("state", {}).get(DEADLINE, now + self._request_seconds)
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._body_limit:
                        raise too_large
        except TimeoutError:
            raise Refusal(
                408,
                f"the request: must arrive within {self._request_seconds:g} s (--request-seconds), and its body is "
                "incomplete",
            ) from None
        return bytes(body)

    async def _outputs(self, request: Request, servable: Servable, signature: Signature, inputs: Arrays) -> Arrays:
        """Returns the outputs of the model. If the client disconnects first, the request leaves the queue."""
        response = asyncio.ensure_future(self._batcher.submit(servable, signature, inputs))
        disconnected = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait([response, disconnected], return_when=asyncio.FIRST_COMPLETED)
            if not response.done():
                raise ClientDisconnect
            return response.result()
        finally:
            response.cancel()
            disconnected.cancel()


class _CheckedFraming:
    """Refuses requests whose end is ambiguous (RFC 9112, section 6.1), and closes their connections.

    Another server before this one could take a part of such a request for the next request.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope["headers"]} if scope["type"] == "http" else set()
        message = ""
        if b"transfer-encoding" in names and b"content-length" in names:
            message = "the request: must have either Content-Length or Transfer-Encoding, got both"
        elif b"transfer-encoding" in names and scope["http_version"] == "1.0":
            message = "the request: must not have Transfer-Encoding in HTTP/1.0; send Content-Length"
        if not message:
            await self._app(scope, receive, send)
            return
        await _json({"error": message}, 400, closing=True)(scope, receive, send)


def _signature(servable: Servable, name: str) -> Signature:
    if name not in servable.signatures:
        available = ", ".join(servable.signatures) or "none"
        raise Refusal(400, f'Serving signature name: "{name}" not found in signature def; available: {available}')
    return servable.signatures[name]


def _check_lengths(outputs: Arrays) -> None:
    """Raises `Refusal` if the model did not answer an input because it is too long."""
    for row, message in enumerate(np.ravel(outputs.get(ERROR, np.zeros(0, object)))):
        if isinstance(message, bytes) and message.startswith(TOO_LONG.encode()):
            raise Refusal(400, f"input [{row}]: {message.decode('utf-8', 'replace')}")


async def _in_thread_if_large(size: int, function: Any, *arguments: Any) -> Any:
    """Calls a function whose input has `size` bytes. Large inputs are processed in a thread."""
    return function(*arguments) if size <= _SHORT_BODY else await asyncio.to_thread(function, *arguments)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _json(content: Any, code: int = 200, retry_after: int = 0, closing: bool = False) -> Response:
    body = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    if closing:
        headers["Connection"] = "close"
    return Response(body, code, headers, media_type="application/json")


async def _refusal(_: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    # The rest of a request that is late is not read.
    return _json({"error": refusal.message}, refusal.code, refusal.retry_after, closing=refusal.code == 408)


async def _no_such_path(request: Request, error: Exception) -> Response:
    code = getattr(error, "status_code", 404)
    return _json({"error": f"Malformed request: {request.method} {request.url.path}"}, code)


async def _internal_error(_: Request, __: Exception) -> Response:
    # Starlette raises the exception again after this response, and its traceback is logged.
    return _json({"error": "internal server error; see the log of the server"}, 500)
