"""Outputs of a trained model, all at once or as sound comes in, and how probable given ones are."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.exit import one_line, report
from tfseq2seq.cli.inputs import standard_input, utterances_of
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
from tfseq2seq.cli.runs import import_tensorflow, open_endpoint, recipe_of, source_of
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.data.manifests import Utterance
    from tfseq2seq.runtime.outputs import Output


@click.command()
@run_options(required=False)
@click.option("--artefact", type=click.Path(), help="Folder of a TFLite or CTranslate2 export to ask instead.")
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--input", "source", type=click.Path(), help="File of source lines; standard input by default.")
@click.option("--manifest", type=click.Path(), help="Of speech: manifest of recordings instead of FILES.")
@split_option
@click.option("--output", type=click.Path(), help="File for the outputs; standard output by default.")
@click.option("--prefix", type=click.Path(), help="File with, on each line, text the output begins with.")
@click.option(
    "--batch", type=POSITIVE, default=64, show_default=True, help="Inputs at once; of a TFLite file of strings one."
)
@workers_option("Batches at a time; 0: one per core, at most 8. Of TFLite: threads of one batch; 0: one.")
@click.option("--scores", is_flag=True, help="Put score and log-probability before each output, with tabs.")
@click.option(
    "--times",
    type=click.Choice(["srt", "vtt", "json"]),
    help="Of speech: when words are said, as subtitles or JSON lines; subtitles of several go to the folder --output.",
)
@click.option("--window", type=ABOVE_ZERO, help="Of speech: hear longer recordings in windows of so many seconds.")
@click.option("--overlap", type=ABOVE_ZERO, help="Seconds that windows share.  [default: a sixth of --window]")
def generate(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    exported: str | None,
    files: tuple[str, ...],
    source: str | None,
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
    """Write an output line for each input, in the same order (n_best lines where more are asked for).

    Of text an input is a line. Of speech it is one of the audio FILES, a row of --manifest, or one audio file on
    standard input. A recording that cannot be used has an empty line and is named on standard error; exit code 2 then.
    """
    from tfseq2seq.files import read_lines, write_whole

    if bool(runs) == bool(exported):
        raise UserError("give --run, or --artefact in its place")
    exported = None
    if exported:
        settled = {"weights": weights, "set": overrides, "prefix": prefix}
        for name, given in {**settled, "times": times, "window": window, "overlap": overlap}.items():
            if given:
                raise UserError(f"--{name} is for a run; what {exported} does is settled")
        exported = _exported(exported, batch, workers)
    asked = exported or runs[0]
    audio = exported.audio if exported else source_of(runs)
    inputs: Sequence[Any]
    faults: Sequence[tuple[int, str]] = ()
    if audio is not None:
        if source or prefix:
            raise UserError(f"--{'input' if source else 'prefix'} is for text, and {asked} is a model of speech")
        utterances = utterances_of(files, manifest, split)
        if overlap and not window:
            raise UserError("--overlap is of --window, and none is given")
        if (times or window) and scores:
            raise UserError("--scores goes with neither --times nor --window; json has the scores")
        if (times or window) and workers:
            raise UserError("--workers goes with neither --times nor --window")
        names = _subtitle_names(utterances, output) if times in ("srt", "vtt") else {}
        import_tensorflow()
        from tfseq2seq.sources.recordings import read_recordings

        recordings = read_recordings(utterances, audio)
        inputs, faults = recordings.samples, recordings.faults
        if times or window:
            model = open_endpoint(runs, weights, overrides)
            _write_timed(model, utterances, names, inputs, times, window, overlap, output, batch)
            report(faults)
            return
    elif files or manifest or split or times or window or overlap:
        raise UserError(
            "audio files, manifests, --times, --window and --overlap are for models of speech, and "
            f"{asked} is one of text; use --input"
        )
    else:
        inputs = read_lines(source) if source else standard_input()
    prefixes = read_lines(prefix) if prefix else None
    if prefixes is not None and len(prefixes) != len(inputs):
        raise UserError(f"{prefix}: {len(prefixes)} lines for {len(inputs)} source lines")
    lines = []
    if inputs:
        for found in (
            exported.generate(inputs)
            if exported
            else _generated(runs, weights, overrides, inputs, prefixes, batch, workers)
        ):
            for text, score, log_prob in zip(found.texts, found.scores, found.log_probs, strict=True):
                line = one_line(text)
                lines.append(f"{score:.6f}\t{log_prob:.6f}\t{line}" if scores else line)
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    if output:
        write_whole(output, content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    report(faults)


def _exported(folder: str, batch: int, workers: int) -> Any:
    """An artefact that is asked without TensorFlow."""
    if any(any(Path(folder).glob(name)) for name in ("saved_model.pb", "*/saved_model.pb")):
        raise UserError(
            f"{folder}: a SavedModel; --artefact is for TFLite and CTranslate2, ask it by `tfseq2seq serve`"
        )
    if (Path(folder) / "model.bin").exists():
        from tfseq2seq.runtime.ctranslate2_model import CTranslate2Model

        return CTranslate2Model(folder, batch, workers or os.cpu_count() or 1)
    from tfseq2seq.runtime.tflite_model import TFLiteModel

    return TFLiteModel(folder, batch, workers or 1)


def _generated(
    runs: Sequence[str],
    weights: str | None,
    overrides: Sequence[str],
    inputs: Sequence[Any],
    prefixes: Sequence[str] | None,
    batch: int,
    workers: int,
) -> list[Output]:
    model = open_endpoint(runs, weights, overrides, -(-len(inputs) // batch), workers)
    from tfseq2seq.inference.generator import Generator

    return Generator(model, batch, workers).generate(inputs, prefixes)


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
    model: Any,
    utterances: Sequence[Utterance],
    names: Mapping[str, str],
    recordings: Sequence[Any],
    times: str | None,
    window: float | None,
    overlap: float | None,
    output: str | None,
    batch: int,
) -> None:
    """Transcripts of recordings by windows, as lines, or with the times of words, counted from the beginning of a file.

    `names` of the files of subtitles, by path, where those are asked for.
    """
    from tfseq2seq.files import write_whole
    from tfseq2seq.inference.long_audio import transcribe_long
    from tfseq2seq.inference.transcripts import as_json_line, as_subtitles, moved
    from tfseq2seq.inference.word_times import Transcriber

    transcriber = Transcriber(model, batch)
    if window:
        found = transcribe_long(transcriber, recordings, window, window / 6 if overlap is None else overlap)
    else:
        found = transcriber.transcribe(recordings)
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
@click.option("--seconds", type=ABOVE_ZERO, default=0.2, show_default=True, help="Sound to wait for at a time.")
@click.option("--quiet", is_flag=True, help="Only the final text.")
def stream(folder: str, weights: str | None, overrides: tuple[str, ...], seconds: float, quiet: bool) -> None:
    """Transcribe standard input as it comes: raw samples of signed 16 bits, one channel, at the model's rate.

    The text so far goes to standard error, the final text to standard output when the input ends. For models whose
    encoder hears in chunks (model.encoder.chunk), as from a microphone:

        arecord -t raw -f S16_LE -c 1 -r 16000 | tfseq2seq stream --run RUN
    """
    audio = source_of([folder])
    if audio is None:
        raise UserError(f"stream is for models of speech, and {folder} is one of text")
    import numpy as np

    model = open_endpoint([folder], weights, overrides)
    from tfseq2seq.inference.streaming import Streaming

    live = Streaming(model).open()
    said, odd = "", b""
    while block := sys.stdin.buffer.read(2 * max(round(seconds * audio.sample_rate), 1)):
        block, odd = odd + block, b""
        if len(block) % 2:
            block, odd = block[:-1], block[-1:]
        text = one_line(live.accept(np.frombuffer(block, "<i2").astype("float32") / 32768))
        if text != said and not quiet:
            said = text
            click.echo(text, err=True)
    if odd:
        raise UserError("standard input ends within a sample; raw samples of two bytes each are expected")
    click.echo(one_line(live.finish().texts[0]))


@click.command()
@run_options()
@click.option("--source", type=click.Path(), help="File of source lines; not for a language model.")
@click.option("--target", required=True, type=click.Path(), help="File of target lines.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Pairs at once.")
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
    """Print the log-probability (nats, <eos> included) and the token count of each given pair, or of each line by a
    language model."""
    from tfseq2seq.evaluation.scores import perplexity
    from tfseq2seq.files import check_parallel, read_lines

    targets = read_lines(target)
    if recipe_of(runs).model.is_language_model:
        if source or overrides or len(runs) > 1:
            raise UserError(f"{runs[0]} is a language model: it takes --target alone, neither --source nor --set")
        import_tensorflow()
        from tfseq2seq.inference.external_scorers import score_lines
        from tfseq2seq.run import Run

        run = Run.open(runs[0])
        totals, counts = score_lines(run.load_model(weights), run.target, targets, batch)
    else:
        if not source:
            raise UserError("give --source, the file of source lines")
        sources = read_lines(source)
        check_parallel(source, len(sources), target, len(targets))
        model = open_endpoint(runs, weights, overrides, -(-len(sources) // batch), workers)
        from tfseq2seq.inference.generator import Generator

        totals, counts = Generator(model, batch, workers).log_probabilities(sources, targets)
    for total, count in zip(totals, counts, strict=True):
        click.echo(f"{total:.6f}\t{count}")
    value = perplexity(float(totals.sum()), int(counts.sum()))
    click.echo(f"{len(totals)} pairs, {int(counts.sum())} tokens, perplexity {value:.4f}", err=True)
