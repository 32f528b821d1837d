"""Looks inside a trained model: the attention of one pair, the vectors of words."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.run import Run
from tfseq2seq.sources import SourceInputs
from tfseq2seq.spec import EOS


@dataclass(frozen=True)
class Attention:
    """Weights [T, S] of each target token over the memory's positions, and both sides' tokens, <eos> included.

    A position covers `stride` source tokens; their number is S where that is 1.
    """

    weights: np.ndarray
    source_tokens: list[str]
    target_tokens: list[str]
    stride: int = 1

    @property
    def source_labels(self) -> list[str]:
        """A label for each of the S positions: the tokens it covers, with spaces between; spaces in tokens are ␣."""
        if self.stride == 1:
            return self.source_tokens
        tokens, stride = [token.replace(" ", "␣") for token in self.source_tokens], self.stride
        return [" ".join(tokens[at : at + stride]) for at in range(0, len(tokens), stride)]


def attention_of(model: Predictor, text: str, target: str | None = None) -> Attention:
    """Attention of the first model from its own output, or from `target`, to `text`.

    The output of several models is found together.

    Raises:
        UserError: the model has no source text or no attention, or text or target has no tokens or too many.
    """
    if not model.source.takes_strings or not model.decoding.has_attention:
        raise UserError("attention: needs source text and a decoder that attends to it")
    for name, faults in (("text", model.faults([text])), ("target", model.target_faults([target or ""]))):
        for _, message in faults:
            raise UserError(f"the {name} is {message}")
    given = model.source.inputs(*model.pack([text]))
    if bool(given.empty[0]):
        raise UserError("the text is empty: there is nothing to attend to")
    return _attention(model, given, _labels(model, given, target))


def attention_to_picture(model: Predictor, content: bytes, target: str | None = None) -> tuple[Attention, np.ndarray]:
    """Attention of the first model from its own output, or from `target`, to a picture.

    Args:
        model: of pictures; its decoder has attention.
        content: the bytes of the file.
        target: a text, or None.

    Returns:
        Weights over the vectors of the picture, row by row, and its pixels [S, S, 3] uint8 as the model reads them.

    Raises:
        UserError: the picture cannot be read, or the target has no tokens or too many.
    """
    for name, faults in (("picture", model.faults([content])), ("target", model.target_faults([target or ""]))):
        for _, message in faults:
            raise UserError(f"the {name}: {message}")
    (pixels,) = model.pack([content])
    given = model.source.inputs(pixels)
    return _attention(model, given, _labels(model, given, target)), pixels.numpy()[0]


def _labels(model: Predictor, given: SourceInputs, target: str | None) -> Any:
    """Ids [1, T] of the output for one source, or of a target text."""
    if target is None:
        with _few_positions():
            found = model.search(given)
        labels = found.ids[:, 0, : int(found.lengths[0, 0])]
    else:
        labels = model.labels(tf.constant([target]), given)
        if int(labels[0, 0]) == EOS:
            raise UserError("the target is empty: there is nothing to attend from")
    return labels


def reference_attention(model: Predictor, value: Any, target: str) -> Attention:
    """Attention of the first model from a target text to a source of any modality, without a search.

    The positions of a source that is not made of tokens have their numbers as names.

    Args:
        model: its decoder has attention (`decoding.has_attention`).
        value: a source as `pack` takes it.
        target: the text.
    """
    given = model.source.inputs(*model.pack([value]))
    return _attention(model, given, model.labels(tf.constant([target]), given))


def _attention(model: Predictor, given: SourceInputs, labels: Any) -> Attention:
    """Attention from target ids [1, T] to one source."""
    with _few_positions():
        weights = model.decoding.attention(given.inputs, decoder_input(labels))[0].numpy()
    tokens = list(model.target.vocabulary.tokens)
    if given.words is not None:
        tokens += [word.decode("utf-8") for word in given.words[0].numpy()]
    targets = [tokens[index] for index in labels[0].numpy()]
    names = model.source.tokens(given).get("source_tokens")
    if names is None:
        return Attention(weights, [str(position) for position in range(weights.shape[1])], targets)
    sources = [token.decode("utf-8") for token in names[0].numpy()]
    return Attention(weights, sources, targets, model.models[0].encoder.stride)


@contextlib.contextmanager
def _few_positions() -> Iterator[None]:
    """Where there is one position on a side, Keras suspects that a softmax over it is a mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using a softmax")
        yield


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
        UserError: the side has no embeddings, there is no word, or none of a word's pieces is in the vocabulary.
    """
    if words is not None and not words:
        raise UserError("no word is given")
    features = run.source.features if side == "source" else run.target
    if features is None:
        raise UserError(f"--side source: needs a source with words, got source.kind {run.recipe.source.kind}")
    model = run.load_model(weights)
    # A CTC model reads no target.
    layer = getattr(model, f"{side}_embedding", None)
    if layer is None:
        raise UserError(f"--side {side}: needs a decoder with embeddings, got {run.recipe.model.decoder.kind}")
    table, first = np.asarray(layer.embeddings), features.spec.first_ordinary_id
    if words is None:
        indices = range(first, min(first + count, len(table)))
        return [features.vocabulary.tokens[index] for index in indices], table[list(indices)]
    rows = []
    for word in words:
        ids = [index for index in features.tokenize(tf.constant([word]))[0].numpy() if index >= first]
        if not ids:
            raise UserError(f"{word!r}: not in the {side} vocabulary")
        rows.append(table[ids].mean(axis=0))
    return list(words), np.stack(rows)
