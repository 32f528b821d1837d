"""The command that imports models of other toolkits."""

from __future__ import annotations

import functools
import sys

import click

from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError


@click.command("import")
@click.argument("folder", type=click.Path())
@click.option("--run", required=True, type=click.Path(), help="Folder of the run to write.")
@click.option(
    "--reference",
    metavar="PYTHON",
    help="A Python that has transformers and torch, to compare with.  [default: this one, if it has them]",
)
@click.option("--input", "lines", type=click.Path(), help="File with source texts to compare with too, one per line.")
def import_command(folder: str, run: str, reference: str | None, lines: str | None) -> None:
    """Import the model in FOLDER, of Hugging Face, as a run.

    FOLDER has config.json, model.safetensors and the files of the tokenizer. The architectures are: marian. The run can
    be used as any other. At the end it is compared with the model, which transformers runs in a process of its own. If
    logits differ by more than 1e-4, or ids of texts differ, nothing is written and the exit code is 1.
    """
    import_tensorflow()
    from tfseq2seq.files import iterate_lines
    from tfseq2seq.interop.architectures import import_model
    from tfseq2seq.interop.proof import has_transformers, prove
    from tfseq2seq.run import Run

    texts = [line.decode("utf-8") for line in iterate_lines(lines)] if lines else []
    python = reference or (sys.executable if has_transformers() else None)
    if texts and not python:
        raise UserError("--input: needs --reference, as transformers and torch are not installed here")

    def check(imported: Run) -> None:
        if not python:
            return
        proof = prove(imported, folder, python, texts)
        click.echo(f"{folder}: {proof}", err=True)
        if not proof.passed:
            click.echo("the imported model differs from its original; nothing is written", err=True)
            sys.exit(1)

    import_model(folder, run, check, functools.partial(click.echo, err=True))
    if not python:
        click.echo(
            "not compared with the original, as transformers and torch are not installed here; `tfseq2seq verify --run "
            f"{run} --against {folder} --reference PYTHON` does it",
            err=True,
        )
    click.echo(run)
