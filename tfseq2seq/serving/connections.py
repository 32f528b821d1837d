"""A connection of the server: a deadline for each request, and clients that close their side after a request."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# The key of a request's state with the time of the event loop by which the request must have arrived.
DEADLINE = "deadline"
_INCOMPLETE = (h11.IDLE, h11.SEND_BODY)
_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(H11Protocol):
    """A connection that adds two rules to those of uvicorn.

    A request must arrive within a time, from its first byte (the first request: from the connection) to the last byte
    of its body. uvicorn would wait forever for a client that sends a byte now and then, or nothing.

    A client may close its sending side after a request (RFC 9112, section 9.6): it still gets the response. uvicorn
    would close the connection. TCP does not tell such a client from one that is gone, so the requests of both are
    answered.

    Args:
        request_seconds: the time in seconds.
    """

    def __init__(self, *args: Any, request_seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._request_seconds = request_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    @property
    def unanswered(self) -> bool:
        """Whether a request has arrived, at least in part, and its response is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and self.conn.their_state in _INCOMPLETE:
            self._start_timer()
        super().data_received(data)
        if self.conn.their_state not in _INCOMPLETE:
            self._stop_timer()

    def eof_received(self) -> bool:  # type: ignore[override]
        self._ended = True
        # With True, asyncio keeps the connection open for writing.
        return self._owes_response

    def on_response_complete(self) -> None:
        # The next request can be in the buffer already.
        self._set_deadline()
        super().on_response_complete()
        if self._ended and not self._owes_response:
            self.transport.close()

    @property
    def _owes_response(self) -> bool:
        return self.unanswered and not self.cycle.more_body

    def _start_timer(self) -> None:
        self._set_deadline()
        self._timer = self.loop.call_later(self._request_seconds, self._too_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_deadline(self) -> None:
        self.app_state = {**self.app_state, DEADLINE: self.loop.time() + self._request_seconds}

    def _too_late(self) -> None:
        self._timer = None
        # The application answers a request whose body is incomplete itself, at the same time.
        if self.unanswered or self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self.transport.write(_LATE)
        self.transport.close()
