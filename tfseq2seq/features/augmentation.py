"""Augmentation of recordings and of their features, on device and in training only.

Both layers draw anew for each recording of a batch. Their random numbers come from Keras seed generators, so that a
seeded run repeats.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import AugmentationSpec


class _Augmentation(keras.layers.Layer):
    """A layer that has an `AugmentationSpec` and random numbers, and computes in float32."""

    def __init__(self, spec: AugmentationSpec, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.spec = spec
        self.seeds = keras.random.SeedGenerator()
        self.built = True

    def drawn(self, shape: tuple, low: Any = 0.0, high: Any = 1.0) -> Any:
        """Uniform numbers between low and high, float32."""
        return low + keras.random.uniform(shape, dtype="float32", seed=self.seeds) * (high - low)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": to_dict(self.spec)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "spec": from_dict(AugmentationSpec, config["spec"])})


class WaveAugmentation(_Augmentation):
    """Speed, level and noise of recordings, each drawn by itself.

    - speed (Ko et al. 2015): played faster or slower by at most the share `speed`, pitch and length changing together;
      between samples it is interpolated linearly.
    - gain: the level changed by at most `gain` dB either way, evenly in dB.
    - noise: to a share `noise` of recordings white noise is added, its signal-to-noise ratio drawn evenly in dB between
      `noise_low` and `noise_high` and measured against the recording's own mean power. Silence stays silence.
    """

    def call(self, samples: Any, lengths: Any, training: bool | None = None) -> tuple[Any, Any]:
        """
        Args:
            samples: [B, N] float32.
            lengths: [B] int32; what lies beyond them is left silent.

        Returns:
            samples [B, N'] and lengths [B]; N' leaves room for the slowest speed.
        """
        if not training:
            return samples, lengths
        if self.spec.speed:
            samples, lengths = self._faster_or_slower(samples, lengths)
        real = ops.expand_dims(ops.arange(ops.shape(samples)[1], dtype="int32"), 0) < ops.expand_dims(lengths, 1)
        batch = ops.shape(samples)[0]
        if self.spec.noise:
            samples = samples + self._noise(samples, lengths, batch)
        if self.spec.gain:
            decibels = self.drawn((batch, 1), -self.spec.gain, self.spec.gain)
            samples = samples * ops.power(10.0, decibels / 20.0)
        return ops.where(real, samples, 0.0), lengths

    def _faster_or_slower(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        batch, width = ops.shape(samples)[0], ops.shape(samples)[1]
        speeds = self.drawn((batch, 1), 1.0 - self.spec.speed, 1.0 + self.spec.speed)
        following = ops.cast(ops.ceil(ops.cast(ops.expand_dims(lengths, 1), "float32") / speeds), "int32")
        # Of slower recordings more samples come out than went in; a hundredth of a per mille of room for rounding.
        longest = ops.cast(ops.ceil(ops.cast(width, "float32") / (1.0 - self.spec.speed) * 1.00001), "int32")
        index = ops.arange(longest, dtype="int32")
        indices = ops.cast(ops.expand_dims(index, 0), "float32") * speeds
        before = ops.floor(indices)
        share = indices - before
        last = ops.maximum(ops.expand_dims(lengths, 1) - 1, 0)
        first = ops.minimum(ops.cast(before, "int32"), last)
        second = ops.minimum(first + 1, last)
        mixed = (1.0 - share) * ops.take_along_axis(samples, first, axis=1)
        mixed = mixed + share * ops.take_along_axis(samples, second, axis=1)
        real = ops.expand_dims(index, 0) < following
        return ops.where(real, mixed, 0.0), ops.squeeze(following, 1)

    def _noise(self, samples: Any, lengths: Any, batch: Any) -> Any:
        count = ops.cast(ops.maximum(ops.expand_dims(lengths, 1), 1), "float32")
        power = ops.sum(ops.square(samples), axis=1, keepdims=True) / count
        ratio = self.drawn((batch, 1), self.spec.noise_low, self.spec.noise_high)
        level = ops.sqrt(power * ops.power(10.0, -ratio / 10.0))
        chosen = self.drawn((batch, 1)) < self.spec.noise
        noise = keras.random.normal(ops.shape(samples), dtype="float32", seed=self.seeds)
        return ops.where(chosen, noise * level, 0.0)


class SpecAugment(_Augmentation):
    """Bands of bins and stretches of frames blanked (Park et al. 2019), without time warping.

    The width of each is drawn evenly from 0 to the most allowed: `frequency_width` bins, `time_share` of the
    recording's own frames. Blanked values are 0, which in normalized features is the mean.
    """

    def call(self, frames: Any, lengths: Any, training: bool | None = None) -> Any:
        """Frames [B, F, W] and frame lengths [B] to frames [B, F, W]."""
        if not training:
            return frames
        batch, count, width = ops.shape(frames)[0], ops.shape(frames)[1], frames.shape[2]
        if self.spec.frequency_masks:
            most = min(self.spec.frequency_width, width)
            limits = ops.full((batch, 1), float(width)), ops.full((batch, 1), float(most))
            blank = self._stretches(width, self.spec.frequency_masks, *limits)
            frames = ops.where(ops.expand_dims(blank, 1), 0.0, frames)
        if self.spec.time_masks:
            own = ops.cast(ops.expand_dims(lengths, 1), "float32")
            blank = self._stretches(count, self.spec.time_masks, own, own * self.spec.time_share)
            frames = ops.where(ops.expand_dims(blank, 2), 0.0, frames)
        return frames

    def _stretches(self, size: Any, masks: int, within: Any, most: Any) -> Any:
        """[B, size] bool: True in `masks` stretches of at most `most` [B, 1] places, of the first `within` [B, 1]."""
        batch = ops.shape(within)[0]
        widths = ops.floor(self.drawn((batch, masks)) * (most + 1.0))
        starts = ops.floor(self.drawn((batch, masks)) * (within - widths + 1.0))
        indices = ops.reshape(ops.cast(ops.arange(size), "float32"), (1, 1, -1))
        starts, ends = ops.expand_dims(starts, 2), ops.expand_dims(starts + widths, 2)
        return ops.any(ops.logical_and(indices >= starts, indices < ends), axis=1)
