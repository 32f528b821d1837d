"""From raw texts to padded batches. Each step is a function from Dataset to Dataset of dictionaries: it changes the
fields it knows and passes on the rest.

chunks = tokenize({"source": source_features, "target": target_features})(lines)
pairs, report = filter_pairs(chunks, {"source": 128, "target": 128}, spec.cache, "data.train")
batches = batch_by_tokens(spec)(shuffled_epochs(pairs, ...))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.segments import Rows, Table
from tfseq2seq.errors import UserError
from tfseq2seq.progress import progress_bar
from tfseq2seq.spec import BOS, EOS, PAD, DataSpec

_CHUNK = 2048
# The numbers that a chunk gives before the tokens of each field: kept, empty, too long, cut.
_COUNTS = 4

Step = Callable[[tf.data.Dataset], tf.data.Dataset]


@dataclass(frozen=True)
class CorpusReport:
    """What a corpus of texts holds and what was left out of it.

    Attributes:
        kept: examples.
        empty: examples left out because a field has no token.
        too_long: examples left out because a field has too many tokens.
        tokens: tokens kept of each field, <eos> included.
        cut: kept examples whose source was cut to the limit.
    """

    kept: int
    empty: int
    too_long: int
    tokens: Mapping[str, int]
    cut: int = 0

    @property
    def total(self) -> int:
        """All examples of the corpus."""
        return self.kept + self.empty + self.too_long

    def __add__(self, other: CorpusReport) -> CorpusReport:
        tokens = {name: count + other.tokens[name] for name, count in self.tokens.items()}
        empty, too_long = self.empty + other.empty, self.too_long + other.too_long
        return CorpusReport(self.kept + other.kept, empty, too_long, tokens, self.cut + other.cut)

    def __str__(self) -> str:
        noun = "pairs" if len(self.tokens) > 1 else "lines"
        counts = " and ".join(f"{count:,} {name}" for name, count in self.tokens.items())
        text = f"{self.kept:,} {noun}, {counts} tokens"
        if self.empty:
            text += f"; {self.empty:,} left out because {'a side' if len(self.tokens) > 1 else 'the line'} is empty"
        if self.too_long:
            limits = " or ".join(f"max_{name}_length" for name in self.tokens)
            text += f"; {self.too_long:,} left out because they are longer than {limits}"
        if self.cut:
            text += f"; the sources of {self.cut:,} were cut to max_source_length or truncate_source"
        return text


def tokenize(features: Mapping[str, Any], copying: Any = None) -> Step:
    """Examples of strings to chunks of ids: each field named in `features` becomes [C, (tokens)], rows ending with
    <eos>; other fields become [C, ...].

    Args:
        features: text features of each field of texts.
        copying: `features.copying.Copying` for a decoder that copies. It adds the field "copy_ids", and writes the
            target with the extended ids of words that it can copy.
    """

    def encode(lines: dict[str, tf.Tensor]) -> dict[str, Any]:
        ids = {name: side.ids(lines[name]) for name, side in features.items()}
        return {**lines, **ids, **(copying.encode(lines["source"], lines["target"]) if copying else {})}

    # A chunk at a time: a call for each line would cost more than the tokenizing.
    return lambda lines: lines.batch(_CHUNK).map(encode)


def filter_pairs(
    chunks: tf.data.Dataset, most: Mapping[str, int], cache: bool, name: str
) -> tuple[tf.data.Dataset, CorpusReport]:
    """Chunks to single examples of ids, without those that have an empty field or one of too many tokens.

    The corpus is tokenized here once to count, and again as the examples are read: with `cache` the first time only.

    Args:
        most: most tokens of each tokenized field, <eos> included. A field "cut" [C] tells how much of a source was cut;
            it is counted, and not passed on.
        cache: keep the examples in memory after the first pass.
        name: what the corpus is, for messages.

    Raises:
        UserError: no example is left.
    """
    names, sifted = list(most), chunks.map(_sift(most))
    totals = np.zeros(_COUNTS + len(names), "int64")
    with progress_bar(f"counting {name}") as advance:
        for numbers in sifted.map(lambda _, numbers: numbers).as_numpy_iterator():
            totals += numbers
            advance(int(numbers[:3].sum()))
    report = _report(totals, names)
    if not report.kept:
        raise UserError(f"{name}: no example is left to use: {report}")
    examples = kept_pairs(chunks, most)
    return examples.cache() if cache else examples, report


def kept_pairs(chunks: tf.data.Dataset, most: Mapping[str, int]) -> tf.data.Dataset:
    """As `filter_pairs`, without counting what is left out."""
    ragged = _ragged(chunks)

    def dense(example: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {**example, **{each: tf.ensure_shape(example[each], [None]) for each in ragged}}

    return chunks.map(_sift(most)).map(lambda chunk, _: chunk).unbatch().map(dense)


def pair_collector(
    chunks: tf.data.Dataset, most: Mapping[str, int], advance: Callable[[int], None]
) -> Callable[[], tuple[Table, CorpusReport]]:
    """As `filter_pairs`, to a table in memory, which may be empty.

    The length of an example is that of its longest field.

    Args:
        chunks, most: as in `filter_pairs`.
        advance: called with the number of examples that are read.

    Returns:
        A function that reads the chunks, each time anew.
    """
    names, ragged = list(most), _ragged(chunks)
    sifted = chunks.map(_sift(most), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
    signature = {
        each: tf.TensorSpec([None], spec.dtype) if each in ragged else tf.TensorSpec(spec.shape[1:], spec.dtype)
        for each, spec in sifted.element_spec[0].items()
    }

    def collect() -> tuple[Table, CorpusReport]:
        totals = np.zeros(_COUNTS + len(names), "int64")
        parts: dict[str, list[np.ndarray]] = {each: [] for each in signature}
        sizes: dict[str, list[np.ndarray]] = {each: [] for each in ragged}
        for chunk, numbers in sifted:
            for each, value in chunk.items():
                parts[each].append((value.flat_values if each in ragged else value).numpy())
            for each in ragged:
                sizes[each].append(chunk[each].row_lengths().numpy())
            totals += numbers.numpy()
            advance(int(numbers[:3].numpy().sum()))
        # A segment may be without any example.
        joined = {each: np.concatenate(found) if found else np.zeros(0, "int32") for each, found in parts.items()}
        lengths = {each: np.concatenate(found) if found else np.zeros(0, "int64") for each, found in sizes.items()}
        fields = {
            each: Rows(value, np.cumsum(lengths[each])) if each in ragged else value for each, value in joined.items()
        }
        longest = np.max(np.stack([lengths[each] for each in names]), axis=0)
        return Table(fields, longest, signature), _report(totals, names)

    return collect


def _ragged(chunks: tf.data.Dataset) -> set[str]:
    """The fields of chunks that have as many values in a row as its text has tokens."""
    return {each for each, spec in chunks.element_spec.items() if isinstance(spec, tf.RaggedTensorSpec)}


def _sift(most: Mapping[str, int]) -> Callable[[dict[str, Any]], tuple[dict[str, Any], tf.Tensor]]:
    """Keeps the rows of a chunk that have no empty and no too long field, and counts: kept, empty, too long, cut, and
    the tokens of each field."""

    def sift(chunk: dict[str, Any]) -> tuple[dict[str, Any], tf.Tensor]:
        cut = chunk.get("cut", tf.zeros([tf.shape(next(iter(chunk.values())))[0]], tf.int32))
        chunk = {each: value for each, value in chunk.items() if each != "cut"}
        lengths = tf.stack([chunk[each].row_lengths() for each in most], axis=1)
        # A text without any token has <eos> alone.
        empty = tf.reduce_any(lengths < 2, axis=1)
        long = tf.reduce_any(lengths > list(most.values()), axis=1) & ~empty
        kept = ~empty & ~long
        counts = tf.math.count_nonzero(tf.stack([kept, empty, long, kept & (cut > 0)]), axis=1)
        rows = tf.where(kept)[:, 0]
        tokens = tf.reduce_sum(tf.gather(lengths, rows), axis=0)
        return {each: tf.gather(value, rows) for each, value in chunk.items()}, tf.concat([counts, tokens], axis=0)

    return sift


def _report(totals: np.ndarray, names: Sequence[str]) -> CorpusReport:
    kept, empty, long, cut, *tokens = (int(number) for number in totals)
    return CorpusReport(kept, empty, long, dict(zip(names, tokens, strict=True)), cut)


def shuffled_epochs(examples: tf.data.Dataset, count: int, spec: DataSpec, seed: int) -> tf.data.Dataset:
    """The corpus again and again without end, each epoch in an order of its own that seed and epoch decide."""
    buffer = spec.shuffle_pairs or count

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        # The program's global seed would take part in the order; this sets that of this function's graph alone.
        # Not 0, which `shuffle` would compare with the epoch's seed, a tensor.
        tf.random.set_seed(1)
        return examples.shuffle(buffer, seed=number + seed * 1_000_003, reshuffle_each_iteration=False)

    return tf.data.Dataset.counter(dtype=tf.int64).flat_map(epoch)


def batch_by_tokens(spec: DataSpec, fields: Mapping[str, int]) -> BatchByLength:
    """Batches of examples of similar length, of at most `spec.batch_tokens` tokens on the longest side with padding.

    A batch is padded to its own longest example.

    Args:
        spec: limits of a batch. With `shapes: few` there are about ten buckets.
        fields: most tokens of each tokenized field.
    """
    most = max(fields.values())
    bounds = list(range(spec.bucket_width, most + spec.bucket_width, spec.bucket_width))
    if spec.shapes == "few":
        bounds = few_lengths(most)
    sizes = [max(1, spec.batch_tokens // bound) for bound in bounds]

    def length(example: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.reduce_max(tf.stack([tf.size(example[name]) for name in fields]))

    return batch_by_length(length, bounds, sizes, spec.batch_pairs)


def few_lengths(most: int) -> list[int]:
    """Returns rising lengths up to at least `most`, of which one is at most half as much again as the one before."""
    lengths = [8]
    while lengths[-1] < most:
        lengths.append(math.ceil(lengths[-1] * 1.3 / 4) * 4)
    return lengths


@dataclass(frozen=True)
class BatchByLength:
    """A step to padded batches of examples whose lengths lie in the same bucket.

    Attributes:
        length: of an example, a scalar.
        bounds: greatest length in each bucket, rising; no example is longer than the last.
        sizes: examples in a batch of each bucket.
        prepare: adds fields to an example before it is measured.
    """

    length: Callable[[dict[str, tf.Tensor]], tf.Tensor]
    bounds: Sequence[int]
    sizes: Sequence[int]
    prepare: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]] = lambda example: example

    def __call__(self, examples: tf.data.Dataset) -> tf.data.Dataset:
        prepared = examples.map(self.prepare)
        spec = prepared.element_spec
        # Boundaries are exclusive; nothing is longer than the last, whose bucket takes the last size again.
        return prepared.bucket_by_sequence_length(
            self.length,
            [bound + 1 for bound in self.bounds],
            [*self.sizes, self.sizes[-1]],
            padded_shapes={name: value.shape for name, value in spec.items()},
            padding_values={name: _padding(value.dtype) for name, value in spec.items()},
        )


def batch_by_length(
    length: Callable[[dict[str, tf.Tensor]], tf.Tensor], bounds: list[int], sizes: list[int], most: int = 0
) -> BatchByLength:
    """Padded batches of examples whose `length` lies in the same bucket.

    Args:
        length: of an example, a scalar.
        bounds: greatest length in each bucket, rising; no example is longer than the last.
        sizes: examples in a batch of each bucket.
        most: most examples in any batch; 0 for no limit.
    """
    return BatchByLength(length, bounds, [min(size, most) for size in sizes] if most else sizes)


def _padding(dtype: tf.DType) -> Any:
    return "" if dtype == tf.string else tf.constant(PAD, dtype)


def decoder_input(labels: tf.Tensor) -> tf.Tensor:
    """Labels [B, T] moved right by one, with <bos> first and without their <eos>."""
    begun = tf.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=BOS)
    return tf.where(tf.equal(begun, EOS), PAD, begun)
