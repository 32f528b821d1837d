"""From pairs of raw lines to padded batches for `fit`. Each step is a function from Dataset to Dataset:

chunks = tokenize(source_features, target_features)(lines)
pairs, report = drop_unfit(chunks, spec, "training")
batches = batch_by_tokens(spec)(shuffled_epochs(pairs, ...)).map(training_example)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.spec import BOS, EOS, PAD, DataSpec

_CHUNK = 2048

Step = Callable[[tf.data.Dataset], tf.data.Dataset]


@dataclass(frozen=True)
class CorpusReport:
    """What a corpus holds and what was left out of it.

    kept pairs; empty ones (nothing on a side); too_long ones; tokens kept on each side, <eos> included.
    """

    kept: int
    empty: int
    too_long: int
    source_tokens: int
    target_tokens: int

    def __str__(self) -> str:
        text = f"{self.kept:,} pairs, {self.source_tokens:,} source and {self.target_tokens:,} target tokens"
        if self.empty:
            text += f"; {self.empty:,} left out because a side is empty"
        if self.too_long:
            text += f"; {self.too_long:,} left out because they are longer than max_source_length or max_target_length"
        return text


def tokenize(source: Any, target: Any) -> Step:
    """Pairs of strings to chunks of pairs of ids, [C, (tokens)] on each side, each row ending with <eos>."""

    def encode(sources: tf.Tensor, targets: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        return _with_end(source.tokenize(sources)), _with_end(target.tokenize(targets))

    # A chunk at a time: a call for each line would cost more than the tokenizing.
    return lambda lines: lines.batch(_CHUNK).map(encode)


def filter_pairs(chunks: tf.data.Dataset, spec: DataSpec, name: str) -> tuple[tf.data.Dataset, CorpusReport]:
    """Chunks of pairs to single pairs of ids, [S] and [T], without those with an empty side or too many tokens.

    The corpus is tokenized here once to count, and again as the pairs are read: with `spec.cache` the first time only.

    Raises:
        UserError: no pair is left.
    """

    def sift(source: tf.RaggedTensor, target: tf.RaggedTensor) -> tuple[Any, Any, tf.Tensor]:
        lengths = tf.stack([source.row_lengths(), target.row_lengths()], axis=1)
        empty = tf.reduce_any(lengths < 2, axis=1)
        long = tf.reduce_any(lengths > [spec.max_source_length, spec.max_target_length], axis=1) & ~empty
        kept = ~empty & ~long
        counts = tf.math.count_nonzero(tf.stack([kept, empty, long]), axis=1)
        rows = tf.where(kept)[:, 0]
        tokens = tf.reduce_sum(tf.gather(lengths, rows), axis=0)
        return tf.gather(source, rows), tf.gather(target, rows), tf.concat([counts, tokens], axis=0)

    def dense(*rows: Any) -> tuple[tf.Tensor, ...]:
        return tuple(tf.ensure_shape(row, [None]) for row in rows)

    sifted = chunks.map(sift)
    total = sifted.map(lambda source, target, numbers: numbers).reduce(tf.zeros([5], tf.int64), tf.add)
    report = CorpusReport(*(int(number) for number in total))
    if not report.kept:
        raise UserError(f"{name}: no pair is left to use: {report}")
    pairs = sifted.map(lambda source, target, numbers: (source, target)).unbatch().map(dense)
    return pairs.cache() if spec.cache else pairs, report


def shuffled_epochs(pairs: tf.data.Dataset, count: int, spec: DataSpec, seed: int) -> tf.data.Dataset:
    """The corpus again and again without end, each epoch in an order of its own that seed and epoch decide."""
    buffer = spec.shuffle_pairs or count

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        # The program's global seed would take part in the order; this sets that of this function's graph alone.
        # Not 0, which `shuffle` would compare with the epoch's seed, a tensor.
        tf.random.set_seed(1)
        return pairs.shuffle(buffer, seed=number + seed * 1_000_003, reshuffle_each_iteration=False)

    return tf.data.Dataset.counter(dtype=tf.int64).flat_map(epoch)


def batch_by_tokens(spec: DataSpec) -> Step:
    """Batches of pairs of similar length, of at most `spec.batch_tokens` tokens on the longer side with padding.

    A batch is padded to its own longest pair.
    """
    most = max(spec.max_source_length, spec.max_target_length)
    bounds = list(range(spec.bucket_width, most + spec.bucket_width, spec.bucket_width))
    sizes = [max(1, spec.batch_tokens // bound) for bound in bounds]
    if spec.batch_pairs:
        sizes = [min(size, spec.batch_pairs) for size in sizes]

    def length(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.size(source), tf.size(target))

    # Boundaries are exclusive; nothing is longer than the last, whose bucket takes the last size again.
    return lambda pairs: pairs.bucket_by_sequence_length(
        length,
        [bound + 1 for bound in bounds],
        [*sizes, sizes[-1]],
        padded_shapes=([None], [None]),
        padding_values=(PAD, PAD),
    )


def training_example(source: tf.Tensor, target: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """(source [B, S], target [B, T]) to what `fit` takes: inputs, labels [B, T] and weights [B, T], 1 on tokens."""
    weights = tf.cast(tf.not_equal(target, PAD), tf.float32)
    return {"source": source, "target": decoder_input(target)}, target, weights


def decoder_input(labels: tf.Tensor) -> tf.Tensor:
    """Labels [B, T] moved one place, with <bos> first and without their <eos>."""
    begun = tf.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=BOS)
    return tf.where(tf.equal(begun, EOS), PAD, begun)


def _with_end(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    end = tf.fill(tf.stack([ids.nrows(out_type=tf.int32), 1]), EOS)
    return tf.concat([ids, end], axis=1)
