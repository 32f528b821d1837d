"""Progress bars: on a terminal, on standard error, and nowhere else."""

import io
import re
import sys

import pytest

from tfseq2seq.progress import progress_bar, tracked


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal when it is called, and gives a function that returns what is shown there."""

    def make():
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        for name, value in (("TERM", "xterm"), ("COLUMNS", "120")):
            monkeypatch.setenv(name, value)
        # Without escape sequences.
        return lambda: re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())

    return make


def test_a_bar_shows_what_is_done_and_how_much(terminal):
    shown = terminal()
    with progress_bar("generating", 4000) as advance:
        advance(1000)
        advance(500)
    assert "generating" in shown() and "1,500/4,000" in shown()


def test_a_bar_without_a_total_shows_the_count_alone(terminal):
    shown = terminal()
    assert list(tracked(range(2500), "checking lines")) == list(range(2500))
    assert "checking lines" in shown() and "2,500" in shown() and "/2,500" not in shown()


def test_results_on_standard_output_stay_there(terminal, capsys):
    shown = terminal()
    with progress_bar("generating", 2) as advance:
        print("a result")
        advance(2)
    assert capsys.readouterr().out == "a result\n" and "a result" not in shown()


def test_a_bar_inside_of_another_one_is_not_shown(terminal):
    shown = terminal()
    with progress_bar("outside", 2) as advance:
        assert list(tracked([1, 2], "inside")) == [1, 2]
        advance(2)
    with progress_bar("later"):
        pass
    assert "inside" not in shown() and "later" in shown()


def test_nothing_is_shown_where_standard_error_is_no_terminal(capsys):
    with progress_bar("generating", 2) as advance:
        advance(2)
    assert list(tracked([1, 2], "reading")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_the_preparation_of_a_training_shows_its_passes(terminal, tmp_path):
    from tfseq2seq.data.batching import filter_pairs, tokenize
    from tfseq2seq.data.corpora import iterate_side, training_corpora
    from tfseq2seq.sources.text import learn_features
    from tfseq2seq.spec import CorpusSpec, DataSpec, TextSpec

    (tmp_path / "lines").write_text("a b\nc\nd\n")
    pair = CorpusSpec(source=str(tmp_path / "lines"), target=str(tmp_path / "lines"))
    shown = terminal()
    corpora = training_corpora(DataSpec(train=pair, holdout=1), seed=1)
    sides = {
        side: learn_features(side, TextSpec(scheme="words"), iterate_side(pair, side)) for side in ("source", "target")
    }
    filter_pairs(tokenize(sides)(corpora.train), {"source": 9, "target": 9}, False, "data.train")
    for what in ("checking data.train.source", "learning the vocabulary of target", "counting data.train"):
        assert what in shown()


def test_recordings_that_are_written_are_counted(terminal, tmp_path):
    from tfseq2seq.data.synthetic.morse import write_morse

    shown = terminal()
    write_morse(tmp_path, train=2, validation=1, test=1)
    assert "writing recordings" in shown() and "4/4" in shown()
