"""Longer utterances out of short ones: recordings of a manifest joined with pauses, such as digits to numbers.

write_joined(read_manifest("fsdd/fsdd.tsv", "test"), "connected", "test", count=300, least=3, most=7, seed=1)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.manifests import Utterance, write_recordings
from tfseq2seq.errors import UserError


def write_joined(
    utterances: Sequence[Utterance],
    folder: str | Path,
    split: str,
    count: int,
    *,
    least: int = 3,
    most: int = 7,
    pause: tuple[float, float] = (0.05, 0.4),
    rate: int = 8000,
    seed: int = 1,
) -> Path:
    """Writes `count` recordings, each of `least` to `most` utterances of a speaker with pauses between, and a manifest.

    How many, which, and how long the pauses are is drawn evenly. Pauses, also those before the first and behind the
    last, are silent but for rounding: noise of one step of 16 bits, as digital silence tells where utterances end.

    Args:
        utterances: what to draw from; without speakers all count as one's.
        folder: gets `<split>.tsv` and `recordings/<split>_<number>.wav`, 16 bits.
        split: names them, and goes into the column `split`.
        count: recordings to write.
        least, most: utterances in each.
        pause: shortest and longest, in seconds.
        rate: samples a second.
        seed: equal seeds give equal recordings.

    Returns:
        The manifest.

    Raises:
        UserError: a number is out of its range, there is no utterance, or one cannot be read.
    """
    if count < 1 or not 1 <= least <= most or not 0 <= pause[0] <= pause[1]:
        raise UserError(
            f"cannot join {least} to {most} utterances, pauses of {pause[0]} to {pause[1]} s, into {count} recordings"
        )
    if not utterances:
        raise UserError("there is no utterance to join")
    generator = np.random.default_rng(seed)
    speakers: dict[str, list[int]] = {}
    for index, utterance in enumerate(utterances):
        speakers.setdefault(utterance.speaker, []).append(index)
    faults = Faults()
    samples = [values for values, _, _ in manifest_utterances(utterances, rate, faults).as_numpy_iterator()]
    if faults.found:
        raise UserError(faults.found[0][1])

    def recordings() -> Iterator[tuple[str, str, np.ndarray, str]]:
        for _ in range(count):
            speaker = sorted(speakers)[generator.integers(len(speakers))]
            chosen = generator.choice(speakers[speaker], size=generator.integers(least, most, endpoint=True))
            joined = _joined([samples[index] for index in chosen], generator, pause, rate)
            yield split, speaker, joined, " ".join(utterances[index].text for index in chosen)

    return write_recordings(Path(folder) / f"{split}.tsv", recordings(), rate)


def _joined(
    parts: Sequence[np.ndarray], generator: np.random.Generator, pause: tuple[float, float], rate: int
) -> np.ndarray:
    pieces: list[np.ndarray] = []
    for part in (*parts, np.zeros(0, "float32")):
        silence = round(generator.uniform(*pause) * rate)
        pieces += [generator.integers(-1, 2, silence).astype("float32") / 32768, part]
    return np.concatenate(pieces)
