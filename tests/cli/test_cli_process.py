"""Commands as processes of their own: what they load, how fast they answer, and what they leave to the terminal."""

import io
import os
import re
import resource
import statistics
import subprocess
import sys

import pytest
from small_runs import BEST, SOURCES

from tfseq2seq.cli.terminal import prepare_streams

COMMAND = [sys.executable, "-m", "tfseq2seq.cli"]


def test_help_of_every_command_loads_nothing_heavy():
    code = """
import sys
from tfseq2seq import cli

def walk(group, path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            walk(command, [*path, name])
        cli.main([*path, name, "--help"])

cli.main(["--help"])
walk(cli.commands, [])
cli.main(["--version"])
cli.main(["recipe", "--schema"])
heavy = {"tensorflow", "keras", "numpy", "sacrebleu", "matplotlib", "sentencepiece", "rich"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for said in ("Usage: tfseq2seq train", "Usage: tfseq2seq data records", "--weights", "version"):
        assert said in done.stdout


def test_scoring_files_needs_no_tensorflow(lines):
    file = lines("file", ["a b c d"])
    code = f"""
import sys
from tfseq2seq import cli
cli.main(["evaluate", "--hypotheses", {str(file)!r}, "--reference", {str(file)!r}])
cli.main(["compare", {str(file)!r}, {str(file)!r}, "--reference", {str(file)!r}])
sys.exit("tensorflow" in sys.modules or "keras" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_answers_at_once():
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor: a busy machine must not fail the test.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stdout.startswith("Usage: tfseq2seq ") and done.stderr == ""
    assert statistics.median(seconds) < 0.5


@pytest.mark.parametrize("group", [[], ["data"]])
def test_a_group_without_a_command_shows_its_help(tfseq2seq, group):
    code, output, errors = tfseq2seq(*group)
    assert code == 2 and (output + errors).startswith(" ".join(["Usage: tfseq2seq", *group]))


def test_a_reader_that_goes_away_is_no_error():
    # As `| head -1` does, only sooner: nobody reads from the beginning.
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run([*COMMAND, "recipe", "--schema"], stdout=closed, stderr=subprocess.PIPE)
    assert done.stderr == b"" and done.returncode != 0


# What a user sees must not depend on the locale.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "cp1252"}, ASCII])
def test_pipes_get_utf8_whatever_the_locale_is(tmp_path, environment):
    (tmp_path / "你").write_text("你 好\n", encoding="utf-8")
    (tmp_path / "r").write_text("你 不 好\n", encoding="utf-8")
    arguments = [
        "evaluate",
        "--hypotheses",
        "你",
        "--reference",
        "r",
        "--metric",
        "wer",
        "--worst",
        "1",
        "--bootstrap",
        "0",
    ]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, cwd=tmp_path, env={**os.environ, **environment})
    assert (done.returncode, done.stderr) == (0, b"")
    assert "不" in done.stdout.decode("utf-8")


def test_a_terminal_gets_escapes_for_characters_that_it_does_not_have(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(written, encoding="cp1252"))
    prepare_streams()
    print("caf\u00e9 \u4f60 \udcff", flush=True)
    assert written.getvalue() == b"caf\xe9 \\u4f60 \\udcff\n"


@pytest.mark.parametrize("arguments", [["recipe", "--schema"], ["--help"]])
def test_a_closed_standard_output_is_told_in_one_line(arguments):
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *COMMAND, *arguments], capture_output=True, text=True)
    line = "tfseq2seq: standard output: must be open to take the results, and it is closed\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_messages_of_a_process_without_streams_go_into_no_file(tmp_path):
    (tmp_path / "hypotheses").write_text("a\n")
    code = (
        "import os; from tfseq2seq.cli.terminal import prepare_streams; prepare_streams();"
        "file = open('new', 'w'); os.write(1, b'lost'); os.write(2, b'lost'); file.write('kept')"
    )
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "new").read_text() == "kept"


def test_an_argument_that_is_not_utf8_is_told_unless_it_names_a_file(refused, done, tmp_path):
    (tmp_path / "caf\udce9").write_text("seed: 3\n")
    assert "seed: 3" in done("recipe", tmp_path / "caf\udce9")
    message = r"must be UTF-8 text or the name of a file that exists"
    assert refused("recipe", "caf\udce9") == rf"argument 'caf\xe9': {message}"
    assert refused("recipe", "--set", "name=caf\udce9") == rf"argument 'name=caf\xe9': {message}"


@pytest.mark.slow
def test_a_process_generates_the_same_and_says_nothing_else(lively, generated_lines):
    # Without the level that the tests set: what users see of TensorFlow is up to the command.
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [*COMMAND, "generate", *lively, BEST, "--scores", "--batch=2"],
        input="\n".join(SOURCES).encode(),
        capture_output=True,
        env=environment,
    )
    # What is told is about the outputs alone.
    assert re.fullmatch(rb"tfseq2seq: warning: \d of 6 outputs reached search\.max_length=5 .*\n", done.stderr)
    assert done.returncode == 0
    assert done.stdout.endswith(b"\n")
    found = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [text for _, _, text in found] == [text for _, _, text in generated_lines]
    numbers = [[float(number) for line in each for number in line[:2]] for each in (found, generated_lines)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)
