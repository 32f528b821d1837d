"""Artefacts, and the proof that they answer as the run they came from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tfseq2seq.cli.exit import report
from tfseq2seq.cli.inputs import recordings_of
from tfseq2seq.cli.options import POSITIVE, run_options, split_option
from tfseq2seq.cli.runs import open_endpoint, recipe_of, source_of
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.inference.endpoints import TextToText
    from tfseq2seq.inference.speech import SpeechToText
    from tfseq2seq.run import Run


@click.command()
@run_options()
@click.option("--to", "base", help="Folder to write; saved_models/<name>, or <name>_tflite, <name>_ctranslate2.")
@click.option("--version", type=POSITIVE, help="Of a SavedModel: version number; the next one by default.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["savedmodel", "tflite", "ctranslate2"]),
    default="savedmodel",
    show_default=True,
)
@click.option(
    "--quantization",
    type=click.Choice(["float32", "float16", "int16", "int8", "full_int8"]),
    default="float32",
    show_default=True,
    help="int16 is for CTranslate2, full_int8 for TFLite: what is computed is rounded too.",
)
@click.option("--examples", type=click.Path(), help="For full_int8: manifest of recordings.")
@click.option(
    "--strings", is_flag=True, help="Of TFLite: one string in, one out, by tensorflow-text's operations (unigram only)."
)
@click.option("--license", "license", default="unspecified", show_default=True, help="Of a SavedModel: for its card.")
@click.option(
    "--verify/--no-verify", "checked", default=True, show_default=True, help="Ask it and the run the same beforehand."
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
    """Write a SavedModel that takes strings and returns strings, for TF Serving, a TFLite file for phones, or a
    CTranslate2 folder for fast answers on CPUs.

    Before it takes its name the artefact is asked a few inputs in a process of its own. Exit code 1 tells that it
    answers otherwise than the run; then nothing is written.
    """
    if kind == "savedmodel" and (quantization != "float32" or examples):
        raise UserError("--quantization and --examples are for --format tflite and ctranslate2")
    if strings and kind != "tflite":
        raise UserError("--strings is for --format tflite; a SavedModel takes strings as it is")
    if (quantization, kind) in (("int16", "tflite"), ("full_int8", "ctranslate2")):
        raise UserError(f"--quantization {quantization} is not for --format {kind}")
    if kind != "savedmodel" and (version is not None or license != "unspecified"):
        raise UserError(f"--{'version' if version else 'license'} is for --format savedmodel")
    if bool(examples) != (quantization == "full_int8"):
        raise UserError("--quantization full_int8 and --examples, which it measures activations on, go together")
    name = recipe_of(runs).name
    samples = _examples(runs, examples) if examples else []
    model = open_endpoint(runs, weights, overrides)
    from tfseq2seq.run import Run

    opened = [Run.open(folder, overrides) for folder in runs]
    check = _checked_by(opened[0], model) if checked else None
    if kind == "ctranslate2":
        from tfseq2seq.export.ctranslate2 import export_ctranslate2

        base = base or f"saved_models/{name}_ctranslate2"
        click.echo(export_ctranslate2(model, base, cast("Any", quantization), check))
        return
    if kind == "tflite":
        from tfseq2seq.export.tflite import export_tflite

        base = base or f"saved_models/{name}_tflite"
        click.echo(export_tflite(model, base, cast("Any", quantization), samples, check, strings))
        return
    from tfseq2seq.export.publishing import model_card
    from tfseq2seq.export.saved_model import export_saved_model

    card = model_card(opened, weights, license)
    click.echo(export_saved_model(model, base or f"saved_models/{name}", version, card, check))


def _checked_by(run: Run, model: TextToText | SpeechToText) -> Callable[[Path], None]:
    """What an export calls with the folder it has written: ends the program where it answers otherwise than the run."""
    from tfseq2seq.export.publishing import usual_inputs
    from tfseq2seq.export.verify import verify as compare_answers

    def check(folder: Path) -> None:
        inputs = usual_inputs(run, model)
        (verdict,) = compare_answers(folder, model, inputs, batches=[8])
        click.echo(f"verify: {verdict}", err=True)
        if not verdict.passed:
            click.echo("the artefact answers otherwise than the run, and was not written", err=True)
            sys.exit(1)

    return check


def _examples(runs: Sequence[str], manifest: str) -> list[Any]:
    """Recordings that ranges of activations are measured on."""
    audio = source_of(runs)
    if audio is None:
        raise UserError(
            f"--quantization full_int8 is for models of speech with CTC, and {runs[0]} is one of text; take int8"
        )
    recordings = recordings_of(manifest, "", audio)
    for _, fault in recordings.faults:
        click.echo(f"left out: {fault}", err=True)
    return recordings.whole


@click.command()
@click.argument("artefact", type=click.Path())
@run_options()
@click.option("--input", "source", type=click.Path(), help="File of source lines to ask both.")
@click.option("--manifest", type=click.Path(), help="Of speech: manifest of recordings to ask both.")
@split_option
@click.option("--batch", "batches", type=POSITIVE, multiple=True, default=(1, 64), show_default=True)
@click.option(
    "--tolerance",
    type=float,
    default=1e-3,
    show_default=True,
    help="On the difference of two scores; of those beyond -100 in proportion.",
)
@click.option(
    "--drop",
    type=float,
    default=0.1,
    show_default=True,
    help="Of quantized artefacts: texts may be so much less probable to the run, in nats a token on average.",
)
def verify(
    exported: str,
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    source: str | None,
    manifest: str | None,
    split: str,
    batches: tuple[int, ...],
    tolerance: float,
    drop: float,
) -> None:
    """Ask the artefact in a folder (SavedModel, TFLite, CTranslate2) and the run it came from the same, and compare.

    The artefact answers in a process without this package. Texts have to be the same and scores within the tolerance;
    of a quantized artefact they may differ, but must be about as probable to the run as its own. Exit code 1 tells that
    they are not.
    """
    from tfseq2seq.files import read_lines

    audio = source_of(runs)
    inputs: list[Any]
    if audio is None:
        if manifest or split or not source:
            raise UserError(f"{runs[0]} is a model of text: give --input")
        inputs = list(read_lines(source))
    else:
        if source or not manifest:
            raise UserError(f"{runs[0]} is a model of speech: give --manifest")
        recordings = recordings_of(manifest, split, audio)
        report(recordings.faults)
        inputs = recordings.whole
    model = open_endpoint(runs, weights, overrides)
    from tfseq2seq.export.verify import verify as compare_answers

    verdicts = compare_answers(exported, model, inputs, batches, tolerance, drop)
    for verdict in verdicts:
        click.echo(str(verdict))
        for index, live, other in verdict.differing:
            click.echo(f"  input {index}: run {live!r}, artefact {other!r}")
    if not all(verdict.passed for verdict in verdicts):
        sys.exit(1)
