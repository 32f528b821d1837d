"""Augmentation of recordings, of their features and of pictures, on the device and only in training.

All layers draw random numbers separately for each example of a batch. They use Keras seed generators, so runs with
equal seeds are equal.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import AugmentationSpec, ImageAugmentationSpec


class _Augmentation(keras.layers.Layer):
    """Base class: a layer with settings, of the class `settings`, and random numbers that computes in float32."""

    settings: type[Any] = AugmentationSpec

    def __init__(self, spec: Any, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.spec = spec
        self.seeds = keras.random.SeedGenerator()
        self.built = True

    def uniform(self, shape: tuple, low: Any = 0.0, high: Any = 1.0) -> Any:
        """Draws uniform float32 numbers between low and high."""
        return low + keras.random.uniform(shape, dtype="float32", seed=self.seeds) * (high - low)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": to_dict(self.spec)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "spec": from_dict(cls.settings, config["spec"])})


class WaveAugmentation(_Augmentation):
    """Changes the speed and the level of recordings and adds noise, drawn independently.

    - speed (Ko et al. 2015): the speed is multiplied by a uniform factor between 1 - `speed` and 1 + `speed`. Pitch and
      length change together. Samples are interpolated linearly.
    - gain: the level is changed by a uniform number of dB between -`gain` and `gain`.
    - noise: white noise is added with probability `noise`. The signal-to-noise ratio is uniform in dB between
      `noise_low` and `noise_high`, relative to the mean power of the recording. Silence stays silent.
    """

    def call(self, samples: Any, lengths: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Augments recordings.

        Args:
            samples: [B, N] float32.
            lengths: [B] int32. Samples after these lengths stay silent.
            training: whether to augment. Otherwise the inputs are returned.

        Returns:
            Samples [B, N'] and lengths [B]. N' is long enough for the slowest speed.
        """
        if not training:
            return samples, lengths
        if self.spec.speed:
            samples, lengths = self._change_speed(samples, lengths)
        real = ops.expand_dims(ops.arange(ops.shape(samples)[1], dtype="int32"), 0) < ops.expand_dims(lengths, 1)
        batch = ops.shape(samples)[0]
        if self.spec.noise:
            samples = samples + self._noise(samples, lengths, batch)
        if self.spec.gain:
            decibels = self.uniform((batch, 1), -self.spec.gain, self.spec.gain)
            samples = samples * ops.power(10.0, decibels / 20.0)
        return ops.where(real, samples, 0.0), lengths

    def _change_speed(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        batch, width = ops.shape(samples)[0], ops.shape(samples)[1]
        speeds = self.uniform((batch, 1), 1.0 - self.spec.speed, 1.0 + self.spec.speed)
        new_lengths = ops.cast(ops.ceil(ops.cast(ops.expand_dims(lengths, 1), "float32") / speeds), "int32")
        # Slower recordings become longer. The factor 1.00001 is a margin for rounding.
        longest = ops.cast(ops.ceil(ops.cast(width, "float32") / (1.0 - self.spec.speed) * 1.00001), "int32")
        index = ops.arange(longest, dtype="int32")
        indices = ops.cast(ops.expand_dims(index, 0), "float32") * speeds
        lower = ops.floor(indices)
        fraction = indices - lower
        last = ops.maximum(ops.expand_dims(lengths, 1) - 1, 0)
        first = ops.minimum(ops.cast(lower, "int32"), last)
        second = ops.minimum(first + 1, last)
        mixed = (1.0 - fraction) * ops.take_along_axis(samples, first, axis=1)
        mixed = mixed + fraction * ops.take_along_axis(samples, second, axis=1)
        real = ops.expand_dims(index, 0) < new_lengths
        return ops.where(real, mixed, 0.0), ops.squeeze(new_lengths, 1)

    def _noise(self, samples: Any, lengths: Any, batch: Any) -> Any:
        count = ops.cast(ops.maximum(ops.expand_dims(lengths, 1), 1), "float32")
        power = ops.sum(ops.square(samples), axis=1, keepdims=True) / count
        ratio = self.uniform((batch, 1), self.spec.noise_low, self.spec.noise_high)
        level = ops.sqrt(power * ops.power(10.0, -ratio / 10.0))
        chosen = self.uniform((batch, 1)) < self.spec.noise
        noise = keras.random.normal(ops.shape(samples), dtype="float32", seed=self.seeds)
        return ops.where(chosen, noise * level, 0.0)


class SpecAugment(_Augmentation):
    """Masks ranges of bins and of frames (SpecAugment, Park et al. 2019), without time warping.

    The width of each mask is uniform between 0 and its maximum: `frequency_width` bins, or the share `time_share` of
    the recording's frames. Masked values are 0, which is the mean of normalized features.
    """

    def call(self, frames: Any, lengths: Any, training: bool | None = None) -> Any:
        """Masks frames [B, F, W] with frame lengths [B] in training. Returns frames [B, F, W]."""
        if not training:
            return frames
        batch, count, width = ops.shape(frames)[0], ops.shape(frames)[1], frames.shape[2]
        if self.spec.frequency_masks:
            max_width = min(self.spec.frequency_width, width)
            limits = ops.full((batch, 1), float(width)), ops.full((batch, 1), float(max_width))
            masked = self._masked_ranges(width, self.spec.frequency_masks, *limits)
            frames = ops.where(ops.expand_dims(masked, 1), 0.0, frames)
        if self.spec.time_masks:
            real_frames = ops.cast(ops.expand_dims(lengths, 1), "float32")
            masked = self._masked_ranges(count, self.spec.time_masks, real_frames, real_frames * self.spec.time_share)
            frames = ops.where(ops.expand_dims(masked, 2), 0.0, frames)
        return frames

    def _masked_ranges(self, size: Any, masks: int, limit: Any, max_width: Any) -> Any:
        """Draws `masks` ranges per row and returns [B, size] bool, True inside of the ranges.

        Args:
            size: the number of positions.
            masks: the number of ranges per row.
            limit: [B, 1], the ranges are inside of the first `limit` positions.
            max_width: [B, 1], the maximum width of a range.
        """
        batch = ops.shape(limit)[0]
        widths = ops.floor(self.uniform((batch, masks)) * (max_width + 1.0))
        starts = ops.floor(self.uniform((batch, masks)) * (limit - widths + 1.0))
        indices = ops.reshape(ops.cast(ops.arange(size), "float32"), (1, 1, -1))
        starts, ends = ops.expand_dims(starts, 2), ops.expand_dims(starts + widths, 2)
        return ops.any(ops.logical_and(indices >= starts, indices < ends), axis=1)


class ImageAugmentation(_Augmentation):
    """Crops, mirrors, brightens and changes the contrast of pictures, drawn independently.

    - crop: height and width are multiplied by uniform factors between 1 - `crop` and 1. The place of the part that is
      kept is uniform. It is enlarged to the whole picture, with linear interpolation.
    - flip: left and right are exchanged with probability `flip`.
    - contrast: the difference of each pixel to the mean of its picture is multiplied by a uniform factor between
      1 - `contrast` and 1 + `contrast`.
    - brightness: a uniform number between -255 * `brightness` and 255 * `brightness` is added to all pixels.
    """

    settings = ImageAugmentationSpec

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        """Augments pictures [B, H, W, 3] float32 with values from 0 to 255 in training."""
        if not training or not self.spec.active:
            return pixels
        batch = ops.shape(pixels)[0]
        if self.spec.crop or self.spec.flip:
            rows = self._sampled(batch, pixels.shape[1], 0.0)
            columns = self._sampled(batch, pixels.shape[2], self.spec.flip)
            pixels = ops.einsum("bih,bhwc->biwc", rows, pixels)
            pixels = ops.einsum("bjw,biwc->bijc", columns, pixels)
        if self.spec.contrast:
            factor = self.uniform((batch, 1, 1, 1), 1.0 - self.spec.contrast, 1.0 + self.spec.contrast)
            mean = ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
            pixels = mean + (pixels - mean) * factor
        if self.spec.brightness:
            limit = 255.0 * self.spec.brightness
            pixels = pixels + self.uniform((batch, 1, 1, 1), -limit, limit)
        return ops.clip(pixels, 0.0, 255.0)

    def _sampled(self, batch: Any, size: int, flip: float) -> Any:
        """Draws a part of an axis for each picture and returns the weights [B, size, size] that enlarge it."""
        share = self.uniform((batch, 1), 1.0 - self.spec.crop, 1.0)
        start = self.uniform((batch, 1)) * (1.0 - share)
        index = ops.expand_dims((ops.cast(ops.arange(size), "float32") + 0.5) / size, 0)
        if flip:
            index = ops.where(self.uniform((batch, 1)) < flip, 1.0 - index, index)
        # Centers of pixels are at halves.
        places = ops.clip((start + share * index) * size - 0.5, 0.0, size - 1.0)
        sources = ops.reshape(ops.cast(ops.arange(size), "float32"), (1, 1, -1))
        return ops.maximum(1.0 - ops.abs(ops.expand_dims(places, 2) - sources), 0.0)
