"""Scores of outputs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from tfseq2seq.cli.exit import one_line, report
from tfseq2seq.cli.inputs import Request, read_inputs
from tfseq2seq.cli.options import COUNT, POSITIVE, settings_option, split_option, weights_option, workers_option
from tfseq2seq.cli.runs import open_predictor, open_runs
from tfseq2seq.errors import UserError


@click.command()
@click.option("--run", "runs", multiple=True, help="Folder of a run to generate with; several make an ensemble.")
@weights_option
@settings_option("Change search.*, as search.beam=8.")
@click.option("--source", type=click.Path(), help="File with one source text per line, with --run.")
@click.option("--manifest", type=click.Path(), help="Manifest of recordings and references, with --run.")
@split_option
@click.option("--hypotheses", type=click.Path(), help="File of outputs to score instead of generating them.")
@click.option("--reference", "references", multiple=True, help="File of references; may be repeated.")
@click.option("--separator", help="Separator between several accepted references on one line, such as '|'.")
@click.option(
    "--metric", "metrics", multiple=True, help="May be repeated.  [default: bleu, chrf; with --manifest wer, cer]"
)
@click.option("--tokenize", default="13a", show_default=True, help="sacreBLEU's tokenizer, such as 13a or zh.")
@click.option("--lowercase", is_flag=True, help="Lower-case both sides before scoring.")
@click.option("--bootstrap", default=1000, show_default=True, help="Resamples for the confidence interval; 0 for none.")
@click.option("--output", type=click.Path(), help="Write the generated outputs to this file.")
@click.option("--worst", type=COUNT, default=0, help="Print the alignments of this many worst outputs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Inputs per batch.")
@workers_option()
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

    A --manifest holds both recordings and references. The real-time factor goes to standard error.
    """
    from tfseq2seq.evaluation.references import read_references
    from tfseq2seq.evaluation.scores import check_metrics, corpus_scores
    from tfseq2seq.files import check_parallel, read_lines, write_whole

    metrics = metrics or (("wer", "cer") if manifest else ("bleu", "chrf"))
    check_metrics(metrics)
    if not references and not manifest:
        raise UserError("give --reference, or --manifest for recordings")
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
        request = Request(lines=source, manifest=manifest, split=split)
        outputs, own, faults = _generated(runs, weights, overrides, request, batch, workers)
        if manifest:
            answers = [own]
        else:
            check_parallel(str(source), len(outputs), references[0], len(answers[0]))
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
    report(faults)


def _generated(
    runs: Sequence[str], weights: str | None, overrides: Sequence[str], request: Request, batch: int, workers: int
) -> tuple[list[str], list[str] | None, Sequence[tuple[int, str]]]:
    """Outputs for what a request names, the references that come with it, and what could not be read."""
    opened = open_runs(runs, overrides)
    inputs = read_inputs(opened[0].recipe.source, request)
    model = open_predictor(opened, weights, -(-len(inputs.values) // batch), workers)
    from tfseq2seq.evaluation.recognition import real_time_factor
    from tfseq2seq.inference.generator import Generator

    generator = Generator(model, batch, workers)
    if inputs.seconds:
        # The first call prepares the graph, which is no part of the work that is timed.
        generator.generate(inputs.values[:1])
    began = time.perf_counter()
    outputs = [one_line(found.texts[0]) for found in generator.generate(inputs.values)]
    if inputs.seconds:
        spent, seconds = time.perf_counter() - began, inputs.seconds
        click.echo(
            f"{len(outputs)} recordings, {seconds:,.0f} s in {spent:,.1f} s: "
            f"real-time factor {real_time_factor(seconds, spent):.4f}",
            err=True,
        )
    return outputs, inputs.references, inputs.faults


@click.command()
@click.argument("system")
@click.argument("baseline")
@click.option("--reference", "references", multiple=True, required=True, help="File of references; may be repeated.")
@click.option("--separator", help="Separator between several accepted references on one line, such as '|'.")
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
