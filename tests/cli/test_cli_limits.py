"""Inputs that are longer than a model answers: named, and the others are answered."""

import numpy as np
import pytest
from small_runs import BEST, SOURCES

from tfseq2seq.export.formats import ExportOptions, formats
from tfseq2seq.files import read_lines, write_wave
from tfseq2seq.inference.predictor import Predictor

pytestmark = pytest.mark.usefixtures("eagerly")

LIMIT = "--set=search.max_input=12"
LINE_5 = "line 5: too long: 21 tokens with <eos>, at most 12 are answered (search.max_input)"


def faults(errors):
    """The lines on standard error, without the one that counts outputs that may be cut."""
    return [line for line in errors.splitlines() if "warning:" not in line]


def test_generate_names_a_line_that_is_too_long(tfseq2seq, lively, generated_lines):
    stdin = "\n".join([*SOURCES, "5 " * 100_000]).encode()
    code, output, errors = tfseq2seq("generate", *lively, BEST, LIMIT, "--batch", 1, stdin=stdin)
    expected = [text if index != 4 else "" for index, (_, _, text) in enumerate(generated_lines)]
    assert (code, output.split("\n")) == (2, [*expected, "", ""])
    assert faults(errors)[-2:] == [
        f"tfseq2seq: {LINE_5}",
        "tfseq2seq: line 7: too long: 200000 bytes, at most 768 are answered, for 12 tokens (search.max_input)",
    ]


def test_an_exported_model_names_them_too(tfseq2seq, trained_run, tmp_path):
    import dataclasses

    search = dataclasses.replace(trained_run.recipe.search, max_input=12, max_length=5, n_best=2)
    folder = formats()["tflite"].write(
        Predictor.of_runs([trained_run], search=search), f"{tmp_path}/m", ExportOptions()
    )
    code, output, errors = tfseq2seq("generate", "--model", folder, stdin="\n".join(SOURCES).encode())
    lines = output.split("\n")
    assert (code, len(lines), lines[8:10]) == (2, 13, ["", ""]) and any(lines[:8])
    assert faults(errors)[-1] == f"tfseq2seq: {LINE_5}"


def test_prefixes_have_a_limit(tfseq2seq, lively, lines):
    prefixes = lines("prefix", ["on the", "on " * 2000, "", "", "", ""])
    code, output, errors = tfseq2seq("generate", *lively, BEST, "--prefix", prefixes, stdin="\n".join(SOURCES).encode())
    assert (code, output.split("\n")[1]) == (2, "") and output.startswith("on the")
    message = "too long: 2001 tokens with <eos>, at most 1024 are answered (search.max_length)"
    assert faults(errors)[-1] == f"tfseq2seq: {prefixes}, line 2: {message}"


def test_score_leaves_them_out(tfseq2seq, lively, lines):
    source, target = lines("source", ["a", SOURCES[4], "a"]), lines("target", ["on the", "on the", "on " * 2000])
    common = ["score", *lively, LIMIT]
    code, output, errors = tfseq2seq(*common, "--source", source, "--target", target)
    alone = tfseq2seq(*common, "--source", lines("s", ["a"]), "--target", lines("t", ["on the"]))
    assert (code, output, alone[0]) == (2, f"{alone[1]}\n\n", 0)
    assert errors.splitlines() == [
        alone[2].strip(),
        f"tfseq2seq: {source}, {LINE_5.replace('line 5', 'line 2')}",
        f"tfseq2seq: {target}, line 3: too long: 2001 tokens with <eos>, at most 1024 are answered (search.max_length)",
    ]


def test_evaluate_counts_them_as_empty(tfseq2seq, lively, lines, tmp_path):
    source, kept = lines("source", SOURCES), tmp_path / "kept"
    arguments = ["evaluate", *lively, BEST, LIMIT, "--source", source, "--reference", source, "--output", kept]
    code, output, errors = tfseq2seq(*arguments, "--metric", "exact_match", "--bootstrap", 0)
    assert code == 2 and "exact_match" in output and faults(errors)[-1] == f"tfseq2seq: {LINE_5}"
    assert read_lines(kept)[4] == ""


def test_attention_refuses_a_text_that_is_too_long(tfseq2seq, run):
    code, output, errors = tfseq2seq("attention", "--run", run, "a" * 2000)
    assert (code, output) == (2, "")
    assert errors == (
        "tfseq2seq: the text is too long: 2001 tokens with <eos>, at most 1024 are answered (search.max_input)\n"
    )


def test_recordings_that_are_too_long_need_windows(tfseq2seq, speech_run, recordings, tmp_path):
    long = tmp_path / "long.wav"
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, 8000 * 8).astype("float32")
    write_wave(str(long), noise, 8000)
    common = ["generate", "--run", speech_run("ctc"), BEST, "--set=search.max_input=7"]
    message = f"tfseq2seq: {long}: too long: 8.0 s, at most 7 s are answered (search.max_input); --window cuts it"
    for options in ([], ["--times", "json"]):
        code, output, errors = tfseq2seq(*common, *options, long, recordings[0])
        assert (code, len(output.splitlines()), faults(errors)[-1]) == (2, 2, message)
    assert tfseq2seq(*common, "--window", "5", long)[0] == 0
    code, _, errors = tfseq2seq(*common, "--window", "8", long)
    assert (code, errors) == (2, "tfseq2seq: --window: must be at most search.max_input (7 s), got 8\n")
