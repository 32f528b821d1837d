"""Turns of dialogues to token ids, in graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.features.text import TextFeatures, around
from tfseq2seq.features.turns import SPEAKER_MARK, TURN_END
from tfseq2seq.spec import EOS
from tfseq2seq.spec.limits import BYTES_PER_TOKEN, NO_TURN, cut_turns, too_many_bytes, too_many_tokens

# A turn with a mark, and the characters that text cannot have; see `features/turns.py`.
_MARKED, _BARRED = f"(?s){SPEAKER_MARK}([0-9]).*", f"[{TURN_END}{SPEAKER_MARK}]"


class ContextFeatures:
    """The last turns of dialogues as ids: each turn begins with the token of its speaker, and the last ends with <eos>.

    A turn without any token has no speaker's token either. What is longer than the limit is cut: the oldest turns as a
    whole, and only of a last turn that is too long itself the beginning.

    Args:
        text: text features of turns.
        speakers: reserved tokens of `text`: of the one who answers, and of the others.
        history: the number of turns that are read before the last one.
        most: the largest number of tokens of a context, with <eos>.
    """

    def __init__(self, text: TextFeatures, speakers: Sequence[str], history: int, most: int):
        self.text, self.history, self.most = text, history, most
        # Looked up here: tf.data would convert the lookup into a graph.
        self._tags = [text.reserved_id(token) for token in speakers]

    def split(self, joined: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Strings [B] with U+001E between turns to turns [B, N] and their number [B]."""
        turns = tf.strings.split(joined, TURN_END)
        return turns.to_tensor(""), tf.cast(turns.row_lengths(), tf.int32)

    def window(self, turns: Any, count: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The last H + 1 turns of turns [B, N], of which there are `count` [B]: texts and speakers' tokens [B, H + 1].

        Texts are "" where there is no turn.
        """
        size = self.history + 1
        # No turn at all has a column too.
        turns = tf.pad(turns, [[0, 0], [0, 1]], constant_values="")
        before = tf.range(size - 1, -1, -1)
        places = tf.expand_dims(tf.minimum(count, tf.shape(turns)[1] - 1), 1) - 1 - before
        chosen = tf.gather(turns, tf.maximum(places, 0), batch_dims=1)
        chosen = tf.where(places >= 0, chosen, "")
        has_mark = tf.strings.regex_full_match(chosen, _MARKED)
        digits = tf.where(has_mark, tf.strings.regex_replace(chosen, _MARKED, r"\1", replace_global=False), "0")
        # Without marks the last turn is of the other speaker, and the one before it of the one who answers.
        numbers = tf.where(has_mark, tf.strings.to_number(digits, tf.int32), (before + 1) % 2)
        texts = tf.strings.regex_replace(chosen, f"^{SPEAKER_MARK}[0-9]", "", replace_global=False)
        tags = tf.gather(tf.constant(self._tags), tf.minimum(numbers, len(self._tags) - 1))
        return tf.strings.regex_replace(texts, _BARRED, " "), tags

    def ids(self, turns: Any, count: Any) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Turns [B, N], of which there are `count` [B], to ids [B, (tokens)], and how many of the turns were cut [B].

        A turn of which only a part was cut counts too.
        """
        texts, tags = self.window(turns, count)
        size = self.history + 1
        # A turn of megabytes is not split into tokens only to be cut off. The last one is needed in any case.
        fits = tf.logical_or(tf.strings.length(texts) <= BYTES_PER_TOKEN * self.most, tf.range(size) == size - 1)
        tokens = self.text.tokenize(tf.reshape(tf.where(fits, texts, ""), [-1]))
        has_tokens = tf.cast(tokens.row_lengths() > 0, tokens.row_splits.dtype)
        starts = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(tf.reshape(tags, [-1]), has_tokens > 0), has_tokens, validate=False
        )
        turns_ids, shortened = self._shorten(tf.concat([starts, tokens], axis=1))
        kept, dropped = self._kept(tf.reshape(turns_ids.row_lengths(), [-1, size]), fits)
        ids = tf.ragged.boolean_mask(turns_ids, tf.reshape(kept, [-1]))
        counts = tf.reduce_sum(tf.cast(kept, ids.row_splits.dtype), axis=1)
        ids = tf.RaggedTensor.from_row_lengths(ids, counts, validate=False).merge_dims(1, 2)
        ends = tf.fill(tf.stack([ids.nrows(out_type=tf.int32), 1]), EOS)
        return tf.concat([ids, ends], axis=1), dropped + shortened

    def _kept(self, lengths: Any, fits: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Which turns are kept, bool [B, H + 1], given their numbers of tokens, and how many with text are not [B]."""
        # From a turn that is too long to be split on, everything older is cut.
        sizes = tf.where(fits, lengths, self.most)
        totals = tf.cumsum(sizes, axis=1, reverse=True) + 1
        kept = totals <= self.most
        kept = tf.concat([kept[:, :-1], tf.ones_like(kept[:, -1:])], axis=1)
        dropped = tf.logical_and(tf.logical_not(kept), sizes > 0)
        return kept, tf.reduce_sum(tf.cast(dropped, tf.int32), axis=1)

    def _shorten(self, ids: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Cuts the beginning of last turns that are too long themselves, but not their speakers' tokens."""
        size = self.history + 1
        is_last = tf.tile(tf.range(size) == size - 1, [ids.nrows(out_type=tf.int32) // size])
        excess = tf.where(is_last, tf.maximum(ids.row_lengths() + 1 - self.most, 0), 0)
        places = tf.ragged.range(ids.row_lengths(), row_splits_dtype=ids.row_splits.dtype)
        each = tf.gather(excess, ids.value_rowids())
        kept = tf.logical_or(tf.equal(places.flat_values, 0), places.flat_values > each)
        shorter = tf.ragged.boolean_mask(ids, ids.with_flat_values(kept))
        return shorter, tf.cast(tf.reshape(excess, [-1, size])[:, -1] > 0, tf.int32)

    def errors(self, turns: Any, count: Any, most: int) -> tf.Tensor:
        """Messages [B] about dialogues that cannot be answered, as nothing is read or the last turn is too long; or "".

        Args:
            turns, count: as in `ids`.
            most: the largest number of tokens of the last turn, with its speaker's token and <eos>.
        """
        last = self.window(turns, count)[0][:, -1]
        size = tf.strings.length(last)
        huge = size > BYTES_PER_TOKEN * most
        tokens = tf.cast(self.text.tokenize(tf.where(huge, "", last)).row_lengths(), tf.int32) + 2
        error = tf.where(tokens > most, around(too_many_tokens(most), tokens), "")
        is_empty = self.ids(tf.where(tf.expand_dims(huge, 1), "", turns), count)[0].row_lengths() < 2
        error = tf.where(is_empty, NO_TURN, error)
        return tf.where(huge, around(too_many_bytes(most), size), error)

    def told(self, cut: Any) -> tf.Tensor:
        """Messages [B] about contexts of which turns were cut [B]; "" for others."""
        return tf.where(cut > 0, around(cut_turns(self.most), cut), "")
