"""Commands that score outputs."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tfseq2seq.cli.answering import window_size
from tfseq2seq.cli.exit import one_line, report, warn, warn_of_cut
from tfseq2seq.cli.inputs import Inputs, InputStream, Request, open_inputs, read_inputs
from tfseq2seq.cli.likelihoods import (
    LIKELIHOOD_METRICS,
    check_options,
    is_by_probability,
    reference_likelihoods,
    reference_stream,
)
from tfseq2seq.cli.options import (
    COUNT,
    POSITIVE,
    dialogues_option,
    normalize_option,
    reference_option,
    run_options,
    separator_option,
    split_option,
    tokenize_option,
    workers_option,
)
from tfseq2seq.cli.runs import open_predictor, open_runs, require
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import METRICS, Settings
from tfseq2seq.progress import progress_bar

if TYPE_CHECKING:
    from tfseq2seq.inference.predictor import Predictor
    from tfseq2seq.spec import Recipe


@click.command()
@run_options(required=False)
@click.option("--source", type=click.Path(), help="File of source texts or prompts, one per line, for --run.")
@click.option(
    "--manifest", type=click.Path(), help="Manifest of recordings, pictures or clips and references, for --run."
)
@split_option
@dialogues_option
@click.option(
    "--swap",
    is_flag=True,
    help="For --dialogues: also tell how much less probable the answers are after turns of another dialogue.",
)
@click.option("--hypotheses", type=click.Path(), help="Score the lines of this file, instead of --run.")
@reference_option()
@separator_option
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help=f"Metric to compute: {', '.join(METRICS)}; or of the probability of the references instead of outputs: "
    f"{', '.join(LIKELIHOOD_METRICS)}. Repeat the option for more.  [default: bleu, chrf; with --manifest "
    "wer, cer for recordings and bleu, rougeL, cider for pictures]",
)
@tokenize_option
@normalize_option
@click.option("--lowercase", is_flag=True, help="Convert outputs and references to lower case before scoring.")
@click.option(
    "--bootstrap",
    default=1000,
    show_default=True,
    help="Number of resamples for the confidence interval; 0 for no interval.",
)
@click.option("--output", type=click.Path(), help="Write the generated outputs to this file.")
@click.option(
    "--lead",
    type=POSITIVE,
    help="With --source: also score the first N sentences of each source, the usual baseline of summaries, and print "
    "which share of n-grams is not from the source.",
)
@click.option("--worst", type=COUNT, default=0, help="Print the alignments of this many outputs with most errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Number of inputs in a batch.")
@workers_option()
def evaluate(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    source: str | None,
    manifest: str | None,
    split: str,
    dialogues: str | None,
    swap: bool,
    hypotheses: str | None,
    references: tuple[str, ...],
    separator: str | None,
    metrics: tuple[str, ...],
    tokenize: str,
    lowercase: bool,
    normalize: str,
    bootstrap: int,
    output: str | None,
    lead: int | None,
    worst: int,
    as_json: bool,
    batch: int,
    workers: int,
) -> None:
    """Score the outputs of a model, or of a file, against references.

    Each score has a 95 % confidence interval and a signature. A --manifest contains both inputs and references, and
    --dialogues both contexts and answers. For recordings, the real-time factor goes to standard error. If an input
    cannot be used or is longer than search.max_input, its output counts as empty, a line on standard error names it,
    and the exit code is 2.

    The metrics perplexity, perplexity_per_character and bits_per_byte are of the probability that the model gives to
    the references. The last two compare models with different vocabularies. A language model needs no --source.
    """
    from tfseq2seq.evaluation.references import read_references, unwritten_warnings
    from tfseq2seq.evaluation.scores import check_metrics, corpus_scores
    from tfseq2seq.files import check_parallel, read_lines, write_whole

    metrics = metrics or (_manifest_metrics(runs) if manifest else ("bleu", "chrf"))
    by_probability = is_by_probability(metrics)
    if not by_probability:
        check_metrics(metrics)
    both = "--manifest" if manifest else "--dialogues" if dialogues else ""
    if not references and not both:
        raise UserError("evaluate: needs --reference, --manifest for recordings, pictures or clips, or --dialogues")
    given = {"--source": source, "--reference": references, "--hypotheses": hypotheses}
    for name, value in (given | ({"--dialogues": dialogues} if manifest else {})).items():
        if both and value:
            raise UserError(f"{name}: cannot be combined with {both}, which contains inputs and references")
    if swap and not dialogues:
        raise UserError("--swap: needs --dialogues, whose turns it swaps")
    settings: dict[str, Any] = {
        "bootstrap": bootstrap,
        "tokenize": tokenize,
        "lowercase": lowercase,
        "normalize": normalize,
    }
    if lead and not source:
        raise UserError("--lead: needs --source, the texts that are summarized")
    answers: Any = [] if both else read_references(references, separator=separator)
    faults: Sequence[tuple[int, str]] = ()
    if by_probability:
        refused = {"--hypotheses": hypotheses, "--output": output, "--worst": worst, "--lead": lead, "--swap": swap}
        check_options(metrics[0], runs, references, {**refused, "--lowercase": lowercase})
        opened = open_runs(runs, overrides)
        lines = None if both else [text or "" for text in answers[0]]
        request = _request(opened[0].recipe, source, manifest, split, dialogues)
        stream = reference_stream(opened[0].recipe, request, lines, references)
        model = open_predictor(opened, weights, -(-(stream.count() or 0) // batch), workers)
        likelihoods = Settings(resamples=bootstrap)
        scores, faults = reference_likelihoods(model, stream, lines, metrics, likelihoods, batch, workers)
        # What <unk> stands for costs nothing, so that the scores are too low.
        warn(unwritten_warnings([lines] if lines else [], opened[0].target))
        _print_scores(scores, as_json)
        report(faults)
        return
    if hypotheses:
        generating = {"--run": runs, "--weights": weights, "--set": overrides, "--output": output}
        generating |= {} if lead else {"--source": source}
        for name, value in generating.items():
            if value:
                raise UserError(f"{name}: cannot be combined with --hypotheses, which are scored without a model")
        outputs = read_lines(hypotheses, pipe=True)
    elif runs and (source or both):
        # An error in the settings is reported now, not after an hour of generation.
        corpus_scores([""], [[""]], metrics, **settings)
        opened = open_runs(runs, overrides)
        recipe = opened[0].recipe
        request = _request(recipe, source, manifest, split, dialogues)
        stream = open_inputs(recipe.source, request).gathered()
        if not both:
            check_parallel(str(source), stream.count() or 0, references[0], len(answers[0]))
        model = open_predictor(opened, weights, -(-(stream.count() or 0) // batch), workers)
        outputs, texts, faults = _generated(model, stream, batch, workers)
        if both:
            rows = ([one] if isinstance(one, str) else one for one in texts)
            answers = [list(answer_set) for answer_set in itertools.zip_longest(*rows)]
        warn(unwritten_warnings(answers, opened[0].target))
        if output:
            write_whole(output, "".join(f"{line}\n" for line in outputs).encode("utf-8"))
    else:
        raise UserError("evaluate: needs --hypotheses, or --run together with --source, --manifest or --dialogues")
    found_scores: list[Any] = list(corpus_scores(outputs, answers, metrics, **settings))
    if lead:
        from tfseq2seq.evaluation.summaries import summary_scores

        found_scores += summary_scores(outputs, read_lines(str(source)), answers, metrics, lead, **settings)
    if swap:
        found_scores += _swapped(model, read_inputs(recipe.source, request), batch, workers, bootstrap)
    _print_scores(found_scores, as_json)
    if worst:
        from tfseq2seq.evaluation.recognition import alignment_report

        click.echo(alignment_report(outputs, list(answers[0]), worst=worst))
    report(faults)


def _manifest_metrics(runs: Sequence[str]) -> tuple[str, ...]:
    """The usual metrics for what a model makes of the inputs of a manifest."""
    from tfseq2seq.recipe import load_run_recipe

    found: tuple[str, ...] = load_run_recipe(runs[0]).source.manifest_metrics if runs else ("wer", "cer")
    return found


def _request(recipe: Recipe, source: str | None, manifest: str | None, split: str, dialogues: str | None) -> Request:
    """Where the inputs of a model are."""
    if dialogues:
        require(recipe, "dialogue", "--dialogues")
    return Request(
        lines=source,
        manifest=manifest,
        split=split,
        lines_option="--source",
        dialogues=dialogues,
        history=recipe.data.history,
    )


def _swapped(model: Predictor, found: Inputs, batch: int, workers: int, resamples: int) -> list[Any]:
    """How much less probable answers are with the context, and with the turns before the last one, of other dialogues.

    Answers and contexts that are too long are left out, as in `score`.
    """
    from tfseq2seq.evaluation.swap import partners, swap_test
    from tfseq2seq.features.turns import Context
    from tfseq2seq.inference.generator import Generator

    found.leave_out(model.faults(found.values))
    found.leave_out(model.target_faults(found.references or []))
    kept = found.answered
    contexts = [found.values[index] for index in kept]
    targets = [(found.references or [])[index] for index in kept]
    lines = [found.lines[index] for index in kept]
    others = [contexts[place] for place in partners([len(each) for each in contexts], lines, 1)]
    generator = Generator(model, batch, workers)
    own, tokens = generator.log_probabilities(contexts, targets)
    swapped, _ = generator.log_probabilities(others, targets)
    tests = [swap_test("context", own, swapped, tokens, resamples)]
    # The first answer of a dialogue has no history.
    later = [place for place, context in enumerate(contexts) if len(context) > 1]
    if later:
        chosen = partners([len(contexts[place]) for place in later], [lines[place] for place in later], 2)
        mixed = [
            Context([*contexts[later[other]][:-1], contexts[place][-1]])
            for place, other in zip(later, chosen, strict=True)
        ]
        swapped, _ = generator.log_probabilities(mixed, [targets[place] for place in later])
        tests.append(swap_test("history", own[later], swapped, tokens[later], resamples))
    return tests


def _print_scores(scores: Sequence[Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in scores], indent=1))
    else:
        for one in scores:
            click.echo(str(one))


def _generated(
    model: Predictor, stream: InputStream, batch: int, workers: int
) -> tuple[list[str], list[Any], list[tuple[int, str]]]:
    """The best output for each input, the references that come with the inputs, and the inputs that cannot be used.

    Of recordings, it reports the real-time factor.
    """
    count = stream.count() or 0
    from tfseq2seq.evaluation.recognition import real_time_factor
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.runtime.outputs import Output

    generator = Generator(model, batch, workers, checked=True)
    outputs: list[str] = []
    references: list[Any] = []
    faults: list[tuple[int, str]] = []
    cut: list[bool] = []
    seconds = spent = 0.0
    with progress_bar("evaluating", count) as advance:
        # Recordings are held a window at a time.
        for window in stream.windows(window_size(batch)):
            warn(window.warnings)
            window.leave_out(model.faults(window.values))
            warn(window.named(model.warnings(window.values)))
            if window.seconds and not seconds:
                # The first call builds the graph, which is not part of the measured time.
                generator.generate(window.valid[:1])
            began = time.perf_counter()
            streams = [window.begin + index for index in window.answered]
            answers = generator.generate(window.valid, advance=advance, streams=streams)
            found = window.in_place(answers, Output.nothing(1))
            if window.faults:
                advance(len(window.faults))
            spent += time.perf_counter() - began
            seconds += window.seconds
            outputs += [one_line(one.texts[0]) for one in found]
            cut += [one.cut for one in found]
            references += window.references or []
            faults += window.faults
    if seconds:
        click.echo(
            f"{len(outputs)} recordings, {seconds:,.0f} s in {spent:,.1f} s: "
            f"real-time factor {real_time_factor(seconds, spent):.4f}",
            err=True,
        )
    warn_of_cut(cut, model.spec)
    return outputs, references, faults


@click.command()
@click.argument("system")
@click.argument("baseline")
@reference_option(required=True)
@separator_option
@click.option("--metric", default="bleu", show_default=True, help=f"Metric to compare by: {', '.join(METRICS)}.")
@tokenize_option
@normalize_option
@click.option(
    "--resamples", default=1000, show_default=True, help="Number of resamples for the paired bootstrap, at least 40."
)
def compare(
    system: str,
    baseline: str,
    references: tuple[str, ...],
    separator: str | None,
    metric: str,
    tokenize: str,
    normalize: str,
    resamples: int,
) -> None:
    """Compare two files of outputs by paired bootstrap: is SYSTEM better than BASELINE?"""
    from tfseq2seq.evaluation.compare import compare as compare_outputs
    from tfseq2seq.evaluation.references import read_references
    from tfseq2seq.files import read_lines

    answers = read_references(references, separator=separator)
    outputs = read_lines(system, pipe=True), read_lines(baseline, pipe=True)
    found = compare_outputs(*outputs, answers, metric, resamples=resamples, tokenize=tokenize, normalize=normalize)
    click.echo(str(found))
