"""Outputs of a trained model, for all inputs or while a recording arrives, and log-probabilities of given outputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.exit import one_line, report
from tfseq2seq.cli.inputs import Inputs, Request, read_inputs
from tfseq2seq.cli.options import (
    ABOVE_ZERO,
    POSITIVE,
    run_option,
    run_options,
    settings_option,
    split_option,
    weights_option,
    workers_option,
)
from tfseq2seq.cli.runs import open_predictor, open_runs
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.data.manifests import Utterance
    from tfseq2seq.run import Run
    from tfseq2seq.runtime.outputs import Output


@click.command()
@run_options(required=False)
@click.option(
    "--model", "folder", type=click.Path(), help="Folder of a TFLite or CTranslate2 export, instead of --run."
)
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--input", "lines", type=click.Path(), help="File with one input per line; standard input by default.")
@click.option("--manifest", type=click.Path(), help="Manifest of recordings, instead of FILES.")
@split_option
@click.option("--output", type=click.Path(), help="File for the outputs; standard output by default.")
@click.option("--prefix", type=click.Path(), help="File with the text that each output begins with, one per line.")
@click.option(
    "--batch", type=POSITIVE, default=64, show_default=True, help="Inputs per batch; 1 for a TFLite file of strings."
)
@workers_option("Batches at a time; 0: one per core, at most 8. For TFLite: threads of one batch; 0: one thread.")
@click.option("--scores", is_flag=True, help="Print score and log-probability before each output, with tabs between.")
@click.option(
    "--times",
    type=click.Choice(["srt", "vtt", "json"]),
    help="Print times of words: subtitles or JSON lines. Subtitles of several recordings need a folder --output.",
)
@click.option("--window", type=ABOVE_ZERO, help="Transcribe longer recordings in windows of this many seconds.")
@click.option("--overlap", type=ABOVE_ZERO, help="Seconds that windows share.  [default: a sixth of --window]")
def generate(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    folder: str | None,
    files: tuple[str, ...],
    lines: str | None,
    manifest: str | None,
    split: str,
    output: str | None,
    prefix: str | None,
    batch: int,
    workers: int,
    scores: bool,
    times: str | None,
    window: float | None,
    overlap: float | None,
) -> None:
    """Write an output line for each input, in the same order (n_best lines if more are asked for).

    A model of text reads lines. A language model reads lines too and continues each of them. A model of recordings
    reads the audio FILES, the rows of --manifest, or one audio file on standard input. The output of a recording that
    cannot be used is an empty line; standard error names the recording, and the exit code is 2.
    """
    from tfseq2seq.files import read_lines

    if bool(runs) == bool(folder):
        raise UserError("give either --run or --model")
    if (times or window) and scores:
        raise UserError("--scores: goes with neither --times nor --window; --times json has the scores")
    if (times or window) and workers:
        raise UserError("--workers: goes with neither --times nor --window")
    if overlap and not window:
        raise UserError("--overlap: needs --window")
    request = Request(files, lines, manifest, split, standard_input=True)
    if folder:
        fixed = {"weights": weights, "set": overrides, "prefix": prefix, "times": times, "window": window}
        for name, given in fixed.items():
            if given:
                raise UserError(f"--{name}: needs --run; an exported model does what it was exported for")
        from tfseq2seq.export.formats import format_of

        exported = format_of(folder).open(folder, batch, workers)
        inputs = read_inputs(exported.source.spec, request)
        found = exported.generate(inputs.values) if inputs.values else []
        _write(_lines(found, scores), output)
        report(inputs.faults)
        return
    opened = open_runs(runs, overrides)
    inputs = read_inputs(opened[0].recipe.source, request)
    if times or window:
        _write_timed(opened, weights, inputs, times, window, overlap, output, batch)
        report(inputs.faults)
        return
    prefixes = read_lines(prefix) if prefix else None
    if prefixes is not None and len(prefixes) != len(inputs.values):
        raise UserError(f"{prefix}: must have a line for each of {len(inputs.values)} inputs, got {len(prefixes)}")
    found = []
    if inputs.values:
        model = open_predictor(opened, weights, -(-len(inputs.values) // batch), workers)
        from tfseq2seq.inference.generator import Generator

        found = Generator(model, batch, workers).generate(inputs.values, prefixes)
    _write(_lines(found, scores), output)
    report(inputs.faults)


def _lines(outputs: Sequence[Output], scores: bool) -> list[str]:
    """A line for each hypothesis, with its scores where asked for."""
    lines = []
    for found in outputs:
        for text, score, log_prob in zip(found.texts, found.scores, found.log_probs, strict=True):
            line = one_line(text)
            lines.append(f"{score:.6f}\t{log_prob:.6f}\t{line}" if scores else line)
    return lines


def _write(lines: Sequence[str], output: str | None) -> None:
    """Writes lines to a file, or to standard output."""
    from tfseq2seq.files import write_whole

    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    if output:
        write_whole(output, content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _subtitle_names(utterances: Sequence[Utterance], output: str | None) -> dict[str, str]:
    """What the subtitles of each audio file are called, without the ending: those of its utterances are one file."""
    names = {one.path: Path(one.path).stem for one in utterances}
    if len(names) > 1 and not output:
        raise UserError(f"subtitles of {len(names)} recordings are as many files: name a folder with --output")
    first: dict[str, str] = {}
    for path, stem in names.items():
        if first.setdefault(stem, path) != path:
            raise UserError(f"{first[stem]} and {path} would have subtitles of one name, {stem}; ask for one at a time")
    return names


def _write_timed(
    runs: Sequence[Run],
    weights: str | None,
    inputs: Inputs,
    times: str | None,
    window: float | None,
    overlap: float | None,
    output: str | None,
    batch: int,
) -> None:
    """Writes transcripts of recordings, by windows where asked for, as lines or with the times of words."""
    utterances = inputs.utterances
    if not utterances:
        raise UserError("--times and --window: need recordings, and the model reads text")
    names = _subtitle_names(utterances, output) if times in ("srt", "vtt") else {}
    model = open_predictor(runs, weights)
    from tfseq2seq.files import write_whole
    from tfseq2seq.inference.long_audio import transcribe_long
    from tfseq2seq.inference.transcripts import as_json_line, as_subtitles, moved
    from tfseq2seq.inference.word_times import Transcriber

    transcriber = Transcriber(model, batch)
    if window:
        found = transcribe_long(transcriber, inputs.values, window, window / 6 if overlap is None else overlap)
    else:
        found = transcriber.transcribe(inputs.values)
    found = [moved(one, utterance.start) for one, utterance in zip(found, utterances)]
    if times in ("srt", "vtt"):
        words: dict[str, list[Any]] = {path: [] for path in names}
        # A recording that is asked for twice has one set of subtitles.
        for utterance, one in dict(zip(utterances, found)).items():
            words[utterance.path] += one.words
        in_order = (sorted(each, key=lambda word: word.start) for each in words.values())
        contents = [as_subtitles(each, times, transcriber) for each in in_order]
    elif times == "json":
        contents = ["".join(as_json_line(one.path, each) + "\n" for one, each in zip(utterances, found))]
    else:
        contents = ["".join(one_line(one.text) + "\n" for one in found)]
    if output and names and (len(contents) > 1 or Path(output).is_dir()):
        for name, content in zip(names.values(), contents):
            write_whole(Path(output, f"{name}.{times}"), content.encode("utf-8"))
    elif output:
        write_whole(output, contents[0].encode("utf-8"))
    else:
        click.echo("".join(contents), nl=False)


@click.command()
@run_option
@weights_option
@settings_option("Change search.*, as search.beam=1.")
@click.option(
    "--seconds", type=ABOVE_ZERO, default=0.2, show_default=True, help="Seconds of audio to wait for at a time."
)
@click.option("--quiet", is_flag=True, help="Print only the final text.")
def stream(folder: str, weights: str | None, overrides: tuple[str, ...], seconds: float, quiet: bool) -> None:
    """Transcribe standard input while it arrives: raw samples of signed 16 bits, one channel, at the model's rate.

    The text so far goes to standard error, the final text to standard output when the input ends. The encoder must read
    recordings in chunks (model.encoder.chunk). For example, from a microphone:

        arecord -t raw -f S16_LE -c 1 -r 16000 | tfseq2seq stream --run RUN
    """
    opened = open_runs([folder], overrides)
    source = opened[0].recipe.source
    rate = getattr(source, "sample_rate", None)
    if not rate:
        raise UserError(f"stream: needs a model of recordings, and {folder} has source.kind {source.kind}")
    import numpy as np

    from tfseq2seq.inference.streaming import Streaming

    model = open_predictor(opened, weights)
    live = Streaming(model).open()
    shown, odd = "", b""
    while block := sys.stdin.buffer.read(2 * max(round(seconds * rate), 1)):
        block, odd = odd + block, b""
        if len(block) % 2:
            block, odd = block[:-1], block[-1:]
        text = one_line(live.accept(np.frombuffer(block, "<i2").astype("float32") / 32768))
        if text != shown and not quiet:
            shown = text
            click.echo(text, err=True)
    if odd:
        raise UserError("standard input ends within a sample; raw samples of two bytes each are expected")
    click.echo(one_line(live.finish().texts[0]))


@click.command()
@run_options()
@click.option("--source", type=click.Path(), help="File with one source text per line; not for a language model.")
@click.option("--target", required=True, type=click.Path(), help="File with one target text per line.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Pairs per batch.")
@workers_option()
def score(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    source: str | None,
    target: str,
    batch: int,
    workers: int,
) -> None:
    """Print the log-probability (nats, <eos> included) and the token count of each given pair.

    A language model scores the lines of --target alone.
    """
    from tfseq2seq.evaluation.scores import perplexity
    from tfseq2seq.files import check_parallel, read_lines

    targets = read_lines(target)
    opened = open_runs(runs, overrides)
    recipe = opened[0].recipe
    if "vocabulary" in recipe.provides:
        if not source:
            raise UserError("--source: give the file of source lines")
        sources = read_lines(source)
        check_parallel(source, len(sources), target, len(targets))
    elif source or "source" in recipe.provides:
        raise UserError(
            f"score: needs source text or a language model, and {runs[0]} has source.kind {recipe.source.kind}"
        )
    else:
        sources = [""] * len(targets)
    model = open_predictor(opened, weights, -(-len(sources) // batch), workers)
    from tfseq2seq.inference.generator import Generator

    totals, counts = Generator(model, batch, workers).log_probabilities(sources, targets)
    for total, count in zip(totals, counts, strict=True):
        click.echo(f"{total:.6f}\t{count}")
    value = perplexity(float(totals.sum()), int(counts.sum()))
    click.echo(f"{len(totals)} pairs, {int(counts.sum())} tokens, perplexity {value:.4f}", err=True)
