"""Writes outputs to standard output piece by piece, while they are decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tfseq2seq.cli.exit import one_line, tell, warn, warn_of_cut
from tfseq2seq.cli.inputs import InputStream
from tfseq2seq.cli.options import refuse_given
from tfseq2seq.cli.runs import open_predictor
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.run import Run

# Inputs that are read ahead.
_WINDOW = 64
# Options of `generate` that are about whole outputs, or many at a time.
_OF_WHOLE_OUTPUTS = (
    "folder",
    "output",
    "resume",
    "prefix",
    "suffix",
    "batch",
    "workers",
    "scores",
    "times",
    "window",
    "overlap",
)


def check_options(runs: Sequence[str]) -> None:
    """Refuses the options of the current command that do not go with --stream.

    Raises:
        UserError: one was given.
    """
    refuse_given(_OF_WHOLE_OUTPUTS, "cannot be combined with --stream, which writes one output after the other")
    if len(runs) > 1:
        raise UserError(f"--stream: needs a single --run, got {len(runs)}")


def write_piecewise(runs: Sequence[Run], weights: str | None, inputs: InputStream) -> int:
    """Writes a line for each input, each piece as soon as it is decided.

    Returns:
        The number of inputs that cannot be used; their lines are empty.

    Raises:
        UserError: outputs of this model are decided as a whole.
    """
    from tfseq2seq.inference.text_stream import TextStream

    model = open_predictor(runs, weights)
    try:
        stream = TextStream(model)
    except UserError as error:
        raise UserError(f"--stream: {error}") from None
    cut, faults = [], 0
    for window in inputs.windows(_WINDOW):
        warn(window.warnings)
        window.leave_out(model.faults(window.values))
        messages = dict(window.faults)
        faults += len(messages)
        for index, value in enumerate(window.values):
            if index in messages:
                tell(messages[index])
            else:
                for piece in stream.pieces(value, window.begin + index):
                    click.echo(one_line(piece.text), nl=False)
                    if piece.output is not None:
                        cut.append(piece.output.cut)
            click.echo()
    warn_of_cut(cut, runs[0].recipe.search)
    return faults
