"""Commands that export a run, and compare an exported model with its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.exit import report, warn, warn_of_cut
from tfseq2seq.cli.importing import verify_import
from tfseq2seq.cli.inputs import Request, read_inputs
from tfseq2seq.cli.options import FINITE, POSITIVE, refuse_given, run_options, split_option
from tfseq2seq.cli.runs import open_predictor, open_runs, require
from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import ExportOptions, formats

if TYPE_CHECKING:
    from tfseq2seq.inference.predictor import Predictor
    from tfseq2seq.run import Run


@click.command()
@run_options()
@click.option(
    "--to",
    "base",
    help="Folder to write.  [default: saved_models/NAME, for other formats saved_models/NAME_FORMAT]",
)
@click.option("--version", type=POSITIVE, help="Version number of a SavedModel.  [default: the next free number]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(formats())),
    default="savedmodel",
    show_default=True,
    help="Format of the exported model.",
)
@click.option(
    "--quantization",
    type=click.Choice(sorted({name for one in formats().values() for name in one.quantizations})),
    default="float32",
    show_default=True,
    help="Type of the weights. int16 is for ctranslate2. full_int8 is for tflite and also quantizes activations.",
)
@click.option(
    "--examples", type=click.Path(), help="Manifest of recordings to measure activations with, for full_int8."
)
@click.option(
    "--strings",
    is_flag=True,
    help="For tflite: the model takes and returns strings, by tensorflow-text (only for the scheme unigram).",
)
@click.option("--license", default="", help="Name of the license, for the model card of a SavedModel.")
@click.option(
    "--verify/--no-verify",
    "checked",
    default=True,
    show_default=True,
    help="Compare the answers of the exported model with those of the run.",
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
    """Export a run as a SavedModel for TensorFlow Serving, a TFLite file for phones, or a CTranslate2 model for CPUs.

    The exported model first answers a few inputs in a separate process. If its answers differ from those of the run,
    nothing is written and the exit code is 1.
    """
    form = formats()[kind]
    form.check_options(ExportOptions(quantization, version, license, (), strings))
    if bool(examples) != (quantization == "full_int8"):
        given, missing = ("--examples", "--quantization full_int8")[:: 1 if examples else -1]
        raise UserError(f"{given}: needs {missing}, as activations are measured with the examples")
    opened = open_runs(runs, overrides)
    samples: list[Any] = []
    if examples:
        require(opened[0].recipe, "audio", "--examples")
        inputs = read_inputs(opened[0].recipe.source, Request(manifest=examples))
        samples = inputs.valid
        for _, fault in inputs.faults:
            click.echo(f"left out: {fault}", err=True)
        warn(inputs.warnings)
    model = open_predictor(opened, weights)
    from tfseq2seq.export.publishing import model_card

    check = _checked_by(opened[0], model) if checked else None
    card = model_card(opened, weights, license or "unspecified")
    options = ExportOptions(quantization, version, license, samples, strings, card, check)
    folder = form.write(model, base or f"saved_models/{opened[0].recipe.name}{form.suffix}", options)
    click.echo(folder)
    if needs := form.needs(folder):
        click.echo(needs, err=True)


def _checked_by(run: Run, model: Predictor) -> Callable[[Path], None]:
    """A check for exports. It ends the program if the answers of the exported model differ from those of the run."""
    from tfseq2seq.export.publishing import usual_inputs
    from tfseq2seq.export.verify import verify as compare_answers

    def check(folder: Path) -> None:
        inputs = usual_inputs(run, model)
        (verdict,) = compare_answers(folder, model, inputs, batches=[8])
        click.echo(f"verify: {verdict}", err=True)
        if not verdict.passed:
            click.echo("the answers of the exported model differ from those of the run; nothing is written", err=True)
            sys.exit(1)

    return check


# Options of `verify` that are about exported models.
_OF_EXPORTS = ("weights", "manifest", "split", "batches", "tolerance", "drop")


@click.command()
@click.argument("model", type=click.Path(), required=False)
@run_options()
@click.option("--input", "lines", type=click.Path(), help="File with one input per line.")
@click.option("--manifest", type=click.Path(), help="Manifest of recordings.")
@split_option
@click.option(
    "--batch",
    "batches",
    type=POSITIVE,
    multiple=True,
    default=(1, 64),
    show_default=True,
    help="Number of inputs in a batch. Repeat the option to compare with several sizes.",
)
@click.option(
    "--tolerance",
    type=FINITE,
    default=1e-3,
    show_default=True,
    help="Largest difference between two scores. It grows in proportion for scores below -100.",
)
@click.option(
    "--drop",
    type=FINITE,
    default=0.1,
    show_default=True,
    help="For quantized models: largest loss of log-probability under the run, in nats per token on average.",
)
@click.option(
    "--against",
    type=click.Path(),
    help="Folder of Hugging Face that the run was imported from, in place of MODEL: compare the run with it.",
)
@click.option("--reference", metavar="PYTHON", help="For --against: a Python that has transformers and torch.")
def verify(
    model: str | None,
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    lines: str | None,
    manifest: str | None,
    split: str,
    batches: tuple[int, ...],
    tolerance: float,
    drop: float,
    against: str | None,
    reference: str | None,
) -> None:
    """Compare the answers of an exported model with those of its run, or an imported run with its original.

    MODEL is the folder of a SavedModel, a TFLite model or a CTranslate2 model. It answers in a process without this
    package. The texts must be equal, and the scores must differ by at most the tolerance. The texts of a quantized
    model may differ, but the run must find them almost as probable as its own. If this does not hold, the exit code is
    1.
    """
    if bool(model) == bool(against):
        raise UserError(f"verify: needs either MODEL or --against, got {'both' if model else 'neither'}")
    opened = open_runs(runs, overrides)
    if against:
        refuse_given(_OF_EXPORTS, "cannot be combined with --against, which compares the weights of the run")
        if len(opened) > 1:
            raise UserError(f"--against: needs a single --run, got {len(opened)}")
        if not verify_import(opened[0], against, reference, lines):
            sys.exit(1)
        return
    if reference:
        raise UserError("--reference: needs --against")
    assert model is not None
    inputs = read_inputs(opened[0].recipe.source, Request(lines=lines, manifest=manifest, split=split))
    warn(inputs.warnings)
    live = open_predictor(opened, weights)
    inputs.leave_out(live.faults(inputs.values))
    report(inputs.faults)
    from tfseq2seq.export.verify import verify as compare_answers

    verdicts = compare_answers(model, live, inputs.valid, batches, tolerance, drop)
    for verdict in verdicts:
        click.echo(str(verdict))
        for number, own, other in verdict.differing:
            click.echo(f"  input {number}: run {own!r}, exported model {other!r}")
    warn_of_cut(verdicts[0].cut if verdicts else (), opened[0].recipe.search)
    if not all(verdict.passed for verdict in verdicts):
        sys.exit(1)
