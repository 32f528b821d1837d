"""Texts that are sent while they are written, as server-sent events (WHATWG HTML, section 9.2).

    data: {"text": "one p"}

    data: {"text": "iece after another"}

    event: end
    data: {"text": "one piece after another", "score": -1.5, "log_prob": -3.2, "warning": ""}

The pieces together are the whole text, which the last event repeats. An error ends the stream with an event "error".
Each step of a model is a call in a thread, so that the steps of several streams take turns. When a client disconnects,
no further step follows.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tfseq2seq.serving.events import event
from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.servable import Servable
from tfseq2seq.serving.tensors import Arrays

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies such as nginx hold responses back unless they are told not to.
    (b"x-accel-buffering", b"no"),
]


class TextStreams:
    """The streams of a server.

    Args:
        workers: the number of steps of models at the same time.
        most: the most streams at the same time; further ones are refused.
    """

    def __init__(self, workers: int, most: int):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="stream")
        self._most, self.running = most, 0

    async def open(self, servable: Servable, inputs: Arrays) -> EventStream:
        """Starts a stream; its text is written when the response is sent.

        Raises:
            Refusal: too many streams are running, or the model refuses the input.
        """
        if self.running >= self._most:
            raise Refusal(503, f"{self.running} texts are being written; try again in a second", 1)
        self.running += 1
        try:
            state = await self._in_thread(servable.start_stream, inputs)
        except BaseException:
            self.running -= 1
            raise
        return EventStream(self, servable, state)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def advance(self, servable: Servable, state: Any) -> tuple[Any, Arrays]:
        """The next state of a stream, and what is shown of it."""
        return await self._in_thread(servable.advance_stream, state)

    def close(self) -> None:
        """Lets no further step begin."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class EventStream:
    """A response of server-sent events. It counts as running from its making until it has been sent.

    Args:
        streams: the streams it is one of.
        servable: the model.
        state: of the stream.

    Attributes:
        outcome: the status code for metrics: 500 until the response has been sent.
    """

    def __init__(self, streams: TextStreams, servable: Servable, state: Any):
        self._streams, self._servable, self._state = streams, servable, state
        self.outcome = 500

    async def send_to(self, request: Request, send: Send) -> None:
        """Sends the response, until it is complete or the client disconnects."""
        disconnected = asyncio.ensure_future(_disconnected(request))
        writing = asyncio.ensure_future(self._write(send))
        try:
            await asyncio.wait([disconnected, writing], return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
            else:
                self.outcome = 499
        finally:
            self._streams.running -= 1
            for task in (disconnected, writing):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        sent, done = b"", False
        while not done:
            try:
                self._state, found = await self._streams.advance(self._servable, self._state)
            except Refusal as refusal:
                self.outcome = refusal.code
                await send(_body(event({"error": refusal.message}, "error"), more=False))
                return
            text, done = found["text"][0], bool(found["done"][0])
            if len(text) > len(sent):
                await send(_body(event({"text": text[len(sent) :].decode("utf-8", "replace")}), more=True))
                sent = text
        await send(_body(event(_whole(found), "end"), more=False))
        self.outcome = 200


class StreamResponse:
    """An ASGI application that sends an `EventStream`, and tells its end.

    Args:
        stream: to send.
        request: that it answers.
        ended: called with the status code.
    """

    def __init__(self, stream: EventStream, request: Request, ended: Any):
        self._stream, self._request, self._ended = stream, request, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream.send_to(self._request, send)
        finally:
            self._ended(self._stream.outcome)


def _body(content: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def _whole(found: Arrays) -> dict[str, Any]:
    texts = {name: found[name][0].decode("utf-8", "replace") for name in ("text", "warning")}
    return {**texts, **{name: float(str(found[name][0])) for name in ("score", "log_prob")}}


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
