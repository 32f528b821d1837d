"""Generated Morse code: audio with text for speech recognition when no recordings are available.

    for samples, text in generate_morse(3, seed=1):
        ...                                             # float32 [S] at 8 kHz, "K7 QTH"

The tone is keyed on and off (ITU-R M.1677-1). A dash is three dots long. The gap within a letter is one dot long, the
gap between letters three dots, and the gap between words seven dots. Speeds are in words per minute. The reference word
is PARIS, which has 50 dots including the gap after it, so a dot takes 1.2 / speed seconds. Speed, pitch, rhythm, level
and noise differ between utterances.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tfseq2seq.data.manifests import write_recordings
from tfseq2seq.data.synthetic.splits import check_sizes
from tfseq2seq.errors import UserError
from tfseq2seq.progress import tracked

if TYPE_CHECKING:
    import numpy as np

CODE = {
    **{"A": ".-", "B": "-...", "C": "-.-.", "D": "-..", "E": ".", "F": "..-.", "G": "--.", "H": "....", "I": ".."},
    **{"J": ".---", "K": "-.-", "L": ".-..", "M": "--", "N": "-.", "O": "---", "P": ".--.", "Q": "--.-", "R": ".-."},
    **{"S": "...", "T": "-", "U": "..-", "V": "...-", "W": ".--", "X": "-..-", "Y": "-.--", "Z": "--.."},
    **{"0": "-----", "1": ".----", "2": "..---", "3": "...--", "4": "....-"},
    **{"5": ".....", "6": "-....", "7": "--...", "8": "---..", "9": "----."},
}

# The duration of the rise and the fall of the tone in seconds. A tone without them would click.
_EDGE = 0.005
_SPEEDS = (1.0, 60.0)
_DECIBELS = (-100.0, 200.0)
# Jitter is clipped at two standard deviations. A dot is then at most 1.4 and a dash at least 1.8 dots long.
_MAX_JITTER = 0.2
# The tenths of all texts that belong to each split. The split of a text does not depend on the sizes of the splits.
_SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}


@dataclass(frozen=True)
class MorseStyle:
    """The distribution of random utterances.

    Attributes:
        rate: Sample rate in Hz.
        speed: Minimum and maximum speed in words per minute.
        pitch: Minimum and maximum pitch in Hz.
        snr: Minimum and maximum signal-to-noise ratio in dB, see `morse_utterance`.
        jitter: See `morse_utterance`.
        words: Minimum and maximum number of words of a text. The maximum has weight 1, one word less has weight 2, and
            so on, so only few texts are long.
        word_length: Minimum and maximum number of characters of a word, uniformly distributed.

    Raises:
        UserError: A number is out of range.
    """

    rate: int = 8000
    speed: tuple[float, float] = (15.0, 30.0)
    pitch: tuple[float, float] = (400.0, 900.0)
    snr: tuple[float, float] = (5.0, 25.0)
    jitter: float = 0.08
    words: tuple[int, int] = (1, 3)
    word_length: tuple[int, int] = (1, 4)

    def __post_init__(self) -> None:
        _check_range("rate", (self.rate, self.rate), 1000, 1_000_000)
        _check_range("speed", self.speed, *_SPEEDS)
        _check_range("pitch", self.pitch, 1, self.rate / 2)
        _check_range("snr", self.snr, *_DECIBELS)
        _check_range("jitter", (self.jitter, self.jitter), 0, _MAX_JITTER)
        _check_range("words", self.words, 1, 100)
        _check_range("word_length", self.word_length, 1, 100)


def morse_utterance(
    text: str,
    generator: np.random.Generator,
    rate: int = 8000,
    *,
    speed: float = 20.0,
    pitch: float = 600.0,
    snr: float | None = None,
    jitter: float = 0.0,
    level: float = 0.3,
    silence: tuple[float, float] = (0.2, 0.2),
) -> np.ndarray:
    """Generates the Morse code of a text.

    Elements rise and fall as a raised cosine of 5 ms, which has half the amplitude at the nominal times. The tone
    starts with a random phase.

    Args:
        text: Letters A to Z in upper or lower case, digits, and spaces between words.
        generator: Draws phase, jitter and noise. With equal seeds, phase and jitter do not depend on the noise.
        rate: Sample rate in Hz.
        speed: Speed in words per minute, 1 to 60.
        pitch: Pitch of the tone in Hz, at most half the rate.
        snr: Signal-to-noise ratio in dB, None for no noise. The power of the signal is that of the tone while the key
            is down (the envelope is at least one half), without gaps and silences. The noise is white, from 0 to half
            the rate, over the complete recording.
        jitter: Standard deviation of the length of each element and gap, relative to its length and clipped at two
            standard deviations; at most 0.2, so that no dot is as long as a dash.
        level: Amplitude of the tone, 0.0001 to 1. If the sum with the noise exceeds 1, all samples are scaled down.
        silence: Duration before the first element and after the last one in seconds, at least 5 ms.

    Returns:
        float32 `[S]`, from -1 to 1.

    Raises:
        UserError: The text is empty or has other characters, or a number is out of range.
    """
    import numpy as np

    _check_range("rate", (rate, rate), 1000, 1_000_000)
    _check_range("speed", (speed, speed), *_SPEEDS)
    _check_range("pitch", (pitch, pitch), 1, rate / 2)
    _check_range("jitter", (jitter, jitter), 0, _MAX_JITTER)
    _check_range("level", (level, level), 1e-4, 1)
    for seconds in silence:
        _check_range("silence", (seconds, seconds), 0, 3600)
    if snr is not None:
        _check_range("snr", (snr, snr), *_DECIBELS)
    # Key down, key up, key down, ...: the silence replaces the gap after the last element.
    units = np.array(_units(text)[:-1], dtype="float64")
    phase, deviations = generator.uniform(0, 2 * np.pi), generator.standard_normal(len(units)).clip(-2, 2)
    ends = max(silence[0], _EDGE) + np.concatenate([[0.0], np.cumsum(units * (1 + jitter * deviations) * 1.2 / speed)])
    samples = int(round((ends[-1] + max(silence[1], _EDGE)) * rate))
    envelope = _envelope(ends, samples, rate)
    # The phase is in float64, because in float32 the pitch would be inexact after some seconds.
    signal = envelope * np.sin(np.arange(samples) * (2 * np.pi * pitch / rate) + phase) * level
    if snr is not None:
        power = np.mean(np.square(signal[envelope >= 0.5]))
        noise = generator.standard_normal(samples, dtype="float32")
        signal += noise * np.sqrt(power * 10 ** (-snr / 10) / np.mean(np.square(noise)))
    return (signal / max(1.0, np.abs(signal).max())).astype("float32")


def generate_morse(count: int, seed: int, style: MorseStyle | None = None) -> Iterator[tuple[np.ndarray, str]]:
    """Generates random utterances with their texts.

    Speed, pitch and SNR are uniform in the ranges of the style. The level is uniform from 0.1 to 0.5, and each silence
    from 0.05 to 0.2 s. Letters and digits are equally likely. Equal arguments give equal utterances.

    Args:
        count: Number of utterances.
        seed: Seed, 0 or more.
        style: Ranges to draw from, `MorseStyle()` by default.

    Returns:
        An iterator of (float32 samples `[S]`, text).

    Raises:
        UserError: `count` or `seed` is below 0.
    """
    import numpy as np

    if count < 0:
        raise UserError(f"count: must be at least 0 utterances, got {count}")
    _check_range("seed", (seed, seed), 0, math.inf)
    style = style or MorseStyle()

    def utterances() -> Iterator[tuple[np.ndarray, str]]:
        generator = np.random.default_rng(seed)
        for _ in range(count):
            text = _random_text(generator, style)
            yield _random_utterance(text, generator, style), text

    # If this function were a generator itself, it would raise errors only at the first utterance.
    return utterances()


def write_morse(
    folder: str | os.PathLike[str],
    train: int = 4000,
    validation: int = 200,
    test: int = 500,
    seed: int = 1,
    snr: tuple[float, float] = (5.0, 25.0),
    test_snr: float = 10.0,
) -> dict[str, Path]:
    """Writes three splits of utterances from `generate_morse` that have no text in common, 8 kHz, 16 bits.

    The files are `morse.tsv`, a table with a header line and the columns split, speaker (always "-"), path, seconds,
    sample_rate and text, and `recordings/<split>_<number>.wav`. Existing files are replaced. The table is written last,
    so an existing table lists only complete recordings. Within a split short texts may be repeated with a different
    speed and pitch. The utterances of a split depend on the seed and not on the sizes of the other splits.

    Args:
        folder: Folder to write to.
        train: Number of training utterances.
        validation: Number of validation utterances, with the same distribution as the training utterances.
        test: Number of test utterances, all with an SNR of `test_snr`.
        seed: Seed, 0 or more.
        snr: Minimum and maximum SNR of the training and validation utterances in dB, see `morse_utterance`.
        test_snr: SNR of the test utterances in dB.

    Returns:
        The path of the table and of the folder of recordings, with the keys "morse.tsv" and "recordings".

    Raises:
        UserError: A split would be empty, a number is out of range, or `folder` cannot be written.
    """
    counts = {"train": train, "validation": validation, "test": test}
    check_sizes(counts, "utterance")
    _check_range("seed", (seed, seed), 0, math.inf)
    _check_range("test_snr", (test_snr, test_snr), *_DECIBELS)
    defaults = MorseStyle(snr=snr)
    styles = {"train": defaults, "validation": defaults, "test": MorseStyle(snr=(test_snr, test_snr))}
    table = Path(folder) / "morse.tsv"
    recordings = (
        (split, "", samples, text)
        for split, count in counts.items()
        for samples, text in _split_utterances(split, count, seed, styles[split])
    )
    write_recordings(table, tracked(recordings, "writing recordings", sum(counts.values())), defaults.rate)
    return {table.name: table, "recordings": table.parent / "recordings"}


def _split_utterances(split: str, count: int, seed: int, style: MorseStyle) -> Iterator[tuple[np.ndarray, str]]:
    import numpy as np

    generator = np.random.default_rng([seed, list(_SHARES).index(split)])
    while count:
        text = _random_text(generator, style)
        # Python's hash differs between processes.
        if zlib.crc32(f"{seed} {text}".encode()) % 10 in _SHARES[split]:
            count -= 1
            yield _random_utterance(text, generator, style), text


def _random_text(generator: np.random.Generator, style: MorseStyle) -> str:
    min_words, maximum = style.words
    weights = [number for number in range(min_words, maximum + 1) for _ in range(maximum + 1 - number)]
    lengths = generator.integers(*style.word_length, size=generator.choice(weights), endpoint=True)
    characters = iter(generator.choice(list(CODE), size=lengths.sum()))
    return " ".join("".join(itertools.islice(characters, length)) for length in lengths)


def _random_utterance(text: str, generator: np.random.Generator, style: MorseStyle) -> np.ndarray:
    before, after = generator.uniform(0.05, 0.2, size=2)
    return morse_utterance(
        text,
        generator,
        style.rate,
        speed=generator.uniform(*style.speed),
        pitch=generator.uniform(*style.pitch),
        snr=generator.uniform(*style.snr),
        jitter=style.jitter,
        level=generator.uniform(0.1, 0.5),
        silence=(before, after),
    )


def _units(text: str) -> list[int]:
    """Returns the lengths in dots of key down, key up, and so on. The last one is the gap after the last element."""
    words = text.upper().split()
    if not words:
        raise UserError("the text must have letters or digits, got no text")
    units: list[int] = []
    for word in words:
        for character in word:
            if character not in CODE:
                raise UserError(f"the text must have only A to Z, 0 to 9 and spaces, got {character!r} in {text!r}")
            for element in CODE[character]:
                units += [3 if element == "-" else 1, 1]
            units[-1] = 3
        units[-1] = 7
    return units


def _envelope(switch_times: np.ndarray, samples: int, rate: int) -> np.ndarray:
    """Returns the amplitude `[samples]` from 0 to 1 of a tone that is switched on, off, on, ... at times in seconds."""
    import numpy as np

    times = np.stack([switch_times - _EDGE / 2, switch_times + _EDGE / 2], axis=1).ravel()
    ramp = np.interp(np.arange(samples) / rate, times, np.tile([0.0, 1.0, 1.0, 0.0], len(switch_times) // 2))
    return 0.5 - 0.5 * np.cos(np.pi * ramp)


def _check_range(name: str, values: tuple[float, float], minimum: float, maximum: float) -> None:
    low, high = values
    # The condition also rejects NaN.
    if not minimum <= low <= high <= maximum:
        found, hint = f"{low:g} to {high:g}", ", the lower end first"
        if f"{low:g}" == f"{high:g}":
            found, hint = f"{low:g}", ""
        limits = f"at least {minimum:g}" if maximum == math.inf else f"from {minimum:g} to {maximum:g}"
        raise UserError(f"{name}: must be {limits}{hint}, got {found}")
