"""The architectures that can be imported, by the `model_type` of Hugging Face's config.json."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.interop import marian
from tfseq2seq.interop.hugging_face import HuggingFaceFolder
from tfseq2seq.interop.imported import Imported, write_run
from tfseq2seq.run import Run

ARCHITECTURES: dict[str, Callable[[HuggingFaceFolder], Imported]] = {"marian": marian.imported}


def import_model(
    folder: str | Path,
    run: str | Path,
    check: Callable[[Run], None] = lambda run: None,
    log: Callable[[str], None] = print,
) -> Run:
    """Writes a run with the model in a folder of Hugging Face.

    Args:
        folder: has config.json, model.safetensors and the files of the tokenizer.
        run: the folder to write, which must not exist.
        check: is called with the run before it has its place; an exception of it leaves nothing written.
        log: a function that prints lines for the user.

    Raises:
        UserError: `run` exists, or the model is damaged or cannot be represented. Nothing is written then.
    """
    if Path(run).exists():
        raise UserError(f"{run}: exists already; name another folder, or delete it")
    opened = HuggingFaceFolder(folder)
    kind = opened.setting("model_type", str)
    if kind not in ARCHITECTURES:
        close = difflib.get_close_matches(kind, ARCHITECTURES, n=1)
        advice = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"{opened.path('config.json')}: model_type must be one of {', '.join(ARCHITECTURES)}, got {kind!r}{advice}"
        )
    imported = ARCHITECTURES[kind](opened)
    for line in imported.told:
        log(line)
    return write_run(imported, run, check)
