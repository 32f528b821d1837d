"""Byte-level BPE in graph, of all texts of a batch together; see `features/byte_level.py`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.features.byte_level import ENDINGS, SPACE, byte_ids, kind_of, parse_merges

# The first characters of two, three and four bytes in UTF-8.
_LONGER = (0x80, 0x800, 0x10000)
# A pair of ids is a number: the first one times this, and the second one. Ids are below it.
_PAIR = 1 << 31
_NEVER = (1 << 62) - 1
# Characters that follow each other and share a row of the table of kinds.
_BLOCK = 256


class ByteLevelTokenizer(tf.Module):
    """Text to ids in graph.

    Args:
        tokens: the vocabulary.
        merges: from a file, as `parse_merges` reads it.
    """

    def __init__(self, tokens: Sequence[str], merges: bytes):
        super().__init__(name="byte_level")
        self._bytes = tf.constant(byte_ids(tokens, "vocabulary"), tf.int64)
        blocks, kinds = _kinds_of_all()
        self._blocks, self._kinds = tf.constant(blocks), tf.constant(kinds)
        found = np.array(parse_merges(merges, tokens, "merges"), "int64").reshape(-1, 3)
        # A pair's value has its rank before the id of what it is merged to, so that the least value has the least rank.
        keys, values = found[:, 0] * _PAIR + found[:, 1], np.arange(len(found)) * _PAIR + found[:, 2]
        # A table must not be empty, as that of a vocabulary of bytes alone would be. No pair has this key.
        keys, values = np.append(keys, -1), np.append(values, _NEVER)
        self._pairs = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, values, tf.int64, tf.int64), default_value=_NEVER
        )

    def tokenize(self, text: Any) -> tf.RaggedTensor:
        """Strings [B] to ids [B, (tokens)] int32."""
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", replace_control_characters=False)
        letters = tf.strings.unicode_decode(text, "UTF-8")
        words = tf.cumsum(tf.cast(self._begins(letters.flat_values, letters.value_rowids()), tf.int32)) - 1
        sizes = 1 + tf.reduce_sum(tf.cast(letters.flat_values[:, tf.newaxis] >= _LONGER, tf.int32), axis=1)
        split = tf.strings.bytes_split(text)
        codes = tf.cast(tf.reshape(tf.io.decode_raw(split.flat_values, tf.uint8), [-1]), tf.int32)
        # All words of all texts are merged together: in the n-th round, each word has its n-th merge.
        ids, _, rows = self._merged(tf.gather(self._bytes, codes), tf.repeat(words, sizes), split.value_rowids())
        counts = tf.math.bincount(
            tf.cast(rows, tf.int32), minlength=tf.size(text), maxlength=tf.size(text), dtype=tf.int64
        )
        return tf.RaggedTensor.from_row_lengths(tf.cast(ids, tf.int32), counts, validate=False)

    def _begins(self, letters: Any, rows: Any) -> Any:
        """Where words begin, as `split_words` has them.

        Args:
            letters: [C] int32, the characters of all texts.
            rows: [C] int64, the text that each is in, rising.

        Returns:
            [C] bool.
        """
        kinds = tf.gather_nd(self._kinds, tf.stack([tf.gather(self._blocks, letters // _BLOCK), letters % _BLOCK], 1))

        def at(values: Any, offset: int, other: int) -> Any:
            """[C] the value `offset` places behind each one, or `other` behind the end of the text."""
            size = tf.size(values)
            places = tf.clip_by_value(tf.range(size) + offset, 0, size - 1)
            inside = tf.equal(tf.gather(rows, places), rows) & tf.equal(places, tf.range(size) + offset)
            return tf.where(inside, tf.gather(values, places), other)

        space, before, behind = tf.equal(kinds, SPACE), at(kinds, -1, -1), at(kinds, 1, -1)
        run_begins = tf.not_equal(kinds, before)
        # The last white space before another character begins a word; this other one does unless a space goes with it.
        last_space = space & tf.not_equal(behind, -1) & tf.not_equal(behind, SPACE)
        begins = tf.where(space, run_begins | last_space, run_begins & tf.not_equal(at(letters, -1, -1), ord(" ")))
        following, second = at(letters, 1, -1), at(letters, 2, -1)
        sizes = tf.zeros_like(letters)
        for ending in ENDINGS:
            found = tf.equal(following, ord(ending[0]))
            if len(ending) > 1:
                found &= tf.equal(second, ord(ending[1]))
            sizes = tf.where(found, len(ending), sizes)
        sizes = tf.where(begins & tf.equal(letters, ord("'")), sizes, 0)
        # An ending goes with its apostrophe, and the rest of the letters are a word of their own.
        begins &= tf.equal(at(sizes, -1, 0), 0)
        return begins | tf.equal(at(sizes, -2, 0), 1) | tf.equal(at(sizes, -3, 0), 2)

    def _merged(self, ids: Any, words: Any, rows: Any) -> tuple[Any, Any, Any]:
        """Merges the pairs of words.

        Args:
            ids: [M] int64.
            words: [M] int32, the number of the word that each is in, rising.
            rows: [M] int64, the text that each is in.

        Returns:
            The same of what is left.
        """

        def values_of(ids: Any, words: Any) -> Any:
            """[M] the value of the pair of each id and the one behind it."""
            found = self._pairs.lookup(ids[:-1] * _PAIR + ids[1:])
            inside = tf.where(tf.equal(words[:-1], words[1:]), found, _NEVER)
            return tf.pad(inside, [[0, tf.minimum(tf.size(ids), 1)]], constant_values=_NEVER)

        def merges(ids: Any, words: Any, rows: Any, values: Any) -> Any:
            return tf.reduce_any(values < _NEVER)

        def merge(ids: Any, words: Any, rows: Any, values: Any) -> tuple[Any, ...]:
            best = tf.math.segment_min(values, words)
            chosen = tf.logical_and(values < _NEVER, tf.equal(values, tf.gather(best, words)))
            # Of pairs that overlap, as in "aaa", every second one is merged.
            places = tf.range(tf.size(ids))
            begins = tf.logical_and(chosen, tf.logical_not(_before(chosen)))
            first = tf.concat([[0], tf.boolean_mask(places, begins)], axis=0)
            begin = tf.gather(first, tf.cumsum(tf.cast(begins, tf.int32)))
            chosen = tf.logical_and(chosen, tf.equal((places - begin) % 2, 0))
            merged = tf.where(chosen, values % _PAIR, ids)
            kept = tf.logical_not(_before(chosen))
            ids, words, rows = (tf.boolean_mask(each, kept) for each in (merged, words, rows))
            return ids, words, rows, values_of(ids, words)

        shapes = (tf.TensorShape([None]),) * 4
        ids, words, rows, _ = tf.while_loop(
            merges, merge, (ids, words, rows, values_of(ids, words)), shape_invariants=shapes
        )
        return ids, words, rows


def _before(flags: Any) -> Any:
    """[M] bool: each flag moved to the place behind it."""
    return tf.concat([tf.zeros_like(flags[:1]), flags[:-1]], axis=0)


@functools.cache
def _kinds_of_all() -> tuple[Any, Any]:
    """The kinds of all characters: the row of each block of them, [blocks] int32, and the rows, [R, block] int32."""
    kinds = np.array([kind_of.__wrapped__(chr(code)) for code in range(0x110000)], "int32").reshape(-1, _BLOCK)
    rows, blocks = np.unique(kinds, axis=0, return_inverse=True)
    return blocks.reshape(-1).astype("int32"), rows
