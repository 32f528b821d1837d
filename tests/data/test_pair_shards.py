"""Text in shards: written once and continued when stopped, opened without a pass, and each fault told with its file."""

import gzip
import itertools
import json

import pytest
import tensorflow as tf

from tfseq2seq.data import pair_shards
from tfseq2seq.data.corpora import corpus_pairs, iterate_side, training_corpora
from tfseq2seq.data.pair_shards import parallel_lines, write_pair_shards
from tfseq2seq.data.shard_index import INDEX, JOURNAL
from tfseq2seq.errors import UserError
from tfseq2seq.spec import CorpusSpec, DataSpec

PAIRS = [(f"source {number} \u4e8c".encode(), f"target {number}".encode()) for number in range(25)]


def write(folder, pairs=PAIRS, size=10, **options):
    return write_pair_shards(pairs, folder, size, **options)


@pytest.fixture
def shards(tmp_path):
    """A folder of three shards, of 10, 10 and 5 pairs."""
    write(tmp_path / "shards")
    return tmp_path / "shards"


def pairs_of(dataset):
    return [(pair["source"], pair["target"]) for pair in dataset.as_numpy_iterator()]


def training(folder, **data):
    data = {"holdout": 4, **data} if "validation" not in data else data
    return training_corpora(DataSpec(train=CorpusSpec(records=str(folder)), **data), seed=1)


def fault_of(folder, **data):
    with pytest.raises(UserError) as caught:
        training(folder, **data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- writing --------------------------------------------------------------------------------------------------------


def test_shards_hold_what_was_written_and_their_index_tells_it(tmp_path):
    logged = []
    found = write(tmp_path / "made" / "s", log=logged.append)
    names = [f"{number:05}.tfrecord.gz" for number in range(3)]
    assert sorted(path.name for path in (tmp_path / "made" / "s").iterdir()) == [*names, INDEX]
    assert [(shard.path.name, shard.examples) for shard in found] == list(zip(names, (10, 10, 5)))
    assert "25 pairs, 3 shards" in logged[0]
    index = json.loads((tmp_path / "made" / "s" / INDEX).read_text())
    assert [(one["file"], one["examples"], one["bytes"]) for one in index["shards"]] == [
        (shard.path.name, shard.examples, shard.path.stat().st_size) for shard in found
    ]
    for pattern in ("made/s", "made/s/*", "made/s/*.tfrecord.gz"):
        pairs, count = corpus_pairs(CorpusSpec(records=str(tmp_path / pattern)), "data.train")
        assert (pairs_of(pairs), count) == (PAIRS, 25)
    assert list(iterate_side(CorpusSpec(records=str(tmp_path / "made" / "s")), "target")) == [b for _, b in PAIRS]


def test_shards_without_an_index_are_counted_and_checked(shards):
    (shards / INDEX).unlink()
    pairs, count = corpus_pairs(CorpusSpec(records=str(shards)), "data.train")
    assert (pairs_of(pairs), count) == (PAIRS, 25)
    (shards / "00001.tfrecord.gz").write_bytes((shards / "00001.tfrecord.gz").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"00001.tfrecord.gz: damaged .*after record \d"):
        corpus_pairs(CorpusSpec(records=str(shards)), "data.train")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_writing_that_was_stopped_is_continued(tmp_path, monkeypatch, after):
    whole, calls = pair_shards._write_shard, itertools.count()

    def stopped(*arguments):
        if next(calls) == after:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(pair_shards, "_write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s")
    monkeypatch.setattr(pair_shards, "_write_shard", whole)
    assert not (tmp_path / "s" / INDEX).exists()
    if after:
        assert "not all shards are written yet; give the same command" in fault_of(tmp_path / "s")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*.gz")}
    assert len(before) == after
    logged = []
    write(tmp_path / "s", log=logged.append)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*.gz") if path.name in before}
    assert kept == before, "finished shards were written again"
    assert (f"; {after} were there already" in logged[0]) == bool(after)
    write(tmp_path / "other")
    for path in (tmp_path / "other").iterdir():
        same = json.loads if path.name == INDEX else gzip.decompress
        assert same(path.read_bytes()) == same((tmp_path / "s" / path.name).read_bytes())
    assert not (tmp_path / "s" / JOURNAL).exists()


def test_shards_of_other_pairs_are_written_anew(tmp_path):
    def failing():
        yield from PAIRS
        raise UserError("the file is damaged")

    with pytest.raises(UserError, match="the file is damaged"):
        write(tmp_path / "s", failing())
    assert len(list((tmp_path / "s").glob("*.gz"))) == 2
    write(tmp_path / "s", [*PAIRS[:10], (b"changed", b"pair")])
    pairs, count = corpus_pairs(CorpusSpec(records=str(tmp_path / "s")), "data.train")
    assert (pairs_of(pairs), count) == ([*PAIRS[:10], (b"changed", b"pair")], 11)


def test_a_folder_with_shards_is_left_alone(shards):
    before = {path.name: path.read_bytes() for path in shards.iterdir()}
    with pytest.raises(UserError, match="must not have shards"):
        write(shards)
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(UserError, match="at least one pair"):
        write(tmp_path / "s", [])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        write(tmp_path / "file")


def test_lines_of_two_files_are_pairs(tmp_path):
    for name, column in (("a", 0), ("b", 1)):
        (tmp_path / name).write_bytes(b"\n".join(pair[column] for pair in PAIRS))
    assert list(parallel_lines(str(tmp_path / "a"), str(tmp_path / "b"))) == PAIRS
    (tmp_path / "b").write_bytes(b"one\ntwo\n")
    with pytest.raises(UserError, match=r"a has 25 lines.*b has 2"):
        list(parallel_lines(str(tmp_path / "a"), str(tmp_path / "b")))


@pytest.mark.slow
def test_several_processes_write_the_same_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_shards, "_SHARDS_WITHOUT_PROCESSES", 1)
    write(tmp_path / "one", size=4)
    write(tmp_path / "two", size=4, jobs=2)
    read = [(folder / INDEX).read_bytes() for folder in (tmp_path / "one", tmp_path / "two")]
    assert read[0] == read[1]
    assert pairs_of(corpus_pairs(CorpusSpec(records=str(tmp_path / "two")), "data.train")[0]) == PAIRS


# ---- opening --------------------------------------------------------------------------------------------------------


def test_held_out_pairs_are_neither_trained_on_nor_learned_from(shards):
    found = training(shards)
    train, held = pairs_of(found.train), pairs_of(found.validation)
    assert (len(train), len(held)) == (found.train_count, found.validation_count) == (21, 4)
    assert sorted(train + held) == sorted(PAIRS)
    assert sorted(found.texts("source")) == sorted(source for source, _ in train)
    assert pairs_of(training(shards).validation) == held, "the seed draws them"
    units = []
    for unit in range(3):
        found.units.select([unit])
        units.append(pairs_of(found.units.examples))
    assert [len(unit) for unit in units] == list(found.units.sizes)
    assert sorted(pair for unit in units for pair in unit) == sorted(train)


def test_shards_with_an_index_are_opened_without_reading_them(shards, tmp_path):
    (tmp_path / "lines").write_text("a\n")
    for path in shards.glob("*.gz"):
        path.write_bytes(b"x" * path.stat().st_size)
    lines = CorpusSpec(source=str(tmp_path / "lines"), target=str(tmp_path / "lines"))
    found = training(shards, validation=lines)
    assert found.train_count == 25 and len(found.units.sizes) == 3


def test_vocabularies_are_learned_from_a_sample_of_all_shards(shards, tmp_path):
    found = training(shards, vocabulary_lines=9)
    texts = list(found.texts("target"))
    assert {int(text.split()[1]) // 10 for text in texts} == {0, 1, 2}
    assert len(texts) <= 9
    assert "vocabularies are learned from 9 of 21 training examples" in found.texts_told
    assert training(shards, vocabulary_lines=0).texts_told == ""
    for name in ("a", "b"):
        (tmp_path / name).write_text("".join(f"{number}\n" for number in range(25)))
    lines = CorpusSpec(source=str(tmp_path / "a"), target=str(tmp_path / "b"))
    found = training_corpora(DataSpec(train=lines, holdout=5, vocabulary_lines=7), seed=1)
    assert len(list(found.texts("source"))) == 7 and "from 7 of 20" in found.texts_told


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_a_missing_shard_is_named(shards):
    (shards / "00001.tfrecord.gz").unlink()
    assert fault_of(shards).startswith(f"{shards / '00001.tfrecord.gz'}: missing, but {INDEX} beside it lists it")


def test_a_cut_shard_is_named(shards):
    path = shards / "00002.tfrecord.gz"
    path.write_bytes(path.read_bytes()[:-3])
    assert fault_of(shards).startswith(f"{path}: must have ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-40], "damaged (JSONDecodeError"),
        (lambda text: text.replace('"examples": 10', '"examples": "10"', 1), "damaged (ValueError"),
        (lambda text: text.replace("00001.tfrecord.gz", "../00001.tfrecord.gz"), "damaged (ValueError"),
        (lambda text: text.replace('"kind"', '"sort"'), "damaged (KeyError"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format 2 is of another version"),
        (lambda text: text.replace('"pairs"', '"recordings"'), "must have shards of pairs, got shards of recordings"),
    ],
    ids=["cut", "text", "path", "no kind", "version", "recordings"],
)
def test_an_index_that_is_none_is_named(shards, change, reason):
    (shards / INDEX).write_text(change((shards / INDEX).read_text()))
    assert reason in fault_of(shards)


def damaged(path, kind):
    content = path.read_bytes()
    if kind == "gone":
        path.unlink()
    elif kind == "bits":
        path.write_bytes(content[:60] + bytes([content[60] ^ 255]) + content[61:])
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        write_again = [(b"a", b"b")] * 3
        path.unlink()
        pair_shards.write_records(write_again, path)


@pytest.mark.parametrize(
    ("kind", "told"), [("gone", "missing"), ("bits", "record"), ("cut", "must have"), ("fewer", "must have")]
)
def test_a_shard_that_is_damaged_while_it_is_used_is_explained(shards, kind, told):
    units = training(shards, holdout=1).units
    damaged(shards / "00001.tfrecord.gz", kind)
    with pytest.raises(UserError) as caught:
        units.explain([0, 1, 2])
    assert str(caught.value).startswith(str(shards / "00001.tfrecord.gz")) and told in str(caught.value)
    units.explain([0, 2])


def test_texts_of_a_damaged_shard_are_refused(shards):
    found = training(shards, holdout=1)
    damaged(shards / "00002.tfrecord.gz", "bits")
    with pytest.raises(UserError, match="00002.tfrecord.gz"):
        list(found.texts("source"))


def test_all_pairs_held_out_are_refused(shards):
    assert "data.holdout: 25 of 25 training pairs leave nothing to train on" in fault_of(shards, holdout=25)
    assert "data.validation: no corpus is given" in fault_of(shards, holdout=0)


def test_records_are_read_as_tensorflow_reads_them(shards):
    records = tf.data.TFRecordDataset(str(shards / "00000.tfrecord.gz"), "GZIP")
    example = tf.train.Example.FromString(next(records.as_numpy_iterator()))
    assert example.features.feature["source"].bytes_list.value[0] == PAIRS[0][0]
