"""Compares log-mel features with those of librosa: the largest difference on recordings, and the time on one core.

    TFSEQ2SEQ_DATA=../shared/data taskset -c 0 python benchmarks/features.py

The recordings are the test split of the Free Spoken Digit Dataset and that of yesno, at 8 kHz. The features have 40
bins, windows of 25 ms and a hop of 10 ms. For the convention of Whisper, the script computes its formula with the
transform and the filters of librosa. The speed is measured on the recordings joined to clips of 10 s, in batches of
16. It is the median of alternating passes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import librosa
import numpy as np
import tensorflow as tf

from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.features.audio import AudioFeatures
from tfseq2seq.sources.recordings import read_recordings
from tfseq2seq.spec import AudioSpec

RATE, BINS, WINDOW, HOP = 8000, 40, 200, 80
PASSES = 7


def theirs(samples: np.ndarray, convention: str) -> np.ndarray:
    """[F, 40], in the type of the samples."""
    if convention == "whisper":
        filters = librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=BINS, dtype=samples.dtype)
        spectrum = librosa.stft(samples, n_fft=WINDOW, hop_length=HOP, pad_mode="reflect")
        log = np.log10(np.maximum(filters @ np.abs(spectrum[:, :-1]) ** 2, 1e-10))
        return ((np.maximum(log, log.max() - 8) + 4) / 4).T
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BINS, htk=convention == "htk", pad_mode="constant"
    )
    return np.log(np.maximum(power, 1e-10)).T


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    root = os.environ.get("TFSEQ2SEQ_DATA", "../shared/data")
    utterances = [*read_manifest(f"{root}/fsdd/fsdd.tsv", "test"), *read_manifest(f"{root}/yesno/yesno.tsv", "test")]
    recordings = read_recordings(utterances, AudioSpec(sample_rate=RATE, bins=BINS)).samples
    together = np.concatenate(recordings)
    clips = together[: len(together) // (10 * RATE) * 10 * RATE].reshape(-1, 10 * RATE)[:16]
    lengths = np.full(len(clips), clips.shape[1], "int32")
    for convention in ("htk", "slaney", "whisper"):
        layer = AudioFeatures(AudioSpec(sample_rate=RATE, bins=BINS, convention=convention, normalization="none"))
        ours = tf.function(layer.call)
        worst = 0.0
        for samples in recordings:
            frames, count = layer(samples[np.newaxis], np.array([len(samples)], "int32"))
            expected = theirs(samples.astype("float64"), convention)
            assert int(count[0]) == len(expected)
            worst = max(worst, float(np.abs(frames.numpy()[0] - expected).max()))

        seconds: dict[str, list[float]] = {"ours": [], "librosa": []}
        ours(tf.constant(clips), tf.constant(lengths))
        for _ in range(PASSES):
            start = time.perf_counter()
            ours(tf.constant(clips), tf.constant(lengths))[0].numpy()
            seconds["ours"].append(time.perf_counter() - start)
            start = time.perf_counter()
            for clip in clips:
                theirs(clip, convention)
            seconds["librosa"].append(time.perf_counter() - start)
        audio = clips.size / RATE
        speeds = {name: audio / statistics.median(each) for name, each in seconds.items()}
        print(
            f"{convention}: {len(recordings)} recordings, greatest difference {worst:.1e}; "
            f"{speeds['ours']:,.0f} times real time, librosa {speeds['librosa']:,.0f}: "
            f"{speeds['ours'] / speeds['librosa']:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
