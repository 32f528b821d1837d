"""The server process: its port, its log, its start and its stop."""

from __future__ import annotations

import asyncio
import contextlib
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
from tfseq2seq.serving.monitoring import Metrics
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.request_batching import Batcher

_LOG = logging.getLogger("tfseq2seq.serving")
_MOST_WORKERS = 8
_BACKLOG = 2048
# Turns of the event loop, and seconds between them, in which a server told to stop takes in what clients sent before.
_LAST_TURNS, _TURN_SECONDS = 10, 0.01


@dataclass(frozen=True)
class Settings:
    """How to serve.

    host, port: where; port 0 takes a free one. workers: calls of models at a time, 0 for one per core. wait: seconds a
    request waits for others to be joined with. largest: rows of a joined call. room: requests that may wait.
    poll_seconds: between looks at the folder. body_limit: bytes.
    access_log: a line for each request.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    workers: int = 0
    wait: float = 0.005
    largest: int = 32
    room: int = 256
    poll_seconds: float = 2.0
    body_limit: int = 32 << 20
    access_log: bool = False


def create_app(repository: Repository, settings: Settings) -> Any:
    """The ASGI application over the models of a repository."""
    batcher: Batcher
    metrics = Metrics(lambda: batcher.waiting)
    batcher = Batcher(_workers(settings), settings.wait, settings.largest, settings.room, metrics.called)
    return Application(repository, batcher, metrics, settings.body_limit).asgi(settings.poll_seconds)


def serve(repository: Repository, settings: Settings) -> None:
    """Serves the models of a repository until SIGTERM or SIGINT, and answers then what it has accepted.

    To be called before TensorFlow runs its first operation: each call gets its share of the cores.

    Raises:
        UserError: the port cannot be had.
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
        app = create_app(repository, settings)
        config = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            backlog=_BACKLOG,
        )
        signals.server = server = _Server(config)
        _LOG.info("serving %s at %s, for trying out; production runs TensorFlow Serving", repository.folder, address)
        try:
            server.run([listener])
        except OSError as error:
            raise UserError(f"{address}: cannot be listened at: {error.strerror or error}") from None
        _LOG.info("stopped%s", " at once, as asked twice" if server.force_exit else "; what was accepted is answered")


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Connections in the kernel's queue and requests in its buffers have been sent to a server that took them.
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(_TURN_SECONDS)
        await super().shutdown(sockets)


class _Stopped(BaseException):
    """A signal came while models were loading."""


@contextlib.contextmanager
def _stopped_before_it_served() -> Iterator[None]:
    try:
        yield
    except _Stopped:
        _LOG.info("stopped before all models were loaded")


class _Signals:
    """Handles signals before uvicorn does, and those it raises again once it has stopped for them."""

    server: uvicorn.Server | None = None

    def __call__(self, *_: Any) -> None:
        if self.server is None:
            raise _Stopped
        # Before uvicorn has handlers of its own; it looks at this as soon as it has started.
        self.server.should_exit = True


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    handler = _Signals()
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield handler
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has its port but does not listen yet: a port in use is told before models take their time."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host}: is no address of this machine ({error.strerror})") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be had: {error.strerror}; take another with --port, or 0 for a free one"
            ) from None
        yield listener


@contextlib.contextmanager
def _log(access_log: bool) -> Iterator[None]:
    """Lines on standard error: ours, uvicorn's warnings, and one for each request where wanted."""
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
    return 1 if tf.config.list_physical_devices("GPU") else min(_cores(), _MOST_WORKERS)
