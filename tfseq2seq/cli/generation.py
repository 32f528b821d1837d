"""Commands that ask a trained model: outputs for all inputs or for a stream, and log-probabilities of given outputs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.answering import Advance, Ask, answer
from tfseq2seq.cli.exit import USAGE_ERROR, one_line, report, warn, warn_of_cut
from tfseq2seq.cli.inputs import Inputs, Request, open_inputs, read_inputs, standard_input
from tfseq2seq.cli.options import (
    ABOVE_ZERO,
    POSITIVE,
    Shard,
    dialogues_option,
    run_option,
    run_options,
    search_option,
    split_option,
    weights_option,
    workers_option,
)
from tfseq2seq.cli.piecewise import check_options, write_piecewise
from tfseq2seq.cli.runs import open_predictor, open_runs, require
from tfseq2seq.cli.timed import write_timed
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.run import Run
    from tfseq2seq.runtime.outputs import Output
    from tfseq2seq.spec import Recipe


@click.command()
@run_options(required=False)
@click.option(
    "--model", "folder", type=click.Path(), help="Folder of an exported TFLite or CTranslate2 model, instead of --run."
)
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--input", "lines", type=click.Path(), help="File with one input per line; by default standard input.")
@click.option("--manifest", type=click.Path(), help="Manifest of recordings, pictures or clips, instead of FILES.")
@split_option
@click.option("--output", type=click.Path(), help="Write the outputs to this file instead of standard output.")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the file of --output where a command with the same options stopped.",
)
@click.option(
    "--shard",
    type=Shard(),
    help="Answer only part I of N equal parts of the inputs, for example 2/8, to divide a job among machines. The "
    "outputs of all parts, joined in order, are those of the whole: see `data join-outputs`.",
)
@click.option("--prefix", type=click.Path(), help="File with one text per line; each output begins with its text.")
@click.option(
    "--suffix",
    type=click.Path(),
    help="File with one text per line that an output ends with; a language model that was trained with data.infilling "
    "fills in what is between the prompt and it.",
)
@click.option(
    "--batch",
    type=POSITIVE,
    default=64,
    show_default=True,
    help="Number of inputs in a batch. A TFLite model of strings always takes one input.",
)
@workers_option(
    "Number of batches to process at the same time; 0: one per core, at most 8. For a TFLite or CTranslate2 model: "
    "number of threads for one batch; 0: one thread for TFLite, one per core for CTranslate2."
)
@click.option("--scores", is_flag=True, help="Write score, log-probability and output on each line, with tabs between.")
@click.option(
    "--times",
    type=click.Choice(["srt", "vtt", "json"]),
    help="Write the times of words, as subtitles or as JSON lines. For subtitles of several recordings, --output names "
    "a folder. A name that ends in / is always a folder.",
)
@click.option(
    "--window",
    type=ABOVE_ZERO,
    help="Transcribe long recordings in windows of this many seconds. A window can have search.max_length tokens for "
    "every 5 seconds.",
)
@click.option("--overlap", type=ABOVE_ZERO, help="Overlap of windows in seconds.  [default: a sixth of --window]")
@click.option(
    "--stream",
    "piecewise",
    is_flag=True,
    help="Write each output while it is decided, one after the other. Needs search.beam=1 or search.sample=true.",
)
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
    resume: bool,
    shard: tuple[int, int] | None,
    prefix: str | None,
    suffix: str | None,
    batch: int,
    workers: int,
    scores: bool,
    times: str | None,
    window: float | None,
    overlap: float | None,
    piecewise: bool,
) -> None:
    """Write the output of a model for each input, in the order of the inputs.

    Each input has one line of output, or search.n_best lines. A model of text reads lines. A language model reads
    prompts, one per line, and continues them. A model of recordings reads the audio FILES, the recordings of
    --manifest, or one audio file from standard input. A model of pictures reads pictures in the same way,
    and a model of clips GIF files and folders of frames. If a file cannot be used, or an input is longer than
    search.max_input, its output is an empty line, a line on standard error names it, and the exit code is 2.

    Inputs are answered while they are read: a line that is typed, at once; those of a file, some thousands at a time.
    The file of --output gets its name when it is complete. Until then it is called OUTPUT.partial, and --resume
    continues it.
    """
    if bool(runs) == bool(folder):
        raise UserError(f"generate: needs either --run or --model, got {'both' if runs else 'neither'}")
    if piecewise:
        check_options(runs)
    timed = "--times" if times else "--window" if window else ""
    if timed and scores:
        raise UserError(f"--scores: cannot be combined with {timed}; --times json contains the scores")
    if timed and workers:
        raise UserError(f"--workers: cannot be combined with {timed}")
    if timed and prefix:
        raise UserError(f"--prefix: cannot be combined with {timed}")
    if overlap and not window:
        raise UserError("--overlap: needs --window")
    if resume and (timed or not output):
        raise UserError(f"--resume: {f'cannot be combined with {timed}' if timed else 'needs --output'}")
    if shard and times in ("srt", "vtt"):
        raise UserError(
            f"--shard: cannot be combined with --times {times}, which writes one file per recording; give "
            "each machine its own recordings"
        )
    if suffix and (prefix or timed):
        raise UserError(f"--suffix: cannot be combined with {timed or '--prefix'}")
    request = Request(files, lines, manifest, split, standard_input=True, prefixes=prefix or suffix, shard=shard)
    if folder:
        for name, value in (
            ("--weights", weights),
            ("--set", overrides),
            ("--prefix", prefix),
            ("--suffix", suffix),
            (timed, timed),
        ):
            if value:
                raise UserError(f"{name}: needs --run, got --model")
        from tfseq2seq.export.formats import format_of
        from tfseq2seq.runtime.outputs import Output, cut_warnings, length_limit

        exported = format_of(folder).open(folder, batch, workers)
        search = exported.config["search"]
        # A model of strings gives one output.
        hypotheses = 1 if getattr(exported, "strings", False) else search["n_best"]
        stream = open_inputs(exported.source.spec, request)

        def open_exported(batches: int, advance: Advance) -> Ask:
            def ask(window: Inputs) -> Sequence[Output]:
                window.leave_out(exported.faults(window.values))
                warn(window.named(exported.warnings(window.values)))
                found = exported.generate(window.valid) if window.valid else []
                advance(len(window.values))
                return window.in_place(found, Output.nothing(hypotheses))

            return ask

        summary = answer(stream, open_exported, output, resume, batch, hypotheses, scores)
        remedy = "export the run again with a larger search.max_length"
        limit = length_limit(search["max_length"], search.get("max_ratio", 0.0))
        warn(cut_warnings(summary.each_cut(), limit, remedy))
    else:
        opened = open_runs(runs, overrides)
        recipe = opened[0].recipe
        if timed:
            require(recipe, "audio", timed)
            recordings = open_inputs(recipe.source, request)
            if write_timed(opened, weights, recordings, times, window, overlap, output, batch):
                sys.exit(USAGE_ERROR)
            return
        if prefix:
            require(recipe, "source", "--prefix")
            require(recipe, "autoregressive", "--prefix")
        if piecewise:
            if write_piecewise(opened, weights, open_inputs(recipe.source, request)):
                sys.exit(USAGE_ERROR)
            return
        if suffix:
            require(recipe, "prompts", "--suffix")
        search = recipe.search
        open_model = functools.partial(_open_model, opened, weights, prefix, suffix, batch, workers)
        stream = open_inputs(recipe.source, request)
        summary = answer(stream, open_model, output, resume, batch, search.n_best, scores)
        warn_of_cut(summary.each_cut(), search)
    if summary.faults:
        sys.exit(USAGE_ERROR)


def _open_model(
    runs: Sequence[Run],
    weights: str | None,
    prefix: str | None,
    suffix: str | None,
    batch: int,
    workers: int,
    batches: int,
    advance: Advance,
) -> Ask:
    """A function that gives the outputs of trained models, as `answer` needs it. Too long inputs become faults.

    Args:
        prefix, suffix: the file of the prefixes or of the suffixes, for messages.
    """
    model = open_predictor(runs, weights, batches, workers)
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.runtime.outputs import Output

    generator = Generator(model, batch, workers, checked=True)
    remedy = "; --window cuts it" if "audio" in runs[0].recipe.provides else ""

    def ask(window: Inputs) -> Sequence[Output]:
        window.leave_out(model.faults(window.values), remedy=remedy)
        others: dict[str, list[str]] = {}
        if window.prefixes is not None:
            if suffix:
                window.leave_out(model.suffix_faults(window.values, window.prefixes), suffix)
            else:
                window.leave_out(model.target_faults(window.prefixes), prefix or "")
            chosen = [window.prefixes[index] for index in window.answered]
            others = {"suffixes" if suffix else "prefixes": chosen}
        if window.faults:
            advance(len(window.faults))
        warn(window.named(model.warnings(window.values)))
        streams = [window.begin + index for index in window.answered]
        found = generator.generate(window.valid, advance=advance, streams=streams, **others)
        return window.in_place(found, Output.nothing(model.spec.n_best))

    return ask


@click.command()
@run_option
@weights_option
@search_option
@click.option(
    "--seconds", type=ABOVE_ZERO, default=0.2, show_default=True, help="Seconds of audio to wait for at a time."
)
@click.option("--quiet", is_flag=True, help="Write only the final text.")
def stream(folder: str, weights: str | None, overrides: tuple[str, ...], seconds: float, quiet: bool) -> None:
    """Transcribe a stream of raw samples on standard input while it arrives.

    Samples are signed integers of 16 bits, little-endian, of one channel, at the sample rate of the model. The text so
    far goes to standard error. At the end of the stream, the final text goes to standard output. The encoder must read
    recordings in chunks (model.encoder.chunk). For example, from a microphone:

        arecord -t raw -f S16_LE -c 1 -r 16000 | tfseq2seq stream --run RUN
    """
    opened = open_runs([folder], overrides)
    source: Any = opened[0].recipe.source
    require(opened[0].recipe, "audio", "stream")
    rate = source.sample_rate
    import numpy as np

    from tfseq2seq.inference.streaming import Streaming

    model = open_predictor(opened, weights)
    live = Streaming(model).open()
    shown, odd = "", b""
    samples = standard_input("an open stream of samples")
    while block := samples.read(2 * max(round(seconds * rate), 1)):
        block, odd = odd + block, b""
        if len(block) % 2:
            block, odd = block[:-1], block[-1:]
        text = one_line(live.accept(np.frombuffer(block, "<i2").astype("float32") / 32768))
        if text != shown and not quiet:
            shown = text
            click.echo(text, err=True)
    if odd:
        raise UserError("standard input: must contain samples of two bytes each, but it ends within a sample")
    found = live.finish()
    click.echo(one_line(found.texts[0]))
    warn_of_cut([found.cut], opened[0].recipe.search)


@click.command()
@run_options()
@click.option("--source", type=click.Path(), help="File of source texts, one per line; not for a language model.")
@click.option("--target", type=click.Path(), help="File of target texts, one per line.")
@dialogues_option
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Number of pairs in a batch.")
@workers_option()
def score(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    source: str | None,
    target: str | None,
    dialogues: str | None,
    batch: int,
    workers: int,
) -> None:
    """Print the log-probability of each pair of texts in nats, and its number of tokens.

    Both include the token <eos> at the end. A language model scores the lines of --target alone, and a model of
    dialogues the answers in --dialogues, in place of --source and --target. If a line is longer
    than search.max_input, or a target line longer than a model scores, its output is an empty line, a line on standard
    error names it, and the exit code is 2.
    """
    from tfseq2seq.evaluation.likelihood import likelihood_scores
    from tfseq2seq.evaluation.metrics import Settings
    from tfseq2seq.evaluation.scores import perplexity

    opened = open_runs(runs, overrides)
    pairs = _pairs_to_score(opened[0].recipe, source, target, dialogues)
    sources, targets = pairs.values, pairs.references or []
    model = open_predictor(opened, weights, -(-len(sources) // batch), workers)
    from tfseq2seq.inference.generator import Generator

    pairs.values = list(zip(sources, targets, strict=True))
    pairs.leave_out(model.faults(sources), source or "")
    pairs.leave_out(model.target_faults(targets), target or "")
    warn(pairs.named(model.warnings(sources)))
    chosen = [list(side) for side in zip(*pairs.valid, strict=True)] or [[], []]
    totals, counts = Generator(model, batch, workers, checked=True).log_probabilities(*chosen)
    scored = [f"{total:.6f}\t{count}" for total, count in zip(totals, counts, strict=True)]
    for line in pairs.in_place(scored, ""):
        click.echo(line)
    value = perplexity(float(totals.sum()), int(counts.sum()))
    noun = "pairs" if source else "answers" if dialogues else "lines"
    compared = ""
    if len(totals):
        of_all = likelihood_scores(
            totals.tolist(), counts.tolist(), chosen[1], ["perplexity_per_character", "bits_per_byte"], Settings()
        )
        compared = "".join(f", {one.name} {one.value:.4f}" for one in of_all)
    click.echo(f"{len(totals)} {noun}, {int(counts.sum())} tokens, perplexity {value:.4f}{compared}", err=True)
    report(pairs.faults)


def _pairs_to_score(recipe: Recipe, source: str | None, target: str | None, dialogues: str | None) -> Inputs:
    """Reads the inputs that `score` is given, with targets as their references."""
    from tfseq2seq.files import check_parallel, read_lines

    if dialogues:
        require(recipe, "dialogue", "--dialogues")
        for name, value in (("--source", source), ("--target", target)):
            if value:
                raise UserError(f"{name}: cannot be combined with --dialogues, which contain sources and targets")
        return read_inputs(recipe.source, Request(dialogues=dialogues, history=recipe.data.history))
    if not target:
        raise UserError("--target: must be given" + (", or --dialogues" if "dialogue" in recipe.provides else ""))
    targets = read_lines(target, pipe=True)
    if "source" not in recipe.provides:
        if source:
            require(recipe, "source", "--source")
        return Inputs([""] * len(targets), targets)
    require(recipe, "vocabulary", "score")
    if not source:
        raise UserError("--source: must be given for a model of source text")
    found = read_inputs(recipe.source, Request(lines=source, lines_option="--source"))
    check_parallel(source, len(found.values), target, len(targets))
    found.references = targets
    return found
