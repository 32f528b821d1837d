"""Pairs of raw lines from files: line files (plain or .gz), TSV tables, TFRecord.

Every file is checked once, whole, before anything is trained on it: a fault in line 900,000 is reported at the start
with its file and line, not hours later. Shards with an index were checked when they were written. Lines end at "\\n"
only.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfseq2seq.data.pair_shards import held_in_shards, held_pairs, pair_units, sample_size, sampled_texts
from tfseq2seq.data.records import checked_pairs, pairs_of_files
from tfseq2seq.data.segments import Selection, Units
from tfseq2seq.data.shard_index import Shard, indexed_shards, record_files
from tfseq2seq.errors import UserError
from tfseq2seq.files import check_parallel, expanded_path, iterate_lines
from tfseq2seq.progress import tracked
from tfseq2seq.spec import CorpusSpec, DataSpec

_CHUNK = 2048
_SEGMENT_PAIRS = 100_000


def expanded(spec: CorpusSpec) -> CorpusSpec:
    """The corpus with `~` and `$VARIABLES` in its paths replaced.

    Raises:
        UserError: a variable is not set.
    """
    paths = {field.name: expanded_path(getattr(spec, field.name)) for field in dataclasses.fields(spec)}
    return CorpusSpec(**paths)


def corpus_pairs(spec: CorpusSpec, name: str) -> tuple[tf.data.Dataset, int]:
    """Checks a corpus and opens it.

    Args:
        spec: where it is.
        name: what it is, for messages, such as "data.train".

    Returns:
        A dataset of {"source": string, "target": string}, and how many there are.

    Raises:
        UserError: nothing is given, or something is wrong in a file; the message says what and where.
    """
    spec = expanded(spec)
    if spec.records:
        files = _record_files(spec.records, f"{name}.records")
        if shards := indexed_shards(files, "pairs"):
            count = sum(shard.examples for shard in shards)
        else:
            count = _count(f"{name}.records", (pair for file in files for pair in checked_pairs(file)))
        if not count:
            raise UserError(f"{name}.records: {spec.records} holds no record")
        return pairs_of_files(files), count
    if spec.table:
        return pairs_dataset(lambda: table_rows(spec.table)), _count(f"{name}.table", table_rows(spec.table))
    if not spec.source:
        raise UserError(f"{name}: no corpus is given; set {name}.source and {name}.target, or table, or records")
    counts = [
        _count(f"{name}.{side}", iterate_lines(path))
        for side, path in (("source", spec.source), ("target", spec.target))
    ]
    check_parallel(f"{name}: {spec.source}", counts[0], spec.target, counts[1])
    return pairs_dataset(lambda: zip(iterate_lines(spec.source), iterate_lines(spec.target))), counts[0]


@dataclasses.dataclass(frozen=True)
class TrainingCorpora:
    """The pairs to train on and those to validate with, each a dataset of dictionaries of strings and its size.

    Attributes:
        held: the places of those training pairs that were kept out to validate with. Empty for shards with an index,
            whose units are without these pairs.
        units: the training pairs in units; None if they are to be kept in memory.
        texts: yields the training texts of a side, "source" or "target", to learn a vocabulary from.
        texts_told: a sentence about these texts; empty if they are all.
    """

    train: tf.data.Dataset
    train_count: int
    validation: tf.data.Dataset
    validation_count: int
    texts: Callable[[str], Iterator[bytes]]
    held: frozenset[int] = frozenset()
    units: Units | None = None
    texts_told: str = ""


def most_pairs(spec: DataSpec) -> int:
    """How many pairs are held in memory together where the corpus is not."""
    return spec.shuffle_pairs or _SEGMENT_PAIRS


def training_corpora(spec: DataSpec, seed: int) -> TrainingCorpora:
    """Checks and opens what a recipe trains on. Without validation files, `spec.holdout` training pairs serve as them.

    Args:
        spec: where the corpora are.
        seed: draws the pairs held out; equal seeds draw the same ones from the same corpus.

    Raises:
        UserError: as `corpus_pairs`, or there is nothing to validate with, or nothing left to train on.
    """
    if shards := _shards(spec.train, "data.train"):
        return _of_shards(shards, spec, seed)
    train, count = corpus_pairs(spec.train, "data.train")

    def read(side: str) -> Iterator[bytes]:
        return iterate_side(spec.train, side)

    if spec.validation.given:
        validation = corpus_pairs(spec.validation, "data.validation")
        return of_lines(train, count, *validation, frozenset(), spec, read)
    _check_validation(spec)
    return held_out(train, count, held_places(count, spec.holdout, seed), spec, read)


def _check_validation(spec: DataSpec) -> None:
    if not spec.validation.given and not spec.holdout:
        raise UserError(
            "data.validation: no corpus is given; set data.validation.source and data.validation.target, or table, or "
            "records, or let data.holdout take pairs out of the training corpus"
        )


def _shards(spec: CorpusSpec, name: str) -> list[Shard] | None:
    """The shards of a corpus, if it is one of shards with an index."""
    spec = expanded(spec)
    return indexed_shards(_record_files(spec.records, f"{name}.records"), "pairs") if spec.records else None


def _of_shards(shards: list[Shard], spec: DataSpec, seed: int) -> TrainingCorpora:
    _check_validation(spec)
    held = {} if spec.validation.given else held_in_shards(shards, spec.holdout, seed)
    if spec.validation.given:
        validation, validation_count = corpus_pairs(spec.validation, "data.validation")
    else:
        validation, validation_count = held_pairs(shards, held), spec.holdout
    units, whole = pair_units(shards, held), pair_units(shards, held)
    whole.select(range(len(shards)))
    each, told = sample_size(shards, spec.vocabulary_lines), ""
    count = sum(units.sizes)
    if each:
        told = told_of_texts(sum(min(each, shard.examples) for shard in shards), count)

    def texts(side: str) -> Iterator[bytes]:
        return sampled_texts(shards, held, spec.vocabulary_lines, side)

    return TrainingCorpora(whole.examples, count, validation, validation_count, texts, frozenset(), units, told)


def vocabulary_step(count: int, most: int) -> tuple[int, str]:
    """Of which training texts vocabularies are learned: every so many, and a sentence about it if they are not all.

    Args:
        count: the number of training examples.
        most: `data.vocabulary_lines`.
    """
    step = math.ceil(count / most) if most else 1
    return step, told_of_texts(-(-count // step), count) if step > 1 else ""


def told_of_texts(used: int, count: int) -> str:
    """A sentence about the number of examples that vocabularies are learned from."""
    return (
        f"vocabularies are learned from {used:,} of {count:,} training examples; data.vocabulary_lines sets the number"
    )


def of_lines(
    train: tf.data.Dataset,
    count: int,
    validation: tf.data.Dataset,
    validation_count: int,
    held: frozenset[int],
    spec: DataSpec,
    read: Callable[[str], Iterator[bytes]],
) -> TrainingCorpora:
    """Corpora of which the training examples are read from the first to the last.

    Args:
        train, count: the examples to train on, without those that are held out, and their number.
        validation, validation_count: the examples to validate with, and their number.
        held: the places of examples of the training corpus that are held out.
        spec: where the corpora are.
        read: yields the texts of a side of the whole training corpus, one for each example.
    """
    step, told = vocabulary_step(count, spec.vocabulary_lines)

    def texts(side: str) -> Iterator[bytes]:
        kept = (line for index, line in enumerate(read(side)) if index not in held)
        return itertools.islice(kept, 0, None, step)

    units = None if spec.cache else _ranges(train, count, most_pairs(spec))
    return TrainingCorpora(train, count, validation, validation_count, texts, held, units, told)


def _ranges(dataset: tf.data.Dataset, count: int, most: int) -> Units:
    """Units of `most` examples that follow each other. What is before them is read too, but not used."""

    selection = Selection()
    chosen = selection.dataset().flat_map(lambda number: dataset.skip(number * most).take(most))
    return Units([min(most, count - start) for start in range(0, count, most)], chosen, selection)


def held_out(
    train: tf.data.Dataset, count: int, held: frozenset[int], spec: DataSpec, read: Callable[[str], Iterator[bytes]]
) -> TrainingCorpora:
    """Corpora of which the examples at the places `held` of the training corpus are those to validate with.

    Args:
        train, count: the whole training corpus, and its number of examples.
        held, spec, read: as in `of_lines`.
    """
    mask = _mask(held, count)

    def part(wanted: bool) -> tf.data.Dataset:
        def chosen(index: tf.Tensor, chunk: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            size = tf.shape(next(iter(chunk.values())), tf.int64)[0]
            kept = tf.equal(mask[index * _CHUNK : index * _CHUNK + size], wanted)
            return {name: tf.boolean_mask(lines, kept) for name, lines in chunk.items()}

        # A chunk at a time: a call for each line takes more time than all other preparation of a corpus.
        return train.batch(_CHUNK).enumerate().map(chosen).unbatch()

    # Each pass over the few that are held out would read the whole corpus again.
    chunks = list(tracked(part(True).batch(_CHUNK).as_numpy_iterator(), "holding out data.train"))
    lines = {name: [line for chunk in chunks for line in chunk[name]] for name in train.element_spec}
    taken = tf.data.Dataset.from_tensor_slices({name: tf.constant(own) for name, own in lines.items()})
    return of_lines(part(False), count - len(held), taken, len(held), held, spec, read)


def line_corpora(spec: DataSpec, seed: int) -> TrainingCorpora:
    """As `training_corpora`, of the target lines alone: datasets of {"target": string}.

    Raises:
        UserError: as there.
    """

    def lines(corpus: CorpusSpec, name: str) -> tuple[tf.data.Dataset, int]:
        if not corpus.target:
            raise UserError(f"{name}.target: no file is given; a model without a source learns from its lines")
        path = expanded(corpus).target
        dataset = _dataset(lambda: ({"target": line} for line in iterate_lines(path)), ["target"])
        return dataset, _count(f"{name}.target", iterate_lines(path))

    train, count = lines(spec.train, "data.train")

    def read(side: str) -> Iterator[bytes]:
        return iterate_side(spec.train, side)

    if spec.validation.given:
        return of_lines(train, count, *lines(spec.validation, "data.validation"), frozenset(), spec, read)
    if not spec.holdout:
        raise UserError("data.validation.target: no file is given; give one, or let data.holdout take training lines")
    return held_out(train, count, held_places(count, spec.holdout, seed), spec, read)


def _count(key: str, examples: Iterable[Any]) -> int:
    """The number of examples, which are checked as they are read. `key` says which they are, for the progress bar."""
    return sum(1 for _ in tracked(examples, f"checking {key}"))


def held_places(count: int, holdout: int, seed: int) -> frozenset[int]:
    """Which `holdout` of `count` training examples are kept to validate with: the same for the same seed.

    Raises:
        UserError: nothing would be left to train on.
    """
    if holdout >= count:
        raise UserError(f"data.holdout: {holdout} of {count} training pairs leave nothing to train on")
    return frozenset(random.Random(f"holdout {seed}").sample(range(count), holdout))


def without_and_with(
    dataset: tf.data.Dataset, count: int, held: frozenset[int]
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """The elements of a dataset of `count` that are not at the places `held`, and those that are."""
    mask, indices = _mask(held, count), dataset.enumerate()

    def part(wanted: bool) -> tf.data.Dataset:
        chosen = indices.filter(lambda index, example: tf.equal(tf.gather(mask, index), wanted))
        return chosen.map(lambda index, example: example)

    return part(False), part(True)


def _mask(held: frozenset[int], count: int) -> tf.Tensor:
    """[count] bool, True at the places `held`."""
    return tf.scatter_nd([[index] for index in sorted(held)], [True] * len(held), [count])


def iterate_side(spec: CorpusSpec, side: str, held: Container[int] = ()) -> Iterator[bytes]:
    """The raw source or target lines of a corpus, for learning a vocabulary, without those at the places `held`."""
    return (line for index, line in enumerate(_side(spec, side)) if index not in held)


def _side(spec: CorpusSpec, side: str) -> Iterator[bytes]:
    spec, index = expanded(spec), 0 if side == "source" else 1
    if spec.records:
        yield from (pair[index] for file in _record_files(spec.records, "records") for pair in checked_pairs(file))
    elif spec.table:
        yield from (row[index] for row in table_rows(spec.table))
    else:
        yield from iterate_lines(spec.source if side == "source" else spec.target)


def _record_files(pattern: str, key: str) -> list[str]:
    files = record_files(pattern)
    if not files:
        raise UserError(f"{key}: no file matches {pattern}")
    return files


def pairs_dataset(read: Callable[[], Iterable[tuple[bytes, bytes]]]) -> tf.data.Dataset:
    """A dataset of {"source": string, "target": string} of the pairs that `read` gives, each time anew."""
    return _dataset(lambda: ({"source": source, "target": target} for source, target in read()), ["source", "target"])


def _dataset(read: Callable[[], Iterable[dict[str, bytes]]], names: list[str]) -> tf.data.Dataset:
    """What `read` gives, dictionaries of strings under `names`.

    Lines that were checked and counted in one way must not be read in another: `tf.data.TextLineDataset` drops every
    "\\r" and keeps a byte order mark.
    """

    def chunks() -> Iterator[dict[str, list[bytes]]]:
        examples = iter(read())
        while chunk := list(itertools.islice(examples, _CHUNK)):
            yield {name: [example[name] for example in chunk] for name in names}

    signature = {name: tf.TensorSpec([None], tf.string) for name in names}
    return tf.data.Dataset.from_generator(chunks, output_signature=signature).unbatch()


def table_rows(path: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the pairs of a TSV file.

    Raises:
        UserError: the file is faulty, or a line does not have two columns.
    """
    for number, line in enumerate(iterate_lines(path), start=1):
        row = line.split(b"\t")
        if len(row) != 2:
            raise UserError(f"{path}, line {number}: {len(row)} columns; source, one tab, target are expected")
        yield row[0], row[1]
