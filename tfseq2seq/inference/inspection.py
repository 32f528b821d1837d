"""Looks inside a trained model: the attention of one pair, the vectors of words."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.inference.endpoints import TextToText
from tfseq2seq.spec import EOS, SPECIAL_TOKENS, ConvolutionEncoderSpec, EncoderSpec

if TYPE_CHECKING:
    from tfseq2seq.models.seq2seq import Seq2Seq
    from tfseq2seq.run import Run


@dataclass(frozen=True)
class Attention:
    """Weights [T, S] of each target token over the source positions, and both sides' tokens, <eos> included."""

    weights: np.ndarray
    source_tokens: list[str]
    target_tokens: list[str]


def attention_of(model: TextToText, text: str, target: str | None = None) -> Attention:
    """Attention of the first model from its own output, or from `target`, to `text`.

    The output of several models is found together. Where the encoder shortens its input, source positions are named by
    the tokens they begin with.

    Raises:
        UserError: text or target has no tokens.
    """
    ids = model.source(tf.constant([text]))
    if int(ids[0, 0]) == EOS:
        raise UserError("the text is empty: there is nothing to attend to")
    if target is None:
        found = model.search(ids)
        labels = found.ids[:, 0, : int(found.lengths[0, 0])]
    else:
        labels = model.target(tf.constant([target]))
        if int(labels[0, 0]) == EOS:
            raise UserError("the target is empty: there is nothing to attend from")
    first = model.models[0]
    weights = _teacher_forced(first, ids, decoder_input(labels))
    sources = [model.source.vocabulary.tokens[index] for index in ids[0].numpy()]
    targets = [model.target.vocabulary.tokens[index] for index in labels[0].numpy()]
    return Attention(weights[0].numpy(), sources[:: _stride(first.spec.encoder)], targets)


def _teacher_forced(model: Seq2Seq, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Attention [B, T, S] float32 of a model that reads ids [B, T]."""
    with warnings.catch_warnings():
        # Of a source or target of one token Keras suspects that its softmax is a mistake.
        warnings.filterwarnings("ignore", message="You are using a softmax")
        found = model.with_attention()({"source": source, "target": target}, training=False)
    return tf.cast(found["attention"], tf.float32)


def _stride(encoder: EncoderSpec) -> int:
    return encoder.pooling if isinstance(encoder, ConvolutionEncoderSpec) else 1


def word_vectors(
    run: Run, side: str, words: Sequence[str] | None, count: int, weights: str | None = None
) -> tuple[list[str], np.ndarray]:
    """Vectors [N, D] of words of one side, and the words.

    A word that the vocabulary splits has the mean of its pieces' vectors.

    Args:
        run: the trained run.
        side: source or target.
        words: which; None takes the first `count` tokens of the vocabulary.
        count: see `words`.
        weights: a weights file instead of the finished ones.

    Raises:
        UserError: there is no word, or none of a word's pieces is in the vocabulary.
    """
    if words is not None and not words:
        raise UserError("no word is given")
    features = run.source if side == "source" else run.target
    if features is None:
        raise UserError("the source is audio, which has no words; take side target")
    model = run.load_model(weights)
    layer = model.source_embedding if side == "source" else model.target_embedding
    table = np.asarray(layer.embeddings)
    if words is None:
        indices = range(len(SPECIAL_TOKENS), min(len(SPECIAL_TOKENS) + count, len(table)))
        return [features.vocabulary.tokens[index] for index in indices], table[list(indices)]
    rows = []
    for word in words:
        ids = [index for index in features.tokenize(tf.constant([word]))[0].numpy() if index >= len(SPECIAL_TOKENS)]
        if not ids:
            raise UserError(f"{word!r}: not in the {side} vocabulary")
        rows.append(table[ids].mean(axis=0))
    return list(words), np.stack(rows)
