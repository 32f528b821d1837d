"""Strings in and out of a TFLite file, by tensorflow-text's operations for TFLite.

Whoever runs such a file registers these operations with an interpreter of the same release: in Python those of
`tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS` with `tensorflow.lite.python.interpreter.InterpreterWithCustomOps`,
in C++ those that tensorflow-text has under core/kernels.

Their limits: tokenizers are SentencePiece's unigram alone; one string comes out of a call; a tab or the end of a line
is read as a space. And nothing in TFLite normalizes Unicode, so text must come as `TextFeatures.normalize` gives it,
without space at either end.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.signatures import Endpoint
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.endpoints import TextToText
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.spec import EOS, PAD, SPECIAL_TOKENS, UNK

# In the order of their names, as TensorFlow flattens a dictionary.
STRING_OUTPUTS = ("log_prob", "score", "text")


def string_endpoint(model: TextToText | SpeechToText) -> Endpoint:
    """One string [1], or samples [1, N] and their number [1], to "text" [1], "score" [1] and "log_prob" [1].

    Raises:
        UserError: a side's scheme is not unigram.
    """
    if isinstance(model, SpeechToText):
        _check("target", model.target)
        audio = [tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, spec.name) for spec in model.signature]

        def transcribe(audio: Any, length: Any) -> dict[str, Any]:
            return _answer(model.hypotheses(audio, length), tf.constant(False), written)

        written = _writer(model.target)
        return Endpoint("strings", transcribe, audio)
    _check("source", model.source)
    _check("target", model.target)
    read, written = _reader(model.source), _writer(model.target)

    def translate(text: Any) -> dict[str, Any]:
        ids = read.tokenize(text)
        count = tf.cast(ids.row_lengths(), tf.int32)
        ended = tf.concat([tf.reshape(ids.flat_values, [1, -1]), [[EOS]]], axis=1)
        return _answer(model.search(ended), tf.equal(count[0], 0), written)

    return Endpoint("strings", translate, [tf.TensorSpec([1], tf.string, name="text")])


def _check(side: str, features: TextFeatures) -> None:
    """Refuses what tensorflow-text's tokenizer for TFLite cannot read, or reads otherwise than SentencePiece does."""
    without = "without --strings the file takes ids, and the tokenizer's files lie beside it"
    if features.spec.scheme != "unigram":
        raise UserError(
            f"{side}.scheme {features.spec.scheme}: tensorflow-text has unigram alone for TFLite; {without}"
        )
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(features.vocabulary.model)
    kinds = model.SentencePiece
    odd = {piece.type for piece in model.pieces} - {kinds.NORMAL, kinds.CONTROL, kinds.UNKNOWN}
    if odd or model.trainer_spec.model_type != model.trainer_spec.UNIGRAM:
        raise UserError(
            f"{side}.vocabulary: this SentencePiece model is no plain unigram, and tensorflow-text has no other for "
            f"TFLite; {without}"
        )


def _answer(found: Any, empty: Any, written: Any) -> dict[str, Any]:
    """The best hypothesis of one example; where it is empty, nothing and 0. <pad> is written as nothing."""
    ids = tf.where(empty, PAD, found.ids[0, 0])
    text = written.detokenize(tf.RaggedTensor.from_row_splits(ids, tf.stack([0, tf.shape(ids)[0]]), validate=False))
    scores = {"score": found.scores[:, 0], "log_prob": found.log_probs[:, 0]}
    return {"text": text, **{name: tf.where(empty, 0.0, value) for name, value in scores.items()}}


def _reader(features: TextFeatures) -> Any:
    import tensorflow_text

    return tensorflow_text.FastSentencepieceTokenizer(features.vocabulary.model)


def _writer(features: TextFeatures) -> Any:
    """As the reader, but that <unk> is written as such, where SentencePiece has a sign of its own."""
    import tensorflow_text
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(features.vocabulary.model)
    model.pieces[UNK].piece = SPECIAL_TOKENS[UNK]
    model.pieces[UNK].type = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    return tensorflow_text.FastSentencepieceTokenizer(model.SerializeToString())
