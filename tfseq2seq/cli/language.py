"""What is learned from text beside a model and joins its search: n-gram models and shortlists."""

from __future__ import annotations

import click

from tfseq2seq.cli.options import POSITIVE
from tfseq2seq.cli.runs import open_runs
from tfseq2seq.errors import UserError


@click.group()
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
    (run,) = open_runs([folder])
    from tfseq2seq.inference.external_scorers import tokens_of

    return tokens_of(run.target, lines)


@click.command()
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
    (run,) = open_runs([folder])
    from tfseq2seq.inference.external_scorers import ids_of
    from tfseq2seq.search.shortlist import learn_translations, write_shortlist

    features = run.source.features
    if not features:
        raise UserError(f"{folder}: needs source text, as a shortlist goes by source tokens")
    pairs = zip(ids_of(features, lines[0]), ids_of(run.target, lines[1]), strict=True)
    found = learn_translations(pairs, features.size, run.target.size, each, frequent)
    write_shortlist(found, output, features.vocabulary.tokens, run.target.vocabulary.tokens)
    mean = sum(map(len, found.of.values())) / max(len(found.of), 1)
    click.echo(f"{output}: {len(found.of):,} source tokens, {mean:.1f} target tokens each", err=True)
