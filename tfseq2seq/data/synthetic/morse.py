"""Generated Morse code, audio with its text for speech recognition where no recording is at hand.

    for samples, text in generate_morse(3, seed=1):
        ...                                             # float32 [S] at 8 kHz, "K7 QTH"

Tone on and off as an operator keys it (ITU-R M.1677-1): a dash is three dots long, the gap within a letter one, between
letters three, between words seven. Speeds are in words per minute by the word PARIS, 50 dots with the gap after it, so
that a dot takes 1.2 / speed seconds. Speed, pitch, rhythm, level and noise vary from utterance to utterance.
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
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    import numpy as np

CODE = {
    **{"A": ".-", "B": "-...", "C": "-.-.", "D": "-..", "E": ".", "F": "..-.", "G": "--.", "H": "....", "I": ".."},
    **{"J": ".---", "K": "-.-", "L": ".-..", "M": "--", "N": "-.", "O": "---", "P": ".--.", "Q": "--.-", "R": ".-."},
    **{"S": "...", "T": "-", "U": "..-", "V": "...-", "W": ".--", "X": "-..-", "Y": "-.--", "Z": "--.."},
    **{"0": "-----", "1": ".----", "2": "..---", "3": "...--", "4": "....-"},
    **{"5": ".....", "6": "-....", "7": "--...", "8": "---..", "9": "----."},
}

# From key up to fully on, and back, in seconds. A tone that is switched at once clicks.
_EDGE = 0.005
_SPEEDS = (1.0, 60.0)
_DECIBELS = (-100.0, 200.0)
# Cut off at two deviations, a dot is then at most 1.4 and a dash at least 1.8 dots long.
_MOST_JITTER = 0.2
# A split's share of all texts, of 10. A text belongs to one split whatever the sizes of the splits.
_SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}


@dataclass(frozen=True)
class MorseStyle:
    """What random utterances are drawn from.

    Attributes:
        rate: Samples a second.
        speed: Slowest and fastest, in words per minute.
        pitch: Lowest and highest, in Hz.
        snr: Lowest and highest signal-to-noise ratio in dB, as `morse_utterance` defines it.
        jitter: As `morse_utterance`.
        words: Fewest and most words of a text. The most has weight 1, one word less 2, and so on, so that few are long.
        word_length: Fewest and most characters of a word, all numbers between equally likely.

    Raises:
        UserError: A number is out of its range.
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
        _check_range("jitter", (self.jitter, self.jitter), 0, _MOST_JITTER)
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
    """Keys a text.

    Elements rise and fall along a raised cosine of 5 ms, half on at their nominal times. The tone starts at a random
    phase.

    Args:
        text: Letters A to Z in either case, digits, and spaces between words.
        generator: Draws phase, jitter and noise. With the same seed and other noise, phase and jitter are the same.
        rate: Samples a second.
        speed: In words per minute, 1 to 60.
        pitch: Of the tone, in Hz, at most half the rate.
        snr: Signal-to-noise ratio in dB, None for no noise. The signal's power is that of the tone where the key is
            down (its envelope at one half or more), not over the gaps and silences; the noise is white, from 0 to half
            the rate, and goes on all through.
        jitter: Standard deviation of the length of each element and gap, as a share of its length, cut off at two
            deviations; at most 0.2, up to which no dot is as long as a dash.
        level: Amplitude of the tone, 0.0001 to 1. Where noise would take the sum beyond 1, all of it is scaled
            down.
        silence: Seconds before the first element and after the last one, at least 5 ms.

    Returns:
        float32 `[S]`, from -1 to 1.

    Raises:
        UserError: The text is empty or has other characters, or a number is out of its range.
    """
    import numpy as np

    _check_range("rate", (rate, rate), 1000, 1_000_000)
    _check_range("speed", (speed, speed), *_SPEEDS)
    _check_range("pitch", (pitch, pitch), 1, rate / 2)
    _check_range("jitter", (jitter, jitter), 0, _MOST_JITTER)
    _check_range("level", (level, level), 1e-4, 1)
    for seconds in silence:
        _check_range("silence", (seconds, seconds), 0, 3600)
    if snr is not None:
        _check_range("snr", (snr, snr), *_DECIBELS)
    # Key down, key up, key down, ...: the gap after the last element gives way to the silence.
    units = np.array(_units(text)[:-1], dtype="float64")
    phase, stretch = generator.uniform(0, 2 * np.pi), generator.standard_normal(len(units)).clip(-2, 2)
    ends = max(silence[0], _EDGE) + np.concatenate([[0.0], np.cumsum(units * (1 + jitter * stretch) * 1.2 / speed)])
    samples = int(round((ends[-1] + max(silence[1], _EDGE)) * rate))
    envelope = _envelope(ends, samples, rate)
    # Radians in float64: float32 would be out of tune after some seconds.
    signal = envelope * np.sin(np.arange(samples) * (2 * np.pi * pitch / rate) + phase) * level
    if snr is not None:
        power = np.mean(np.square(signal[envelope >= 0.5]))
        noise = generator.standard_normal(samples, dtype="float32")
        signal += noise * np.sqrt(power * 10 ** (-snr / 10) / np.mean(np.square(noise)))
    return (signal / max(1.0, np.abs(signal).max())).astype("float32")


def generate_morse(count: int, seed: int, style: MorseStyle | None = None) -> Iterator[tuple[np.ndarray, str]]:
    """Random utterances with their texts.

    Speed, pitch and SNR are uniform in the ranges of the style, the level from 0.1 to 0.5, each silence from 0.05 to
    0.2 s. Letters and digits are equally likely. Equal arguments give equal utterances.

    Args:
        count: How many.
        seed: 0 or more.
        style: Ranges to draw from, `MorseStyle()` by default.

    Returns:
        An iterator of (float32 samples `[S]`, text).

    Raises:
        UserError: `count` or `seed` is below 0.
    """
    import numpy as np

    if count < 0:
        raise UserError(f"cannot generate {count} utterances: ask for 0 or more")
    _check_range("seed", (seed, seed), 0, math.inf)
    style = style or MorseStyle()

    def utterances() -> Iterator[tuple[np.ndarray, str]]:
        generator = np.random.default_rng(seed)
        for _ in range(count):
            text = _random_text(generator, style)
            yield _random_utterance(text, generator, style), text

    # A generator function itself would tell what is wrong only when the first utterance is asked for.
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
    """Writes three splits of `generate_morse`'s utterances that have no text in common, 8 kHz, 16 bits.

    The files are `morse.tsv`, a table with a line of titles and the columns split, speaker (always "-"), path, seconds,
    sample_rate and text, and `recordings/<split>_<number>.wav`. Files of the same names are replaced. The table comes
    last, so that one that is there tells of whole recordings. Within a split short texts may come again, at another
    speed and pitch. A split's utterances follow from the seed whatever the sizes of the others.

    Args:
        folder: Where to.
        train: Utterances to train on.
        validation: To validate with, made like those to train on.
        test: To test with, all with an SNR of `test_snr`.
        seed: 0 or more.
        snr: Lowest and highest SNR of train and validation, in dB, as `morse_utterance` defines it.
        test_snr: SNR of the test split, in dB.

    Returns:
        The path of the table and of the folder of recordings, by their names: "morse.tsv" and "recordings".

    Raises:
        UserError: A split would be empty, a number is out of its range, or `folder` cannot be written to.
    """
    counts = {"train": train, "validation": validation, "test": test}
    for split, count in counts.items():
        if count < 1:
            raise UserError(f"cannot generate {count} {split} utterances: ask for at least 1")
    _check_range("seed", (seed, seed), 0, math.inf)
    _check_range("test_snr", (test_snr, test_snr), *_DECIBELS)
    usual = MorseStyle(snr=snr)
    styles = {"train": usual, "validation": usual, "test": MorseStyle(snr=(test_snr, test_snr))}
    table = Path(folder) / "morse.tsv"
    recordings = (
        (split, "", samples, text)
        for split, count in counts.items()
        for samples, text in _split_utterances(split, count, seed, styles[split])
    )
    write_recordings(table, recordings, usual.rate)
    return {table.name: table, "recordings": table.parent / "recordings"}


def _split_utterances(split: str, count: int, seed: int, style: MorseStyle) -> Iterator[tuple[np.ndarray, str]]:
    import numpy as np

    generator = np.random.default_rng([seed, list(_SHARES).index(split)])
    while count:
        text = _random_text(generator, style)
        # Not Python's hash, which differs from process to process.
        if zlib.crc32(f"{seed} {text}".encode()) % 10 in _SHARES[split]:
            count -= 1
            yield _random_utterance(text, generator, style), text


def _random_text(generator: np.random.Generator, style: MorseStyle) -> str:
    fewest, most = style.words
    weights = [number for number in range(fewest, most + 1) for _ in range(most + 1 - number)]
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
    """Lengths in dots of key down, key up, and so on; the last is the gap after the last element."""
    words = text.upper().split()
    if not words:
        raise UserError("there is no text to key; give letters or digits")
    units: list[int] = []
    for word in words:
        for character in word:
            if character not in CODE:
                raise UserError(f"{character!r} in {text!r} has no Morse code here; use A to Z, 0 to 9 and spaces")
            for element in CODE[character]:
                units += [3 if element == "-" else 1, 1]
            units[-1] = 3
        units[-1] = 7
    return units


def _envelope(switched: np.ndarray, samples: int, rate: int) -> np.ndarray:
    """Amplitude `[samples]` from 0 to 1 of a tone switched on, off, on, ... at these times, in seconds."""
    import numpy as np

    times = np.stack([switched - _EDGE / 2, switched + _EDGE / 2], axis=1).ravel()
    ramp = np.interp(np.arange(samples) / rate, times, np.tile([0.0, 1.0, 1.0, 0.0], len(switched) // 2))
    return 0.5 - 0.5 * np.cos(np.pi * ramp)


def _check_range(name: str, given: tuple[float, float], least: float, most: float) -> None:
    low, high = given
    # Written so that NaN is refused too.
    if not least <= low <= high <= most:
        told, order = f"{low:g} to {high:g}", ", the lower end first"
        if f"{low:g}" == f"{high:g}":
            told, order = f"{low:g}", ""
        limits = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        raise UserError(f"{name}: {told} cannot be; give {limits}{order}")
