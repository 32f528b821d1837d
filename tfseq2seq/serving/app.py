"""The paths of TensorFlow Serving's REST API, /healthz and /metrics, as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tfseq2seq.serving.monitoring import Metrics
from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.repository import Poller, Repository
from tfseq2seq.serving.request_batching import Batcher
from tfseq2seq.serving.servable import Servable
from tfseq2seq.serving.signatures import DEFAULT_SIGNATURE, Signature
from tfseq2seq.serving.tensors import ROWS, Arrays, parse, read_inputs, write_outputs

_LOG = logging.getLogger("tfseq2seq.serving")
_PATH = re.compile(r"/v1/models(?:/([^/:]+))?(?:/versions/([0-9]{1,18}))?(/metadata|:[a-z]+)?", re.IGNORECASE)
# Longer bodies are converted in a thread, or the server would stand still meanwhile.
_SHORT_BODY = 1 << 16
# A client that stops in the middle of its body must not hold up a stop of the server.
_SECONDS_BETWEEN_CHUNKS = 30.0
_GONE = 499


class Application:
    """What answers requests.

    Args:
        repository: the models.
        batcher: calls them.
        metrics: of the requests.
        body_limit: bytes of the largest body that is read.
    """

    def __init__(self, repository: Repository, batcher: Batcher, metrics: Metrics, body_limit: int):
        self._repository, self._batcher, self._metrics = repository, batcher, metrics
        self._body_limit = body_limit

    def asgi(self, poll_seconds: float) -> Starlette:
        """The application to serve, which looks for new versions every `poll_seconds`; 0 for never."""
        poller = Poller(self._repository, poll_seconds)

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            if poll_seconds:
                poller.start()
            yield
            if poll_seconds:
                await asyncio.to_thread(poller.stop)
            self._batcher.close()

        routes = [
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models, methods=["GET", "POST"]),
            Route("/v1/models/{rest:path}", self.models, methods=["GET", "POST"]),
        ]
        handlers: Any = {HTTPException: _no_such_path, Refusal: _refused, Exception: _broken}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    async def health(self, _: Request) -> Response:
        if not self._repository.ready:
            raise Refusal(503, "no version of a model is loaded", 1)
        return _json({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": self._metrics.content_type})

    async def models(self, request: Request) -> Response:
        """Status, metadata and predictions."""
        asked = f"{request.method} {request.scope['path']}"
        found = _PATH.fullmatch(request.scope["path"])
        if found is None:
            raise Refusal(404, f"Malformed request: {asked}")
        name, number, verb = found[1], int(found[2]) if found[2] else None, (found[3] or "").lower()
        if name is None:
            raise Refusal(400, f"Missing model name in request; there is {', '.join(self._repository.names)}")
        if request.method == "POST" and verb == ":predict":
            return await self._predict(request, name, number)
        if request.method == "POST" or verb not in ("", "/metadata"):
            raise Refusal(
                400, f"Malformed request: {asked}; POST goes with :predict, GET with a model or its /metadata"
            )
        if not verb:
            return _json({"model_version_status": self._repository.status(name, number)})
        version, servable = self._repository.find(name, number)
        spec = {"name": name, "signature_name": "", "version": str(version)}
        described = {key: signature.described for key, signature in servable.described.items()}
        return _json({"model_spec": spec, "metadata": {"signature_def": {"signature_def": described}}})

    async def _predict(self, request: Request, name: str, number: int | None) -> Response:
        began = time.perf_counter()
        model = signature = ""
        code = 500
        try:
            _, servable = self._repository.find(name, number)
            model = name
            body = await self._body(request)
            document = await _aside(len(body), parse, body)
            wanted = _signature(servable, document.get("signature_name") or DEFAULT_SIGNATURE)
            signature = wanted.name
            inputs = await _aside(len(body), read_inputs, document, wanted)
            outputs = await self._outputs(request, servable, wanted, inputs)
            answer = await _aside(sum(one.nbytes for one in outputs.values()), write_outputs, outputs, ROWS in document)
            code = 200
            return Response(answer, media_type="application/json")
        except Refusal as refusal:
            code = refusal.code
            if code == 500:
                _LOG.error("model %s, signature %s: %s", name, signature, refusal.message)
            raise
        except ClientDisconnect:
            code = _GONE
            return Response(status_code=_GONE)
        finally:
            self._metrics.answered(model, signature, code, time.perf_counter() - began)

    async def _body(self, request: Request) -> bytes:
        too_large = Refusal(
            413,
            f"the body is larger than {self._body_limit} bytes, which is the limit here (--max-body-mb); of recordings "
            "the bytes of a WAV file (transcribe_wav) are shorter than samples in JSON",
        )
        if int(request.headers.get("content-length", 0)) > self._body_limit:
            raise too_large
        body = bytearray()
        chunks = request.stream()
        try:
            while True:
                async with asyncio.timeout(_SECONDS_BETWEEN_CHUNKS):
                    body += await anext(chunks)
                if len(body) > self._body_limit:
                    raise too_large
        except TimeoutError:
            raise Refusal(408, f"nothing came for {_SECONDS_BETWEEN_CHUNKS:.0f} s in the middle of the body") from None
        except StopAsyncIteration:
            return bytes(body)

    async def _outputs(self, request: Request, servable: Servable, signature: Signature, inputs: Arrays) -> Arrays:
        """What the model gives, unless the client goes away first: its place is for others then."""
        answer = asyncio.ensure_future(self._batcher.submit(servable, signature, inputs))
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return answer.result()
        finally:
            answer.cancel()
            gone.cancel()


def _signature(servable: Servable, name: str) -> Signature:
    if name not in servable.signatures:
        there = ", ".join(servable.signatures) or "none"
        raise Refusal(400, f'Serving signature name: "{name}" not found in signature def; there is {there}')
    return servable.signatures[name]


async def _aside(size: int, function: Any, *arguments: Any) -> Any:
    """Calls a function on something of so many bytes, in a thread if that may take long."""
    return function(*arguments) if size <= _SHORT_BODY else await asyncio.to_thread(function, *arguments)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _json(content: Any, code: int = 200, retry_after: int = 0) -> Response:
    body = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return Response(body, code, headers, media_type="application/json")


async def _refused(_: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    return _json({"error": refusal.message}, refusal.code, refusal.retry_after)


async def _no_such_path(request: Request, error: Exception) -> Response:
    code = getattr(error, "status_code", 404)
    return _json({"error": f"Malformed request: {request.method} {request.url.path}"}, code)


async def _broken(_: Request, __: Exception) -> Response:
    # Starlette raises the exception on after this answer, and its traceback is logged.
    return _json({"error": "the server failed at this request; its log says more"}, 500)
