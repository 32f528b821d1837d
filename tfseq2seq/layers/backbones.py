"""Backbones: layers that map a picture to a grid of vectors, and one that makes a sequence of the grids of frames.

The vectors of a picture are in the order of reading: row by row, from left to right. They are normalized to standard
deviation D^-0.5, as token embeddings, because encoders scale their inputs.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.positions import sinusoids
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import ConvolutionBackboneSpec, PatchBackboneSpec
from tfseq2seq.spec.backbones import BackboneBase, GridPositions


class GridEmbedding(keras.layers.Layer):
    """Normalizes the vectors of a grid [B, N, C], projects them to [B, N, D] and adds positions.

    The position of a vector is its row and its column. With "sinusoidal" the first half of the columns of D encodes the
    row and the second half the column (the two-dimensional form of Vaswani et al. 2017). With "learned" there is one
    vector for each row and one for each column, which are added.

    Args:
        width: D.
        grid: N, a square number.
        positions: "sinusoidal", "learned" or "none".
        initializer: the initializer of the projection.
    """

    def __init__(self, width: int, grid: int, positions: GridPositions, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.grid, self.positions, self.initializer = width, grid, positions, initializer
        self.side = round(grid**0.5)
        self.project = SequenceDense(width, kernel_initializer=initializer, name="project", dtype=self.dtype_policy)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.project.build((None, None, input_shape[-1]))
        self.norm.build((None, None, self.width))
        if self.positions == "learned":
            normal = keras.initializers.RandomNormal(stddev=0.02 * self.width**0.5)
            shape = (self.side, self.width)
            self.rows = self.add_weight(shape=shape, initializer=normal, name="rows")
            self.columns = self.add_weight(shape=shape, initializer=normal, name="columns")

    def call(self, inputs: Any) -> Any:
        outputs = self.norm(self.project(inputs))
        if self.positions != "none":
            rows, columns = self._tables()
            places = np.arange(self.grid)
            added = ops.take(rows, places // self.side, axis=0) + ops.take(columns, places % self.side, axis=0)
            outputs = outputs + ops.expand_dims(ops.cast(added, outputs.dtype), 0)
        return outputs * self.width**-0.5

    def _tables(self) -> tuple[Any, Any]:
        """A vector [D] for each row and for each column."""
        if self.positions == "learned":
            return self.rows, self.columns
        half = self.width // 2
        places = np.arange(self.side)
        rows = ops.pad(sinusoids(places, half), ((0, 0), (0, self.width - half)))
        columns = ops.pad(sinusoids(places, self.width - half), ((0, 0), (half, 0)))
        return rows, columns

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "grid": self.grid,
            "positions": self.positions,
            "initializer": self.initializer,
        }


class FrameEmbedding(keras.layers.Layer):
    """Puts the vectors of the frames of clips [B, F, N, D] in one sequence [B, S, D], and adds positions in time.

    With "frame" the N vectors of a frame are joined and projected to one, normalized to standard deviation D^-0.5, and
    S is F. With "grid" S is F * N: the vectors of the first frame come first.

    Args:
        frames: F.
        width: D.
        vectors: "frame" or "grid".
        positions: "sinusoidal", "learned" or "none".
        initializer: the initializer of the projection.
    """

    def __init__(
        self, frames: int, width: int, vectors: str, positions: GridPositions, initializer: str, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.frames, self.width, self.vectors, self.positions = frames, width, vectors, positions
        self.initializer = initializer
        self.project: Any = None
        self.norm: Any = None
        if vectors == "frame":
            self.project = SequenceDense(width, kernel_initializer=initializer, name="project", dtype=self.dtype_policy)
            self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        if self.vectors == "frame":
            self.project.build((None, self.frames, input_shape[2] * self.width))
            self.norm.build((None, self.frames, self.width))
        if self.positions == "learned":
            normal = keras.initializers.RandomNormal(stddev=0.02 * self.width**0.5)
            self.times = self.add_weight(shape=(self.frames, self.width), initializer=normal, name="times")

    def call(self, inputs: Any) -> Any:
        outputs, count = inputs, inputs.shape[2]
        if self.vectors == "frame":
            joined = ops.reshape(inputs, (-1, self.frames, count * self.width)) * self.width**0.5
            outputs = ops.expand_dims(self.norm(self.project(joined)) * self.width**-0.5, 2)
        if self.positions != "none":
            times = self.times if self.positions == "learned" else sinusoids(np.arange(self.frames), self.width)
            added = ops.cast(times, outputs.dtype) * self.width**-0.5
            outputs = outputs + ops.reshape(added, (1, self.frames, 1, self.width))
        return ops.reshape(outputs, (-1, self.frames * (1 if self.vectors == "frame" else count), self.width))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "frames": self.frames,
            "width": self.width,
            "vectors": self.vectors,
            "positions": self.positions,
            "initializer": self.initializer,
        }


class _Backbone(keras.layers.Layer):
    """Base class: maps pictures [B, S, S, 3] to vectors [B, N, D].

    Args:
        spec: the settings.
        size: S.
        width: D.
        initializer: the initializer of the weights.
    """

    settings: type[Any] = BackboneBase

    def __init__(self, spec: Any, size: int, width: int, initializer: str = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.size, self.width, self.initializer = spec, size, width, initializer
        self.embedding = GridEmbedding(
            width, spec.grid(size), spec.positions, initializer, name="embedding", dtype=self.dtype_policy
        )

    def convolution(self, filters: int, kernel: int, stride: int, name: str) -> Any:
        """Returns a convolution without activation."""
        return keras.layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            data_format="channels_last",
            kernel_initializer=self.initializer,
            name=name,
            dtype=self.dtype_policy,
        )

    def get_config(self) -> dict[str, Any]:
        own = {"spec": to_dict(self.spec), "size": self.size, "width": self.width, "initializer": self.initializer}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "spec": from_dict(cls.settings, config["spec"])})


class PatchBackbone(_Backbone):
    """Projects each square patch of a picture to a vector (Dosovitskiy et al. 2021, equation 1)."""

    settings = PatchBackboneSpec

    def build(self, input_shape: Any) -> None:
        self.embedding.build((None, None, 3 * self.spec.patch**2))

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        patch = self.spec.patch
        side = self.size // patch
        # [B, rows, patch, columns, patch * 3]
        x = ops.reshape(pixels, (-1, side, patch, side, patch * 3))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return self.embedding(ops.reshape(x, (-1, side * side, 3 * patch * patch)))


class ResidualConvolution(keras.layers.Layer):
    """Two convolutions with a residual connection, normalized over channels before each (He et al. 2016).

    Args:
        filters: C, the number of channels.
        initializer: the initializer of the weights.
    """

    def __init__(self, filters: int, initializer: str = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.initializer = filters, initializer
        self.norms = [
            keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}", dtype=self.dtype_policy) for i in (0, 1)
        ]
        self.convolutions = [
            keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                data_format="channels_last",
                kernel_initializer=initializer,
                name=f"convolution_{i}",
                dtype=self.dtype_policy,
            )
            for i in (0, 1)
        ]

    def build(self, input_shape: Any) -> None:
        for layer in (*self.norms, *self.convolutions):
            layer.build((None, None, None, self.filters))

    def call(self, inputs: Any) -> Any:
        x = inputs
        for norm, convolution in zip(self.norms, self.convolutions):
            x = convolution(ops.relu(norm(x)))
        return inputs + x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "initializer": self.initializer}


class ConvolutionBackbone(_Backbone):
    """Stages of a convolution with stride 2 and residual blocks. All real pixels of a picture are alike: no padding is
    masked."""

    settings = ConvolutionBackboneSpec

    def __init__(self, spec: Any, size: int, width: int, initializer: str = "glorot_uniform", **kwargs: Any):
        super().__init__(spec, size, width, initializer, **kwargs)
        self.filters = [spec.filters * 2**stage for stage in range(spec.stages)]
        self.strided = [self.convolution(count, 3, 2, f"stage_{i}") for i, count in enumerate(self.filters)]
        self.blocks = [
            [
                ResidualConvolution(count, initializer, name=f"stage_{i}_block_{j}", dtype=self.dtype_policy)
                for j in range(spec.blocks)
            ]
            for i, count in enumerate(self.filters)
        ]

    def build(self, input_shape: Any) -> None:
        channels = 3
        for convolution, blocks, filters in zip(self.strided, self.blocks, self.filters):
            convolution.build((None, None, None, channels))
            for block in blocks:
                block.build((None, None, None, filters))
            channels = filters
        self.embedding.build((None, None, channels))

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        x = pixels
        for convolution, blocks in zip(self.strided, self.blocks):
            x = convolution(x)
            for block in blocks:
                x = block(x)
        return self.embedding(ops.reshape(x, (-1, self.embedding.grid, self.filters[-1])))


BACKBONES: dict[type, Any] = {ConvolutionBackboneSpec: ConvolutionBackbone, PatchBackboneSpec: PatchBackbone}
