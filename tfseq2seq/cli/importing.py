"""The command that imports models of other toolkits."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

import click

from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.run import Run


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
    from tfseq2seq.interop.architectures import import_model
    from tfseq2seq.interop.proof import prove

    python, texts = _python(reference), _texts(lines)
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


def verify_import(run: Run, folder: str, reference: str | None, lines: str | None) -> bool:
    """Compares an imported run with its original, prints how they compare, and returns whether they are the same.

    Args:
        run: the imported run.
        folder: of the original.
        reference: a Python that has transformers and torch; None for this one.
        lines: a file of texts; None for random inputs alone.

    Raises:
        UserError: there is no such Python, or it cannot run the original, or the run was not imported.
    """
    from tfseq2seq.interop.proof import prove

    python = _python(reference)
    if not python:
        raise UserError("--reference: must name a Python that has transformers and torch, which are not installed here")
    proof = prove(run, folder, python, _texts(lines))
    click.echo(str(proof))
    return proof.passed


def _python(reference: str | None) -> str | None:
    """The Python that runs the original; None if there is none."""
    from tfseq2seq.interop.proof import has_transformers

    return reference or (sys.executable if has_transformers() else None)


def _texts(lines: str | None) -> list[str]:
    from tfseq2seq.files import iterate_lines

    return [line.decode("utf-8") for line in iterate_lines(lines)] if lines else []
