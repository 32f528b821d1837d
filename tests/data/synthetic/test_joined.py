"""Utterances joined to longer ones: text, speakers and samples are those of the parts."""

import wave

import numpy as np
import pytest

from tfseq2seq.cli import main
from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.errors import UserError
from tfseq2seq.files import write_wave


@pytest.fixture
def manifest(tmp_path):
    """Clips of 0.1 s, each of a level of its own, of two speakers."""
    rows = []
    for number in range(1, 9):
        write_wave(tmp_path / f"{number}.wav", np.full(800, number / 10), 8000)
        rows.append(f"{'test' if number < 7 else 'train'}\t{'ab'[number % 2]}\t{number}.wav\t{number}")
    path = tmp_path / "clips.tsv"
    path.write_text("split\tspeaker\tpath\ttext\n" + "".join(f"{row}\n" for row in rows))
    return path


def samples_of(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def test_parts_follow_each_other_with_pauses(manifest, tmp_path, capsys):
    options = ["--split", "test", "--count", "20", "--rate", "8000", "--seed", "3", "--pause", "0.02", "0.1"]
    main(["data", "join", str(manifest), str(tmp_path / "joined"), *options])
    assert capsys.readouterr().out.strip().endswith("test.tsv")
    found = read_manifest(tmp_path / "joined" / "test.tsv", "test")
    assert len(found) == 20
    lengths = set()
    for utterance in found:
        digits = [int(digit) for digit in utterance.text.split()]
        lengths.add(len(digits))
        assert {"ab"[digit % 2] for digit in digits} == {utterance.speaker} and max(digits) < 7
        samples = samples_of(utterance.path)
        loud = np.flatnonzero(samples > 0.05)
        assert samples[loud] == pytest.approx(np.repeat(digits, 800) / 10, abs=1e-3)
        assert len(samples) >= 800 * len(digits) + 160 * (len(digits) + 1)
        assert loud[0] >= 160 and np.abs(samples[: loud[0]]).max() < 1e-4
    assert lengths <= set(range(3, 8)) and len(lengths) > 2


def test_equal_seeds_give_equal_files(manifest, tmp_path):
    for folder in ("a", "b"):
        main(["data", "join", str(manifest), str(tmp_path / folder), "--name", "x", "--count", "3", "--rate", "8000"])
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_faults(manifest, tmp_path):
    from tfseq2seq.data.synthetic.joined import write_joined

    utterances = read_manifest(manifest)
    with pytest.raises(UserError, match="1 <= least <= most.*got count 1, least 4, most 3"):
        write_joined(utterances, tmp_path / "x", "x", 1, least=4, most=3)
    (manifest.parent / "3.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"3\.wav"):
        write_joined(utterances, tmp_path / "x", "x", 1)
    assert not (tmp_path / "x").exists()
