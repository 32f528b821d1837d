"""SavedModel: strings or samples in, strings out, tokenizers, features and search inside.

It needs tensorflow and, for some text schemes, tensorflow-text to run, not this package. Signatures of text:

    serving_default   text: string [B]  ->  text: string [B], score: float32 [B]
    n_best            text: string [B]  ->  text: string [B, N], score: float32 [B, N]

and of speech, where `error` tells what is wrong with a recording; its text is empty then, and the others are answered:

    serving_default   audio: float32 [B, N] at the model's rate, length: int32 [B]
                                        ->  text: string [B], score: float32 [B], error: string [B]
    transcribe        the same
    transcribe_wav    wav: string [B], the bytes of WAV files of any rate  ->  the same
    n_best            audio, length     ->  text: string [B, N], score: float32 [B, N], error: string [B]
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.export.recordings import sample_faults
from tfseq2seq.export.speech import SpeechToText
from tfseq2seq.features.resampling import standardized
from tfseq2seq.features.wav import decode_wav
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


class ServedSpeech(tf.Module):
    """What a SavedModel of speech holds."""

    def __init__(self, model: SpeechToText):
        super().__init__(name="served")
        self.model = model
        audio = [*model.signature]
        self.serve_best = tf.function(self._best, input_signature=audio, autograph=False)
        self.serve_n_best = tf.function(self._n_best, input_signature=audio, autograph=False)
        wav = [tf.TensorSpec([None], tf.string, name="wav")]
        self.serve_wav = tf.function(self._wav, input_signature=wav, autograph=False)

    def _n_best(self, audio: Any, length: Any) -> dict[str, tf.Tensor]:
        # A length beyond the samples given would be heard as silence, a negative one as an error in some operation.
        length = tf.clip_by_value(length, 0, tf.shape(audio)[1])
        error = sample_faults(audio, length, self.model.model.source)
        wrong = tf.not_equal(error, "")
        # Room for one window: a batch of empty recordings has a shape that features can be computed of.
        audio = tf.pad(audio, [[0, 0], [0, round(self.model.model.source.window * self.model.rate)]])
        found = self.model.texts(audio, tf.where(wrong, 0, length))
        return {"text": found["text"], "score": found["score"], "error": error}

    def _best(self, audio: Any, length: Any) -> dict[str, tf.Tensor]:
        found = self._n_best(audio, length)
        return {"text": found["text"][:, 0], "score": found["score"][:, 0], "error": found["error"]}

    def _wav(self, wav: Any) -> dict[str, tf.Tensor]:
        def read(contents: Any) -> tuple[tf.Tensor, tf.Tensor]:
            samples, rate, fault = decode_wav(contents)
            return standardized(samples, rate, self.model.rate), fault

        kinds = (tf.RaggedTensorSpec([None], tf.float32), tf.TensorSpec([], tf.string))
        rows, fault = tf.map_fn(read, wav, fn_output_signature=kinds)
        found = self._best(rows.to_tensor(), tf.cast(rows.row_lengths(), tf.int32))
        return {**found, "error": tf.where(tf.equal(fault, ""), found["error"], fault)}

    def signatures(self) -> dict[str, Any]:
        best = self.serve_best.get_concrete_function()
        return {
            "serving_default": best,
            "transcribe": best,
            "transcribe_wav": self.serve_wav.get_concrete_function(),
            "n_best": self.serve_n_best.get_concrete_function(),
        }


def export_saved_model(model: TextToText | SpeechToText, base: str | Path, version: int | None = None) -> Path:
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
    served = ServedSpeech(model) if isinstance(model, SpeechToText) else Served(model)
    try:
        base.mkdir(parents=True, exist_ok=True)
        tf.saved_model.save(served, str(aside), signatures=served.signatures())
        aside.rename(final)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final
