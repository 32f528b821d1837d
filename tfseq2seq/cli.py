"""The command line. Heavy libraries are imported inside the commands, so that `--help` answers at once.

What a user can put right ends with one line on standard error and exit code 2; nothing is left half written.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tfseq2seq import __version__
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.data.manifests import Utterance
    from tfseq2seq.export.endpoints import TextToText
    from tfseq2seq.export.outputs import Output
    from tfseq2seq.export.recordings import Recordings
    from tfseq2seq.export.speech import SpeechToText
    from tfseq2seq.spec import AudioSpec, Recipe
    from tfseq2seq.training.run import Run

USAGE_ERROR = 2
_NO_LOG = "3"  # TensorFlow's level at which its C++ parts log nothing


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Stopped(click.ClickException):
    """The user pressed Ctrl-C."""

    exit_code = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `tfseq2seq` command."""
    # Errors reach us as exceptions; set it to 0 to read TensorFlow's own messages beside them.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _NO_LOG)
    try:
        commands.main(args=None if arguments is None else list(arguments), prog_name="tfseq2seq", standalone_mode=False)
    except UserError as error:
        _fail(str(error), USAGE_ERROR)
    except click.ClickException as error:
        if error.format_message().startswith("Usage:"):
            # A group without a command: this is its help.
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped", Stopped.exit_code)
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", USAGE_ERROR)


def _fail(message: str, code: int) -> None:
    click.echo(f"tfseq2seq: {' '.join(message.splitlines())}", err=True)
    sys.exit(code)


def _import_tensorflow() -> None:
    """Imports TensorFlow without its greetings: they come from C++ before it knows its log level, and would bury the
    one line a user has to read. They are shown if the import fails, or if the user has set the log level."""
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") != _NO_LOG or sys.stderr is None:
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            aside.seek(0)
            os.write(standard_error, aside.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Sequence-to-sequence models from raw data to a served model."""


POSITIVE = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)
_workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Batches at a time; 0: one per core, at most 8.",
)


def _settings_option(help: str) -> Decorator:
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=help)


def _run_options(required: bool = True) -> Decorator:
    """--run (several for an ensemble), --weights and --set of the commands that use a trained model."""
    options: list[Decorator] = [
        click.option(
            "--run", "runs", multiple=True, required=required, help="Folder of a run; several make an ensemble."
        ),
        click.option("--weights", help="Weights file to use instead of the run's finished ones."),
        _settings_option("Change search.*, as search.beam=8."),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@commands.command()
@click.argument("recipe")
@click.option("--run", "folder", required=True, help="Folder for the run: checkpoints, vocabularies, metrics.")
@_settings_option("Change a recipe key, as training.steps=500.")
@click.option("--resume", is_flag=True, help="Continue the run in the folder from its last checkpoint.")
def train(recipe: str, folder: str, overrides: tuple[str, ...], resume: bool) -> None:
    """Train what the YAML file RECIPE describes."""
    from tfseq2seq.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    _import_tensorflow()
    from tfseq2seq.training.fit import train as train_recipe

    try:
        train_recipe(loaded, folder, resume, say=lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        begun = Path(folder, "recipe.yaml").exists()
        raise Stopped("stopped" + ("; --resume continues from the last checkpoint" if begun else "")) from None


@commands.command()
@_run_options(required=False)
@click.option("--artefact", type=click.Path(), help="Folder of a TFLite or CTranslate2 export to ask instead.")
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--input", "source", type=click.Path(), help="File of source lines; standard input by default.")
@click.option("--manifest", type=click.Path(), help="Of speech: manifest of recordings instead of FILES.")
@click.option("--split", default="", help="Of speech: rows of the manifest whose column split says so.")
@click.option("--output", type=click.Path(), help="File for the outputs; standard output by default.")
@click.option("--prefix", type=click.Path(), help="File with, on each line, text the output begins with.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Inputs at once.")
@_workers_option
@click.option("--scores", is_flag=True, help="Put score and log-probability before each output, with tabs.")
@click.option(
    "--times",
    type=click.Choice(["srt", "vtt", "json"]),
    help="Of speech: when words are said, as subtitles or JSON lines; subtitles of several go to the folder --output.",
)
@click.option("--window", type=SECONDS, help="Of speech: hear longer recordings in windows of so many seconds.")
@click.option("--overlap", type=SECONDS, help="Seconds that windows share.  [default: a sixth of --window]")
def generate(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    artefact: str | None,
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

    if bool(runs) == bool(artefact):
        raise UserError("give --run, or --artefact in its place")
    exported = None
    if artefact:
        for name, given in (("weights", weights), ("set", overrides), ("prefix", prefix), ("times", times or window)):
            if given:
                raise UserError(f"--{name} is for a run; what {artefact} does is settled")
        exported = _exported(artefact, batch, workers)
    asked = artefact or runs[0]
    audio = exported.audio if exported else _source_of(runs)
    inputs: Sequence[Any]
    faults: Sequence[tuple[int, str]] = ()
    if audio is not None:
        if source or prefix:
            raise UserError(f"--{'input' if source else 'prefix'} is for text, and {asked} is a model of speech")
        _import_tensorflow()
        from tfseq2seq.export.recordings import read_recordings

        utterances = _utterances(files, manifest, split)
        recordings = read_recordings(utterances, audio)
        inputs, faults = recordings.samples, recordings.faults
        if overlap and not window:
            raise UserError("--overlap is of --window, and none is given")
        if times or window:
            if scores:
                raise UserError("--scores goes with neither --times nor --window; json has the scores")
            model = _endpoint(runs, weights, overrides)
            _write_timed(model, [one.path for one in utterances], inputs, times, window, overlap, output, batch)
            _report(faults)
            return
    elif files or manifest or split or times or window:
        raise UserError(f"audio files and manifests are for models of speech, and {asked} is one of text; use --input")
    else:
        inputs = read_lines(source) if source else _standard_input()
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
                line = _one_line(text)
                lines.append(f"{score:.6f}\t{log_prob:.6f}\t{line}" if scores else line)
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    if output:
        write_whole(output, content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    _report(faults)


@commands.command()
@click.option("--run", "folder", required=True, help="Folder of the run.")
@click.option("--weights", help="Weights file to use instead of the run's finished ones.")
@_settings_option("Change search.*, as search.beam=1.")
@click.option("--seconds", type=SECONDS, default=0.2, show_default=True, help="Sound to wait for at a time.")
@click.option("--quiet", is_flag=True, help="Only the final text.")
def stream(folder: str, weights: str | None, overrides: tuple[str, ...], seconds: float, quiet: bool) -> None:
    """Transcribe standard input as it comes: raw samples of signed 16 bits, one channel, at the model's rate.

    The text so far goes to standard error, the final text to standard output when the input ends. For models whose
    encoder hears in chunks (model.encoder.chunk), as from a microphone:

        arecord -t raw -f S16_LE -c 1 -r 16000 | tfseq2seq stream --run RUN
    """
    audio = _source_of([folder])
    if audio is None:
        raise UserError(f"stream is for models of speech, and {folder} is one of text")
    import numpy as np

    model = _endpoint([folder], weights, overrides)
    from tfseq2seq.export.streaming import Streaming

    live = Streaming(model).open()
    said, odd = "", b""
    while block := sys.stdin.buffer.read(2 * max(round(seconds * audio.sample_rate), 1)):
        block, odd = odd + block, b""
        if len(block) % 2:
            block, odd = block[:-1], block[-1:]
        text = _one_line(live.accept(np.frombuffer(block, "<i2").astype("float32") / 32768))
        if text != said and not quiet:
            said = text
            click.echo(text, err=True)
    if odd:
        raise UserError("standard input ends within a sample; raw samples of two bytes each are expected")
    click.echo(_one_line(live.finish().texts[0]))


def _exported(folder: str, batch: int, workers: int) -> Any:
    """An artefact that is asked without TensorFlow."""
    if (Path(folder) / "model.bin").exists():
        from tfseq2seq.export.ctranslate2_model import CTranslate2Model

        return CTranslate2Model(folder, batch, workers or os.cpu_count() or 1)
    from tfseq2seq.export.tflite_model import TFLiteModel

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
    model = _endpoint(runs, weights, overrides, -(-len(inputs) // batch), workers)
    from tfseq2seq.export.generator import Generator

    return Generator(model, batch, workers).generate(inputs, prefixes)


def _write_timed(
    model: Any,
    paths: Sequence[str],
    recordings: Sequence[Any],
    times: str | None,
    window: float | None,
    overlap: float | None,
    output: str | None,
    batch: int,
) -> None:
    """Transcripts of recordings by windows, as lines, or with the times of words."""
    from tfseq2seq.export.long_audio import transcribe_long
    from tfseq2seq.export.timing import Transcriber
    from tfseq2seq.export.transcripts import as_json_line, as_subtitles
    from tfseq2seq.files import write_whole

    if times in ("srt", "vtt") and len(paths) > 1 and not output:
        raise UserError(f"subtitles of {len(paths)} recordings are as many files: name a folder with --output")
    transcriber = Transcriber(model, batch)
    if window:
        found = transcribe_long(transcriber, recordings, window, window / 6 if overlap is None else overlap)
    else:
        found = transcriber.transcribe(recordings)
    if times in ("srt", "vtt"):
        contents = [as_subtitles(one, times, transcriber) for one in found]
    elif times == "json":
        contents = ["".join(as_json_line(path, one) + "\n" for path, one in zip(paths, found))]
    else:
        contents = ["".join(_one_line(one.text) + "\n" for one in found)]
    if output and len(contents) > 1:
        for path, content in zip(paths, contents):
            write_whole(Path(output, Path(path).stem + f".{times}"), content.encode("utf-8"))
    elif output:
        write_whole(output, contents[0].encode("utf-8"))
    else:
        click.echo("".join(contents), nl=False)


@commands.command()
@_run_options()
@click.option("--source", type=click.Path(), help="File of source lines; not for a language model.")
@click.option("--target", required=True, type=click.Path(), help="File of target lines.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Pairs at once.")
@_workers_option
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
    if _recipe_of(runs).model.is_language_model:
        if source or overrides or len(runs) > 1:
            raise UserError(f"{runs[0]} is a language model: it takes --target alone, neither --source nor --set")
        _import_tensorflow()
        from tfseq2seq.export.opinions import score_lines
        from tfseq2seq.training.run import Run

        run = Run.open(runs[0])
        totals, counts = score_lines(run.load_model(weights), run.target, targets, batch)
    else:
        if not source:
            raise UserError("give --source, the file of source lines")
        sources = read_lines(source)
        check_parallel(source, len(sources), target, len(targets))
        model = _endpoint(runs, weights, overrides, -(-len(sources) // batch), workers)
        from tfseq2seq.export.generator import Generator

        totals, counts = Generator(model, batch, workers).log_probabilities(sources, targets)
    for total, count in zip(totals, counts, strict=True):
        click.echo(f"{total:.6f}\t{count}")
    value = perplexity(float(totals.sum()), int(counts.sum()))
    click.echo(f"{len(totals)} pairs, {int(counts.sum())} tokens, perplexity {value:.4f}", err=True)


@commands.command()
@click.option("--run", "runs", multiple=True, help="Folder of a run to generate with; several make an ensemble.")
@click.option("--weights", help="Weights file to use instead of the run's finished ones.")
@_settings_option("Change search.*, as search.beam=8.")
@click.option("--source", type=click.Path(), help="File of source lines, with --run.")
@click.option("--manifest", type=click.Path(), help="Of speech, with --run: manifest of recordings and references.")
@click.option("--split", default="", help="Of speech: rows of the manifest whose column split says so.")
@click.option("--hypotheses", type=click.Path(), help="File of outputs to score instead of generating them.")
@click.option("--reference", "references", multiple=True, help="File of references; may be repeated.")
@click.option("--separator", help="What separates several accepted references on one line, as '|'.")
@click.option("--metric", "metrics", multiple=True, help="May be repeated.  [default: bleu, chrf; of speech wer, cer]")
@click.option("--tokenize", default="13a", show_default=True, help="sacreBLEU's tokenizer, such as 13a or zh.")
@click.option("--lowercase", is_flag=True, help="Lower-case both sides before scoring.")
@click.option("--bootstrap", default=1000, show_default=True, help="Resamples for the confidence interval; 0 for none.")
@click.option("--output", type=click.Path(), help="Keep the generated outputs in this file.")
@click.option("--worst", type=click.IntRange(min=0), default=0, help="Show the alignment of so many worst outputs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Inputs at once.")
@_workers_option
def evaluate(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    source: str | None,
    manifest: str | None,
    split: str,
    hypotheses: str | None,
    references: tuple[str, ...],
    separator: str | None,
    metrics: tuple[str, ...],
    tokenize: str,
    lowercase: bool,
    bootstrap: int,
    output: str | None,
    worst: int,
    as_json: bool,
    batch: int,
    workers: int,
) -> None:
    """Score outputs against references, with confidence intervals and signatures.

    Of speech a --manifest holds both recordings and references, and the real-time factor goes to standard error.
    """
    from tfseq2seq.evaluation.references import read_references
    from tfseq2seq.evaluation.scores import check_metrics, corpus_scores
    from tfseq2seq.files import check_parallel, read_lines, write_whole

    metrics = metrics or (("wer", "cer") if manifest else ("bleu", "chrf"))
    check_metrics(metrics)
    if not references and not manifest:
        raise UserError("give --reference, or of speech --manifest")
    if manifest and (references or source or hypotheses):
        raise UserError("--manifest holds inputs and references: leave out --source, --reference and --hypotheses")
    settings: dict[str, Any] = {"bootstrap": bootstrap, "tokenize": tokenize, "lowercase": lowercase}
    answers: Any = [] if manifest else read_references(references, separator=separator)
    faults: Sequence[tuple[int, str]] = ()
    if hypotheses:
        if runs or weights or overrides or output:
            raise UserError(
                "--hypotheses are scored as they are: leave out --run, --source, --weights, --set, --output"
            )
        outputs = read_lines(hypotheses)
    elif runs and (source or manifest):
        # A setting that cannot be is told now, not after an hour of generating.
        corpus_scores([""], [[""]], metrics, **settings)
        if manifest:
            outputs, answers, faults = _transcribed(runs, weights, overrides, manifest, split, batch, workers)
        else:
            texts = read_lines(str(source))
            check_parallel(str(source), len(texts), references[0], len(answers[0]))
            model = _endpoint(runs, weights, overrides, -(-len(texts) // batch), workers)
            from tfseq2seq.export.generator import Generator

            outputs = [_one_line(found.texts[0]) for found in Generator(model, batch, workers).generate(texts)]
        if output:
            write_whole(output, "".join(f"{line}\n" for line in outputs).encode("utf-8"))
    else:
        raise UserError("give --hypotheses, or --run and --source or --manifest to generate them")
    found_scores = corpus_scores(outputs, answers, metrics, **settings)
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in found_scores], indent=1))
    else:
        for one in found_scores:
            click.echo(str(one))
    if worst:
        from tfseq2seq.evaluation.recognition import alignment_report

        click.echo(alignment_report(outputs, list(answers[0]), worst=worst))
    _report(faults)


def _transcribed(
    runs: Sequence[str],
    weights: str | None,
    overrides: Sequence[str],
    manifest: str,
    split: str,
    batch: int,
    workers: int,
) -> tuple[list[str], list[list[str]], Sequence[tuple[int, str]]]:
    """Transcripts of a manifest's recordings, its own texts as references, and what could not be read."""
    audio = _source_of(runs)
    if audio is None:
        raise UserError(f"--manifest is for models of speech, and {runs[0]} is one of text")
    utterances = _utterances((), manifest, split)
    model = _endpoint(runs, weights, overrides, -(-len(utterances) // batch), workers)
    from tfseq2seq.evaluation.recognition import real_time_factor
    from tfseq2seq.export.generator import Generator
    from tfseq2seq.export.recordings import read_recordings

    recordings = read_recordings(utterances, audio)
    generator = Generator(model, batch, workers)
    # The first call prepares the graph, which is no part of the work.
    generator.generate(recordings.samples[:1])
    began = time.perf_counter()
    outputs = [_one_line(found.texts[0]) for found in generator.generate(recordings.samples)]
    spent, seconds = time.perf_counter() - began, recordings.seconds(audio.sample_rate)
    click.echo(
        f"{len(outputs)} recordings, {seconds:,.0f} s in {spent:,.1f} s: "
        f"real-time factor {real_time_factor(seconds, spent):.4f}",
        err=True,
    )
    return outputs, [[utterance.text for utterance in utterances]], recordings.faults


@commands.command()
@click.argument("system")
@click.argument("baseline")
@click.option("--reference", "references", multiple=True, required=True, help="File of references; may be repeated.")
@click.option("--separator", help="What separates several accepted references on one line, as '|'.")
@click.option("--metric", default="bleu", show_default=True)
@click.option("--tokenize", default="13a", show_default=True, help="sacreBLEU's tokenizer, such as 13a or zh.")
@click.option("--resamples", default=1000, show_default=True)
def compare(
    system: str,
    baseline: str,
    references: tuple[str, ...],
    separator: str | None,
    metric: str,
    tokenize: str,
    resamples: int,
) -> None:
    """Compare two files of outputs by paired bootstrap: is SYSTEM better than BASELINE?"""
    from tfseq2seq.evaluation.compare import compare as compare_outputs
    from tfseq2seq.evaluation.references import read_references
    from tfseq2seq.files import read_lines

    answers = read_references(references, separator=separator)
    found = compare_outputs(
        read_lines(system), read_lines(baseline), answers, metric, resamples=resamples, tokenize=tokenize
    )
    click.echo(str(found))


@commands.command()
@_run_options()
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
@click.option("--examples", type=click.Path(), help="For full_int8: file of source lines, or manifest of recordings.")
@click.option(
    "--strings", is_flag=True, help="Of TFLite: one string in, one out, by tensorflow-text's operations (unigram only)."
)
@click.option("--license", "licence", default="unspecified", show_default=True, help="Of a SavedModel: for its card.")
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
    licence: str,
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
    if kind != "savedmodel" and (version is not None or licence != "unspecified"):
        raise UserError(f"--{'version' if version else 'license'} is for --format savedmodel")
    if bool(examples) != (quantization == "full_int8"):
        raise UserError("--quantization full_int8 and --examples, which it measures activations on, go together")
    name = _recipe_of(runs).name
    samples = _example_inputs(runs, examples) if examples else []
    model = _endpoint(runs, weights, overrides)
    from tfseq2seq.training.run import Run

    run = Run.open(runs[0])
    check = _checked_by(run, model) if checked else None
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

    card = model_card(run, weights, licence)
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


def _example_inputs(runs: Sequence[str], path: str) -> list[Any]:
    """What a model is fed: the lines of a file, or the recordings of a manifest."""
    from tfseq2seq.files import read_lines

    audio = _source_of(runs)
    if audio is None:
        return [line for line in read_lines(path) if line.strip()]
    return _recordings(path, "", audio).whole


def _recordings(manifest: str, split: str, audio: AudioSpec) -> Recordings:
    _import_tensorflow()
    from tfseq2seq.data.manifests import read_manifest
    from tfseq2seq.export.recordings import read_recordings

    return read_recordings(read_manifest(manifest, split), audio)


@commands.command()
@click.argument("artefact", type=click.Path())
@_run_options()
@click.option("--input", "source", type=click.Path(), help="File of source lines to ask both.")
@click.option("--manifest", type=click.Path(), help="Of speech: manifest of recordings to ask both.")
@click.option("--split", default="", help="Of speech: rows of the manifest whose column split says so.")
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
    help="Of quantized artefacts: mean score may be so much lower.",
)
def verify(
    artefact: str,
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
    of a quantized artefact the mean score counts. Exit code 1 tells that they differ.
    """
    from tfseq2seq.files import read_lines

    audio = _source_of(runs)
    inputs: list[Any]
    if audio is None:
        if manifest or split or not source:
            raise UserError(f"{runs[0]} is a model of text: give --input")
        inputs = list(read_lines(source))
    else:
        if source or not manifest:
            raise UserError(f"{runs[0]} is a model of speech: give --manifest")
        recordings = _recordings(manifest, split, audio)
        _report(recordings.faults)
        inputs = recordings.whole
    model = _endpoint(runs, weights, overrides)
    from tfseq2seq.export.verify import verify as compare_answers

    verdicts = compare_answers(artefact, model, inputs, batches, tolerance, drop)
    for verdict in verdicts:
        click.echo(str(verdict))
        for place, live, other in verdict.differing:
            click.echo(f"  input {place}: run {live!r}, artefact {other!r}")
    if not all(verdict.passed for verdict in verdicts):
        sys.exit(1)


@commands.command()
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
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Calls at a time; 0: one per core, at most 8.",
)
@click.option(
    "--poll-seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Between looks for new versions; 0 for none.",
)
@click.option(
    "--versions",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Newest versions of each model to hold; 0 for all.",
)
@click.option(
    "--max-body-mb",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
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
    _import_tensorflow()
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


@commands.command()
@click.option("--run", "folder", required=True, help="Folder of the run.")
@click.option("--last", type=POSITIVE, default=5, show_default=True, help="How many of its last checkpoints.")
@click.option("--output", help="Weights file to write; the run's finished weights by default.")
def average(folder: str, last: int, output: str | None) -> None:
    """Average the weights of a run's last checkpoints."""
    _import_tensorflow()
    from tfseq2seq.training.fit import set_average
    from tfseq2seq.training.run import FINAL, Run, save_weights

    run = Run.open(folder)
    path = Path(output) if output else run.folder / FINAL
    if not path.name.endswith(".weights.h5"):
        raise UserError(f"{path}: weights files end in .weights.h5")
    steps = run.progress().get("kept", [])[-last:]
    if len(steps) < last:
        raise UserError(f"{folder}: has {len(steps)} checkpoints, not {last}")
    model = run.build_model()
    set_average(model, run, steps)
    save_weights(model, path)
    click.echo(f"{path}: mean of steps {', '.join(map(str, steps))}")


@commands.command()
@click.argument("path", required=False)
@click.option("--preset", help="Print a named recipe to start from.")
@click.option("--schema", "as_schema", is_flag=True, help="Print every key with type, default and help.")
@_settings_option("Change a key.")
def recipe(path: str | None, preset: str | None, as_schema: bool, overrides: tuple[str, ...]) -> None:
    """Check the recipe in the file PATH and print it whole; or print a preset, or every key there is."""
    from tfseq2seq.presets import PRESETS
    from tfseq2seq.presets import preset as named
    from tfseq2seq.recipe import apply_overrides, dump_recipe, from_dict, load_recipe, schema, to_dict
    from tfseq2seq.spec import Recipe

    if as_schema:
        rows = list(schema())
        widths = [max(len(row[column]) for row in rows) for column in (0, 1, 2)]
        for key, kind, default, help_text in rows:
            click.echo(f"{key:{widths[0]}}  {kind:{widths[1]}}  {default:{widths[2]}}  {help_text}")
    elif preset:
        click.echo(dump_recipe(from_dict(Recipe, apply_overrides(to_dict(named(preset)), overrides))), nl=False)
    elif path:
        click.echo(dump_recipe(load_recipe(path, overrides)), nl=False)
    else:
        raise UserError(f"give a recipe file, --schema, or --preset with one of: {', '.join(PRESETS)}")


@commands.command()
@_run_options()
@click.argument("text")
@click.option("--target", help="Text to align with; the model's own output by default.")
@click.option("--png", type=click.Path(), help="Write the heat map as a PNG file too.")
def attention(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    text: str,
    target: str | None,
    png: str | None,
) -> None:
    """Show where the model looks in TEXT for each token of its output."""
    model = _endpoint(runs, weights, overrides)
    from tfseq2seq.evaluation.pictures import attention_png, attention_text
    from tfseq2seq.export.inspection import attention_of

    found = attention_of(model, text, target)
    if png:
        attention_png(found.weights, found.source_tokens, found.target_tokens, png)
        click.echo(png, err=True)
    click.echo(attention_text(found.weights, found.source_tokens, found.target_tokens))


@commands.command()
@click.option("--run", "folder", required=True, help="Folder of the run.")
@click.option("--weights", help="Weights file to use instead of the run's finished ones.")
@click.option("--side", type=click.Choice(["source", "target"]), default="source", show_default=True)
@click.option("--words", help="Words to show, separated by spaces; the most frequent ones by default.")
@click.option("--count", type=POSITIVE, default=100, show_default=True, help="How many words without --words.")
@click.option("--dimensions", type=click.IntRange(2, 3), default=2, show_default=True)
@click.option("--png", type=click.Path(), help="PNG file to write.")
@click.option("--projector", type=click.Path(), help="Folder to write files for the TensorBoard projector to.")
def embeddings(
    folder: str,
    weights: str | None,
    side: str,
    words: str | None,
    count: int,
    dimensions: int,
    png: str | None,
    projector: str | None,
) -> None:
    """Picture the vectors of chosen words, or write them for the TensorBoard projector."""
    if not png and not projector:
        raise UserError("give --png, --projector or both")
    _import_tensorflow()
    from tfseq2seq.evaluation.pictures import embeddings_png, write_projector
    from tfseq2seq.export.inspection import word_vectors
    from tfseq2seq.training.run import Run

    labels, vectors = word_vectors(Run.open(folder), side, None if words is None else words.split(), count, weights)
    if png:
        if min(vectors.shape) < dimensions:
            raise UserError(
                f"{len(labels)} words of width {vectors.shape[1]} cannot be drawn in {dimensions} dimensions"
            )
        embeddings_png(vectors, labels, png, dimensions)
        click.echo(png)
    if projector:
        write_projector(vectors, labels, projector)
        click.echo(projector)


@commands.group()
def ngram() -> None:
    """N-gram language models, for search.fusion.ngram."""


_ngram_run_option = click.option("--run", "folder", required=True, help="Run whose target vocabulary makes the tokens.")


@ngram.command("train")
@_ngram_run_option
@click.argument("text", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--order", type=POSITIVE, default=4, show_default=True, help="Tokens in the longest n-grams.")
@click.option("--min-count", "min_counts", type=POSITIVE, multiple=True, help="Least count kept, of orders 1, 2, ...")
def ngram_train(folder: str, text: str, output: str, order: int, min_counts: tuple[int, ...]) -> None:
    """Learn a model of the lines of TEXT (modified Kneser-Ney) and write it as the ARPA file OUTPUT."""
    sentences = _tokens_of(folder, text)
    from tfseq2seq.search.arpa import train_ngram, write_arpa

    model = train_ngram(sentences, order, min_counts)
    write_arpa(model, output)
    counts = ", ".join(f"{len(grams):,}" for grams in model.entries)
    click.echo(f"{output}: {counts} n-grams of orders 1 to {order}", err=True)


@ngram.command("perplexity")
@_ngram_run_option
@click.argument("model", type=click.Path())
@click.argument("text", type=click.Path())
def ngram_perplexity(folder: str, model: str, text: str) -> None:
    """Print the perplexity per token of TEXT, line ends counted, by the ARPA file MODEL."""
    from tfseq2seq.search.arpa import read_arpa

    value, tokens, unknown = read_arpa(model).perplexity(_tokens_of(folder, text))
    click.echo(f"perplexity {value:.4f}, {tokens} tokens, {unknown} unknown")


def _tokens_of(folder: str, text: str) -> list[list[str]]:
    """The lines of a file as tokens of a run's target vocabulary."""
    from tfseq2seq.files import read_lines

    lines = read_lines(text)
    _import_tensorflow()
    from tfseq2seq.export.opinions import tokens_of
    from tfseq2seq.training.run import Run

    return tokens_of(Run.open(folder).target, lines)


@commands.command()
@click.option("--run", "folder", required=True, help="Run whose vocabularies make the tokens.")
@click.argument("source", type=click.Path())
@click.argument("target", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--each", type=POSITIVE, default=30, show_default=True, help="Target tokens for a source token, at most.")
@click.option("--frequent", type=POSITIVE, default=100, show_default=True, help="Target tokens that may always come.")
def shortlist(folder: str, source: str, target: str, output: str, each: int, frequent: int) -> None:
    """Learn which target tokens may translate which source tokens, for search.shortlist.

    SOURCE and TARGET are files of lines that translate each other, such as a run's training data (IBM model 1); OUTPUT
    is a vocabulary map as CTranslate2 reads it. Search with it computes the logits of some hundreds of tokens instead
    of all. Measure what it costs in quality: `tfseq2seq evaluate ... --set search.shortlist=OUTPUT`.
    """
    from tfseq2seq.files import check_parallel, read_lines

    lines = read_lines(source), read_lines(target)
    check_parallel(source, len(lines[0]), target, len(lines[1]))
    _import_tensorflow()
    from tfseq2seq.export.opinions import ids_of
    from tfseq2seq.search.shortlist import learn_translations, write_shortlist
    from tfseq2seq.training.run import Run

    run = Run.open(folder)
    if run.source is None:
        raise UserError(f"{folder}: has no source text; a shortlist goes by source tokens")
    pairs = zip(ids_of(run.source, lines[0]), ids_of(run.target, lines[1]), strict=True)
    found = learn_translations(pairs, run.source.size, run.target.size, each, frequent)
    write_shortlist(found, output, run.source.vocabulary.tokens, run.target.vocabulary.tokens)
    mean = sum(map(len, found.of.values())) / max(len(found.of), 1)
    click.echo(f"{output}: {len(found.of):,} source tokens, {mean:.1f} target tokens each", err=True)


@commands.group()
def data() -> None:
    """Make and convert data."""


@data.command("generate")
@click.argument("folder")
@click.option("--train", "train_pairs", default=30_000, show_default=True)
@click.option("--validation", default=500, show_default=True)
@click.option("--test", default=1_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def data_generate(folder: str, train_pairs: int, validation: int, test: int, seed: int) -> None:
    """Write generated pairs to FOLDER: dates, times, money and ordinals to words, in English and Chinese."""
    from tfseq2seq.data.generated import write_generated

    for path in write_generated(folder, train_pairs, validation, test, seed).values():
        click.echo(path)


@data.command("records")
@click.option("--source", required=True, type=click.Path(), help="File of source lines.")
@click.option("--target", required=True, type=click.Path(), help="File of target lines.")
@click.argument("output")
def data_records(source: str, target: str, output: str) -> None:
    """Write pairs of lines to the TFRecord file OUTPUT."""
    _import_tensorflow()
    from tfseq2seq.data.sources import corpus_pairs, write_records
    from tfseq2seq.spec import CorpusSpec

    pairs, _ = corpus_pairs(CorpusSpec(source=source, target=target), "records")
    click.echo(f"{output}: {write_records(pairs.as_numpy_iterator(), output)} pairs")


@data.command("morse")
@click.argument("folder")
@click.option("--train", "train_count", default=4_000, show_default=True)
@click.option("--validation", default=200, show_default=True)
@click.option("--test", default=500, show_default=True)
@click.option("--seed", default=1, show_default=True)
def data_morse(folder: str, train_count: int, validation: int, test: int, seed: int) -> None:
    """Write generated Morse code to FOLDER: recordings of varying speed, pitch and noise, and a manifest of them."""
    from tfseq2seq.data.morse import write_morse

    for path in write_morse(folder, train_count, validation, test, seed).values():
        click.echo(path)


@data.command("join")
@click.argument("manifest")
@click.argument("folder")
@click.option("--split", default="", help="Rows of a TSV manifest whose column split says so.")
@click.option("--name", help="Split of the recordings written, and their first name.  [default: that of --split]")
@click.option("--count", type=POSITIVE, default=1000, show_default=True, help="Recordings to write.")
@click.option("--least", type=POSITIVE, default=3, show_default=True, help="Fewest utterances in one.")
@click.option("--most", type=POSITIVE, default=7, show_default=True, help="Most utterances in one.")
@click.option(
    "--pause", type=(float, float), default=(0.05, 0.4), show_default=True, help="Shortest and longest, in s."
)
@click.option("--rate", default=16_000, show_default=True, help="Samples a second to write.")
@click.option("--seed", default=1, show_default=True)
def data_join(
    manifest: str,
    folder: str,
    split: str,
    name: str | None,
    count: int,
    least: int,
    most: int,
    pause: tuple[float, float],
    rate: int,
    seed: int,
) -> None:
    """Join utterances of MANIFEST, of one speaker each time, into longer recordings in FOLDER, with a manifest."""
    from tfseq2seq.data.manifests import read_manifest

    utterances = read_manifest(manifest, split)
    _import_tensorflow()
    from tfseq2seq.data.joined import write_joined

    sizes: dict[str, Any] = {"least": least, "most": most, "pause": pause, "rate": rate, "seed": seed}
    click.echo(write_joined(utterances, folder, name or split or "joined", count, **sizes))


@data.command("shard")
@click.argument("manifest")
@click.argument("folder")
@click.option("--split", default="", help="Rows of a TSV manifest whose column split says so.")
@click.option("--rate", default=16_000, show_default=True, help="Samples a second to write: source.sample_rate.")
@click.option("--shard-seconds", default=600.0, show_default=True, help="Seconds of audio in each file.")
def data_shard(manifest: str, folder: str, split: str, rate: int, shard_seconds: float) -> None:
    """Write the recordings and texts of MANIFEST to TFRecord files in FOLDER, for data.train.records."""
    from tfseq2seq.data.manifests import read_manifest

    utterances = read_manifest(manifest, split)
    _import_tensorflow()
    from tfseq2seq.data.shards import write_shards

    write_shards(utterances, folder, rate, shard_seconds, say=lambda line: click.echo(line, err=True))


def _recipe_of(runs: Sequence[str]) -> Recipe:
    from tfseq2seq.recipe import load_run_recipe

    return load_run_recipe(runs[0])


def _source_of(runs: Sequence[str]) -> AudioSpec | None:
    """How recordings become features in the model of the first run, or None where its source is text."""
    from tfseq2seq.spec import AudioSpec

    source = _recipe_of(runs).source
    return source if isinstance(source, AudioSpec) else None


def _utterances(files: Sequence[str], manifest: str | None, split: str) -> list[Utterance]:
    """The recordings a command is asked about: files, the rows of a manifest, or one file on standard input."""
    from tfseq2seq.data.manifests import Utterance, read_manifest

    if files and manifest:
        raise UserError("give audio files or --manifest, not both")
    if split and not manifest:
        raise UserError("--split chooses rows of --manifest, and none is given")
    if manifest:
        return read_manifest(manifest, split)
    return [Utterance(name, name, "") for name in files or ("/dev/stdin",)]


def _report(faults: Sequence[tuple[int, str]]) -> None:
    """A line on standard error for each recording that could not be used, and exit code 2 if there was any."""
    for _, message in faults:
        click.echo(f"tfseq2seq: {' '.join(message.splitlines())}", err=True)
    if faults:
        sys.exit(USAGE_ERROR)


def _standard_input() -> list[str]:
    content = sys.stdin.buffer.read()
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {error.start + 1} is not UTF-8") from None
    return texts


def _one_line(text: str) -> str:
    """A line out for each line in: a line break inside an output would shift all that follow."""
    return text.replace("\n", " ").replace("\r", " ")


def _endpoint(
    runs: Sequence[str], weights: str | None, overrides: Sequence[str], batches: int = 0, workers: int = 0
) -> TextToText | SpeechToText:
    """The models of one or several runs as one endpoint, with the first run's search settings, changed by overrides.

    Args:
        batches: to generate in all, where this process does nothing else.
        workers: of them at a time.
    """
    for override in overrides:
        if not override.startswith("search."):
            raise UserError(f"--set {override}: only search.* can change after training")
    if weights and len(runs) > 1:
        raise UserError("--weights goes with a single --run")
    _import_tensorflow()
    from tfseq2seq.export.generator import share_cores
    from tfseq2seq.training.run import Run

    if batches:
        share_cores(batches, workers)
    opened: list[Run] = [Run.open(folder, overrides) for folder in runs]
    first = opened[0]
    for run in opened[1:]:
        for side in ("source", "target"):
            own, other = getattr(run, side), getattr(first, side)
            if (own is None) != (other is None) or own is not None and own.vocabulary != other.vocabulary:
                raise UserError(
                    f"{run.folder}: its {side} vocabulary is not that of {first.folder}; ensembles share both"
                )
    from tfseq2seq.export.endpoints import endpoint

    models = [run.load_model(weights) for run in opened]
    return endpoint(models, first.source, first.target, first.recipe.search)


if __name__ == "__main__":
    main()
