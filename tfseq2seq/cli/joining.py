"""The command that joins the outputs of the parts of a job."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tfseq2seq.cli.options import POSITIVE


@click.command("join-outputs")
@click.argument("output", type=click.Path())
@click.argument("parts", nargs=-1, required=True, type=click.Path())
@click.option(
    "--input", "inputs", type=click.Path(), help="File of inputs of the whole job; checks the lines of each part."
)
@click.option(
    "--n-best",
    type=POSITIVE,
    default=1,
    show_default=True,
    help="Number of output lines for each line of --input: the search.n_best of the job.",
)
def join_outputs(output: str, parts: Sequence[str], inputs: str | None, n_best: int) -> None:
    """Join the outputs of `generate --shard` to the file OUTPUT.

    Each of the files PARTS has its place in its name, for example out.1-of-4.txt. They may be given in any order.
    OUTPUT is written only if all parts are there and complete.
    """
    from tfseq2seq.cli.output_shards import join_outputs as join

    click.echo(f"{output}: {join(output, parts, inputs, n_best):,} lines of {len(parts)} parts")
