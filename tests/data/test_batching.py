"""From lines to batches: nothing is lost, nothing comes twice, nothing is larger than asked for."""

import random
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data import batching
from tfseq2seq.data.batching import (
    CorpusReport,
    batch_by_tokens,
    filter_pairs,
    shuffled_epochs,
    tokenize,
    training_example,
)
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.spec import BOS, EOS, PAD, DataSpec, TextSpec


@pytest.fixture(scope="module")
def sides():
    """Source in characters, target in words: a to d are ids 4 to 7 on both sides."""
    made = []
    for scheme in ("characters", "words"):
        spec = TextSpec(scheme=scheme)
        made.append(TextFeatures(spec, learn_vocabulary(["a", "b", "c", "d"], spec)))
    return made


def lines_of(pairs):
    return tf.data.Dataset.from_tensor_slices(tuple(tf.constant(side) for side in zip(*pairs)))


def pairs_of(count, longest=40, seed=1):
    """Pairs as `drop_unfit` gives them, of all lengths; the first id of each is its number."""
    draw = random.Random(seed)
    sides = [[[100 + i] + [9] * draw.randint(0, longest - 2) + [EOS] for i in range(count)] for _ in range(2)]
    ragged = tuple(tf.ragged.constant(side, dtype=tf.int32) for side in sides)
    dense = tf.data.Dataset.from_tensor_slices(ragged).map(lambda *rows: [tf.ensure_shape(r, [None]) for r in rows])
    return list(zip(*sides)), dense.map(lambda source, target: (source, target)).cache()


def rows(batch):
    return [tuple(tuple(row[row != PAD].tolist()) for row in pair) for pair in zip(*batch)]


def numbers(dataset):
    """The number of each pair, a batch at a time so that reading is quick."""
    return [n for batch in dataset.map(lambda source, target: source[0]).batch(500).as_numpy_iterator() for n in batch]


# ---- tokenize and drop_unfit ----------------------------------------------------------------------------------------

LINES = [
    ("ab", "a b"),
    ("", "a"),
    ("abcd", "a b c d"),
    ("a", "  "),
    ("abcd" * 2, "a"),
    ("a", "a b c d a"),
    ("dc", "d"),
    ("", "a b c d a b"),
]


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("chunk", [2, 2048])
def test_unfit_pairs_are_left_out_and_counted(monkeypatch, sides, cache, chunk):
    monkeypatch.setattr(batching, "_CHUNK", chunk)
    spec = DataSpec(max_source_length=6, max_target_length=5, cache=cache)
    pairs, report = filter_pairs(tokenize(*sides)(lines_of(LINES)), spec, "data.train")
    expected = [([4, 5, 3], [4, 5, 3]), ([4, 5, 6, 7, 3], [4, 5, 6, 7, 3]), ([7, 6, 3], [7, 3])]
    for _ in range(2):
        assert [(s.tolist(), t.tolist()) for s, t in pairs.as_numpy_iterator()] == expected
    assert report == CorpusReport(kept=3, empty=3, too_long=2, source_tokens=11, target_tokens=10)


def test_the_longest_that_is_allowed_stays(sides):
    def kept(source, target):
        spec = DataSpec(max_source_length=source, max_target_length=target)
        return filter_pairs(tokenize(*sides)(lines_of([("abc", "a b"), ("a", "a")])), spec, "data.train")[1].kept

    assert [kept(4, 3), kept(3, 2)] == [2, 1]


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("", "a"), ("a", " ")], "2 left out because a side is empty"),
        ([("abcde", "a")], "1 left out because they are"),
    ],
)
def test_no_pair_is_left(sides, pairs, reason):
    with pytest.raises(UserError, match="data.train: no pair is left") as caught:
        filter_pairs(tokenize(*sides)(lines_of(pairs)), DataSpec(max_source_length=5), "data.train")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_report_tells_what_was_left_out_and_why():
    assert str(CorpusReport(1000, 0, 0, 12345, 9)) == "1,000 pairs, 12,345 source and 9 target tokens"
    text = str(CorpusReport(1, 2, 3, 4, 5))
    assert "2 left out because a side is empty" in text
    assert "3 left out because they are longer than max_source_length or max_target_length" in text


@pytest.mark.parametrize("cache", [True, False])
def test_cache_keeps_the_tokenized_corpus(sides, cache):
    reads = []

    def counted(source, target):
        with tf.control_dependencies([tf.py_function(lambda: reads.append(1), [], [])]):
            return tf.identity(source), tf.identity(target)

    lines = lines_of([("a", "a"), ("b", "b c")] * 5).map(counted)
    spec = DataSpec(cache=cache)
    pairs, report = filter_pairs(tokenize(*sides)(lines), spec, "data.train")
    first = len(reads)
    assert first == 10, "counting reads the corpus once"
    for _ in shuffled_epochs(pairs, report.kept, spec, seed=1).take(40):
        pass
    for _ in pairs:
        pass
    if cache:
        assert len(reads) - first == 10
    else:
        assert len(reads) - first >= 50


# ---- batch_by_tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_pairs", [0, 3])
@pytest.mark.parametrize("width", [1, 7, 100])
def test_batches_keep_to_their_limits_and_lose_nothing(width, batch_pairs):
    expected, pairs = pairs_of(300)
    spec = DataSpec(
        max_source_length=40, max_target_length=40, batch_tokens=120, bucket_width=width, batch_pairs=batch_pairs
    )
    batches = list(batch_by_tokens(spec)(pairs).as_numpy_iterator())
    for source, target in batches:
        longest = max(source.shape[1], target.shape[1])
        assert len(source) == len(target)
        assert len(source) == 1 or len(source) * longest <= spec.batch_tokens
        assert not batch_pairs or len(source) <= batch_pairs
        assert (source != PAD).sum(1).max() == source.shape[1], "padded further than its longest source"
        assert (target != PAD).sum(1).max() == target.shape[1], "padded further than its longest target"
        lengths = np.maximum((source != PAD).sum(1), (target != PAD).sum(1))
        assert np.ptp(lengths) < width
    assert Counter(row for batch in batches for row in rows(batch)) == Counter(
        (tuple(source), tuple(target)) for source, target in expected
    )
    if width == 1 and not batch_pairs:
        # Buckets of equal lengths: all but the last batch of each are as full as they can be.
        full = [len(s) == 120 // max(s.shape[1], t.shape[1]) for s, t in batches]
        assert sum(not one for one in full) <= 40


@pytest.mark.parametrize("batch_tokens", [1, 10])
def test_pair_larger_than_a_batch_comes_alone(batch_tokens):
    expected, pairs = pairs_of(20)
    long = [max(map(len, pair)) * 2 > batch_tokens for pair in expected]
    spec = DataSpec(max_source_length=40, max_target_length=40, batch_tokens=batch_tokens, bucket_width=1)
    batches = list(batch_by_tokens(spec)(pairs).as_numpy_iterator())
    assert sum(len(source) == 1 for source, _ in batches) >= sum(long)
    assert sum(len(source) for source, _ in batches) == 20


def test_longest_side_decides(sides):
    pairs, _ = filter_pairs(
        tokenize(*sides)(lines_of([("abcdabcda", "a"), ("a", "a b c d a b c d a")] * 4)), DataSpec(), "data.train"
    )
    spec = DataSpec(batch_tokens=20, bucket_width=10, max_source_length=10, max_target_length=5)
    assert [len(source) for source, _ in batch_by_tokens(spec)(pairs)] == [2] * 4


# ---- shuffled_epochs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [0, 7, 60, 1000])
def test_each_epoch_holds_every_pair_once_in_an_order_of_its_own(buffer):
    _, pairs = pairs_of(60)
    spec = DataSpec(shuffle_pairs=buffer)
    found = numbers(shuffled_epochs(pairs, 60, spec, seed=3).take(4 * 60))
    epochs = [found[index : index + 60] for index in range(0, 240, 60)]
    in_order = list(range(100, 160))
    assert all(sorted(epoch) == in_order for epoch in epochs)
    assert len({tuple(epoch) for epoch in [in_order, *epochs]}) == 5


@pytest.mark.parametrize("buffer", [0, 7])
def test_seed_decides_the_order(buffer):
    _, pairs = pairs_of(60)
    spec = DataSpec(shuffle_pairs=buffer)
    first = numbers(shuffled_epochs(pairs, 60, spec, seed=3).take(150))
    assert numbers(shuffled_epochs(pairs, 60, spec, seed=3).take(150)) == first
    orders = {tuple(numbers(shuffled_epochs(pairs, 60, spec, seed=seed).take(60))) for seed in range(4)}
    assert len(orders) == 4


@pytest.mark.parametrize("program_seed", [0, 5])
def test_the_order_is_the_same_whatever_seed_the_program_has_set(program_seed):
    _, pairs = pairs_of(60)
    order = numbers(shuffled_epochs(pairs, 60, DataSpec(), seed=3).take(60))
    tf.random.set_seed(program_seed)
    try:
        assert numbers(shuffled_epochs(pairs, 60, DataSpec(), seed=3).take(60)) == order
    finally:
        tf.random.set_seed(None)


@pytest.mark.parametrize("cache", [True, False])
def test_skipping_batches_continues_the_same_stream(sides, cache):
    draw = random.Random(5)
    lines = lines_of([("".join(draw.choices("abcd", k=draw.randint(1, 9))), "a b") for _ in range(50)])
    spec = DataSpec(batch_tokens=30, cache=cache)

    def stream():
        pairs, report = filter_pairs(tokenize(*sides)(lines), spec, "data.train")
        return batch_by_tokens(spec)(shuffled_epochs(pairs, report.kept, spec, seed=1))

    whole = [rows(batch) for batch in stream().take(40).as_numpy_iterator()]
    assert [rows(batch) for batch in stream().skip(23).take(17).as_numpy_iterator()] == whole[23:]


def test_training_loses_no_pair_between_epochs():
    # Batches may join the end of an epoch and the beginning of the next; over many, all pairs come equally often.
    _, pairs = pairs_of(50, longest=12)
    spec = DataSpec(max_source_length=12, max_target_length=12, batch_tokens=24, bucket_width=4)
    counts = Counter()
    for source, _ in batch_by_tokens(spec)(shuffled_epochs(pairs, 50, spec, seed=1)).take(500).as_numpy_iterator():
        counts.update(source[:, 0].tolist())
    assert len(counts) == 50
    assert max(counts.values()) - min(counts.values()) <= 3


# ---- training_example -----------------------------------------------------------------------------------------------


def test_training_example_shifts_and_weighs():
    source = tf.constant([[5, 6, EOS], [7, EOS, PAD]])
    target = tf.constant([[8, 9, 5, EOS], [6, EOS, PAD, PAD]])
    inputs, labels, weights = training_example(source, target)
    assert inputs["source"].numpy().tolist() == source.numpy().tolist()
    assert inputs["target"].numpy().tolist() == [[BOS, 8, 9, 5], [BOS, 6, PAD, PAD]]
    assert labels.numpy().tolist() == target.numpy().tolist()
    assert weights.numpy().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert weights.dtype == tf.float32


def test_training_example_of_every_batch():
    _, pairs = pairs_of(100)
    spec = DataSpec(max_source_length=40, max_target_length=40, batch_tokens=200)
    for inputs, labels, weights in batch_by_tokens(spec)(pairs).map(training_example).as_numpy_iterator():
        begun, real = inputs["target"], labels != PAD
        assert begun.shape == labels.shape == weights.shape
        assert (weights == real).all()
        assert (begun[:, 0] == BOS).all()
        assert EOS not in begun
        assert ((begun != PAD) == real).all(), "each real label has an input"
        for row, label in zip(begun, labels):
            assert row[row != PAD].tolist() == [BOS, *label[label != PAD].tolist()[:-1]]
