"""The command that compares the trainings of several runs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from tfseq2seq.cli.exit import tell
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.evaluation.run_summaries import RunSummary

# The columns of the table: heading, content, and whether it is text.
_COLUMNS: list[tuple[str, Callable[[RunSummary], str], bool]] = [
    ("run", lambda run: run.folder, True),
    ("state", lambda run: run.state, True),
    ("steps", lambda run: f"{run.step:,}/{run.steps:,}", False),
    ("monitor", lambda run: run.monitor or "-", True),
    ("best", lambda run: _number(run.best_score, ".4f"), False),
    ("at step", lambda run: _number(run.best_step, ",d"), False),
    ("loss", lambda run: _number(run.loss, ".4f"), False),
    ("tok/s", lambda run: _number(run.tokens_per_second, ",.0f"), False),
    ("minutes", lambda run: f"{run.minutes:,.1f}", False),
]


@click.command("runs")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path())
@click.option("--plot", type=click.Path(), help="Draw the curves of --values over training steps in this PNG file.")
@click.option(
    "--values",
    metavar="NAME,...",
    help="Names of logged values to draw, with commas between, for example loss,val_nll.  [default: the training loss "
    "and the scores that select checkpoints]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the output: a table, or one JSON object per run and line, with all logged values.",
)
def list_runs(folders: Sequence[str], plot: str | None, values: str | None, form: str) -> None:
    """Compare the runs in the folders DIR: state, steps, best score, loss, speed and training time.

    Runs with the same monitor, the score that selects checkpoints, are listed together, the best first. A run is
    running while a process trains it, and finished when it has its final weights. The speed is the median number of
    real target tokens per second. A run that cannot be read is named on standard error and left out.
    """
    from tfseq2seq.evaluation.run_summaries import find_runs, ranked, summarize

    if values is not None and not plot:
        raise UserError("--values: needs --plot, as it names the values to draw")
    summaries = []
    for folder in find_runs(folders):
        try:
            summaries.append(summarize(folder))
        except UserError as error:
            tell(f"left out: {error}")
    found = ranked(summaries)
    if plot:
        _plot(found, plot, None if values is None else [name.strip() for name in values.split(",")])
    if form == "json":
        for run in found:
            click.echo(json.dumps(dataclasses.asdict(run), ensure_ascii=False))
        return
    for line in _table(found):
        click.echo(line)


def _plot(found: Sequence[RunSummary], path: str, names: Sequence[str] | None) -> None:
    """Draws curves of runs.

    Raises:
        UserError: no run has a value of one of the names.
    """
    from tfseq2seq.evaluation.curves import curves_png
    from tfseq2seq.evaluation.run_summaries import curve, values_of

    known = values_of(found)
    if not known:
        raise UserError("--plot: needs a run with an evaluation, and no run has one yet")
    monitors = [run.monitor for run in found if run.monitor in known]
    chosen = list(dict.fromkeys(names or [*(["loss"] if "loss" in known else []), *monitors]))
    for name in chosen:
        if name not in known:
            raise UserError(f"--values: must be among {', '.join(known)}, got {name!r}")
    labels = _labels([run.folder for run in found])
    drawn = {name: {label: curve(run, name) for label, run in zip(labels, found, strict=True)} for name in chosen}
    with_points = {name: {run: line for run, line in each.items() if line[0]} for name, each in drawn.items()}
    curves_png(with_points, path)
    click.echo(path, err=True)


def _labels(folders: Sequence[str]) -> list[str]:
    """The folders without the path that they have in common."""
    if len(folders) < 2:
        return [os.path.basename(os.path.abspath(folder)) for folder in folders]
    common = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    return [os.path.relpath(os.path.abspath(folder), common) for folder in folders]


def _table(found: Sequence[RunSummary]) -> list[str]:
    """The lines of a table with a heading."""
    rows = [[heading for heading, *_ in _COLUMNS], *([content(run) for _, content, _ in _COLUMNS] for run in found)]
    from rich.cells import cell_len  # the help of the commands loads nothing heavy

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for cell, width, (*_, is_text) in zip(row, widths, _COLUMNS, strict=True):
            blank = " " * (width - cell_len(cell))
            cells.append(cell + blank if is_text else blank + cell)
        lines.append("  ".join(cells).rstrip())
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
