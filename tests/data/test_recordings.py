"""From recordings to batches: what cannot be trained on is left out and told, and batches keep to their seconds."""

import wave

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.audio_files import Faults
from tfseq2seq.data.manifests import Utterance
from tfseq2seq.data.recordings import batch_by_seconds, filter_utterances, speech_corpora
from tfseq2seq.data.shards import write_shards
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.spec import EOS, PAD, CorpusSpec, DataSpec, TextSpec

RATE = 1000
LETTERS = TextFeatures(TextSpec(scheme="characters"), learn_vocabulary([b"abc"], TextSpec(scheme="characters")))
# Samples, text, and name; a to c are ids 4 to 6.
UTTERANCES = [
    (500, "ab", "kept"),
    (20, "a", "short"),
    (2500, "a", "long"),
    (500, "", "empty"),
    (500, "abcabc", "wordy"),
    (200, "aab", "tight"),
    (200, "ab", "barely"),
    (2000, "abca", "longest"),
]
SPEC = DataSpec(min_seconds=0.05, max_seconds=2.0, max_target_length=5)


def utterances_of(rows):
    """A dataset that gives each of them, and counts the passes over it."""
    passes = []

    def read():
        passes.append(1)
        for number, (samples, text, name) in enumerate(rows):
            yield {"source": np.full(samples, number, "float32"), "target": text, "name": name, "speaker": number}

    signature = {
        "source": tf.TensorSpec([None], tf.float32),
        **{name: tf.TensorSpec([], tf.string) for name in ("target", "name")},
        "speaker": tf.TensorSpec([], tf.int32),
    }
    return tf.data.Dataset.from_generator(read, output_signature=signature), passes


def filtered(rows=UTTERANCES, spec=SPEC, aligned=True, faults=None):
    # Each position hears 60 samples.
    dataset, passes = utterances_of(rows)
    kept, report = filter_utterances(
        dataset, LETTERS, spec, RATE, "data.train", lambda samples: samples // 60, aligned, faults or Faults()
    )
    return kept, report, passes


@pytest.mark.parametrize("cache", [True, False])
def test_unfit_utterances_are_left_out_and_named(cache):
    spec = DataSpec(min_seconds=0.05, max_seconds=2.0, max_target_length=5, cache=cache)
    kept, report, passes = filtered(spec=spec)
    for _ in range(2):
        found = list(kept.as_numpy_iterator())
        assert [(len(one["source"]), one["target"].tolist()) for one in found] == [
            (500, [4, 5, EOS]),
            (200, [4, 5, EOS]),
            (2000, [4, 5, 6, 4, EOS]),
        ]
    assert len(passes) == (1 if cache else 3)
    assert (report.kept, report.seconds, report.target_tokens) == (3, pytest.approx(2.7), 11)
    left_out = (report.unreadable, report.empty, report.short, report.long, report.wordy, report.tight)
    assert left_out == ((), ("empty",), ("short",), ("long",), ("wordy",), ("tight",))
    assert "1 left out because they are shorter than data.min_seconds (short)" in str(report)


def test_examples_pass_on_fields_they_do_not_know():
    kept, _, _ = filtered()
    assert [set(one) for one in kept.as_numpy_iterator()] == [{"source", "target", "speaker"}] * 3
    assert [one["speaker"] for one in kept.as_numpy_iterator()] == [0, 6, 7]


def test_equal_neighbors_need_a_position_between_them_only_where_tokens_are_aligned():
    # 200 samples are three positions: enough for "ab" and for three different tokens, not for "aab".
    assert filtered(aligned=True)[1].tight == ("tight",)
    assert filtered(aligned=False)[1].tight == ()
    assert filtered([(200, "abc", "fits")], aligned=True)[1].kept == 1
    # A recording without any position has nothing to listen to.
    assert filtered([(59, "a", "nothing"), (60, "a", "something")], aligned=False)[1].tight == ("nothing",)


def test_incomplete_recordings_are_kept_counted_and_named():
    faults = Faults()
    faults.warn(0, "first", "first.wav: ends after 0.500 of 2.000 s")
    report = filtered(faults=faults)[1]
    assert report.kept == 3 and report.incomplete == ("first: first.wav: ends after 0.500 of 2.000 s",)
    told = "; warning: 1 cut off or followed by another recording (first: first.wav: ends after 0.500 of 2.000 s)"
    assert str(report).endswith(told)


def test_a_corpus_of_which_no_utterance_is_left_is_refused():
    faults = Faults()
    faults.add(0, "first", "first.wav: is damaged")
    with pytest.raises(UserError, match="^data.train: no utterance is left to use: 0 utterances") as caught:
        filtered([(20, "a", "second")], faults=faults)
    assert "first.wav: is damaged" in str(caught.value) and "second" in str(caught.value)


def test_batches_keep_to_their_seconds_and_lose_nothing():
    random = np.random.default_rng(3)
    rows = [(int(samples), "ab", str(number)) for number, samples in enumerate(random.integers(120, 2001, 200))]
    kept, report, _ = filtered(rows)
    spec = DataSpec(min_seconds=0.05, max_seconds=2.0, batch_seconds=6.0, batch_pairs=9)
    numbers = []
    for batch in batch_by_seconds(spec, RATE)(kept).as_numpy_iterator():
        samples, lengths = batch["source"], batch["source_length"]
        assert len(samples) <= 9 and samples.size <= 6 * RATE
        assert lengths.max() == samples.shape[1], "padded further than its longest recording"
        assert lengths.min() > samples.shape[1] / 1.1 - 1 or lengths.max() <= 250
        assert batch["target"].tolist() == [[4, 5, EOS]] * len(samples)
        for row, length, number in zip(samples, lengths, batch["speaker"]):
            assert length == rows[number][0] and (row[:length] == number).all() and not row[length:].any()
        numbers += batch["speaker"].tolist()
    assert sorted(numbers) == list(range(200)) and report.kept == 200


def test_a_recording_longer_than_a_batch_comes_alone():
    kept, _, _ = filtered([(1500, "a", "one"), (1500, "b", "two")])
    batches = list(batch_by_seconds(DataSpec(max_seconds=2.0, batch_seconds=1.0), RATE)(kept).as_numpy_iterator())
    assert [batch["source"].shape for batch in batches] == [(1, 1500)] * 2


def test_targets_of_a_batch_are_padded():
    kept, _, _ = filtered([(500, "a", "one"), (500, "abc", "two")])
    (batch,) = batch_by_seconds(SPEC, RATE)(kept).as_numpy_iterator()
    assert batch["target"].tolist() == [[4, EOS, PAD, PAD], [4, 5, 6, EOS]]


# ---- speech_corpora -------------------------------------------------------------------------------------------------


@pytest.fixture
def corpora(tmp_path):
    """The same eight recordings as a manifest and as shards."""
    lines, utterances = ["path\ttext"], []
    for number in range(8):
        path = tmp_path / f"{number}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(np.full(100 + number, 100 * number, "<i2").tobytes())
        lines.append(f"{path.name}\tText {number}")
        utterances.append(Utterance(str(number), str(path), f"Text {number}"))
    (tmp_path / "all.tsv").write_text("\n".join(lines) + "\n")
    write_shards(utterances, tmp_path / "shards", RATE, log=lambda *_: None)
    return {
        "manifest": CorpusSpec(manifest=str(tmp_path / "all.tsv")),
        "records": CorpusSpec(records=str(tmp_path / "shards" / "*.tfrecord")),
    }


def texts_of(dataset):
    found = list(dataset.as_numpy_iterator())
    assert all(set(one) == {"source", "target", "name"} and one["source"].dtype == np.float32 for one in found)
    # Each recording is as long as its number tells.
    assert all(one["target"].decode() == f"Text {len(one['source']) - 100}" for one in found)
    return [one["target"].decode() for one in found]


@pytest.mark.parametrize("kind", ["manifest", "records"])
def test_utterances_held_out_are_those_of_the_seed(corpora, kind):
    found = speech_corpora(DataSpec(train=corpora[kind], holdout=3), RATE, seed=1)
    train, validation = texts_of(found.train), texts_of(found.validation)
    assert (len(train), len(validation)) == (5, 3)
    assert sorted([*train, *validation]) == [f"Text {number}" for number in range(8)]
    assert [text.decode() for text in found.texts()] == train
    others = speech_corpora(DataSpec(train=corpora["records"], holdout=3), RATE, seed=1)
    assert texts_of(others.validation) == validation
    seeds = {
        tuple(texts_of(speech_corpora(DataSpec(train=corpora[kind], holdout=3), RATE, n).validation)) for n in (1, 2, 3)
    }
    assert len(seeds) > 1


@pytest.mark.parametrize("kind", ["manifest", "records"])
def test_validation_utterances_leave_the_training_corpus_whole(corpora, kind):
    found = speech_corpora(DataSpec(train=corpora[kind], validation=corpora["manifest"]), RATE, seed=1)
    whole = [f"Text {number}" for number in range(8)]
    assert texts_of(found.train) == texts_of(found.validation) == [text.decode() for text in found.texts()] == whole


@pytest.mark.parametrize(
    "spec, message",
    [
        (lambda corpus: DataSpec(holdout=1), "data.train: no corpus is given"),
        (lambda corpus: DataSpec(train=corpus), "data.validation: no corpus is given"),
        (lambda corpus: DataSpec(train=corpus, holdout=8), "data.holdout: 8 of 8 .* nothing to train on"),
    ],
    ids=["nothing", "no validation", "all held out"],
)
@pytest.mark.parametrize("kind", ["manifest", "records"])
def test_utterances_are_needed_on_both_sides_of_the_split(corpora, kind, spec, message):
    with pytest.raises(UserError, match=f"^{message}"):
        speech_corpora(spec(corpora[kind]), RATE, seed=1)
