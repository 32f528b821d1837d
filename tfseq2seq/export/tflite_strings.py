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
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.decoding import Endpoint
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.sources import SourceInputs
from tfseq2seq.spec import PAD, SPECIAL_TOKENS, UNK

# In the order of their names, as TensorFlow flattens a dictionary.
STRING_OUTPUTS = ("cut", "log_prob", "score", "text")


def string_endpoint(model: Predictor) -> Endpoint:
    """One string [1], or samples [1, N] and their number [1], to "text" [1], "score" [1], "log_prob" [1]
    and "cut" [1], whether the text may have been cut off at the length that the search allows.

    Raises:
        UserError: a side's scheme is not unigram, the source has no such form, or there are stop strings.
    """
    source = model.source
    source.check_strings()
    if model.stops:
        raise UserError(
            "search.stop_strings: TFLite has no operation that cuts a string; without --strings the file takes ids, "
            "and its outputs end before the stop strings"
        )
    if source.features:
        _check("source", source.features)
    _check("target", model.target)
    written = _writer(model.target)
    if not source.takes_strings:
        one = [tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, spec.name) for spec in model.signature]
        return Endpoint("strings", lambda *raw: _answer(model, source.from_features(*raw), written), one)
    assert source.reader is not None
    read, spec = _reader(source.reader), source.reader.spec
    begin = spec.begin_ids

    def answer(text: Any) -> dict[str, Any]:
        ids = tf.reshape(read.tokenize(text).flat_values, [1, -1])
        if begin:
            # An empty text has no begin tokens either.
            some = tf.minimum(tf.shape(ids)[1], 1)
            ids = tf.concat([tf.constant([begin], tf.int32)[:, : some * len(begin)], ids], axis=1)
        ids = source.ended(ids)
        return _answer(model, source.from_features(ids), written)

    return Endpoint("strings", answer, [tf.TensorSpec([1], tf.string, name="text")])


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


def _answer(model: Predictor, given: SourceInputs, written: Any) -> dict[str, Any]:
    """The best hypothesis of one example; where the source is empty, nothing and 0."""
    found, empty = model.search(given), given.empty[0]
    ids = tf.where(empty, PAD, found.ids[0, 0])
    # Special and reserved tokens give no text. In front of it they would keep the space of the first word.
    shown = tf.logical_or(tf.equal(ids, UNK), ids >= model.target.spec.first_ordinary_id)
    ids = tf.gather(ids, tf.where(shown)[:, 0])
    text = written.detokenize(tf.RaggedTensor.from_row_splits(ids, tf.stack([0, tf.shape(ids)[0]]), validate=False))
    scores = {"score": found.scores[:, 0], "log_prob": found.log_probs[:, 0]}
    cut = tf.logical_and(tf.logical_not(empty), model.may_be_cut(found)[:, 0])
    return {"text": text, "cut": cut, **{name: tf.where(empty, 0.0, value) for name, value in scores.items()}}


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
