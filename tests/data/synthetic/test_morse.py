"""Generated Morse code: an independent decoder reads it back, and the noise is as loud as it says."""

import dataclasses
import itertools
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tfseq2seq.data.synthetic.morse import CODE, MorseStyle, generate_morse, morse_utterance, write_morse
from tfseq2seq.errors import UserError

CLEAN = MorseStyle(snr=(30.0, 30.0))


def keyed(samples: np.ndarray, rate: int, pitch: float) -> np.ndarray:
    """Where the key is down, by a threshold at half the loudness: power over one and a half periods of the tone."""
    window = np.hanning(int(1.5 * rate / pitch) | 1)
    loudness = np.sqrt(np.convolve(np.square(samples), window / window.sum(), mode="same"))
    return loudness > np.percentile(loudness, 98) / 2


def runs(down: np.ndarray) -> list[tuple[bool, int]]:
    """(is the key down, samples) of each stretch from the first key down to the last."""
    found = [(bool(value), len(list(group))) for value, group in itertools.groupby(down)]
    return found[1 if not found[0][0] else 0 : None if found[-1][0] else -1]


def decode(samples: np.ndarray, rate: int, pitch: float, dot: float) -> str:
    """Text of a clean recording, given the seconds of a dot."""
    letters = {code: letter for letter, code in CODE.items()}
    text, code = "", ""
    for down, length in [*runs(keyed(samples, rate, pitch)), (False, int(3 * dot * rate))]:
        units = length / rate / dot
        if down:
            code += "." if units < 1.6 else "-"
        elif units > 1.6:
            text += letters[code] + (" " if units > 4.6 else "")
            code = ""
    return text


def test_code_is_complete_and_unambiguous():
    assert "".join(sorted(CODE)) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert len(set(CODE.values())) == 36
    # From ITU-R M.1677-1, a letter of each length and two digits.
    assert [CODE[letter] for letter in "ENSQ37"] == [".", "-.", "...", "--.-", "...--", "--..."]


@pytest.mark.parametrize("rate, speed, pitch", [(8000, 15, 400), (8000, 30, 900), (16000, 22, 650), (8000, 60, 900)])
def test_the_audio_decodes_back_to_the_text(rate, speed, pitch):
    text = "THE QUICK BROWN FOX JUMPS OVER 13 LAZY DOGS 2456789 0"
    samples = morse_utterance(text.lower(), np.random.default_rng(0), rate, speed=speed, pitch=pitch, snr=35.0)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert decode(samples, rate, pitch, 1.2 / speed) == text


def test_random_utterances_decode_back_to_their_texts():
    style = dataclasses.replace(CLEAN, speed=(20.0, 20.0), pitch=(600.0, 600.0))
    for samples, text in generate_morse(40, 3, style):
        assert decode(samples, 8000, 600.0, 0.06) == text


def test_paris_gives_the_speed():
    # At 20 words per minute "PARIS " takes 3 seconds; its last gap, 7 of 50 dots, is not keyed.
    samples = morse_utterance("PARIS PARIS", np.random.default_rng(0), speed=20.0, silence=(0.5, 0.25))
    assert len(samples) / 8000 == pytest.approx(0.5 + 6.0 - 7 * 0.06 + 0.25, abs=2e-4)
    lengths = [(down, length / 8000 / 0.06) for down, length in runs(keyed(samples, 8000, 600.0))]
    assert [round(units) for down, units in lengths if down][:5] == [1, 3, 3, 1, 1]
    assert {round(units) for down, units in lengths if not down} == {1, 3, 7}


def test_the_tone_has_the_pitch_the_level_and_soft_edges():
    samples = morse_utterance("T", np.random.default_rng(0), speed=5.0, pitch=707.0, level=0.4, silence=(0.1, 0.2))
    spectrum = np.abs(np.fft.rfft(samples, 1 << 16))
    assert spectrum.argmax() * 8000 / (1 << 16) == pytest.approx(707.0, abs=0.5)
    assert np.abs(samples).max() == pytest.approx(0.4, rel=1e-3)
    sounding = np.flatnonzero(np.abs(samples) > 1e-6) / 8000
    assert (sounding[0], sounding[-1]) == pytest.approx((0.0975, 0.1 + 0.72 + 0.0025), abs=5e-4)
    # A raised cosine: half the level at the nominal time, and next to nothing at other frequencies.
    assert np.abs(samples[int(0.1 * 8000) - 16 : int(0.1 * 8000)]).max() < 0.2
    away = np.abs(np.arange(len(spectrum)) * 8000 / (1 << 16) - 707.0) > 600
    assert spectrum[away].max() < 1e-3 * spectrum.max()


@pytest.mark.parametrize("snr", [-5.0, 5.0, 10.0, 25.0])
def test_the_noise_has_the_ratio_to_the_keyed_tone(snr):
    options = {"speed": 20.0, "pitch": 600.0, "jitter": 0.1, "level": 0.05, "silence": (0.5, 0.5)}
    clean = morse_utterance("R2 D2", np.random.default_rng(4), **options)
    noise = morse_utterance("R2 D2", np.random.default_rng(4), snr=snr, **options) - clean
    down = keyed(clean, 8000, 600.0)
    measured = 10 * np.log10(np.mean(np.square(clean[down])) / np.mean(np.square(noise)))
    assert measured == pytest.approx(snr, abs=0.3)
    # White: as loud in the gaps as under the tone, and at low as at high frequencies.
    power = np.square(np.abs(np.fft.rfft(noise)))
    half = len(power) // 2
    assert np.mean(power[:half]) == pytest.approx(np.mean(power[half:]), rel=0.1)
    assert np.mean(np.square(noise[:4000])) == pytest.approx(np.mean(np.square(noise[down])), rel=0.2)


def test_loud_noise_is_scaled_down_and_keeps_its_ratio():
    soft = morse_utterance("AB", np.random.default_rng(4), snr=0.0, level=0.01)
    loud = morse_utterance("AB", np.random.default_rng(4), snr=0.0, level=1.0)
    assert np.abs(loud).max() == 1.0
    np.testing.assert_allclose(loud / np.abs(loud).max(), soft / np.abs(soft).max(), atol=1e-5)


def test_jitter_varies_every_length_within_its_bounds():
    samples = morse_utterance("5" * 60, np.random.default_rng(0), speed=12.0, jitter=0.1)
    units = np.array([length / 8000 / 0.1 for _, length in runs(keyed(samples, 8000, 600.0))])
    ones = units[units < 2]
    assert len(ones) == 60 * 9
    assert 0.78 < ones.min() < 0.85 and 1.15 < ones.max() < 1.22
    # What is beyond two deviations is put there, which leaves 0.96 of the deviation.
    assert ones.std() == pytest.approx(0.096, abs=0.01)


def test_what_is_drawn_has_the_ranges_of_the_style():
    style = MorseStyle(words=(2, 3), word_length=(3, 5), snr=(60.0, 60.0))
    made = list(generate_morse(300, 1, style))
    texts = [text.split(" ") for _, text in made]
    assert {len(words) for words in texts} == {2, 3}
    assert {len(word) for words in texts for word in words} == {3, 4, 5}
    assert set("".join(itertools.chain(*texts))) == set(CODE)
    # Fewer words are likelier, 2 to 1.
    assert sum(len(words) == 2 for words in texts) == pytest.approx(200, abs=30)
    spectra = [np.abs(np.fft.rfft(samples, 1 << 15)).argmax() * 8000 / (1 << 15) for samples, _ in made]
    assert 395 < min(spectra) < 420 and 880 < max(spectra) < 905
    peaks = [np.abs(samples).max() for samples, _ in made]
    assert 0.1 <= min(peaks) < 0.12 and 0.48 < max(peaks) < 0.52


def test_utterances_are_short():
    seconds = [len(samples) / 8000 for samples, _ in generate_morse(500, 2)]
    assert 2.5 < np.mean(seconds) < 3.7 and np.percentile(seconds, 95) < 9.0
    lengths = {len(text.replace(" ", "")) for _, text in generate_morse(500, 2)}
    assert min(lengths) == 1 and max(lengths) <= 12


def test_utterances_follow_from_the_seed():
    first, again, other = (list(generate_morse(5, seed)) for seed in (1, 1, 2))
    for (samples, text), (same, same_text) in zip(first, again, strict=True):
        assert text == same_text
        np.testing.assert_array_equal(samples, same)
    assert [text for _, text in first] != [text for _, text in other]
    assert list(generate_morse(0, 1)) == []


def read(folder) -> list[dict[str, str]]:
    titles, *lines = (folder / "morse.tsv").read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    assert titles.split("\t") == ["split", "speaker", "path", "seconds", "sample_rate", "text"]
    return [dict(zip(titles.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_files(tmp_path):
    folder = tmp_path / "made" / "here"
    paths = write_morse(str(folder), train=60, validation=10, test=20, seed=3)
    assert paths == {"morse.tsv": folder / "morse.tsv", "recordings": folder / "recordings"}
    assert sorted(path.name for path in folder.iterdir()) == ["morse.tsv", "recordings"], "something else is left"
    rows = read(folder)
    assert [row["split"] for row in rows] == ["train"] * 60 + ["validation"] * 10 + ["test"] * 20
    assert {row["path"] for row in rows} == {f"recordings/{path.name}" for path in paths["recordings"].iterdir()}
    for row in rows:
        with wave.open(str(folder / row["path"])) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, int(row["sample_rate"]))
            assert file.getnframes() / 8000 == pytest.approx(float(row["seconds"]), abs=5e-5)
        assert row["speaker"] == "-" and re.fullmatch("[A-Z0-9]{1,4}( [A-Z0-9]{1,4}){0,2}", row["text"])


def test_splits_have_no_text_in_common_whatever_their_sizes(tmp_path):
    small = write_morse(tmp_path / "small", train=3, validation=100, test=100, snr=(40.0, 40.0))["morse.tsv"].parent
    large = write_morse(tmp_path / "large", train=600, validation=2, test=1, snr=(40.0, 40.0))["morse.tsv"].parent
    texts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for row in read(small) + read(large):
        texts[row["split"]].add(row["text"])
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    for split, number in (("train", 3), ("validation", 2), ("test", 1)):
        path = f"recordings/{split}_{number:05d}.wav"
        assert (small / path).read_bytes() == (large / path).read_bytes(), "a split depends on another's size"


def loudness(path) -> tuple[float, float]:
    """Power of the tone where the key is down, and of the noise: by the spectrum, tone within 150 Hz of the peak."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    power = np.square(np.abs(np.fft.rfft(samples)))
    frequencies = np.arange(len(power)) * 8000 / len(samples)
    near = np.abs(frequencies - frequencies[power[1:].argmax() + 1]) < 150
    noise = power[~near].mean() * 2 / len(samples) * (len(power) - 1)
    tone = power[near].sum() * 2 - power[~near].mean() * near.sum() * 2
    return tone / len(samples), noise


def test_snr_of_the_splits(tmp_path):
    """The share of time with the key down, from the text, turns the power of the whole into that of the tone."""
    write_morse(tmp_path, train=40, validation=20, test=40, snr=(20.0, 20.0))
    measured: dict[str, list[float]] = {"train": [], "validation": [], "test": []}
    for row in read(tmp_path):
        tone, noise = loudness(tmp_path / row["path"])
        codes = [[CODE[letter] for letter in word] for word in row["text"].split()]
        down = sum(len(code) + 2 * code.count("-") for word in codes for code in word)
        dots = down + sum(len(code) - 1 for word in codes for code in word)
        dots += sum(3 * (len(word) - 1) for word in codes) + 7 * (len(codes) - 1)
        # The silences, 0.25 s on average, and the jitter make it wrong by some tenths each time.
        seconds = float(row["seconds"])
        measured[row["split"]].append(10 * np.log10(tone / (noise / seconds) / (down / dots * (seconds - 0.25))))
    for split, expected in (("train", 20.0), ("validation", 20.0), ("test", 10.0)):
        assert np.mean(measured[split]) == pytest.approx(expected, abs=0.6), split


def test_files_are_replaced_and_the_same_again(tmp_path):
    paths = write_morse(tmp_path, train=3, validation=2, test=2)
    (tmp_path / "recordings" / "mine.wav").write_text("kept")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    paths["morse.tsv"].write_text("old")
    write_morse(tmp_path, train=3, validation=2, test=2)
    assert [path.read_bytes() for path in files] == before
    write_morse(tmp_path, train=3, validation=2, test=2, seed=2)
    assert sum(path.read_bytes() != content for path, content in zip(files, before, strict=True)) == 8


@pytest.mark.parametrize(
    "text, reason", [("", "got no text"), (" \t", "got no text"), ("SOS!", "'!' in 'SOS!'"), ("É", "'É'")]
)
def test_what_has_no_code_is_refused(text, reason):
    with pytest.raises(UserError, match=reason):
        morse_utterance(text, np.random.default_rng(0))


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"speed": 0.0}, "speed: must be from 1 to 60, got 0"),
        ({"pitch": 4001.0}, "pitch: must be from 1 to 4000, got 4001"),
        ({"jitter": 0.3}, "jitter: must be from 0 to 0.2, got 0.3"),
        ({"level": 0.0}, "level: must be from 0.0001 to 1, got 0"),
        ({"snr": float("nan")}, "snr: must be from -100 to 200.*, got nan"),
        ({"silence": (0.1, -0.1)}, "silence: must be from 0 to 3600, got -0.1"),
        ({"rate": 0}, "rate: must be from 1000 to 1e.06, got 0"),
    ],
)
def test_impossible_sounds_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        morse_utterance("A", np.random.default_rng(0), **options)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"speed": (30.0, 15.0)}, "speed: must be from 1 to 60, the lower end first, got 30 to 15"),
        ({"rate": 1500}, "pitch: must be from 1 to 750, the lower end first, got 400 to 900"),
        ({"words": (0, 3)}, "words: must be from 1 to 100, the lower end first, got 0 to 3"),
        ({"word_length": (0, 0)}, "word_length: must be from 1 to 100, got 0"),
        ({"snr": (0.0, float("inf"))}, "snr: must be .*, got 0 to inf"),
        ({"jitter": -0.1}, "jitter: must be from 0 to 0.2, got -0.1"),
    ],
)
def test_impossible_styles_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        MorseStyle(**options)


def test_impossible_numbers_are_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="count: must be at least 0 utterances, got -1"):
        generate_morse(-1, 1)
    with pytest.raises(UserError, match="seed: must be at least 0, got -1"):
        generate_morse(1, -1)
    for counts in ({"train": 0}, {"validation": -1}, {"test": 0}):
        with pytest.raises(UserError, match="(train|validation|test): must have at least 1 utterance"):
            write_morse(tmp_path / "new", **counts)
    for options, reason in (
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"snr": (9.0, 3.0)}, "snr: must be .*, got 9 to 3"),
        ({"test_snr": 999}, "test_snr"),
    ):
        with pytest.raises(UserError, match=reason):
            write_morse(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("kept")
    with pytest.raises(UserError, match="is a file"):
        write_morse(path, train=1, validation=1, test=1)
    with pytest.raises(UserError, match="below: the generated data cannot be written"):
        write_morse(path / "below", train=1, validation=1, test=1)
    assert path.read_text() == "kept"


def test_no_table_tells_of_recordings_that_could_not_be_replaced(tmp_path):
    write_morse(tmp_path, train=1, validation=1, test=1)
    (tmp_path / "recordings" / "test_00002.wav").mkdir()
    with pytest.raises(UserError, match="test_00002.wav"):
        write_morse(tmp_path, train=1, validation=1, test=2)
    assert not (tmp_path / "morse.tsv").exists() and not list(tmp_path.glob(".*"))


def test_generating_loads_no_tensorflow():
    root = Path(__file__).parents[3]
    code = (
        "import sys; from tfseq2seq.data.synthetic import morse; list(morse.generate_morse(1, 1)); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "keras", "soundfile"} & set(loaded.split())
