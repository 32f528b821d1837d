"""The command that imports models of other toolkits."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfseq2seq.cli.runs import import_tensorflow
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.interop.proof import Proof
    from tfseq2seq.run import Run


@click.command("import")
@click.argument("folder", type=click.Path())
@click.option("--run", required=True, type=click.Path(), help="Folder of the run to write.")
@click.option(
    "--reference",
    metavar="PYTHON",
    help="A Python that has transformers and torch, to compare with.  [default: this one, if it has them]",
)
@click.option(
    "--input",
    "lines",
    type=click.Path(),
    help="File with source texts, or paths of recordings, to compare with too, one per line.",
)
def import_command(folder: str, run: str, reference: str | None, lines: str | None) -> None:
    """Import the model in FOLDER, of Hugging Face or CTranslate2, as a run.

    FOLDER has config.json, model.safetensors and the files of the tokenizer. The architectures are bart, m2m_100 (also
    of NLLB), marian, mbart (50 languages), mt5, t5 and whisper; of CTranslate2, whose weights are in model.bin, whisper
    alone. The run can be used as any other. At the end it is compared with the model, which transformers or CTranslate2
    runs. If logits differ by more than 1e-4 (CTranslate2: 1e-3), or ids of texts differ, nothing is written and the
    exit code is 1.
    """
    import_tensorflow()
    from tfseq2seq.interop.architectures import import_model

    python = _python(reference)
    comparable = _comparable(folder, python)
    if lines and not comparable:
        raise UserError("--input: needs --reference, as transformers and torch are not installed here")

    def check(imported: Run) -> None:
        if not comparable:
            return
        proof = _prove(imported, folder, python, lines)
        click.echo(f"{folder}: {proof}", err=True)
        if not proof.passed:
            click.echo("the imported model differs from its original; nothing is written", err=True)
            sys.exit(1)

    import_model(folder, run, check, functools.partial(click.echo, err=True))
    if not comparable:
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
    python = _python(reference)
    if not _comparable(folder, python):
        raise UserError("--reference: must name a Python that has transformers and torch, which are not installed here")
    proof = _prove(run, folder, python, lines)
    click.echo(str(proof))
    return proof.passed


def _comparable(folder: str, python: str | None) -> bool:
    """Whether something here can run the original."""
    from tfseq2seq.interop.ctranslate2_folder import MODEL

    if not (Path(folder) / MODEL).is_file():
        return python is not None
    return importlib.util.find_spec("ctranslate2") is not None


def _prove(run: Run, folder: str, python: str | None, lines: str | None) -> Proof:
    """Compares a run with its original. `lines` is a file of texts, or of the paths of recordings."""
    from tfseq2seq.interop.proof import prove
    from tfseq2seq.interop.speech_proof import prove_recordings

    given = _texts(lines)
    if run.source.features is not None:
        assert python is not None
        return prove(run, folder, python, given)
    from tfseq2seq.data.audio_files import read_audio

    rate: int = run.recipe.source.sample_rate  # type: ignore[union-attr]
    return prove_recordings(run, folder, python, [read_audio(path, rate) for path in given])


def _python(reference: str | None) -> str | None:
    """The Python that runs the original; None if there is none."""
    from tfseq2seq.interop.proof import has_transformers

    return reference or (sys.executable if has_transformers() else None)


def _texts(lines: str | None) -> list[str]:
    from tfseq2seq.files import iterate_lines

    return [line.decode("utf-8") for line in iterate_lines(lines)] if lines else []
