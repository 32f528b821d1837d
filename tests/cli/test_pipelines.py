"""The pipelines, which users copy, run from data to an exported model."""

import subprocess
import sys
from pathlib import Path

import pytest

PIPELINES = Path(__file__).parents[2] / "pipelines"
SMALL = ["--epochs", "1", "--steps", "2"]

pytestmark = pytest.mark.slow


def run_pipeline(name, options, folder):
    command = [sys.executable, str(PIPELINES / name), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_transcribe(morse, tmp_path):
    options = ["--manifest", morse, *SMALL, "--units", 8, "--export", tmp_path / "exported"]
    output = run_pipeline("transcribe.py", options, tmp_path)
    assert "training: 24 utterances" in output
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_translate(generated, tmp_path):
    options = ["--source", generated["train.source"], "--target", generated["train.target"]]
    options += ["--validation-source", generated["validation.source"]]
    options += ["--validation-target", generated["validation.target"]]
    sizes = ["--vocabulary", 200, "--width", 16, "--export", tmp_path / "exported"]
    output = run_pipeline("translate.py", [*options, *SMALL, *sizes], tmp_path)
    assert "training: 400 pairs" in output and "validation: 40 pairs" in output
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_summarize(generated, tmp_path):
    options = ["--source", generated["train.source"], "--target", generated["train.target"]]
    options += ["--validation-source", generated["validation.source"]]
    options += ["--validation-target", generated["validation.target"]]
    sizes = ["--vocabulary", 100, "--width", 8, "--export", tmp_path / "exported"]
    output = run_pipeline("summarize.py", [*options, *SMALL, *sizes], tmp_path)
    assert "training: 400 pairs" in output and "validation: 40 pairs" in output
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_write(generated, tmp_path):
    options = ["--text", generated["train.target"], "--validation-text", generated["validation.target"], *SMALL]
    output = run_pipeline(
        "write.py", [*options, "--width", 16, "--prompt", "se", "--export", tmp_path / "exported"], tmp_path
    )
    assert "training: 400 lines" in output and "validation: 40 lines" in output
    assert output.splitlines()[-2].startswith("se")
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_quickstart(tmp_path):
    output = run_pipeline("quickstart.py", ["--folder", tmp_path / "quick", "--train", 400, "--steps", 2], tmp_path)
    assert "test set of 1000: exact_match" in output and "on 17 February 1963  ->" in output


def test_chat(tmp_path):
    (tmp_path / "train.txt").write_text("how are you __eou__ fine thanks __eou__ good to hear\n" * 20)
    options = ["--dialogues", "train.txt", "--validation", "train.txt", *SMALL, "--vocabulary", 30, "--width", 16]
    output = run_pipeline("chat.py", [*options, "--export", tmp_path / "exported"], tmp_path)
    assert "training.dialogues: 20 dialogues with 40 answers" in output and "validation: 40 pairs" in output
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_caption(tmp_path):
    from tfseq2seq.data.synthetic.colored_shapes import write_pictures

    table = write_pictures(tmp_path / "pictures", train=20, validation=4, test=1, size=32)
    options = ["--manifest", table, *SMALL, "--size", 32, "--width", 16, "--export", tmp_path / "exported"]
    output = run_pipeline("caption.py", options, tmp_path)
    assert "training: 40 captions of 20 pictures" in output
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()
