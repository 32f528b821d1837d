"""Pictures of what a model has learned."""

from __future__ import annotations

import click

from tfseq2seq.cli.options import POSITIVE, run_option, run_options, weights_option
from tfseq2seq.cli.runs import open_predictor, open_runs
from tfseq2seq.errors import UserError


@click.command()
@run_options()
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
    model = open_predictor(open_runs(runs, overrides), weights)
    from tfseq2seq.evaluation.pictures import attention_png, attention_text
    from tfseq2seq.inference.inspection import attention_of

    found = attention_of(model, text, target)
    if png:
        attention_png(found.weights, found.source_labels, found.target_tokens, png)
        click.echo(png, err=True)
    if found.stride > 1:
        click.echo(f"each column covers {found.stride} source tokens", err=True)
    click.echo(attention_text(found.weights, found.source_labels, found.target_tokens))


@click.command()
@run_option
@weights_option
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
    (run,) = open_runs([folder])
    from tfseq2seq.evaluation.pictures import embeddings_png, write_projector
    from tfseq2seq.inference.inspection import word_vectors

    labels, vectors = word_vectors(run, side, None if words is None else words.split(), count, weights)
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
