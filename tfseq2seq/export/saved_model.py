"""SavedModel: strings in, strings out, tokenizers and search inside.

It needs tensorflow and tensorflow-text to run, not this package. Signatures:

    serving_default   text: string [B]  ->  text: string [B], score: float32 [B]
    n_best            text: string [B]  ->  text: string [B, N], score: float32 [B, N]
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.files import partial_name


class Served(tf.Module):
    """What a SavedModel holds: the endpoint's functions as signatures, and all that they read."""

    def __init__(self, model: TextToText):
        super().__init__(name="served")
        self.model = model
        text = tf.TensorSpec([None], tf.string, name="text")
        self.serve_best = tf.function(self._best, input_signature=[text], autograph=False)
        self.serve_n_best = tf.function(self._n_best, input_signature=[text], autograph=False)

    def _best(self, text: Any) -> dict[str, tf.Tensor]:
        found = self.model.texts(text)
        return {"text": found["text"][:, 0], "score": found["score"][:, 0]}

    def _n_best(self, text: Any) -> dict[str, tf.Tensor]:
        found = self.model.texts(text)
        return {"text": found["text"], "score": found["score"]}

    def signatures(self) -> dict[str, Any]:
        return {
            "serving_default": self.serve_best.get_concrete_function(),
            "n_best": self.serve_n_best.get_concrete_function(),
        }


def export_saved_model(model: TextToText, base: str | Path, version: int | None = None) -> Path:
    """Writes `base`/<version>/, the layout TF Serving polls.

    The folder is written under another name and renamed, so a server never sees half a model.

    Args:
        model: what to export; its search settings become part of it.
        base: folder of this model's versions, such as saved_models/<name>.
        version: a number; None takes the one after the highest there is.

    Returns:
        The folder written.

    Raises:
        UserError: the version exists already, or the folder cannot be written.
    """
    base = Path(base)
    if base.exists() and not base.is_dir():
        raise UserError(f"{base}: is a file; name a folder for the model's versions")
    versions = [int(path.name) for path in base.glob("*") if path.name.isdigit()] if base.exists() else []
    version = max(versions, default=0) + 1 if version is None else version
    final = base / str(version)
    if final.exists():
        raise UserError(f"{final}: this version exists already; take another number, or none for the next one")
    aside = partial_name(final)
    served = Served(model)
    try:
        base.mkdir(parents=True, exist_ok=True)
        tf.saved_model.save(served, str(aside), signatures=served.signatures())
        aside.rename(final)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final
