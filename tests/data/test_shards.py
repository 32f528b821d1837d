"""Shards give back what was decoded, are there whole or not at all, and damage in them is told with its place."""

import re
import wave

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data import shards
from tfseq2seq.data.audio_files import read_audio
from tfseq2seq.data.manifests import Utterance
from tfseq2seq.data.shards import find_shards, shard_utterances, write_shards
from tfseq2seq.errors import UserError

RATE = 8000


@pytest.fixture
def utterances(tmp_path):
    """Five recordings of half a second to two and a half, the third of them damaged."""
    found = []
    for number in range(5):
        path = tmp_path / f"{number}.wav"
        rng = np.random.default_rng(number)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(rng.integers(-32768, 32768, (number + 1) * RATE // 2).astype("<i2").tobytes())
        found.append(Utterance(f"u{number}", str(path), f"Text \u4e8c {number}"))
    (tmp_path / "2.wav").write_bytes(b"RIFF, damaged")
    return found


def fault_of(pattern, rate=RATE):
    with pytest.raises(UserError) as caught:
        shard_utterances(str(pattern), rate)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(utterances, tmp_path):
    folder = tmp_path / "made" / "shards"
    logged = []
    report = write_shards(utterances, folder, RATE, shard_seconds=1.2, log=logged.append)
    names = [f"{number:05}-of-00003.tfrecord" for number in range(3)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "index.json"]
    assert report.shards == tuple(folder / name for name in names)
    assert (report.utterances, report.seconds) == (4, 0.5 + 1 + 2 + 2.5)
    assert [name for name, _ in report.faults] == ["u2"]
    assert report.faults[0][1].startswith(utterances[2].path + ": ")
    assert logged[0] == report.faults[0][1]
    assert "4 utterances, 6 s, 3 shards; 1 skipped" in logged[1]
    dataset, count = shard_utterances(str(folder / "*.tfrecord"), RATE)
    found = list(dataset.as_numpy_iterator())
    assert count == len(found) == 4
    for example, utterance in zip(found, [u for u in utterances if u.name != "u2"], strict=True):
        assert (example["target"].decode(), example["name"].decode()) == (utterance.text, utterance.name)
        # 16 bits at the rate wanted: nothing is lost.
        np.testing.assert_array_equal(example["source"], read_audio(utterance.path, RATE))
    shapes = {name: tuple(part.shape) for name, part in dataset.element_spec.items()}
    assert shapes == {"source": (None,), "target": (), "name": ()}


def test_resampled_samples_lose_half_a_quantum_at_most(utterances, tmp_path):
    write_shards(utterances[:2], tmp_path / "s", 16000)
    dataset, _ = shard_utterances(str(tmp_path / "s" / "*"), 16000)
    for example, utterance in zip(dataset.as_numpy_iterator(), utterances):
        samples = example["source"]
        exact = read_audio(utterance.path, 16000)
        assert np.abs(exact).max() == 1.0, "white noise overshoots"
        below = exact < 1 - 2**-15
        assert np.abs(samples - exact)[below].max() <= 2**-16
        assert np.abs(samples - exact).max() <= 2**-15


def test_records_are_as_documented(utterances, tmp_path):
    report = write_shards(utterances[:1], tmp_path / "s", RATE)
    (record,) = tf.data.TFRecordDataset(str(report.shards[0])).as_numpy_iterator()
    feature = tf.train.Example.FromString(record).features.feature
    assert sorted(feature) == ["audio", "name", "rate", "target"]
    assert feature["rate"].int64_list.value == [RATE]
    audio = np.frombuffer(feature["audio"].bytes_list.value[0], "<i2")
    np.testing.assert_array_equal(audio / 32768, read_audio(utterances[0].path, RATE))


def test_a_folder_with_shards_is_left_alone(utterances, tmp_path):
    report = write_shards(utterances[:1], tmp_path / "s", RATE)
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(UserError, match="must not have shards"):
        write_shards(utterances, tmp_path / "s", RATE)
    assert report.shards[0].name in before
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


def test_other_files_in_the_folder_stay(utterances, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "README").write_text("mine")
    write_shards(utterances[:1], tmp_path / "s", RATE)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "00000-of-00001.tfrecord",
        "README",
        "index.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["s"]


def test_a_stopped_run_leaves_nothing(utterances, tmp_path, monkeypatch):
    whole, left = shards._record, []

    def stopped(samples, target, name, rate):
        if name == b"u3":
            left.extend(tmp_path.rglob("*"))
            raise KeyboardInterrupt
        return whole(samples, target, name, rate)

    monkeypatch.setattr(shards, "_record", stopped)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        write_shards(utterances, tmp_path / "s", RATE, shard_seconds=0.1)
    assert len(left) > len(before), "nothing was begun"
    assert sorted(tmp_path.rglob("*")) == before


def test_none_left_is_an_error(utterances, tmp_path):
    with pytest.raises(UserError, match=r"got 0 of 1; no shards are written \(.*2.wav: "):
        write_shards(utterances[2:3], tmp_path / "s", RATE)
    with pytest.raises(UserError, match="got 0 of 0; no shards are written .there are no utterances"):
        write_shards([], tmp_path / "s", RATE)
    assert not (tmp_path / "s").exists()


def test_a_folder_that_cannot_be_made_is_named(utterances, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "s", tmp_path / "file"):
        with pytest.raises(UserError, match=re.escape(f"{folder}: cannot be written")):
            write_shards(utterances[:1], folder, RATE)


def test_the_bar_is_on_standard_error(utterances, tmp_path, capsys):
    write_shards(utterances, tmp_path / "a", RATE)
    assert capsys.readouterr() == ("", ""), "standard error is no terminal"
    write_shards(utterances, tmp_path / "b", RATE, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "writing shards" in shown.err
    assert "5/5" in shown.err


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shard(utterances, tmp_path):
    """A file with two records, without an index."""
    (path,) = write_shards(utterances[:2], tmp_path / "s", RATE).shards
    return path.rename(tmp_path / "two.tfrecord")


def test_another_rate_is_told(shard):
    assert "record 1: the sample rate must be 16000 Hz, got 8000 Hz" in fault_of(shard, 16000)


def test_no_file(tmp_path):
    assert fault_of(tmp_path / "*.tfrecord") == f"{tmp_path / '*.tfrecord'}: no file matches"


def test_an_empty_file(tmp_path):
    (tmp_path / "none.tfrecord").touch()
    assert "must have at least one utterance" in fault_of(tmp_path / "*.tfrecord")


@pytest.mark.parametrize(("cut", "after"), [(-1, 1), (-9000, 1), (5, 0), (20, 0)])
def test_a_cut_file(shard, cut, after):
    shard.write_bytes(shard.read_bytes()[:cut])
    assert f"{shard}: damaged after record {after}" in fault_of(shard)


def test_a_file_cut_within_the_next_records_length(shard):
    first = 16 + len(next(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()))
    shard.write_bytes(shard.read_bytes()[: first + 5])
    assert "damaged after record 1 (the file ends within a record)" in fault_of(shard)


def test_a_flipped_bit(shard):
    content = bytearray(shard.read_bytes())
    content[-5000] ^= 1
    shard.write_bytes(content)
    assert f"{shard}: damaged after record 1" in fault_of(shard)


def test_another_kind_of_file(tmp_path):
    (tmp_path / "text.tfrecord").write_text("no record at all, but text of some length")
    assert "damaged after record 0" in fault_of(tmp_path / "text.tfrecord")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"audio": None}, "the feature 'audio' is missing"),
        ({"name": None}, "the feature 'name' is missing"),
        ({"rate": [b"8000"]}, "the feature 'rate' is missing or has a different type"),
        ({"target": [b"a", b"b"]}, "the feature 'target' is missing or has a different type"),
        ({"target": [b"\xff"]}, "not UTF-8"),
        ({"audio": [b"odd"]}, "must have 2 bytes per sample, got 3 bytes"),
        ({"audio": [b""]}, "must have 2 bytes per sample, got 0 bytes"),
    ],
)
def test_a_record_of_something_else(shard, changed, reason):
    records = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
    example = tf.train.Example.FromString(records[1])
    for key, values in changed.items():
        del example.features.feature[key]
        if values is not None:
            example.features.feature[key].bytes_list.value.extend(values)
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(records[0])
        writer.write(example.SerializeToString())
    assert fault_of(shard).startswith(f"{shard}, record 2: ")
    assert reason in fault_of(shard)


def test_a_record_that_is_no_example(shard):
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(b"\xff\xff\xff")
    assert f"{shard}, record 1: must be a tf.train.Example" in fault_of(shard)


def test_shards_with_an_index_are_opened_without_reading_them(utterances, tmp_path):
    report = write_shards(utterances, tmp_path / "s", RATE, shard_seconds=1.2)
    for path in report.shards:
        path.write_bytes(bytes(path.stat().st_size))
    assert [shard.examples for shard in find_shards(str(tmp_path / "s"), RATE)] == [2, 1, 1]
    assert "the sample rate of the shards must be 16000 Hz, got 8000 Hz" in fault_of(tmp_path / "s", 16000)
    report.shards[0].write_bytes(b"")
    assert "00000-of-00003.tfrecord: must have" in fault_of(tmp_path / "s")


def test_a_missing_shard_of_a_set_is_told(utterances, tmp_path):
    report = write_shards(utterances, tmp_path / "s", RATE, shard_seconds=0.1)
    report.shards[1].unlink()
    assert f"{report.shards[1].name} of the same set is missing" in fault_of(tmp_path / "s" / "*.tfrecord")
