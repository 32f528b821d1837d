"""Corpora are written to shards by the command line, and mistakes in its arguments are told in one line."""

from pathlib import Path

import pytest

from tfseq2seq.data.corpora import corpus_pairs
from tfseq2seq.spec import CorpusSpec

PAIRS = [("日本 語", "japanese"), ("", "empty"), ("x", "y"), ("z", "a")]


def pairs_of(folder):
    found, count = corpus_pairs(CorpusSpec(records=str(folder)), "records")
    read = [(one["source"].decode(), one["target"].decode()) for one in found.as_numpy_iterator()]
    assert count == len(read)
    return read


def test_two_files_of_text_become_shards(tfseq2seq, lines, tmp_path):
    source, target = lines("s", [pair[0] for pair in PAIRS]), lines("t", [pair[1] for pair in PAIRS])
    code, output, errors = tfseq2seq("data", "shard", source, target, tmp_path / "shards", "--pairs", 3, "--jobs", 1)
    assert (code, output) == (0, "")
    assert errors.startswith(f"{tmp_path / 'shards'}: 4 pairs, 2 shards")
    assert pairs_of(tmp_path / "shards") == PAIRS
    code, _, errors = tfseq2seq("data", "shard", source, target, tmp_path / "shards")
    assert code == 2 and "must not have shards" in errors


def test_a_table_becomes_shards(tfseq2seq, lines, tmp_path):
    table = lines("table.tsv", ["\t".join(pair) for pair in PAIRS])
    code, _, errors = tfseq2seq("data", "shard", "--table", table, tmp_path / "shards")
    assert (code, errors.count("\n")) == (0, 1)
    assert pairs_of(tmp_path / "shards") == PAIRS


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a", "b", "c", "folder"), "got 3 files before FOLDER"),
        (("--table", "a", "b", "folder"), "got 2 files before FOLDER"),
        (("a", "b", "folder", "--rate", 8000), "--rate: is only for recordings; leave it out"),
        (("a", "b", "folder", "--split", "train"), "--split: is only for recordings; leave it out"),
        (("a", "folder", "--jobs", 2), "--jobs: is only for text; leave it out"),
        (("a", "folder", "--pairs", 2), "--pairs: is only for text; leave it out"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(tfseq2seq, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    code, output, errors = tfseq2seq("data", "shard", *arguments)
    assert (code, output) == (2, "") and told in errors and errors.count("\n") == 1
    assert not Path("folder").exists()


def test_a_faulty_line_is_told_and_the_shards_before_it_stay(tfseq2seq, lines, tmp_path):
    source, target = lines("s", ["a", "b", "c"]), lines("t", ["a", "b"])
    code, _, errors = tfseq2seq("data", "shard", source, target, tmp_path / "shards", "--pairs", 1, "--jobs", 1)
    assert code == 2 and "has 3 lines" in errors
    lines("t", ["a", "b", "c"])
    code, _, errors = tfseq2seq("data", "shard", source, target, tmp_path / "shards", "--pairs", 1, "--jobs", 1)
    assert code == 0 and "3 pairs, 3 shards" in errors and "2 were there already" in errors
