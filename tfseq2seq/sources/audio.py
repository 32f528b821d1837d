"""Sources of recordings."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import BatchByLength
from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.data.recordings import (
    batch_by_seconds,
    filter_utterances,
    most_utterances,
    speech_corpora,
    utterance_collector,
)
from tfseq2seq.data.segments import Table
from tfseq2seq.features.resampling import standardized
from tfseq2seq.features.wav import read_wav
from tfseq2seq.files import expanded_path, write_wave
from tfseq2seq.recipe import to_dict
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.sources.base import Corpora, Filtering, Form, Report, Source, SourceInputs
from tfseq2seq.sources.recordings import read_recordings, sample_faults
from tfseq2seq.spec import AudioSpec, DataSpec, Recipe
from tfseq2seq.spec.limits import too_many_seconds

# Recordings that the statistics of global normalization are taken from: far more than their precision needs.
_ADAPTED_TO = 2000


class AudioSource(Source, reads=AudioSpec):
    """Recordings: samples at the model's rate, or the bytes of WAV files.

    Args:
        spec: rate and features.
    """

    prefetch = 4
    spec: AudioSpec
    signature = (
        tf.TensorSpec([None, None], tf.float32, name="audio"),
        tf.TensorSpec([None], tf.int32, name="length"),
    )
    features_signature = signature

    # ---- training data ----------------------------------------------------------------------------------------------

    @classmethod
    def open_corpora(cls, recipe: Recipe) -> Corpora:
        assert isinstance(recipe.source, AudioSpec)
        found = speech_corpora(recipe.data, recipe.source.sample_rate, recipe.seed)
        faults = {"train": found.train_faults, "validation": found.validation_faults}

        def texts(side: str) -> Iterator[bytes]:
            return found.texts()

        return Corpora(found.train, found.validation, texts, faults, found.units, found.texts_told)

    def filter_examples(self, examples: tf.data.Dataset, filtering: Filtering) -> tuple[tf.data.Dataset, Report]:
        return filter_utterances(
            examples,
            filtering.target,
            filtering.spec,
            self.spec.sample_rate,
            filtering.name,
            filtering.model.positions,
            filtering.aligned,
            filtering.faults,
        )

    def collector(
        self, examples: tf.data.Dataset, filtering: Filtering, advance: Callable[[int], None]
    ) -> Callable[[], tuple[Table, Report]]:
        return utterance_collector(
            examples,
            filtering.target,
            filtering.spec,
            self.spec.sample_rate,
            filtering.model.positions,
            filtering.aligned,
            filtering.faults,
            advance,
        )

    def most_together(self, spec: DataSpec) -> int:
        return most_utterances(spec, self.spec.sample_rate)

    def batch(self, spec: DataSpec) -> BatchByLength:
        return batch_by_seconds(spec, self.spec.sample_rate)

    def prepare(self, model: Any, batches: tf.data.Dataset, log: Callable[[str], None]) -> None:
        """Sets the statistics of global normalization from the first training recordings."""
        features = model.frontend.features
        if features.adapted:
            return
        count, total, squares = 0.0, np.zeros(self.spec.frame_width), np.zeros(self.spec.frame_width)
        measure = tf.function(features.unnormalized, reduce_retracing=True)
        read = 0
        for inputs, *_ in batches:
            frames, lengths = measure(inputs["source"], inputs["source_length"])
            values = np.asarray(frames, "float64")
            count += float(tf.reduce_sum(lengths))
            total += values.sum(axis=(0, 1))
            squares += np.square(values).sum(axis=(0, 1))
            read += len(values)
            if read >= _ADAPTED_TO:
                break
        features.adapt_statistics(count, total, squares)
        log(f"global normalization: from {read:,} recordings, {count:,.0f} frames")

    def values(self, examples: tf.data.Dataset) -> tuple[list[np.ndarray], list[str]]:
        chosen = list(examples.as_numpy_iterator())
        return [one["source"] for one in chosen], [one["target"].decode("utf-8") for one in chosen]

    def described(self, example: Mapping[str, Any]) -> Iterator[str]:
        count = int(example["source_length"])
        samples = example["source"][:count]
        wrong = np.count_nonzero(~np.isfinite(samples))
        largest = np.max(np.abs(samples), initial=0.0, where=np.isfinite(samples))
        yield (
            f"source: {count:,} samples, {count / self.spec.sample_rate:.3f} s, largest {largest:.3g}, "
            f"{wrong:,} not finite"
        )

    # ---- predictor --------------------------------------------------------------------------------------------------

    def pack(self, values: Sequence[np.ndarray]) -> list[tf.Tensor]:
        return [tf.constant(value) for value in padded_rows(values, "float32")]

    def inputs(self, audio: Any, length: Any) -> SourceInputs:
        # A sample that is no number counts as silence.
        return self.from_features(tf.where(tf.math.is_finite(audio), audio, 0.0), length)

    def from_features(self, audio: Any, length: Any) -> SourceInputs:
        return SourceInputs({"source": audio, "source_length": length}, tf.equal(length, 0))

    def clean(self, most: int, audio: Any, length: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        # A length beyond the samples given would be read as silence, a negative one would fail in some operation.
        length = tf.clip_by_value(length, 0, tf.shape(audio)[1])
        long = self._too_long(most, length)
        error = tf.where(tf.equal(long, ""), sample_faults(audio, length, self.spec), long)
        # Without the samples of what is not answered: the encoder would read them as padding of the others.
        audio = audio[:, : tf.reduce_max(tf.concat([tf.where(tf.equal(error, ""), length, 0), [0]], axis=0))]
        # At least one window: a batch of empty recordings then has a shape that features can be computed of.
        audio = tf.pad(audio, [[0, 0], [0, round(self.spec.window * self.spec.sample_rate)]])
        wrong = tf.not_equal(error, "")
        return (tf.where(tf.math.is_finite(audio), audio, 0.0), tf.where(wrong, 0, length)), {"error": error}

    def faults(self, most: int, values: Sequence[np.ndarray]) -> list[tuple[int, str]]:
        longest = most * self.spec.sample_rate
        return [
            (index, f"{len(samples) / self.spec.sample_rate:.1f}".join(too_many_seconds(most)))
            for index, samples in enumerate(values)
            if len(samples) > longest
        ]

    def _too_long(self, most: int, length: Any) -> tf.Tensor:
        """Messages [B] about recordings of so many samples [B]; "" for those that are not too long."""
        before, after = too_many_seconds(most)
        seconds = tf.cast(length, tf.float32) / self.spec.sample_rate
        message = tf.strings.join([before, tf.strings.as_string(seconds, precision=1), after])
        return tf.where(length > most * self.spec.sample_rate, message, "")

    def forms(self, most: int) -> Sequence[Form]:
        wav = tf.TensorSpec([None], tf.string, name="wav")

        def decoded(wav: Any) -> tuple[Sequence[Any], dict[str, Any]]:
            def read(contents: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                samples, rate, fault, warning = read_wav(contents)
                samples = standardized(samples, rate, self.spec.sample_rate)
                long = self._too_long(most, tf.size(samples))
                # One that is too long must not make all others of the batch as long.
                samples = samples[: tf.where(tf.equal(long, ""), tf.size(samples), 0)]
                return samples, tf.where(tf.equal(fault, ""), long, fault), warning

            message = tf.TensorSpec([], tf.string)
            kinds = (tf.RaggedTensorSpec([None], tf.float32), message, message)
            rows, fault, warning = tf.map_fn(read, wav, fn_output_signature=kinds)
            return (rows.to_tensor(), tf.cast(rows.row_lengths(), tf.int32)), {"error": fault, "warning": warning}

        return Form("transcribe", self.signature), Form("transcribe_wav", [wav], decoded)

    # ---- exported models --------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"inputs": ["audio", "length"], "audio": to_dict(self.spec)}

    def features_of(self, values: Sequence[np.ndarray]) -> list[Any]:
        return [np.asarray(samples, "float32") for samples in values]

    def examples(self) -> list[np.ndarray]:
        time = np.arange(self.spec.sample_rate) / self.spec.sample_rate
        return [np.sin(2 * np.pi * pitch * time).astype("float32") * 0.3 for pitch in (300, 500)]

    def raw_example(self) -> dict[str, tf.Tensor]:
        content = io.BytesIO()
        write_wave(content, self.examples()[0], self.spec.sample_rate)
        return {**super().raw_example(), "wav": tf.constant([content.getvalue()])}

    def usual_inputs(self, data: DataSpec, count: int) -> list[np.ndarray]:
        corpus = data.validation if data.validation.given else data.train
        utterances = read_manifest(expanded_path(corpus.manifest), corpus.split)[:count]
        return read_recordings(utterances, self.spec).valid
