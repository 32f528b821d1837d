"""Inputs are answered while they are read, and a job that was killed is continued."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest
from small_runs import BEST

from tfseq2seq.cli import answering
from tfseq2seq.cli.answering import answer
from tfseq2seq.cli.exit import Stopped
from tfseq2seq.cli.inputs import Inputs, InputStream
from tfseq2seq.cli.results import open_results
from tfseq2seq.errors import UserError
from tfseq2seq.files import arriving_lines
from tfseq2seq.runtime.outputs import Output

pytestmark = pytest.mark.usefixtures("eagerly")

TEXTS = [f"line {number}" for number in range(10)]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Windows have one batch."""
    monkeypatch.setattr(answering, "_BATCHES_IN_WINDOW", 1)
    monkeypatch.setattr(answering, "_SMALLEST_WINDOW", 1)


def upper(stop=None):
    """A model that writes capitals. It is killed instead of answering the inputs from `stop` on."""

    def ask(window):
        if stop is not None and stop in window.values:
            raise KeyboardInterrupt
        return [Output([text.upper()], [0.0], [0.0]) for text in window.values]

    return lambda *_: ask


def answered(texts, path=None, resume=False, model=None, hypotheses=1, **stream):
    source = texts if isinstance(texts, InputStream) else InputStream(list(texts), Inputs, **stream)
    output = str(path) if path else None
    return answer(source, model or upper(), output, resume, 3, hypotheses, False)


def partial(path):
    return path.with_name(f"{path.name}.partial")


# ---- while it reads -------------------------------------------------------------------------------------------------


def test_no_more_than_a_window_is_read_ahead(capsys):
    read, seen = [], []

    def lines():
        for text in TEXTS:
            read.append(text)
            yield text

    def ask(window):
        seen.append((len(read), len(window.values), capsys.readouterr().out.count("\n")))
        return [Output([text], [0.0], [0.0]) for text in window.values]

    summary = answered(InputStream(lines(), Inputs), model=lambda *_: ask)
    # Read so far, size of the window, and lines written since the window before.
    assert seen == [(3, 3, 0), (6, 3, 3), (9, 3, 3), (10, 1, 3)]
    assert summary.answered == 10 and list(summary.each_cut()) == [False] * 10


def test_a_window_ends_when_its_lines_are_long(monkeypatch):
    monkeypatch.setattr("tfseq2seq.cli.inputs._LARGEST_WINDOW", 10)
    windows = InputStream(["a" * 4] * 5 + ["b" * 100, "c"], Inputs).windows(100)
    assert [len(window.values) for window in windows] == [3, 3, 1]


def test_a_line_of_a_pipe_is_answered_before_the_next_one_is_written(capsys):
    reading, writing = os.pipe()
    told = threading.Event()

    def write():
        os.write(writing, b"first\n")
        # A user looks at the answer before the next line.
        told.wait(20)
        os.write(writing, b"second\nthird")
        os.close(writing)

    answers = []

    def ask(window):
        answers.append(window.values)
        told.set()
        return [Output([text], [0.0], [0.0]) for text in window.values]

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        lines = (line and line.decode() for line in arriving_lines(pipe))
        answered(InputStream(lines, Inputs, arriving=True), model=lambda *_: ask)
    writer.join()
    assert answers == [["first"], ["second", "third"]]
    assert capsys.readouterr().out == "first\nsecond\nthird\n"


def test_lines_that_keep_on_arriving_are_answered_after_a_while(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("tfseq2seq.cli.inputs.time.monotonic", lambda: float(next(now)))
    windows = InputStream(TEXTS, Inputs, arriving=True).windows(100)
    assert max(len(window.values) for window in windows) < 5
    # A file does not look at the time: its windows are the same each time it is read.
    assert [len(window.values) for window in InputStream(TEXTS, Inputs).windows(100)] == [10]


def test_a_typed_line_finds_the_model_open(capsys):
    opened = []

    def ask(window):
        opened.append(window.values)
        return upper()()(window)

    def typed():
        # Its graph is built by a line that nobody sees.
        assert opened == [1, [""]]
        yield "a"

    def open_model(batches, advance):
        opened.append(batches)
        return ask

    answered(InputStream(typed(), Inputs, typed=True, arriving=True), model=open_model)
    assert capsys.readouterr().out == "A\n" and opened == [1, [""], ["a"]]


@pytest.mark.parametrize(
    ("typed", "to_terminal", "to_file", "shown"),
    [(False, False, False, True), (False, True, True, True), (False, True, False, False), (True, False, True, False)],
)
def test_a_bar_is_shown_where_it_disturbs_nothing(monkeypatch, tmp_path, typed, to_terminal, to_file, shown):
    bars = []

    @contextlib.contextmanager
    def bar(what, total, shown):
        bars.append((what, total, shown))
        yield lambda count: bars.append(count)

    monkeypatch.setattr(answering, "progress_bar", bar)
    monkeypatch.setattr(answering, "on_terminal", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: to_terminal)
    answered(TEXTS, tmp_path / "out" if to_file else None, typed=typed, count=lambda: 10)
    assert bars == [("generating", 10 if shown else None, shown), 0]


def test_the_bar_moves_with_each_batch(done, lively, lines, monkeypatch, tmp_path):
    moves = []

    @contextlib.contextmanager
    def bar(what, total, shown=None):
        yield moves.append

    monkeypatch.setattr(answering, "_SMALLEST_WINDOW", 100)
    monkeypatch.setattr(answering, "progress_bar", bar)
    given = [*lively, BEST, "--batch", 2, "--input", lines("in", LINES), "--output", tmp_path / "out"]
    done("generate", *given)
    assert moves == [0, 2, 2, 2, 1]
    done("generate", *given, "--resume")
    # The two that are compared do not count twice.
    assert moves[5:] == [7, 2, -2]


def test_lines_are_counted_for_the_bar(tmp_path):
    from tfseq2seq.cli.inputs import Request, open_inputs
    from tfseq2seq.spec import TextSpec

    for content, count in ((b"a\nb\n", 2), (b"a\n\nb", 3), (b"\n", 1)):
        (tmp_path / "lines").write_bytes(content)
        stream = open_inputs(TextSpec(), Request(lines=str(tmp_path / "lines")))
        assert (stream.count(), len(stream.all().values)) == (count, count)


# ---- continued ------------------------------------------------------------------------------------------------------


def test_a_killed_job_that_is_continued_gives_the_same_file(tmp_path):
    path = tmp_path / "out"
    for stop in ("line 4", "line 5", "line 9"):
        with pytest.raises(Stopped, match="stopped; --resume continues"):
            answered(TEXTS, path, resume=True, model=upper(stop))
        assert not path.exists()
    # It was killed while it wrote a line.
    with open(partial(path), "ab") as file:
        file.write(b"LINE")
    asked = []

    def ask(window):
        asked.extend(window.values)
        return upper()()(window)

    summary = answered(TEXTS, path, resume=True, model=lambda *_: ask)
    assert path.read_text() == "".join(f"{text.upper()}\n" for text in TEXTS)
    # The last batch that was written is compared, and only the rest is new.
    assert asked == TEXTS[6:] and summary.answered == 1
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_windows_are_the_same_ones_when_a_job_is_continued(tmp_path):
    path, windows = tmp_path / "out", []
    # Part of a window was written: that window comes again, so that batches are the same.
    partial(path).write_text("".join(f"{text.upper()}\n" for text in TEXTS[:4]))

    def ask(window):
        windows.append(window.values)
        return upper()()(window)

    answered(TEXTS, path, resume=True, model=lambda *_: ask)
    assert windows == [TEXTS[:3], TEXTS[3:6], TEXTS[6:9], TEXTS[9:]]
    assert path.read_text() == "".join(f"{text.upper()}\n" for text in TEXTS)


def test_an_output_that_was_cut_off_is_continued(tmp_path):
    # As another program, or a redirection by the shell, leaves it.
    path = tmp_path / "out"
    path.write_text("LINE 0\nLINE 1\nLINE 2\nLIN")
    answered(TEXTS, path, resume=True)
    assert path.read_text() == "".join(f"{text.upper()}\n" for text in TEXTS)
    answered(TEXTS, path, resume=True)
    assert path.read_text() == "".join(f"{text.upper()}\n" for text in TEXTS)


def test_a_pipe_is_continued_behind_the_last_output(tmp_path):
    path = tmp_path / "out"
    partial(path).write_text("".join(f"{text.upper()}\n" for text in TEXTS[:4]))
    assert answered(TEXTS, path, resume=True, arriving=True).answered == 6
    assert path.read_text() == "".join(f"{text.upper()}\n" for text in TEXTS)


def test_several_lines_of_an_input_count_as_one(tmp_path):
    def ask(window):
        return [Output([text, text * 2], [0.0, 0.0], [0.0, 0.0]) for text in window.values]

    path = tmp_path / "out"
    expected = "".join(f"{text}\n{text}{text}\n" for text in "abcdefg")
    partial(path).write_text(expected[: expected.index("e\n") + 2])
    answered("abcdefg", path, resume=True, model=lambda *_: ask, hypotheses=2)
    assert path.read_text() == expected


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ([text.upper() for text in TEXTS] + ["LINE 10"], "has the outputs of 11 inputs, but there are only 10 inputs"),
        (["other"] * 6, "line 4 of --output is 'other', but this command writes 'LINE 3'; continue with the same"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_an_output_of_another_job_is_not_continued(tmp_path, written, reason, complete):
    path = tmp_path / "out"
    content = "".join(f"{line}\n" for line in written)
    (path if complete else partial(path)).write_text(content)
    with pytest.raises(UserError, match=reason):
        answered(TEXTS, path, resume=True)
    # It stays as it is, and nothing else is left.
    assert [file.read_text() for file in tmp_path.iterdir()] == [content]


def test_a_job_that_is_not_continued_begins_anew(tmp_path):
    path = tmp_path / "out"
    partial(path).write_text("old\n" * 20)
    answered(TEXTS, path)
    assert path.read_text().splitlines() == [text.upper() for text in TEXTS]


def test_a_job_that_fails_before_its_first_output_leaves_nothing(tmp_path):
    path = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        answered(TEXTS, path, model=upper("line 0"))
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_the_same_output(tmp_path):
    path = tmp_path / "out"
    with (
        open_results(str(path)),
        pytest.raises(UserError, match=r"out: is being written by another process"),
        open_results(str(path)),
    ):
        pass
    assert path.read_bytes() == b""


# ---- the command ----------------------------------------------------------------------------------------------------

LINES = [f"on {number} May" for number in range(1, 8)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--resume: needs --output"),
        (["--output", "/dev/stdout"], "--resume: needs an --output that is a regular file, got /dev/stdout"),
        (["--times", "json", "--output", "x"], "--resume: cannot be combined with --times"),
    ],
)
def test_what_cannot_be_continued(refused, run, options, reason):
    assert reason in refused("generate", "--run", run, "--resume", *options, stdin=b"a\n")


def test_an_error_in_the_middle_keeps_what_is_there(tfseq2seq, done, lively, lines, tmp_path):
    common = [*lively, BEST, "--scores", "--batch", 2, "--output", tmp_path / "out"]
    bad = tmp_path / "bad"
    bad.write_bytes("".join(f"{line}\n" for line in LINES[:5]).encode() + b"caf\xe9\n")
    code, output, errors = tfseq2seq("generate", *common, "--input", bad)
    assert (code, output) == (2, "") and "bad, line 6: byte 4 (0xe9) is not UTF-8" in errors
    assert len(partial(tmp_path / "out").read_text().splitlines()) == 4
    fixed = lines("fixed", LINES)
    done("generate", *common, "--input", fixed, "--resume")
    assert (tmp_path / "out").read_text().splitlines() == done("generate", *common[:-2], "--input", fixed)


def test_prefixes_are_read_with_their_lines(tfseq2seq, done, lively, lines):
    common = ["generate", *lively, BEST, "--batch", 2, "--input", lines("in", LINES)]
    assert len(done(*common, "--prefix", lines("prefixes", ["twenty"] * 7))) == 7
    # That there are too few or too many shows when the last line is read. Earlier windows are answered by then.
    for count, answered_lines in ((1, 0), (5, 4), (8, 6)):
        code, output, errors = tfseq2seq(*common, "--prefix", lines("prefixes", ["twenty"] * count))
        assert (code, output.count("\n")) == (2, answered_lines)
        assert errors.endswith(f"prefixes: must have one line for each of the 7 inputs, got {count}\n")


KILLED = """
import os, signal, sys
from tfseq2seq import cli
from tfseq2seq.cli import answering
from tfseq2seq.cli.results import Journal

answering._BATCHES_IN_WINDOW = answering._SMALLEST_WINDOW = 1
write = Journal.write

def killed(self, lines):
    write(self, lines)
    os.kill(os.getpid(), signal.SIGKILL)

Journal.write = killed
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_process_that_is_killed_is_continued(done, lively, lines, tmp_path):
    path = tmp_path / "out"
    common = ["generate", *lively, BEST, "--scores", "--batch", "2", "--input", str(lines("in", LINES))]
    killed = subprocess.run([sys.executable, "-c", KILLED, *common, "--output", path], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists() and len(partial(path).read_text().splitlines()) == 2
    done(*common, "--output", path, "--resume")
    rows, expected = ([line.split("\t") for line in lines] for lines in (path.read_text().splitlines(), done(*common)))
    assert [row[-1] for row in rows] == [row[-1] for row in expected]
    # Not to the last digit: TensorFlow optimizes graphs in a process of its own, and not in this one.
    for row, other in zip(rows, expected):
        assert list(map(float, row[:-1])) == pytest.approx(list(map(float, other[:-1])), abs=1e-4)


def test_recordings_are_held_one_window_at_a_time(tfseq2seq, speech_run, morse, tmp_path, monkeypatch):
    from tfseq2seq.sources import recordings

    run = speech_run("ctc")
    read, windows = recordings.read_recordings, []

    def noted(utterances, spec):
        windows.append(len(utterances))
        return read(utterances, spec)

    monkeypatch.setattr(recordings, "read_recordings", noted)
    given = ["--run", run, BEST, "--batch", "4", "--manifest", morse, "--split", "test"]
    scores = ["--bootstrap", "0", "--metric", "cer", "--output", tmp_path / "out"]
    found = [(tfseq2seq("generate", *given), tfseq2seq("evaluate", *given, *scores)[1], (tmp_path / "out").read_text())]
    assert windows == [4, 2] * 2
    for options in (["--times", "json"], ["--times", "srt", "--output", f"{tmp_path}/subtitles/"]):
        tfseq2seq("generate", *given, *options)
    assert windows == [4, 2] * 4
    del windows[4:]
    # As if each recording filled the memory.
    monkeypatch.setattr("tfseq2seq.cli.inputs._LARGEST_WINDOW", 1)
    found.append(
        (tfseq2seq("generate", *given), tfseq2seq("evaluate", *given, *scores)[1], (tmp_path / "out").read_text())
    )
    assert windows == [4, 2] * 2 + [1] * 12
    assert found[0] == found[1] and found[0][2] == found[0][0][1]
