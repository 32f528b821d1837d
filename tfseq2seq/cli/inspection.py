"""Commands that show what a model has learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfseq2seq.cli.options import POSITIVE, run_option, run_options, weights_option
from tfseq2seq.cli.runs import open_predictor, open_runs, require
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.inference.predictor import Predictor


@click.command()
@run_options()
@click.argument("text", required=False)
@click.option("--image", type=click.Path(), help="Picture file, instead of TEXT, for a model of pictures.")
@click.option("--target", help="Target text.  [default: the output of the model]")
@click.option("--png", type=click.Path(), help="Also write a heat map to this PNG file.")
def attention(
    runs: tuple[str, ...],
    weights: str | None,
    overrides: tuple[str, ...],
    text: str | None,
    image: str | None,
    target: str | None,
    png: str | None,
) -> None:
    """Print the attention weights of each output token over the tokens of the source TEXT.

    For --image the weights are those over the grid of the picture, and --png draws them over it.
    """
    opened = open_runs(runs, overrides)
    if image:
        if text is not None:
            raise UserError("TEXT: cannot be combined with --image; give one of them")
        for need in ("image", "attention"):
            require(opened[0].recipe, need, "--image")
        _attention_to_picture(open_predictor(opened, weights), image, target, png)
        return
    if text is None:
        raise UserError("TEXT: must be given, or --image for a model of pictures")
    for need in ("vocabulary", "attention"):
        require(opened[0].recipe, need, "attention")
    model = open_predictor(opened, weights)
    from tfseq2seq.evaluation.pictures import attention_png, attention_text
    from tfseq2seq.inference.inspection import attention_of

    found = attention_of(model, text, target)
    if png:
        attention_png(found.weights, found.source_labels, found.target_tokens, png)
        click.echo(png, err=True)
    if found.stride > 1:
        click.echo(f"each column covers {found.stride} source tokens", err=True)
    click.echo(attention_text(found.weights, found.source_labels, found.target_tokens))


def _attention_to_picture(model: Predictor, image: str, target: str | None, png: str | None) -> None:
    """Prints for each token the part of the picture that has the largest weight, and draws all weights."""
    from tfseq2seq.evaluation.picture_attention import grid_places, picture_attention_png
    from tfseq2seq.inference.inspection import attention_to_picture

    try:
        content = Path(image).read_bytes()
    except OSError as error:
        raise UserError(f"--image: {image} cannot be read ({error.strerror or error})") from None
    found, pixels = attention_to_picture(model, content, target)
    if png:
        picture_attention_png(found.weights, found.target_tokens, pixels, png)
        click.echo(png, err=True)
    for line in grid_places(found.weights, found.target_tokens):
        click.echo(line)


@click.command()
@run_option
@weights_option
@click.option(
    "--side",
    type=click.Choice(["source", "target"]),
    default="source",
    show_default=True,
    help="Side of the model whose words to show.",
)
@click.option("--words", help="Words to show, separated by spaces.  [default: the most frequent words]")
@click.option(
    "--count", type=POSITIVE, default=100, show_default=True, help="Number of words to show if --words is not given."
)
@click.option(
    "--dimensions", type=click.IntRange(2, 3), default=2, show_default=True, help="Number of dimensions of the picture."
)
@click.option("--png", type=click.Path(), help="Draw the words in this PNG file.")
@click.option("--projector", type=click.Path(), help="Write files for the TensorBoard projector to this folder.")
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
    """Draw the embeddings of words, or write them for the TensorBoard projector."""
    if not png and not projector:
        raise UserError("embeddings: needs --png, --projector or both")
    (run,) = open_runs([folder])
    from tfseq2seq.evaluation.pictures import embeddings_png, write_projector
    from tfseq2seq.inference.inspection import word_vectors

    labels, vectors = word_vectors(run, side, None if words is None else words.split(), count, weights)
    if png:
        if min(vectors.shape) < dimensions:
            raise UserError(
                f"--png: needs at least {dimensions} words of width {dimensions} or more, got {len(labels)} words of "
                f"width {vectors.shape[1]}"
            )
        embeddings_png(vectors, labels, png, dimensions)
        click.echo(png)
    if projector:
        write_projector(vectors, labels, projector)
        click.echo(projector)
