"""The command line. Heavy libraries are imported inside the commands, so that `--help` is fast.

A mistake of the user ends a command with one line on standard error and exit code 2. No file is left half written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from tfseq2seq import __version__
from tfseq2seq.cli.chatting import chat
from tfseq2seq.cli.datasets import data
from tfseq2seq.cli.evaluation import compare, evaluate
from tfseq2seq.cli.exit import INTERRUPTED, USAGE_ERROR, Stopped, fail
from tfseq2seq.cli.exporting import export, verify
from tfseq2seq.cli.generation import generate, score, stream
from tfseq2seq.cli.importing import import_command
from tfseq2seq.cli.inspection import attention, embeddings
from tfseq2seq.cli.joining import join_outputs
from tfseq2seq.cli.language import ngram, shortlist
from tfseq2seq.cli.launching import launch
from tfseq2seq.cli.run_table import list_runs
from tfseq2seq.cli.runs import NO_LOG
from tfseq2seq.cli.serving import serve
from tfseq2seq.cli.sweeping import run_sweep
from tfseq2seq.cli.terminal import check_arguments, prepare_streams, use_utf8
from tfseq2seq.cli.training import average, merge, recipe, train
from tfseq2seq.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Train, evaluate, export and serve sequence-to-sequence models."""


for _command in [
    train,
    launch,
    average,
    merge,
    recipe,
    list_runs,
    run_sweep,
    generate,
    stream,
    chat,
    score,
    evaluate,
    compare,
    attention,
    embeddings,
    import_command,
    export,
    verify,
    serve,
    data,
    ngram,
    shortlist,
]:
    commands.add_command(_command)


data.add_command(join_outputs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `tfseq2seq` command."""
    if arguments is None:
        use_utf8()
    prepare_streams()
    # Errors arrive as exceptions. A user who sets the level to 0 also sees the log of TensorFlow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", NO_LOG)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        check_arguments(given)
        commands.main(args=given, prog_name="tfseq2seq", standalone_mode=False)
    except UserError as error:
        fail(str(error), USAGE_ERROR)
    except Stopped as stopped:
        fail(stopped.format_message(), stopped.code)
    except click.ClickException as error:
        if error.format_message().startswith("Usage:"):
            # A group without a command shows its help.
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail("stopped", INTERRUPTED)
    except OSError as error:
        fail(f"{error.filename or 'input or output'}: {error.strerror or error}", USAGE_ERROR)
