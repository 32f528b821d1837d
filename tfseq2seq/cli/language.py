"""Commands that learn n-gram models and shortlists for the search of a model."""

from __future__ import annotations

import click

from tfseq2seq.cli.options import POSITIVE
from tfseq2seq.cli.runs import open_runs, require
from tfseq2seq.progress import tracked


@click.group()
def ngram() -> None:
    """Train and test n-gram language models, for search.fusion.ngram."""


_ngram_run_option = click.option(
    "--run", "folder", required=True, help="Folder of the run whose target vocabulary splits the text into tokens."
)


@ngram.command("train")
@_ngram_run_option
@click.argument("text", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--order", type=POSITIVE, default=4, show_default=True, help="Number of tokens in the longest n-grams.")
@click.option(
    "--min-count",
    "min_counts",
    type=POSITIVE,
    multiple=True,
    help="Smallest count of an n-gram that is kept. Repeat the option for orders 1, 2 and so on.  [default: 1]",
)
def ngram_train(folder: str, text: str, output: str, order: int, min_counts: tuple[int, ...]) -> None:
    """Learn an n-gram model of the lines of the file TEXT, and write it to the ARPA file OUTPUT.

    The model is smoothed by modified Kneser-Ney.
    """
    sentences = _tokens_of(folder, text)
    from tfseq2seq.search.arpa import train_ngram, write_arpa

    model = train_ngram(tracked(sentences, "counting n-grams", len(sentences)), order, min_counts)
    write_arpa(model, output)
    counts = ", ".join(f"{len(grams):,}" for grams in model.entries)
    click.echo(f"{output}: {counts} n-grams of orders 1 to {order}", err=True)


@ngram.command("perplexity")
@_ngram_run_option
@click.argument("model", type=click.Path())
@click.argument("text", type=click.Path())
def ngram_perplexity(folder: str, model: str, text: str) -> None:
    """Print the perplexity of the file TEXT under the model in the ARPA file MODEL.

    It is the perplexity per token. The end of a line counts as a token.
    """
    from tfseq2seq.search.arpa import read_arpa

    sentences = _tokens_of(folder, text)
    value, tokens, unknown = read_arpa(model).perplexity(tracked(sentences, "scoring lines", len(sentences)))
    click.echo(f"perplexity {value:.4f}, {tokens} tokens, {unknown} unknown")


def _tokens_of(folder: str, text: str) -> list[list[str]]:
    """The lines of a file as tokens of a run's target vocabulary."""
    from tfseq2seq.files import read_lines

    lines = read_lines(text, pipe=True)
    (run,) = open_runs([folder])
    from tfseq2seq.inference.external_scorers import tokens_of

    return tokens_of(run.target, lines)


@click.command()
@click.option("--run", "folder", required=True, help="Folder of the run whose vocabularies are used.")
@click.argument("source", type=click.Path())
@click.argument("target", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--each", type=POSITIVE, default=30, show_default=True, help="Most target tokens for one source token.")
@click.option(
    "--frequent",
    type=POSITIVE,
    default=100,
    show_default=True,
    help="Number of frequent target tokens that are always allowed.",
)
def shortlist(folder: str, source: str, target: str, output: str, each: int, frequent: int) -> None:
    """Learn which target tokens can translate each source token, for search.shortlist.

    SOURCE and TARGET are parallel text files, for example the training data of the run. OUTPUT is a vocabulary map of
    CTranslate2, learned by IBM model 1. With a shortlist, the search computes the logits of some hundreds of tokens
    instead of all. Measure the loss of quality with `tfseq2seq evaluate ... --set search.shortlist=OUTPUT`.
    """
    from tfseq2seq.files import check_parallel, read_lines

    lines = read_lines(source, pipe=True), read_lines(target, pipe=True)
    check_parallel(source, len(lines[0]), target, len(lines[1]))
    (run,) = open_runs([folder])
    require(run.recipe, "vocabulary", "shortlist")
    from tfseq2seq.inference.external_scorers import ids_of
    from tfseq2seq.search.shortlist import learn_translations, write_shortlist

    features = run.source.features
    assert features is not None
    pairs = zip(ids_of(features, lines[0]), ids_of(run.target, lines[1]), strict=True)
    found = learn_translations(pairs, features.size, run.target.size, each, frequent)
    write_shortlist(found, output, features.vocabulary.tokens, run.target.vocabulary.tokens)
    mean = sum(map(len, found.of.values())) / max(len(found.of), 1)
    click.echo(f"{output}: {len(found.of):,} source tokens, with {mean:.1f} target tokens on average", err=True)
