"""What a decoder can copy: the target ids of source tokens, in graph. `layers/copying.py` tells what they are for.

Where tokens are whole words or characters, a source word that the target vocabulary lacks has an extended id: V + the
position of its first occurrence in this source. A target word that only the source has gets that id as its label. The
words are compared as the text features of each side normalize them, and are written as those of the source do.

Subwords have no extended ids. A subword of the source can be copied if the target vocabulary has a token of the same
spelling. Others are <unk> to the copying decoder, which learns to generate there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.features.text import TextFeatures
from tfseq2seq.spec import EOS, SPECIAL_TOKENS, UNK


class Copying:
    """Target ids of the tokens of sources.

    Args:
        source, target: text features of both sides, of the same scheme.
        extended: whether source words that the target vocabulary lacks have ids.
    """

    def __init__(self, source: TextFeatures, target: TextFeatures, extended: bool):
        self.source, self.target, self.extended = source, target, extended
        known = {token: index for index, token in enumerate(target.vocabulary.tokens)}
        table = [known.get(token, UNK) for token in source.vocabulary.tokens]
        table[: len(SPECIAL_TOKENS)] = range(len(SPECIAL_TOKENS))
        for index in source.spec.begin_ids:
            # No output has it, and text cannot spell it.
            table[index] = UNK
        self._table = np.array(table, "int32")

    def encode(self, source: Any, target: Any) -> dict[str, tf.RaggedTensor]:
        """Strings [B] of both sides to {"copy_ids": [B, (S)], "target": labels [B, (T)]}."""
        if not self.extended:
            return {"copy_ids": self.mapped(self.source.ids(source)), "target": self.target.ids(target)}
        words = self.source.words(source)
        return {"copy_ids": self.copy_ids(words), "target": self.target_ids(target, words)}

    def mapped(self, ids: Any) -> Any:
        """Source ids [B, S], dense or ragged, to the target ids of the same tokens, without extended ids."""
        return tf.gather(tf.constant(self._table), ids)

    def copy_ids(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Source words [B, (S)] from `TextFeatures.words` to target ids, extended where the vocabulary lacks a word."""
        flat = words.flat_values
        ids = self.target.word_ids(flat)
        unknown = tf.logical_and(tf.equal(ids, UNK), tf.not_equal(flat, ""))
        _, first = _first_positions(words, words)
        ids = tf.where(unknown, self.target.size + first, ids)
        is_last = tf.equal(_positions(words) + 1, tf.gather(_lengths(words), words.value_rowids()))
        return words.with_flat_values(tf.where(is_last, EOS, ids))

    def target_ids(self, text: Any, words: tf.RaggedTensor, end: bool = True) -> tf.RaggedTensor:
        """Target strings [B] to ids [B, (T)], extended where the vocabulary lacks a word that the source has.

        Args:
            text: the strings.
            words: strings [B, (S)], the words of the sources from `TextFeatures.words`; more "" may follow.
            end: whether <eos> follows the text.
        """
        ids, own = self.target.ids(text, end), self.target.words(text)
        found, first = _first_positions(own, words)
        if not end:
            kept = tf.equal(_positions(own) + 1, tf.gather(_lengths(own), own.value_rowids()))
            found, first = (tf.boolean_mask(each, tf.logical_not(kept)) for each in (found, first))
        copied = tf.logical_and(tf.equal(ids.flat_values, UNK), found)
        return ids.with_flat_values(tf.where(copied, self.target.size + first, ids.flat_values))


def _first_positions(asked: tf.RaggedTensor, words: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether each of the words [B, (T)] is in the row of `words` [B, (S)], and the first position where it is.

    Returns:
        Bool [N] and int32 [N] for the N words asked for in all rows. "" is in no row.
    """
    # Words are told apart together with the number of their row. The time is linear in the number of words.
    keys = [
        tf.strings.join([tf.strings.as_string(each.value_rowids()), " ", each.flat_values]) for each in (words, asked)
    ]
    distinct, indices = tf.unique(tf.concat(keys, axis=0))
    count = tf.size(keys[0])
    none = tf.fill([tf.size(keys[1])], tf.int32.max)
    positions = tf.concat([_positions(words), none], axis=0)
    first = tf.gather(tf.math.unsorted_segment_min(positions, indices, tf.size(distinct)), indices[count:])
    found = tf.logical_and(first < tf.int32.max, tf.not_equal(asked.flat_values, ""))
    return found, tf.where(found, first, 0)


def _positions(words: tf.RaggedTensor) -> tf.Tensor:
    """The position of each word in its row, [N] int32."""
    starts = tf.gather(words.row_starts(), words.value_rowids())
    return tf.range(tf.size(words.flat_values)) - tf.cast(starts, tf.int32)


def _lengths(words: tf.RaggedTensor) -> tf.Tensor:
    return tf.cast(words.row_lengths(), tf.int32)
