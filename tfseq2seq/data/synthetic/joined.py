"""Longer utterances from short ones: recordings of a manifest are joined with pauses, for example digits to numbers.

write_joined(read_manifest("fsdd/fsdd.tsv", "test"), "connected", "test", count=300, least=3, most=7, seed=1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.manifests import Utterance, write_recordings
from tfseq2seq.errors import UserError
from tfseq2seq.progress import tracked


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
    log: Callable[[str], None] = lambda line: None,
) -> Path:
    """Writes `count` recordings, each of `least` to `most` utterances of one speaker with pauses, and a manifest.

    The number of utterances, the utterances and the durations of the pauses are drawn uniformly. There are pauses
    before, between and after the utterances. They have noise of one quantization step of 16 bits, because digital
    silence would reveal the ends of the utterances.

    Args:
        utterances: the utterances to draw from. Utterances without a speaker count as those of one speaker.
        folder: the folder of `<split>.tsv` and `recordings/<split>_<number>.wav` (16 bits).
        split: the name of the split, which is part of the file names and the value of the column `split`.
        count: the number of recordings to write.
        least, most: the minimum and maximum number of utterances in a recording.
        pause: the minimum and maximum duration of a pause in seconds.
        rate: the sample rate in Hz.
        seed: equal seeds give equal recordings.
        log: called with a line for each utterance that is not complete.

    Returns:
        The manifest.

    Raises:
        UserError: a number is out of range, there are no utterances, or an utterance cannot be read.
    """
    if count < 1 or not 1 <= least <= most or not 0 <= pause[0] <= pause[1]:
        raise UserError(
            "joining utterances needs a count of at least 1, 1 <= least <= most, and 0 <= shortest <= longest pause; "
            f"got count {count}, least {least}, most {most}, pause {pause[0]} to {pause[1]} s"
        )
    if not utterances:
        raise UserError("utterances: must have at least one utterance, got none")
    generator = np.random.default_rng(seed)
    speakers: dict[str, list[int]] = {}
    for index, utterance in enumerate(utterances):
        speakers.setdefault(utterance.speaker, []).append(index)
    faults = Faults()
    examples = manifest_utterances(utterances, rate, faults).as_numpy_iterator()
    samples = [example["source"] for example in examples]
    if faults.found:
        raise UserError(faults.found[0][1])
    for _, warning in faults.warnings:
        log(f"warning: {warning}")

    def recordings() -> Iterator[tuple[str, str, np.ndarray, str]]:
        for _ in range(count):
            speaker = sorted(speakers)[generator.integers(len(speakers))]
            selected = generator.choice(speakers[speaker], size=generator.integers(least, most, endpoint=True))
            concatenated = _concatenate([samples[index] for index in selected], generator, pause, rate)
            yield split, speaker, concatenated, " ".join(utterances[index].text for index in selected)

    shown = tracked(recordings(), "writing recordings", count)
    return write_recordings(Path(folder) / f"{split}.tsv", shown, rate)


def _concatenate(
    parts: Sequence[np.ndarray], generator: np.random.Generator, pause: tuple[float, float], rate: int
) -> np.ndarray:
    pieces: list[np.ndarray] = []
    for part in (*parts, np.zeros(0, "float32")):
        silence = round(generator.uniform(*pause) * rate)
        pieces += [generator.integers(-1, 2, silence).astype("float32") / 32768, part]
    return np.concatenate(pieces)
