"""The architectures that can be imported, by the `model_type` of Hugging Face's config.json."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.interop import bart, m2m_100, marian, t5, whisper
from tfseq2seq.interop.ctranslate2_folder import MODEL, CTranslate2Folder
from tfseq2seq.interop.hugging_face import HuggingFaceFolder
from tfseq2seq.interop.imported import Imported, write_run
from tfseq2seq.run import Run

ARCHITECTURES: dict[str, Callable[[HuggingFaceFolder], Imported]] = {
    "bart": bart.bart,
    "m2m_100": m2m_100.imported,
    "marian": marian.imported,
    "mbart": bart.mbart,
    "mt5": t5.imported,
    "t5": t5.imported,
    "whisper": whisper.whisper,
}
# By what CTranslate2 calls them.
CTRANSLATE2_ARCHITECTURES: dict[str, Callable[[CTranslate2Folder], Imported]] = {
    "WhisperSpec": whisper.whisper_of_ctranslate2,
}


def import_model(
    folder: str | Path,
    run: str | Path,
    check: Callable[[Run], None] = lambda run: None,
    log: Callable[[str], None] = print,
) -> Run:
    """Writes a run with the model in a folder of Hugging Face or CTranslate2.

    Args:
        folder: has config.json, model.safetensors and the files of the tokenizer, or model.bin in place of the weights.
        run: the folder to write, which must not exist.
        check: is called with the run before it has its place; an exception of it leaves nothing written.
        log: a function that prints lines for the user.

    Raises:
        UserError: `run` exists, or the model is damaged or cannot be represented. Nothing is written then.
    """
    if Path(run).exists():
        raise UserError(f"{run}: exists already; name another folder, or delete it")
    imported = _read(folder)
    for line in imported.told:
        log(line)
    return write_run(imported, run, check)


def _read(folder: str | Path) -> Imported:
    """What the architecture of a folder makes of it."""
    if (Path(folder) / MODEL).is_file():
        made = CTranslate2Folder(folder)
        if made.architecture not in CTRANSLATE2_ARCHITECTURES:
            raise UserError(
                f"{made.path(MODEL)}: the architecture must be one of {', '.join(CTRANSLATE2_ARCHITECTURES)}, got "
                f"{made.architecture!r}"
            )
        return CTRANSLATE2_ARCHITECTURES[made.architecture](made)
    opened = HuggingFaceFolder(folder)
    kind = opened.setting("model_type", str)
    if kind not in ARCHITECTURES:
        close = difflib.get_close_matches(kind, ARCHITECTURES, n=1)
        advice = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"{opened.path('config.json')}: model_type must be one of {', '.join(ARCHITECTURES)}, got {kind!r}{advice}"
        )
    return ARCHITECTURES[kind](opened)
