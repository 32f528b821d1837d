"""Subsampling: the input layer of an audio encoder, which maps frames of features to fewer vectors."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.masks import length_mask

_KERNEL = 3


def subsampled(frames: Any, factor: int) -> Any:
    """Returns the number of positions for a number of frames, which can be a tensor.

    Each convolution halves the number and rounds it up.
    """
    while factor > 1:
        frames, factor = (frames + 1) // 2, factor // 2
    return frames


def cleaned(x: Any, lengths: Any) -> Any:
    """Returns x [B, F, ...] with zeros after the lengths [B]."""
    mask = ops.cast(length_mask(lengths, ops.shape(x)[1]), x.dtype)
    return x * ops.reshape(mask, (-1, ops.shape(x)[1], *[1] * (len(x.shape) - 2)))


class ConvolutionSubsampling(keras.layers.Layer):
    """Convolutions of stride 2 over time and frequency, then a projection (Dong et al. 2018, Gulati et al. 2020).

    Each convolution is centered on every second frame, with explicit padding. With the padding "same" of Keras the
    centers would depend on the parity of the padded length, so padding would change the result.
    The outputs are normalized to standard deviation D^-0.5, as token embeddings, because encoders scale their inputs.

    Args:
        factor: 1, 2, 4 or 8. With 1 there is only the projection.
        width: D.
        frame_width: W, the number of values in a frame.
        causal: whether convolutions read only earlier frames, for streaming.
        initializer: the initializer of the weights.
    """

    def __init__(
        self,
        factor: int,
        width: int,
        frame_width: int,
        causal: bool,
        initializer: str = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "factor": factor,
            "width": width,
            "frame_width": frame_width,
            "causal": causal,
            "initializer": initializer,
        }
        self.factor, self.width, self.causal, self.channels = factor, width, causal, max(width // 4, 8)
        depth = factor.bit_length() - 1
        self.convolutions = [
            keras.layers.Conv2D(
                self.channels,
                _KERNEL,
                strides=2,
                padding="valid",
                data_format="channels_last",
                activation="relu",
                kernel_initializer=initializer,
                name=f"convolution_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(depth)
        ]
        self.widths = [frame_width]
        for _ in range(depth):
            self.widths.append((self.widths[-1] + 1) // 2)
        self.project = SequenceDense(width, kernel_initializer=initializer, name="project", dtype=self.dtype_policy)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        channels = 1
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = self.channels
        self.project.build((None, None, self.widths[-1] * channels))
        self.norm.build((None, None, self.width))

    def call(self, frames: Any, lengths: Any) -> tuple[Any, Any]:
        """Returns vectors [B, F', D] and lengths [B] for frames [B, F, W] with lengths [B]. Padding becomes zero."""
        x = ops.expand_dims(frames, -1)
        for convolution in self.convolutions:
            x = cleaned(x, lengths)
            before = 2 if self.causal else 1
            x = convolution(ops.pad(x, ((0, 0), (before, 2 - before), (1, 1), (0, 0))))
            lengths = subsampled(lengths, 2)
        x = ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))
        return cleaned(self.norm(self.project(x)) * self.width**-0.5, lengths), lengths

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


class TimeConvolutionSubsampling(keras.layers.Layer):
    """Convolutions over time with GELU, all but the first of stride 2 (Radford et al. 2022).

    The first one maps frames to vectors. The padding of convolutions is as in `ConvolutionSubsampling`. The outputs
    have the factor D^-0.5, because encoders scale their inputs.

    Args:
        factor: 1, 2, 4 or 8.
        width: D.
        frame_width: W, the number of values in a frame.
        causal: whether convolutions read only earlier frames, for streaming.
        initializer: the initializer of the weights.
    """

    def __init__(
        self,
        factor: int,
        width: int,
        frame_width: int,
        causal: bool,
        initializer: str = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "factor": factor,
            "width": width,
            "frame_width": frame_width,
            "causal": causal,
            "initializer": initializer,
        }
        self.width, self.frame_width, self.before = width, frame_width, 2 if causal else 1
        self.convolutions = [
            keras.layers.Conv1D(
                width,
                _KERNEL,
                strides=2 if index else 1,
                padding="valid",
                data_format="channels_last",
                activation="gelu",
                kernel_initializer=initializer,
                name=f"convolution_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(factor.bit_length())
        ]

    def build(self, input_shape: Any) -> None:
        channels = self.frame_width
        for convolution in self.convolutions:
            convolution.build((None, None, channels))
            channels = self.width

    def call(self, frames: Any, lengths: Any) -> tuple[Any, Any]:
        """Returns vectors [B, F', D] and lengths [B] for frames [B, F, W] with lengths [B]. Padding becomes zero."""
        x = frames
        for index, convolution in enumerate(self.convolutions):
            x = convolution(ops.pad(cleaned(x, lengths), ((0, 0), (self.before, 2 - self.before), (0, 0))))
            if index:
                lengths = subsampled(lengths, 2)
        return cleaned(x * self.width**-0.5, lengths), lengths

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


# The input layers of a recipe.
INPUT_LAYERS: dict[str, Any] = {"conv2d": ConvolutionSubsampling, "conv1d": TimeConvolutionSubsampling}
