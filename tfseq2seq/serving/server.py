"""The server process: port, log, start and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import uvicorn

from tfseq2seq.errors import UserError
from tfseq2seq.serving.app import Application
from tfseq2seq.serving.connections import Connection
from tfseq2seq.serving.monitoring import Metrics
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.request_batching import Batcher
from tfseq2seq.serving.text_streams import TextStreams

_LOG = logging.getLogger("tfseq2seq.serving")
_MAX_WORKERS = 8
_BACKLOG = 2048
# Before the shutdown, the event loop runs this number of times, with this pause in seconds, to accept requests that
# clients have sent already.
_DRAIN_ITERATIONS, _DRAIN_SECONDS = 10, 0.01
# The share of the time for a stop that is left for each of: loading models, and running calls of models.
_REST_OF_STOP = 0.1


@dataclass(frozen=True)
class Settings:
    """The settings of the server.

    Attributes:
        host: the address to listen on.
        port: the port; 0 selects a free port.
        workers: the number of calls of models at the same time; 0 for one per core.
        wait: the time in seconds that a request waits for other requests of a batch.
        max_batch: the maximum number of rows of a batch.
        max_waiting: the maximum number of waiting requests.
        poll_seconds: the time between scans of the folder in seconds.
        body_limit: the maximum size of a request body in bytes.
        access_log: whether to log one line per request.
        request_seconds: the time in seconds within which a request must arrive, from its first byte to its last.
        stop_seconds: the time in seconds within which the server stops. Later requests are not answered.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    workers: int = 0
    wait: float = 0.005
    max_batch: int = 32
    max_waiting: int = 256
    poll_seconds: float = 2.0
    body_limit: int = 32 << 20
    access_log: bool = False
    request_seconds: float = 60.0
    stop_seconds: float = 10.0


def create_app(repository: Repository, settings: Settings) -> Any:
    """Returns the ASGI application for the models of a repository."""
    return _batched_app(repository, settings)[1]


def create_server(app: Any, settings: Settings) -> Server:
    """Returns a server of an ASGI application."""
    connection: Any = functools.partial(Connection, request_seconds=settings.request_seconds)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=connection,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        backlog=_BACKLOG,
    )
    return Server(config, settings.stop_seconds)


def _batched_app(repository: Repository, settings: Settings) -> tuple[Batcher, Any]:
    batcher: Batcher
    metrics = Metrics(lambda: batcher.waiting)
    batcher = Batcher(_workers(settings), settings.wait, settings.max_batch, settings.max_waiting, metrics.called)
    streams = TextStreams(_workers(settings), settings.max_waiting)
    application = Application(repository, batcher, streams, metrics, settings.body_limit, settings.request_seconds)
    # Connections have most of the time, and what they leave running has the rest.
    return batcher, application.asgi(settings.poll_seconds, _REST_OF_STOP * settings.stop_seconds)


def serve(repository: Repository, settings: Settings) -> None:
    """Serves the models of a repository until SIGTERM or SIGINT.

    Accepted requests are answered before it stops, if they can be within `settings.stop_seconds`.

    It must be called before TensorFlow runs its first operation, because it divides the cores among the workers.

    Raises:
        UserError: the address is invalid or the port is not available.
    """
    with (
        _log(settings.access_log),
        _signals() as signals,
        _stopped_before_it_served(),
        _bound(settings.host, settings.port) as listener,
    ):
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(max(_cores() // _workers(settings), 1))
        repository.refresh()
        batcher, app = _batched_app(repository, settings)
        signals.server = server = create_server(app, settings)
        _LOG.info("serving %s at %s for local tests; use TensorFlow Serving in production", repository.folder, address)
        try:
            server.run([listener])
        except OSError as error:
            raise UserError(f"{address}: cannot listen ({error.strerror or error})") from None
        outcome = "; all accepted requests are answered"
        if server.force_exit:
            outcome = " immediately after the second signal"
        elif server.cut_off:
            outcome = f" after {settings.stop_seconds:g} s (--stop-seconds); {server.cut_off} requests are not answered"
        _LOG.info("stopped%s", outcome)
        if batcher.running:
            # Nothing can stop a call of a model, and the interpreter would wait for it.
            logging.shutdown()
            os._exit(0)


class Server(uvicorn.Server):
    """A server that stops within a time.

    Attributes:
        cut_off: the number of requests that were not answered in that time, most of them incomplete.
    """

    def __init__(self, config: uvicorn.Config, stop_seconds: float):
        super().__init__(config)
        self._stop_seconds, self.cut_off = stop_seconds, 0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = asyncio.get_running_loop().call_later((1 - 2 * _REST_OF_STOP) * self._stop_seconds, self._cut_off)
        # Connections in the kernel's queue and requests in its buffers count as accepted.
        for _ in range(_DRAIN_ITERATIONS):
            await asyncio.sleep(_DRAIN_SECONDS)
        await super().shutdown(sockets)
        timer.cancel()

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            self.cut_off += connection.unanswered
            connection.transport.abort()


class _Stopped(BaseException):
    """A signal was received while models were loading."""


@contextlib.contextmanager
def _stopped_before_it_served() -> Iterator[None]:
    try:
        yield
    except _Stopped:
        _LOG.info("stopped before all models were loaded")


class _Signals:
    """Handles signals before uvicorn does, and the signals that uvicorn raises again after its shutdown."""

    server: uvicorn.Server | None = None

    def __call__(self, *_: Any) -> None:
        if self.server is None:
            raise _Stopped
        # uvicorn has not installed its own handlers yet. It checks this flag after its start.
        self.server.should_exit = True


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    handler = _Signals()
    previous = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield handler
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Binds a socket without listening yet, so that a port in use is reported before the models are loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host}: must be an address of this machine ({error.strerror})") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise UserError(
                f"--port {port}: not available on {host} ({error.strerror}); use another port, or 0 for a free one"
            ) from None
        yield listener


@contextlib.contextmanager
def _log(access_log: bool) -> Iterator[None]:
    """Logs to standard error: our lines, uvicorn's warnings, and one line per request if `access_log` is set."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    levels = {
        "tfseq2seq.serving": logging.INFO,
        "uvicorn": logging.WARNING,
        "uvicorn.access": logging.INFO if access_log else logging.WARNING,
    }
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for name in levels:
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).propagate = True


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers(settings: Settings) -> int:
    if settings.workers:
        return settings.workers
    return 1 if tf.config.list_physical_devices("GPU") else min(_cores(), _MAX_WORKERS)
