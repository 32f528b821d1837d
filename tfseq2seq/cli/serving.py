"""The local server."""

from __future__ import annotations

import click

from tfseq2seq.cli.options import ABOVE_ZERO, COUNT, POSITIVE, workers_option
from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="0 takes a free one.")
@click.option("--max-batch", type=POSITIVE, default=32, show_default=True, help="Rows of requests joined in one call.")
@click.option(
    "--wait-ms",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Milliseconds a request waits for others to be joined with.",
)
@click.option("--queue", type=POSITIVE, default=256, show_default=True, help="Requests that may wait; then 503.")
@workers_option("Calls at a time; 0: one per core, at most 8.")
@click.option(
    "--poll-seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Between looks for new versions; 0 for none.",
)
@click.option(
    "--versions",
    type=COUNT,
    default=0,
    show_default=True,
    help="Newest versions of each model to hold; 0 for all.",
)
@click.option(
    "--max-body-mb",
    type=ABOVE_ZERO,
    default=32.0,
    show_default=True,
    help="Largest request body, in MB of 2^20 bytes.",
)
@click.option("--access-log", is_flag=True, help="A line on standard error for each request.")
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
    access_log: bool,
) -> None:
    """Serve the SavedModels in DIR on this machine, to try them out; production runs TensorFlow Serving.

    DIR holds <model>/<version>/ or the versions of one model. Paths and JSON are those of TensorFlow Serving's REST
    API: GET /v1/models/NAME[/versions/N][/metadata], POST /v1/models/NAME[/versions/N]:predict. Without a version the
    newest answers. GET /healthz and /metrics tell how the server does. SIGTERM or Ctrl-C stops it once what it has
    accepted is answered.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serve needs {error.name}: pip install 'tfseq2seq[serve]'") from None
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
        largest=max_batch,
        room=queue,
        poll_seconds=poll_seconds,
        body_limit=int(max_body_mb * 2**20),
        access_log=access_log,
    )
    serve_repository(repository, settings)
