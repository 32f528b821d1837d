"""The commands of the page about models of Hugging Face, run on random models."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import test_encoder_decoders
import test_marian
import test_whisper

from tfseq2seq.cli import main
from tfseq2seq.run import Run

ROOT = Path(__file__).parents[2]
PAGES = ("docs/hugging_face.md", "docs/hugging_face.zh.md")


def commands(page):
    blocks = re.findall(r"^```bash\n(.+?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_both_pages_have_the_same_commands():
    assert commands(PAGES[0]) == commands(PAGES[1]) and len(commands(PAGES[0])) == 11


@pytest.mark.slow
def test_every_command_does_what_the_page_tells(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ctranslate2")
    monkeypatch.chdir(tmp_path)
    names = ("opus-mt-zh-en", "nllb-200", "whisper", "whisper-tiny.en")
    folders = [tmp_path / name for name in names]
    for folder in folders[:3]:
        folder.mkdir()
    test_marian.make(folders[0])
    test_encoder_decoders.make(folders[1], "m2m_100")
    test_whisper.write_ctranslate2(folders[3], test_whisper.make(folders[2]))
    for name, lines in (("some.zh", test_marian.SOURCE), ("some.en", test_marian.TARGET)):
        Path(name).write_text("".join(f"{line}\n" for line in lines))
    soundfile.write("one.wav", np.random.default_rng(1).normal(0, 0.1, 12000), 16000)
    monkeypatch.setattr("tfseq2seq.interop.speech_proof._OUTPUT", test_whisper.LONGEST - 4)
    answer = test_marian.reference(folders[0])
    monkeypatch.setattr("tfseq2seq.interop.proof._reference", answer)
    monkeypatch.setattr("tfseq2seq.cli.importing._python", lambda reference: "python")
    # The answer is that of the first model; of the second one there is none to compare with.
    monkeypatch.setattr("tfseq2seq.cli.importing._comparable", lambda folder, python: "nllb" not in folder)
    written = []
    for program, *words in commands(PAGES[0]):
        assert program == "tfseq2seq"
        capsys.readouterr()
        main(words)
        written.append(capsys.readouterr().out)
    assert written[1].count("\n") == 4 and "4 of 4 texts identical" in written[3]
    assert written[7].count("\n") == 1
    assert Run.open("runs/mine").weights_file().exists() and Path("whisper.tflite").exists()
    assert subprocess.run(["ls", "saved_models/nllb/1"], capture_output=True, check=True).stdout
