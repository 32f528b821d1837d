"""Every kind of corpus gives the same pairs, and every fault in one is told at the start with its file and place."""

import gzip
import os
import re

import pytest
import tensorflow as tf

from tfseq2seq.data.corpora import (
    corpus_pairs,
    expanded,
    iterate_side,
    line_corpora,
    training_corpora,
)
from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.data.records import write_records
from tfseq2seq.data.shards import shard_utterances
from tfseq2seq.errors import UserError
from tfseq2seq.features.rules import load_rules
from tfseq2seq.features.word_vectors import read_vectors
from tfseq2seq.files import iterate_lines
from tfseq2seq.search.arpa import read_arpa
from tfseq2seq.search.shortlist import read_shortlist
from tfseq2seq.spec import CorpusSpec, DataSpec, RulesSpec

PAIRS = [(b"one", b"eins"), (b"", b"leer"), ("zwei  \u4e8c".encode(), "\U0001f600".encode()), (b" d ", b"vier")]


def column(side, end=b"\n"):
    return b"".join(pair[side] + end for pair in PAIRS)


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path as text."""

    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return str(path)

    return write_file


def lines_spec(write, source, target, suffix=""):
    return CorpusSpec(source=write(f"source{suffix}", source), target=write(f"target{suffix}", target))


def pairs_of(spec):
    pairs, count = corpus_pairs(spec, "data.train")
    found = tuples(pairs)
    assert len(found) == count
    assert tuples(pairs) == found, "a second pass differs"
    return found


def tuples(pairs):
    """Examples {"source", "target"} as pairs."""
    found = list(pairs.as_numpy_iterator())
    assert all(set(pair) == {"source", "target"} for pair in found)
    return [(pair["source"], pair["target"]) for pair in found]


def fault_of(spec):
    with pytest.raises(UserError) as caught:
        corpus_pairs(spec, "data.train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def records_file(tmp_path):
    write_records(PAIRS, tmp_path / "pairs.tfrecord")
    return CorpusSpec(records=str(tmp_path / "pairs.tfrecord"))


CORPORA = {
    "lines": lambda write, folder: lines_spec(write, column(0), column(1)),
    "lines.gz": lambda write, folder: lines_spec(write, column(0), column(1), ".gz"),
    "table": lambda write, folder: CorpusSpec(table=write("t.tsv", b"".join(b"\t".join(p) + b"\n" for p in PAIRS))),
    "table.gz": lambda write, folder: CorpusSpec(table=write("t.gz", b"".join(b"\t".join(p) + b"\n" for p in PAIRS))),
    "records": lambda write, folder: records_file(folder),
}


@pytest.mark.parametrize("kind", CORPORA)
def test_every_kind_gives_the_same_pairs(kind, write, tmp_path):
    spec = CORPORA[kind](write, tmp_path)
    assert pairs_of(spec) == PAIRS
    assert list(iterate_side(spec, "source")) == [source for source, _ in PAIRS]
    assert list(iterate_side(spec, "target")) == [target for _, target in PAIRS]


# ---- training_corpora -----------------------------------------------------------------------------------------------


def many_pairs(write, count):
    lines = [b"%d" % number for number in range(count)]
    return lines_spec(write, b"\n".join(lines), b"\n".join(b"t" + line for line in lines))


@pytest.mark.parametrize("kind", CORPORA)
def test_holding_out_parts_the_corpus(kind, write, tmp_path):
    spec = CORPORA[kind](write, tmp_path)
    corpora = training_corpora(DataSpec(train=spec, holdout=2), seed=1)
    kept, held = tuples(corpora.train), tuples(corpora.validation)
    assert (len(kept), len(held)) == (corpora.train_count, corpora.validation_count) == (len(PAIRS) - 2, 2)
    assert held == [pair for index, pair in enumerate(PAIRS) if index in corpora.held]
    assert kept == [pair for index, pair in enumerate(PAIRS) if index not in corpora.held]
    assert list(iterate_side(spec, "target", corpora.held)) == [target for _, target in kept]


def test_the_pairs_held_out_are_found_without_reading_the_corpus_again(write, monkeypatch):
    spec = many_pairs(write, 50)
    opened = []

    def read(path):
        opened.append(path)
        return iterate_lines(path)

    monkeypatch.setattr("tfseq2seq.data.corpora.iterate_lines", read)
    corpora = training_corpora(DataSpec(train=spec, holdout=5), seed=1)
    # One pass checks and counts the lines, and one finds those that are held out.
    assert len(opened) == 2 * 2
    for _ in range(3):
        assert len(tuples(corpora.validation)) == 5
    assert len(opened) == 2 * 2


@pytest.mark.parametrize("count", [2047, 2048, 2049, 4100])
def test_pairs_are_held_out_across_the_borders_of_chunks(write, count):
    corpora = training_corpora(DataSpec(train=many_pairs(write, count), holdout=100), seed=3)
    expected = [(b"%d" % number, b"t%d" % number) for number in range(count)]
    assert tuples(corpora.train) == [pair for index, pair in enumerate(expected) if index not in corpora.held]
    assert tuples(corpora.validation) == [expected[index] for index in sorted(corpora.held)]


def test_the_seed_draws_the_pairs_held_out(write):
    spec = DataSpec(train=many_pairs(write, 100), holdout=10)
    assert training_corpora(spec, seed=1).held == training_corpora(spec, seed=1).held
    assert training_corpora(spec, seed=1).held != training_corpora(spec, seed=2).held


def test_validation_files_leave_the_training_corpus_whole(write):
    train, validation = many_pairs(write, 9), lines_spec(write, b"a", b"b", ".validation")
    corpora = training_corpora(DataSpec(train=train, validation=validation), seed=1)
    assert (corpora.train_count, corpora.validation_count, corpora.held) == (9, 1, frozenset())
    assert tuples(corpora.validation) == [(b"a", b"b")]


@pytest.mark.parametrize(("holdout", "reason"), [(0, "no corpus is given"), (9, "nothing to train on")])
def test_training_needs_pairs_on_both_sides_of_the_split(write, holdout, reason):
    with pytest.raises(UserError, match=f"data.(validation|holdout): .*{reason}"):
        training_corpora(DataSpec(train=many_pairs(write, 9), holdout=holdout), seed=1)


# ---- line_corpora ---------------------------------------------------------------------------------------------------


def lines_of(dataset):
    found = list(dataset.as_numpy_iterator())
    assert all(set(line) == {"target"} for line in found)
    return [line["target"] for line in found]


def test_lines_of_a_target_file_alone_are_held_out_by_the_seed(write):
    train = CorpusSpec(target=write("lines", b"\n".join(b"%d" % number for number in range(20))))
    spec = DataSpec(train=train, holdout=5)
    corpora = line_corpora(spec, seed=1)
    assert (corpora.train_count, corpora.validation_count) == (15, 5)
    held = [b"%d" % number for number in sorted(corpora.held)]
    assert lines_of(corpora.validation) == held
    assert lines_of(corpora.train) == [b"%d" % number for number in range(20) if b"%d" % number not in held]
    assert list(iterate_side(train, "target", corpora.held)) == lines_of(corpora.train)
    assert line_corpora(spec, seed=2).held != corpora.held


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines_of_a_validation_file_leave_the_training_lines_whole(write, suffix, monkeypatch, tmp_path):
    monkeypatch.setenv("CORPORA", str(tmp_path))
    write(f"train{suffix}", b"a\r\n\n b\n")
    write(f"validation{suffix}", b"c")
    spec = DataSpec(
        train=CorpusSpec(target=f"$CORPORA/train{suffix}"), validation=CorpusSpec(target=f"$CORPORA/validation{suffix}")
    )
    corpora = line_corpora(spec, seed=1)
    assert (corpora.train_count, corpora.validation_count, corpora.held) == (3, 1, frozenset())
    for _ in range(2):
        assert lines_of(corpora.train) == [b"a", b"", b" b"] and lines_of(corpora.validation) == [b"c"]


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        (lambda lines: DataSpec(), "data.train.target: no file is given"),
        (lambda lines: DataSpec(train=lines), "data.validation.target: no file is given"),
        (lambda lines: DataSpec(train=lines, holdout=2), "data.holdout: 2 of 2 .* nothing to train on"),
    ],
    ids=["nothing", "no validation", "all held out"],
)
def test_lines_are_needed_on_both_sides_of_the_split(write, spec, key):
    with pytest.raises(UserError, match=f"^{key}"):
        line_corpora(spec(CorpusSpec(target=write("lines", b"a\nb\n"))), seed=1)


# ---- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"a\nb\n", 2),
        (b"a\nb", 2),
        (b"a\n\n\n", 3),
        (b"a\r\nb\r\n", 2),
        (b"a\rb\nc\r\r\nd\r", 3),
        (b"\r\n\r", 2),
        ("\ufeffa\n\ufeffb\n".encode(), 2),
        ("a\u2028b\x0cc\u0085d\ne\n".encode(), 2),
        (b"a\0b\0\nc\0\n", 2),
    ],
)
def test_pairs_are_the_lines_that_were_checked(write, content, count, suffix):
    # TensorFlow's own line reader has other ideas about "\r" and byte order marks.
    spec = lines_spec(write, content, content, suffix)
    lines = list(iterate_lines(spec.source))
    assert len(lines) == count
    assert pairs_of(spec) == list(zip(lines, lines))


@pytest.mark.parametrize("head", [b"", "\ufeff".encode()])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_windows_files_give_the_same_as_clean_ones(write, head, end):
    assert pairs_of(lines_spec(write, head + column(0, end), head + column(1, end))) == PAIRS
    table = head + b"".join(b"\t".join(pair) + end for pair in PAIRS)
    assert pairs_of(CorpusSpec(table=write("table.tsv", table))) == PAIRS


def test_a_long_corpus_keeps_its_order(write):
    numbers = [str(number).encode() for number in range(5000)]
    content = b"\n".join(numbers)
    pairs, count = corpus_pairs(lines_spec(write, content, content), "data.train")
    assert count == len(numbers)
    for _ in range(2):
        batch = next(pairs.batch(count + 1).as_numpy_iterator())
        assert batch["source"].tolist() == batch["target"].tolist() == numbers


def test_records_of_a_glob_come_in_the_order_of_names(tmp_path):
    for name, pair in (("b", PAIRS[1]), ("a", PAIRS[0]), ("c", PAIRS[2])):
        write_records([pair], tmp_path / f"{name}.tfrecord")
    assert pairs_of(CorpusSpec(records=str(tmp_path / "*.tfrecord"))) == PAIRS[:3]


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_uneven_line_counts_are_refused(write):
    spec = lines_spec(write, b"a\nb\nc\n", b"a\nb\n")
    fault = fault_of(spec)
    assert f"{spec.source} has 3 lines" in fault
    assert f"{spec.target} has 2" in fault


@pytest.mark.parametrize(
    ("content", "place"),
    [(b"a\nb\n\xff\n", "line 3"), (b"", "empty")],
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_faulty_line_file_is_told_with_its_place(write, side, content, place):
    files = {"source": write("source", b"a\nb\nc\n"), "target": write("target", b"a\nb\nc\n")}
    files[side] = write("faulty", content)
    fault = fault_of(CorpusSpec(**files))
    assert fault.startswith(files[side])
    assert place in fault


def test_a_missing_file_is_named(write, tmp_path):
    assert fault_of(CorpusSpec(source=write("a", b"a\n"), target=str(tmp_path / "no"))).startswith(str(tmp_path / "no"))
    assert fault_of(CorpusSpec(table=str(tmp_path / "no.tsv"))).startswith(str(tmp_path / "no.tsv"))
    fault = fault_of(CorpusSpec(records=str(tmp_path / "*.tfrecord")))
    assert "data.train.records" in fault
    assert str(tmp_path / "*.tfrecord") in fault


def test_a_cut_gz_file_is_told_with_its_line(tmp_path, write):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"some line\n" * 100)[:-10])
    fault = fault_of(CorpusSpec(source=str(path), target=write("target", b"a\n" * 100)))
    assert fault.startswith(str(path))
    assert "damaged after line" in fault


@pytest.mark.parametrize(
    ("row", "columns"), [(b"only one", 1), (b"a\tb\tc", 3), (b"", 1)], ids=["one", "three", "blank"]
)
def test_a_row_of_other_columns_is_told_with_its_line(write, row, columns):
    path = write("table.tsv", b"a\tb\n" + row + b"\na\tb\n")
    assert fault_of(CorpusSpec(table=path)).startswith(f"{path}, line 2: {columns} columns")


def test_a_corpus_that_is_not_given_is_told_by_its_key():
    assert "data.train.source" in fault_of(CorpusSpec())


def test_paths_hold_variables_and_home(monkeypatch, tmp_path, write):
    write("source", column(0))
    write("target", column(1))
    monkeypatch.setenv("CORPORA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = CorpusSpec(source="$CORPORA/source", target="~/target")
    assert pairs_of(spec) == PAIRS
    assert expanded(spec) == CorpusSpec(source=str(tmp_path / "source"), target=str(tmp_path / "target"))
    assert expanded(CorpusSpec(records="${CORPORA}/r")).records == str(tmp_path / "r")


@pytest.mark.parametrize("path", ["$NOT_SET_HERE/a", "/b/${NOT_SET_HERE}/a"])
def test_an_unset_variable_in_a_path_is_named(monkeypatch, path):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    fault = fault_of(CorpusSpec(source=path, target="b"))
    assert path in fault
    assert "NOT_SET_HERE is not set" in fault


def flipped(content, index):
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (lambda content: content[:-3], "after record 3"),
        (lambda content: content + content[:5], "after record 4"),
        (lambda content: flipped(content, 20), "after record 0"),
        (lambda content: flipped(content, -20), "after record 3"),
        (lambda content: b"one\teins\n", "after record 0"),
        (lambda content: b"", "holds no record"),
    ],
    ids=["cut", "cut in a length", "first", "last", "text", "empty"],
)
def test_damaged_records_are_told_with_their_place(tmp_path, damage, place):
    spec = records_file(tmp_path)
    path = tmp_path / "pairs.tfrecord"
    path.write_bytes(damage(path.read_bytes()))
    fault = fault_of(spec)
    assert spec.records in fault
    assert place in fault
    assert "function_node" not in fault, "TensorFlow's inner names tell the user nothing"


def test_a_record_without_a_target_is_refused(tmp_path):
    path = str(tmp_path / "other.tfrecord")
    one = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a"]))
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature={"source": one})).SerializeToString())
    fault = fault_of(CorpusSpec(records=path))
    assert fault.startswith(path)
    assert "target" in fault


def test_a_record_that_is_not_utf8_is_told_with_its_number(tmp_path):
    path = str(tmp_path / "pairs.tfrecord")
    write_records([("a", "b"), ("c", b"\xff")], path)
    assert fault_of(CorpusSpec(records=path)).startswith(f"{path}, record 2")


# ---- write_records --------------------------------------------------------------------------------------------------


def test_records_hold_any_text(tmp_path):
    pairs = [("a\nb", "\u6211\0"), ("", b"\t\r")]
    path = tmp_path / "new" / "pairs.tfrecord"
    assert write_records(pairs, path) == 2
    assert pairs_of(CorpusSpec(records=str(path))) == [(b"a\nb", "\u6211\0".encode()), (b"", b"\t\r")]
    assert [file.name for file in path.parent.iterdir()] == ["pairs.tfrecord"]


def test_failed_writing_leaves_the_old_file_alone(tmp_path):
    def pairs():
        yield "a", "b"
        raise UserError("line 2 is bad")

    path = tmp_path / "pairs.tfrecord"
    with pytest.raises(UserError, match="line 2 is bad"):
        write_records(pairs(), path)
    assert list(tmp_path.iterdir()) == []
    write_records(PAIRS, path)
    with pytest.raises(UserError, match="line 2 is bad"):
        write_records(pairs(), path)
    assert pairs_of(CorpusSpec(records=str(path))) == PAIRS
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [".", "x" * 250], ids=["folder", "long"])
def test_records_that_cannot_be_written_leave_nothing_behind(tmp_path, name):
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path / name))}: cannot be written") as caught:
        write_records(PAIRS, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda path: corpus_pairs(CorpusSpec(source=path, target=path), "train"), id="lines"),
        pytest.param(lambda path: corpus_pairs(CorpusSpec(table=path), "train"), id="table"),
        pytest.param(lambda path: corpus_pairs(CorpusSpec(records=path), "train"), id="records"),
        pytest.param(lambda path: shard_utterances(path, 8000), id="shards"),
        pytest.param(read_manifest, id="manifest"),
        pytest.param(read_arpa, id="ARPA"),
        pytest.param(lambda path: read_shortlist(path, ["a"], ["a"]), id="shortlist"),
        pytest.param(lambda path: load_rules(RulesSpec(patterns=path)), id="patterns"),
        pytest.param(lambda path: load_rules(RulesSpec(lexicon=path)), id="lexicon"),
        pytest.param(lambda path: read_vectors(path, {"a"}), id="vectors"),
    ],
)
def test_no_reader_waits_for_a_pipe(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: must be a regular file.*, got a pipe"):
        read(str(tmp_path / "pipe"))
