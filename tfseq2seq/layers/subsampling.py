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
            x = self._clean(x, lengths)
            before = 2 if self.causal else 1
            x = convolution(ops.pad(x, ((0, 0), (before, 2 - before), (1, 1), (0, 0))))
            lengths = subsampled(lengths, 2)
        x = ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))
        return self._clean(self.norm(self.project(x)) * self.width**-0.5, lengths), lengths

    @staticmethod
    def _clean(x: Any, lengths: Any) -> Any:
        mask = ops.cast(length_mask(lengths, ops.shape(x)[1]), x.dtype)
        return x * ops.reshape(mask, (-1, ops.shape(x)[1], *[1] * (len(x.shape) - 2)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
