"""The command that runs the local server."""

from __future__ import annotations

import click

from tfseq2seq.cli.options import ABOVE_ZERO, COUNT, FROM_ZERO, POSITIVE, workers_option
from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="Port to listen on; 0 for a free port.",
)
@click.option(
    "--max-batch",
    type=POSITIVE,
    default=32,
    show_default=True,
    help="Most rows of joined requests in one call of the model.",
)
@click.option(
    "--wait-ms",
    type=FROM_ZERO,
    default=5.0,
    show_default=True,
    help="Milliseconds that a request waits for other requests to join.",
)
@click.option(
    "--queue",
    type=POSITIVE,
    default=256,
    show_default=True,
    help="Most requests that wait; further requests get the status 503.",
)
@workers_option("Number of calls of the model at the same time; 0: one per core, at most 8.")
@click.option(
    "--poll-seconds",
    type=FROM_ZERO,
    default=2.0,
    show_default=True,
    help="Seconds between searches for new versions; 0 to never search.",
)
@click.option(
    "--versions",
    type=COUNT,
    default=0,
    show_default=True,
    help="Number of newest versions of each model to load; 0 for all.",
)
@click.option(
    "--max-body-mb",
    type=ABOVE_ZERO,
    default=32.0,
    show_default=True,
    help="Largest body of a request in MiB (2^20 bytes).",
)
@click.option(
    "--request-seconds",
    type=ABOVE_ZERO,
    default=60.0,
    show_default=True,
    help="Seconds within which a request must arrive, from its first byte to its last.",
)
@click.option(
    "--stop-seconds",
    type=ABOVE_ZERO,
    default=10.0,
    show_default=True,
    help="Seconds within which the server stops; requests that take longer are not answered.",
)
@click.option("--access-log", is_flag=True, help="Write a line to standard error for each request.")
def serve(
    folder: str,
    host: str,
    port: int,
    max_batch: int,
    wait_ms: float,
    queue: int,
    workers: int,
    poll_seconds: float,
    versions: int,
    max_body_mb: float,
    request_seconds: float,
    stop_seconds: float,
    access_log: bool,
) -> None:
    """Serve the SavedModels in DIR on this machine, for trials. Use TensorFlow Serving in production.

    DIR contains <model>/<version>/, or the versions of one model. The paths and the JSON are those of the REST API of
    TensorFlow Serving: GET /v1/models/NAME[/versions/N][/metadata] and POST /v1/models/NAME[/versions/N]:predict. A
    request without a version goes to the newest version. POST to NAME:stream sends one text while it is written, as
    server-sent events, of models that were exported with search.beam=1 or search.sample=true. GET /healthz and GET
    /metrics report the state of the server.
    SIGTERM and Ctrl-C stop the server after it has answered all accepted requests, or after --stop-seconds.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serve: needs {error.name}; install it with pip install 'tfseq2seq[serve]'") from None
    from tfseq2seq.serving.repository import Repository

    repository = Repository(folder, versions)
    import_tensorflow()
    from tfseq2seq.serving.server import Settings
    from tfseq2seq.serving.server import serve as serve_repository

    settings = Settings(
        host=host,
        port=port,
        workers=workers,
        wait=wait_ms / 1000,
        max_batch=max_batch,
        max_waiting=queue,
        poll_seconds=poll_seconds,
        body_limit=int(max_body_mb * 2**20),
        access_log=access_log,
        request_seconds=request_seconds,
        stop_seconds=stop_seconds,
    )
    serve_repository(repository, settings)
