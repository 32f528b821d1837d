"""From a waveform to what encoders read, on device: augmentation, features, masks, subsampling."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.features.audio import AudioFeatures
from tfseq2seq.features.augmentation import SpecAugment, WaveAugmentation
from tfseq2seq.layers.masks import length_mask
from tfseq2seq.layers.subsampling import ConvolutionSubsampling, subsampled
from tfseq2seq.spec import AudioSpec


class AudioFrontend(keras.layers.Layer):
    """Samples [B, N] float32 and lengths [B] to [B, F, D] and its mask [B, F].

    Args:
        spec: rate, features, augmentation, subsampling.
        width: D.
        causal: subsampling looks back only, for streaming.
        initializer: of the weights.
    """

    def __init__(self, spec: AudioSpec, width: int, causal: bool, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width = spec, width
        # Their numbers are squares of samples and logarithms of them: never in 16 bits.
        self.waves = WaveAugmentation(spec.augmentation, name="waves", dtype="float32")
        self.features = AudioFeatures(spec, name="features", dtype="float32")
        self.masks = SpecAugment(spec.augmentation, name="masks", dtype="float32")
        self.subsampling = ConvolutionSubsampling(
            spec.subsampling, width, spec.frame_width, causal, initializer, name="subsampling"
        )

    def build(self, *input_shapes: Any) -> None:
        self.features.build((None, None))
        self.subsampling.build((None, None, self.spec.frame_width))

    def call(self, samples: Any, lengths: Any, training: bool | None = None) -> tuple[Any, Any]:
        samples, lengths = self.waves(samples, lengths, training=training)
        frames, lengths = self.features(samples, lengths)
        frames = self.masks(frames, lengths, training=training)
        embedded, lengths = self.subsampling(ops.cast(frames, self.compute_dtype), lengths)
        return embedded, length_mask(lengths, ops.shape(embedded)[1])

    def positions(self, samples: Any) -> Any:
        """How many positions so many samples become without augmentation, a number or a tensor."""
        return subsampled(self.features.frames_of(samples), self.spec.subsampling)
