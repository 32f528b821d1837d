"""From lines to batches: nothing is lost, nothing comes twice, nothing is larger than asked for."""

import random
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data import batching
from tfseq2seq.data.batching import (
    CorpusReport,
    batch_by_length,
    batch_by_tokens,
    decoder_input,
    filter_pairs,
    shuffled_epochs,
    tokenize,
)
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.spec import BOS, EOS, PAD, DataSpec, TextSpec

FIELDS = ("source", "target")


@pytest.fixture(scope="module")
def sides():
    """Source in characters, target in words: a to d are ids 4 to 7 on both sides."""
    made = {}
    for name, scheme in zip(FIELDS, ("characters", "words")):
        spec = TextSpec(scheme=scheme)
        made[name] = TextFeatures(spec, learn_vocabulary(["a", "b", "c", "d"], spec))
    return made


def most(source=128, target=128):
    """The longest that each field may be."""
    return {"source": source, "target": target}


def lines_of(pairs):
    return tf.data.Dataset.from_tensor_slices({name: tf.constant(side) for name, side in zip(FIELDS, zip(*pairs))})


def pairs_of(count, longest=40, seed=1):
    """Pairs as `filter_pairs` gives them, of all lengths; the first id of each is its number."""
    draw = random.Random(seed)
    sides = [[[100 + i] + [9] * draw.randint(0, longest - 2) + [EOS] for i in range(count)] for _ in range(2)]
    ragged = {name: tf.ragged.constant(side, dtype=tf.int32) for name, side in zip(FIELDS, sides)}
    dense = tf.data.Dataset.from_tensor_slices(ragged)
    return list(zip(*sides)), dense.map(
        lambda pair: {name: tf.ensure_shape(row, [None]) for name, row in pair.items()}
    ).cache()


def rows(batch):
    return [tuple(tuple(row[row != PAD].tolist()) for row in pair) for pair in zip(*(batch[name] for name in FIELDS))]


def sides_of(batch):
    return batch["source"], batch["target"]


def numbers(dataset):
    """The number of each pair, a batch at a time so that reading is quick."""
    return [n for batch in dataset.map(lambda pair: pair["source"][0]).batch(500).as_numpy_iterator() for n in batch]


# ---- tokenize and filter_pairs --------------------------------------------------------------------------------------

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
    pairs, report = filter_pairs(tokenize(sides)(lines_of(LINES)), most(6, 5), cache, "data.train")
    expected = [([4, 5, 3], [4, 5, 3]), ([4, 5, 6, 7, 3], [4, 5, 6, 7, 3]), ([7, 6, 3], [7, 3])]
    for _ in range(2):
        found = list(pairs.as_numpy_iterator())
        assert [(pair["source"].tolist(), pair["target"].tolist()) for pair in found] == expected
    assert report == CorpusReport(kept=3, empty=3, too_long=2, tokens={"source": 11, "target": 10})


@pytest.mark.parametrize("cache", [True, False])
def test_lines_without_a_source_are_left_out_and_counted_alike(monkeypatch, sides, cache):
    monkeypatch.setattr(batching, "_CHUNK", 3)
    lines = tf.data.Dataset.from_tensor_slices({"target": [target for _, target in LINES]})
    chunks = tokenize({"target": sides["target"]})(lines)
    kept, report = filter_pairs(chunks, {"target": 5}, cache, "data.train")
    expected = [[4, 5, 3], [4, 3], [4, 5, 6, 7, 3], [4, 3], [7, 3]]
    for _ in range(2):
        assert [line["target"].tolist() for line in kept.as_numpy_iterator()] == expected
    assert report == CorpusReport(kept=5, empty=1, too_long=2, tokens={"target": 14})
    assert str(report) == (
        "5 lines, 14 target tokens; 1 left out because the line is empty; "
        "2 left out because they are longer than max_target_length"
    )


def test_fields_that_are_not_tokenized_are_passed_on(monkeypatch, sides):
    monkeypatch.setattr(batching, "_CHUNK", 2)
    given = {"source": ["ab", "", "abcd", "a"], "target": ["a b", "a", "a b c", "a"]}
    more = {"weight": [0.5, 1.5, 2.5, 3.5], "name": ["one", "two", "three", "four"]}
    lines = tf.data.Dataset.from_tensor_slices({**given, **more})
    kept, report = filter_pairs(tokenize(sides)(lines), most(4, 4), False, "data.train")
    assert [(pair["weight"], pair["name"]) for pair in kept.as_numpy_iterator()] == [(0.5, b"one"), (3.5, b"four")]
    assert (report.kept, report.tokens) == (2, {"source": 5, "target": 5})
    batches = list(batch_by_tokens(DataSpec(bucket_width=8), most(4, 4))(kept).as_numpy_iterator())
    assert [batch["name"].tolist() for batch in batches] == [[b"one", b"four"]]
    assert [batch["weight"].tolist() for batch in batches] == [[0.5, 3.5]]
    assert batches[0]["source"].tolist() == [[4, 5, EOS], [4, EOS, PAD]]


def test_the_longest_that_is_allowed_stays(sides):
    def kept(source, target):
        lines = lines_of([("abc", "a b"), ("a", "a")])
        return filter_pairs(tokenize(sides)(lines), most(source, target), True, "data.train")[1].kept

    assert [kept(4, 3), kept(3, 2)] == [2, 1]


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("", "a"), ("a", " ")], "2 left out because a side is empty"),
        ([("abcde", "a")], "1 left out because they are"),
    ],
)
def test_a_corpus_of_which_no_pair_is_left_is_refused(sides, pairs, reason):
    with pytest.raises(UserError, match="^data.train: no example is left to use: 0 pairs") as caught:
        filter_pairs(tokenize(sides)(lines_of(pairs)), most(5), True, "data.train")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_report_tells_what_was_left_out_and_why():
    report = CorpusReport(1000, 0, 0, {"source": 12345, "target": 9})
    assert str(report) == "1,000 pairs, 12,345 source and 9 target tokens"
    text = str(CorpusReport(1, 2, 3, {"source": 4, "target": 5}))
    assert "2 left out because a side is empty" in text
    assert "3 left out because they are longer than max_source_length or max_target_length" in text


@pytest.mark.parametrize("cache", [True, False])
def test_the_cache_keeps_the_tokenized_corpus(sides, cache):
    reads = []

    def counted(pair):
        with tf.control_dependencies([tf.py_function(lambda: reads.append(1), [], [])]):
            return {name: tf.identity(text) for name, text in pair.items()}

    lines = lines_of([("a", "a"), ("b", "b c")] * 5).map(counted)
    spec = DataSpec(cache=cache)
    pairs, report = filter_pairs(tokenize(sides)(lines), most(), cache, "data.train")
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
    spec = DataSpec(batch_tokens=120, bucket_width=width, batch_pairs=batch_pairs)
    batches = list(batch_by_tokens(spec, most(40, 40))(pairs).as_numpy_iterator())
    for source, target in map(sides_of, batches):
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
        full = [len(s) == 120 // max(s.shape[1], t.shape[1]) for s, t in map(sides_of, batches)]
        assert sum(not one for one in full) <= 40


@pytest.mark.parametrize("batch_tokens", [1, 10])
def test_a_pair_larger_than_a_batch_comes_alone(batch_tokens):
    expected, pairs = pairs_of(20)
    long = [max(map(len, pair)) * 2 > batch_tokens for pair in expected]
    spec = DataSpec(batch_tokens=batch_tokens, bucket_width=1)
    batches = list(batch_by_tokens(spec, most(40, 40))(pairs).as_numpy_iterator())
    assert sum(len(batch["source"]) == 1 for batch in batches) >= sum(long)
    assert sum(len(batch["source"]) for batch in batches) == 20


def test_the_longest_side_decides(sides):
    lines = lines_of([("abcdabcda", "a"), ("a", "a b c d a b c d a")] * 4)
    pairs, _ = filter_pairs(tokenize(sides)(lines), most(), True, "data.train")
    spec = DataSpec(batch_tokens=20, bucket_width=10)
    assert [len(batch["source"]) for batch in batch_by_tokens(spec, most(10, 5))(pairs)] == [2] * 4


def test_batches_of_one_field_keep_to_its_own_limit():
    _, pairs = pairs_of(40)
    lines = pairs.map(lambda pair: {"target": pair["target"]})
    batches = list(batch_by_tokens(DataSpec(batch_tokens=60), {"target": 40})(lines).as_numpy_iterator())
    assert all(set(batch) == {"target"} for batch in batches)
    assert all(len(batch["target"]) == 1 or batch["target"].size <= 60 for batch in batches)
    assert sorted(int(row[0]) for batch in batches for row in batch["target"]) == list(range(100, 140))


def test_batches_by_length_pad_each_field_by_its_kind():
    sizes = [3, 1, 4, 2, 6]
    examples = tf.data.Dataset.from_tensor_slices(sizes).map(
        lambda size: {
            "source": tf.ones([size], tf.float32),
            "target": tf.fill([size // 2], tf.constant(7, tf.int64)),
            "words": tf.fill([size], "w"),
            "size": size,
        }
    )
    batches = list(batch_by_length(lambda one: one["size"], [2, 4, 6], [2, 2, 2])(examples).as_numpy_iterator())
    assert [batch["size"].tolist() for batch in batches] == [[3, 4], [1, 2], [6]]
    assert batches[0]["source"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batches[0]["target"].tolist() == [[7, PAD], [7, 7]]
    assert batches[0]["words"].tolist() == [[b"w", b"w", b"w", b""], [b"w"] * 4]
    most = batch_by_length(lambda one: one["size"], [2, 4, 6], [2, 2, 2], most=1)(examples)
    assert [batch["size"].tolist() for batch in most.as_numpy_iterator()] == [[size] for size in sizes]


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
def test_the_seed_decides_the_order(buffer):
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
        pairs, report = filter_pairs(tokenize(sides)(lines), most(), cache, "data.train")
        return batch_by_tokens(spec, most())(shuffled_epochs(pairs, report.kept, spec, seed=1))

    whole = [rows(batch) for batch in stream().take(40).as_numpy_iterator()]
    assert [rows(batch) for batch in stream().skip(23).take(17).as_numpy_iterator()] == whole[23:]


def test_training_loses_no_pair_between_epochs():
    # Batches may join the end of an epoch and the beginning of the next; over many, all pairs come equally often.
    _, pairs = pairs_of(50, longest=12)
    spec = DataSpec(batch_tokens=24, bucket_width=4)
    counts = Counter()
    batches = batch_by_tokens(spec, most(12, 12))(shuffled_epochs(pairs, 50, spec, seed=1))
    for batch in batches.take(500).as_numpy_iterator():
        counts.update(batch["source"][:, 0].tolist())
    assert len(counts) == 50
    assert max(counts.values()) - min(counts.values()) <= 3


# ---- decoder_input --------------------------------------------------------------------------------------------------


def test_decoder_inputs_are_labels_moved_right_behind_bos():
    labels = tf.constant([[8, 9, 5, EOS], [6, EOS, PAD, PAD]])
    assert decoder_input(labels).numpy().tolist() == [[BOS, 8, 9, 5], [BOS, 6, PAD, PAD]]


def test_each_label_of_every_batch_has_a_decoder_input():
    _, pairs = pairs_of(100)
    for batch in batch_by_tokens(DataSpec(batch_tokens=200), most(40, 40))(pairs):
        begun, labels = decoder_input(batch["target"]).numpy(), batch["target"].numpy()
        assert begun.shape == labels.shape
        assert (begun[:, 0] == BOS).all()
        assert EOS not in begun
        assert ((begun != PAD) == (labels != PAD)).all(), "each real label has an input"
        for row, label in zip(begun, labels):
            assert row[row != PAD].tolist() == [BOS, *label[label != PAD].tolist()[:-1]]
