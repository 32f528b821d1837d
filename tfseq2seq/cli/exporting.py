"""Exported models, and the proof that they answer as the run they came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.exit import report
from tfseq2seq.cli.inputs import Request, read_inputs
from tfseq2seq.cli.options import POSITIVE, run_options, split_option
from tfseq2seq.cli.runs import open_predictor, open_runs
from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import ExportOptions, formats

if TYPE_CHECKING:
    from tfseq2seq.inference.predictor import Predictor
    from tfseq2seq.run import Run


@click.command()
@run_options()
@click.option(
    "--to", "base", help="Folder to write; saved_models/<name>, with _tflite or _ctranslate2 behind the name."
)
@click.option("--version", type=POSITIVE, help="Version number of a SavedModel; the next free one by default.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(formats())),
    default="savedmodel",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--quantization",
    type=click.Choice(sorted({name for one in formats().values() for name in one.quantizations})),
    default="float32",
    show_default=True,
    help="Type of the weights. int16 is for ctranslate2. full_int8 is for tflite and rounds activations too.",
)
@click.option("--examples", type=click.Path(), help="Manifest of recordings to measure activations on, for full_int8.")
@click.option(
    "--strings",
    is_flag=True,
    help="For tflite: one string in, one string out, by tensorflow-text (scheme unigram only).",
)
@click.option("--license", default="", help="License named in the model card of a SavedModel.")
@click.option(
    "--verify/--no-verify", "checked", default=True, show_default=True, help="Compare its answers with the run's first."
)
def export(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    base: str | None,
    version: int | None,
    kind: str,
    quantization: str,
    examples: str | None,
    strings: bool,
    license: str,
    checked: bool,
) -> None:
    """Export a run: a SavedModel for TensorFlow Serving, a TFLite file for phones, or a CTranslate2 folder for CPUs.

    Before the exported model takes its name, it answers a few inputs in a process of its own. If the answers differ
    from the run's, nothing is written and the exit code is 1.
    """
    form = formats()[kind]
    form.check_options(ExportOptions(quantization, version, license, (), strings))
    if bool(examples) != (quantization == "full_int8"):
        raise UserError("--quantization full_int8 and --examples go together: activations are measured on the examples")
    opened = open_runs(runs, overrides)
    samples: list[Any] = []
    if examples:
        inputs = read_inputs(opened[0].recipe.source, Request(manifest=examples))
        samples = inputs.valid
        for _, fault in inputs.faults:
            click.echo(f"left out: {fault}", err=True)
    model = open_predictor(opened, weights)
    from tfseq2seq.export.publishing import model_card

    check = _checked_by(opened[0], model) if checked else None
    card = model_card(opened, weights, license or "unspecified")
    options = ExportOptions(quantization, version, license, samples, strings, card, check)
    click.echo(form.write(model, base or f"saved_models/{opened[0].recipe.name}{form.suffix}", options))


def _checked_by(run: Run, model: Predictor) -> Callable[[Path], None]:
    """A check for exports: it ends the program where the exported model answers otherwise than the run."""
    from tfseq2seq.export.publishing import usual_inputs
    from tfseq2seq.export.verify import verify as compare_answers

    def check(folder: Path) -> None:
        inputs = usual_inputs(run, model)
        (verdict,) = compare_answers(folder, model, inputs, batches=[8])
        click.echo(f"verify: {verdict}", err=True)
        if not verdict.passed:
            click.echo("the exported model answers otherwise than the run, and was not written", err=True)
            sys.exit(1)

    return check


@click.command()
@click.argument("model", type=click.Path())
@run_options()
@click.option("--input", "lines", type=click.Path(), help="File with one input per line to ask both.")
@click.option("--manifest", type=click.Path(), help="Manifest of recordings to ask both.")
@split_option
@click.option(
    "--batch", "batches", type=POSITIVE, multiple=True, default=(1, 64), show_default=True, help="Inputs per call."
)
@click.option(
    "--tolerance",
    type=float,
    default=1e-3,
    show_default=True,
    help="Largest difference of two scores; of scores below -100 in proportion.",
)
@click.option(
    "--drop",
    type=float,
    default=0.1,
    show_default=True,
    help="For quantized models: how much less probable texts may be to the run, in nats per token on average.",
)
def verify(
    model: str,
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    lines: str | None,
    manifest: str | None,
    split: str,
    batches: tuple[int, ...],
    tolerance: float,
    drop: float,
) -> None:
    """Compare the answers of an exported MODEL (SavedModel, TFLite or CTranslate2 folder) with those of its run.

    The exported model answers in a process without this package. Texts must be the same, and scores within the
    tolerance. Texts of a quantized model may differ, but must be about as probable to the run as its own. The exit code
    is 1 if they are not.
    """
    opened = open_runs(runs, overrides)
    inputs = read_inputs(opened[0].recipe.source, Request(lines=lines, manifest=manifest, split=split))
    report(inputs.faults)
    live = open_predictor(opened, weights)
    from tfseq2seq.export.verify import verify as compare_answers

    verdicts = compare_answers(model, live, inputs.valid, batches, tolerance, drop)
    for verdict in verdicts:
        click.echo(str(verdict))
        for number, own, other in verdict.differing:
            click.echo(f"  input {number}: run {own!r}, exported model {other!r}")
    if not all(verdict.passed for verdict in verdicts):
        sys.exit(1)
