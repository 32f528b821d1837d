"""How series enter a model: each number becomes a vector."""

from typing import Any

import keras
from keras import ops

from series.spec import SeriesSpec
from tfseq2seq.layers.masks import length_mask
from tfseq2seq.models.encoders import build_encoder
from tfseq2seq.models.frontends import FRONTENDS


class SeriesFrontend(keras.layers.Layer):
    """Numbers [B, N] and lengths [B] to vectors [B, N, D] and their mask [B, N]."""

    reads = ("source", "source_length")
    embedding: Any = None
    spectra: tuple[Any, ...] = ()

    def __init__(self, spec, width, **kwargs):
        super().__init__(**kwargs)
        self.spec, self.project = spec, keras.layers.Dense(width, name="project")

    @classmethod
    def create(cls, spec, source, size, target_embedding):
        return cls(source, spec.width, name="frontend")

    @staticmethod
    def inputs():
        return {
            "source": keras.Input((None,), dtype="float32", name="source"),
            "source_length": keras.Input((), dtype="int32", name="source_length"),
        }

    @staticmethod
    def encoder(spec):
        return build_encoder(spec.encoder, spec.width, spec.initializer)

    @staticmethod
    def ids(inputs):
        return None

    @staticmethod
    def positions(size):
        return size

    def build(self, input_shape):
        self.project.build((None, None, 1))

    def call(self, inputs, training=None):
        numbers = inputs["source"] / self.spec.scale
        return self.project(ops.expand_dims(numbers, -1)), length_mask(inputs["source_length"], ops.shape(numbers)[1])


FRONTENDS[SeriesSpec] = SeriesFrontend.create
