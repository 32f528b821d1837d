"""Training batches from any position: each epoch has every example once, and a stream that is continued is the same."""

import json
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.segments import BatchStream, Rows, Segments, Selection, Table, Units, plan_batches
from tfseq2seq.errors import UserError

BOUNDS, SIZES = [2, 4, 8, 16], [16, 8, 4, 2]
SIGNATURE = {"number": tf.TensorSpec([], tf.int64), "text": tf.TensorSpec([None], tf.int32)}


class Report:
    """What was left out of numbers: those that nothing but seven divides."""

    def __init__(self, kept, total):
        self.kept, self.total = kept, total

    def __add__(self, other):
        return Report(self.kept + other.kept, self.total + other.total)

    def __str__(self):
        return f"{self.kept} of {self.total}"


def length_of(number):
    return 1 + number * 7919 % 16


def collector(units, opened, factor=1):
    """Reads a table of numbers, each with a text as long as `length_of` it. Multiples of 7 are left out."""

    def collect():
        opened.append(tuple(units.selection.units))
        given = [number * factor for number in units.examples.as_numpy_iterator()]
        kept = [number for number in given if number % 7]
        lengths = np.array([length_of(number) for number in kept], "int64")
        rows = Rows(np.concatenate([np.full(size, 5, "int32") for size in [0, *lengths]]), np.cumsum(lengths))
        return Table({"number": np.array(kept, "int64"), "text": rows}, lengths, SIGNATURE), Report(
            len(kept), len(given)
        )

    return collect


def segments_of(sizes, most, seed=1, opened=None, factor=1):
    """Segments of units of numbers that follow each other."""
    selection, starts = Selection(), tf.constant(np.cumsum([0, *sizes]), tf.int64)
    numbers = selection.dataset().flat_map(lambda unit: tf.data.Dataset.range(starts[unit], starts[unit + 1]))
    units = Units(sizes, numbers, selection)
    return Segments(units, most, collector(units, [] if opened is None else opened, factor), seed)


def stream_of(sizes=(50, 40, 60, 30, 20), most=100, seed=1, opened=None, told=None, together=0):
    segments = segments_of(sizes, most, seed, opened)
    said = told if told is not None else []
    return BatchStream(segments, BOUNDS, SIZES, together, seed, "data.train", lambda report: said.append(str(report)))


def drawn(dataset, count):
    return [tuple(batch["number"].tolist()) for batch in dataset.take(count).as_numpy_iterator()]


def epochs_of(batches, size):
    """The numbers of each whole epoch of so many examples."""
    numbers = [number for batch in batches for number in batch]
    return [numbers[start : start + size] for start in range(0, len(numbers) - size + 1, size)]


KEPT = sum(1 for number in range(200) if number % 7)

# ---- plan_batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [0, 30, 1000])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_a_plan_has_each_example_once_in_batches_that_keep_to_their_sizes(count, together):
    lengths = np.array([length_of(number) for number in range(count)], "int64")
    plan = plan_batches(lengths, BOUNDS, SIZES, np.random.default_rng(1), together)
    assert sorted(index for batch in plan for index in batch) == list(range(count))
    allowed = [SIZES[np.searchsorted(BOUNDS, lengths[batch].max())] for batch in plan]
    assert all(len(batch) <= size for batch, size in zip(plan, allowed))
    assert sum(len(batch) < size for batch, size in zip(plan, allowed)) <= 1, "more than one batch could be larger"


def test_full_batches_of_a_plan_have_lengths_of_one_bucket():
    lengths = np.array([length_of(number) for number in range(2000)], "int64")
    plan = plan_batches(lengths, BOUNDS, SIZES, np.random.default_rng(1))
    mixed = [batch for batch in plan if len(set(np.searchsorted(BOUNDS, lengths[batch]).tolist())) > 1]
    assert len(mixed) <= len(BOUNDS)


def test_examples_that_are_shuffled_together_follow_each_other():
    plan = plan_batches(np.full(1000, 2), BOUNDS, SIZES, np.random.default_rng(1), together=100)
    spread = [int(batch.max() - batch.min()) for batch in plan]
    assert np.median(spread) < 100
    assert (
        np.median(
            [int(b.max() - b.min()) for b in plan_batches(np.full(1000, 2), BOUNDS, SIZES, np.random.default_rng(1))]
        )
        > 500
    )


# ---- Table ----------------------------------------------------------------------------------------------------------


def test_a_table_pads_each_field_by_its_kind():
    sizes = [3, 1, 2]
    examples = tf.data.Dataset.from_tensor_slices(sizes).map(
        lambda size: {
            "samples": tf.ones([size], tf.float32),
            "words": tf.fill([size], "w"),
            "frames": tf.fill([size, 2], tf.constant(7, tf.int32)),
            "size": size,
            "name": tf.strings.as_string(size),
        }
    )
    examples = examples.map(lambda one: {**one, "frames": tf.ensure_shape(one["frames"], [None, 2])})
    table = Table.of_examples(examples.map(lambda one: (one, one["size"])))
    assert table.lengths.tolist() == sizes
    batch = table.batch(np.array([1, 0]))
    assert batch["samples"].tolist() == [[1, 0, 0], [1, 1, 1]] and batch["samples"].dtype == np.float32
    assert batch["words"].tolist() == [[b"w", b"", b""], [b"w"] * 3]
    assert batch["frames"].tolist() == [[[7, 7], [0, 0], [0, 0]], [[7, 7]] * 3]
    assert batch["size"].tolist() == [1, 3] and batch["name"].tolist() == [b"1", b"3"]
    dataset = tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=table.batch_signature())
    (found,) = dataset.as_numpy_iterator()
    assert found["words"].tolist() == batch["words"].tolist()


# ---- BatchStream ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(200,), (50, 40, 60, 30, 20), (10,) * 20, (150, 50)], ids=str)
def test_each_epoch_has_every_example_once_in_an_order_of_its_own(sizes):
    epochs = epochs_of(drawn(stream_of(sizes).dataset(), 250), KEPT)
    assert len(epochs) > 2
    assert all(sorted(epoch) == [number for number in range(200) if number % 7] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_each_epoch_draws_segments_of_other_units():
    segments = segments_of((10,) * 20, 50)
    epochs = [segments.of_epoch(epoch) for epoch in range(3)]
    assert all(len(epoch) == 4 and sorted(unit for one in epoch for unit in one) == list(range(20)) for epoch in epochs)
    assert len({frozenset(map(frozenset, epoch)) for epoch in epochs}) == 3
    assert segments_of((10,) * 20, 50, seed=2).of_epoch(0) != epochs[0]


@pytest.mark.parametrize("together", [0, 30])
@pytest.mark.parametrize("sizes", [(200,), (50, 40, 60, 30, 20)], ids=["one segment", "several segments"])
def test_a_stream_that_is_continued_from_a_position_is_the_same(sizes, together):
    whole = stream_of(sizes, together=together)
    batches = drawn(whole.dataset(), 160)
    for count in [0, 1, 31, 58, 77, 149]:
        position = json.loads(json.dumps(whole.position(count)))
        again = stream_of(sizes, together=together)
        assert drawn(again.dataset(position), 160 - count) == batches[count:]
        # A position of a dataset that began at one counts from there.
        assert drawn(stream_of(sizes, together=together).dataset(again.position(1)), 10) == batches[count + 1 :][:10]


def test_a_position_does_not_depend_on_what_is_prepared_ahead():
    stream = stream_of()
    expected = drawn(stream.dataset(), 150)
    iterator = iter(stream.dataset().prefetch(100))
    for count in range(1, 50):
        batch = tuple(next(iterator)["number"].numpy().tolist())
        assert batch == expected[count - 1]
        if count % 7 == 0:
            assert drawn(stream_of().dataset(stream.position(count)), 1) == expected[count : count + 1]


def test_another_iterator_of_a_dataset_counts_anew():
    # Keras draws one batch to build a model, and begins again.
    stream = stream_of()
    dataset = stream.dataset()
    next(iter(dataset))
    batches = drawn(dataset, 40)
    assert drawn(stream_of().dataset(stream.position(35)), 5) == batches[35:]


def test_continuing_reads_no_segment_before_the_position():
    stream = stream_of()
    batches = drawn(stream.dataset(), 150)
    count = next(
        count for count in range(150) if stream.position(count)["epoch"] == 1 and stream.position(count)["segment"] == 1
    )
    opened = []
    assert drawn(stream_of(opened=opened).dataset(stream.position(count)), 2) == batches[count : count + 2]
    assert opened[0] == stream.segments.of_epoch(1)[1]
    assert len(opened) <= 2, "the segment and the one after it"


def test_a_corpus_of_one_segment_is_read_once():
    opened = []
    stream = stream_of((200,), opened=opened)
    drawn(stream.dataset(), 100)
    drawn(stream.dataset(), 100)
    assert opened == [(0,)]


def test_what_is_left_out_is_told_after_the_first_epoch():
    told = []
    stream = stream_of(told=told)
    drawn(stream.dataset(), 10)
    assert told == []
    drawn(stream.dataset(), 150)
    assert told == [f"{KEPT} of 200"]
    # A dataset that begins within an epoch does not see it all.
    told = []
    drawn(stream_of(told=told).dataset({"epoch": 3, "segment": 1, "batch": 0}), 10)
    assert told == []


def test_a_corpus_of_which_nothing_is_left_ends_with_an_error():
    segments = segments_of((1, 1), 1, factor=0)
    stream = BatchStream(segments, BOUNDS, SIZES, 0, 1, "data.train", lambda report: None)
    with pytest.raises(tf.errors.OpError):
        next(iter(stream.dataset()))
    assert isinstance(stream.fault, UserError)
    assert str(stream.fault) == "data.train: no example is left to use: 0 of 2"


@pytest.mark.parametrize(
    "position",
    [{}, {"epoch": 0, "segment": 0}, {"epoch": -1, "segment": 0, "batch": 0}, {"epoch": "0", "segment": 0, "batch": 0}],
    ids=str,
)
def test_a_position_that_is_none_is_refused(position):
    with pytest.raises(UserError, match="the position in the training data must have the whole numbers epoch, segment"):
        stream_of().dataset(position)


def test_a_position_behind_the_end_of_a_corpus_that_shrank_goes_on_with_the_next_epoch():
    batches = drawn(stream_of().dataset({"epoch": 0, "segment": 99, "batch": 5}), 5)
    assert batches == drawn(stream_of().dataset({"epoch": 1, "segment": 0, "batch": 0}), 5)


def test_buckets_are_filled_as_well_as_in_a_stream_without_segments():
    counts = Counter(len(batch) for batch in drawn(stream_of((2000,)).dataset(), 1000))
    assert sum(number for size, number in counts.items() if size in SIZES) > 0.98 * 1000
