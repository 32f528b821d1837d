"""Recordings for a trained model: read, checked, and named where something is wrong with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.manifests import Utterance
from tfseq2seq.features.wav import NO_SAMPLES, NOT_FINITE
from tfseq2seq.spec import AudioSpec

SILENCE = "nothing but silence: every sample is the same"


@dataclass(frozen=True)
class Recordings:
    """Recordings in the order asked for.

    samples of each, [N] float32, of no length where there is a fault; faults as (place, message that names the file);
    and such messages about files that were read and are not complete, or hold more than that.
    """

    samples: list[np.ndarray]
    faults: list[tuple[int, str]]
    warnings: list[str] = field(default_factory=list)

    @property
    def valid(self) -> list[np.ndarray]:
        """Samples of those without a fault."""
        return [samples for samples in self.samples if len(samples)]

    def seconds(self, rate: int) -> float:
        return sum(len(samples) for samples in self.samples) / rate


def read_recordings(utterances: Sequence[Utterance], source: AudioSpec) -> Recordings:
    """Reads all recordings; one that cannot be read or has nothing in it does not keep the others from being read."""
    noted = Faults()
    named = [Utterance(str(index), one.path, one.text, one.start, one.seconds) for index, one in enumerate(utterances)]
    samples = [np.zeros(0, "float32")] * len(named)
    found = manifest_utterances(named, source.sample_rate, noted)
    faults = {}
    for example in found.as_numpy_iterator():
        values, index = example["source"], int(example["name"])
        fault = sample_faults(values[np.newaxis], np.array([len(values)], "int32"), source)[0].numpy()
        if fault:
            faults[index] = f"{named[index].path}: {fault.decode('utf-8')}"
        else:
            samples[index] = values
    faults.update({int(name): message for name, message in noted.found})
    return Recordings(samples, sorted(faults.items()), [message for _, message in noted.warnings])


def sample_faults(audio: tf.Tensor, length: tf.Tensor, source: AudioSpec) -> tf.Tensor:
    """What is wrong with recordings [B, N] of lengths [B], in graph: strings [B], empty where nothing is.

    Wrong are no samples, fewer than a window of features has, samples that are no numbers, and silence.
    """
    real = tf.sequence_mask(length, tf.shape(audio)[1])
    first = tf.where(tf.shape(audio)[1] > 0, tf.pad(audio, [[0, 0], [0, 1]])[:, :1], 0.0)
    same = tf.reduce_all(tf.logical_or(tf.equal(audio, first), tf.logical_not(real)), axis=1)
    finite = tf.reduce_all(tf.logical_or(tf.math.is_finite(audio), tf.logical_not(real)), axis=1)
    least = round(source.window * source.sample_rate)
    short = f"a recording of less than {source.window * 1000:g} ms, too short to hear anything in"
    fault = tf.where(same, SILENCE, "")
    fault = tf.where(finite, fault, NOT_FINITE)
    fault = tf.where(tf.less(length, least), short, fault)
    return tf.where(tf.equal(length, 0), NO_SAMPLES, fault)
