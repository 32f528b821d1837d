"""Frontends: how a modality enters a model. Each turns the model's inputs into what encoders read.

    reads                     names of the inputs it takes
    inputs()                  symbolic inputs of a functional model, by name
    frontend(inputs)          embedded [B, S, D] and its mask [B, S]
    encoder(spec)             the encoder that reads them
    ids(inputs)               token ids [B, S] of the source, or None
    positions(size)           S, given the size of the raw source (tokens, samples)

`FRONTENDS` has one for each kind of source. A new modality adds its class here; encoders and decoders do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfseq2seq.features.audio import AudioFeatures
from tfseq2seq.features.augmentation import SpecAugment, WaveAugmentation
from tfseq2seq.layers.masks import length_mask, padding_mask
from tfseq2seq.layers.subsampling import ConvolutionSubsampling, subsampled
from tfseq2seq.models.embedding import token_embedding
from tfseq2seq.models.encoders import NoEncoder, build_encoder
from tfseq2seq.spec import AudioSpec, ModelSpec, NoSourceSpec, TextSpec, lookup


class _Encoded:
    """What frontends of sources that go through an encoder share."""

    embedding: Any = None
    # Feature layers whose products must not be rounded to 8 bits.
    spectra: tuple[Any, ...] = ()

    @staticmethod
    def encoder(spec: ModelSpec) -> Any:
        return build_encoder(spec.encoder, spec.width, spec.initializer)


class NoFrontend:
    """No source. The number of examples is read off the target."""

    reads = ("target",)
    embedding: Any = None
    spectra: tuple[Any, ...] = ()

    @classmethod
    def create(cls, spec: ModelSpec, source: NoSourceSpec, size: int, target_embedding: Any) -> NoFrontend:
        return cls()

    @staticmethod
    def inputs() -> dict[str, Any]:
        return {}

    def __call__(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        return inputs["target"], padding_mask(inputs["target"])

    @staticmethod
    def encoder(spec: ModelSpec) -> Any:
        return NoEncoder(name="encoder")

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        return None

    @staticmethod
    def positions(size: Any) -> Any:
        return 0


class TokenFrontend(_Encoded):
    """Token ids [B, S] to embeddings [B, S, D].

    It is no layer of its own: the embedding stands in the functional model, and in its weights file, by itself.

    Args:
        embedding: of the source tokens; the target's where both share one.
    """

    reads = ("source",)

    def __init__(self, embedding: keras.layers.ReversibleEmbedding):
        self.embedding = embedding

    @classmethod
    def create(cls, spec: ModelSpec, source: TextSpec, size: int, target_embedding: Any) -> TokenFrontend:
        """The frontend of a model; `size` is that of the source vocabulary."""
        if spec.share_embeddings:
            return cls(target_embedding)
        return cls(token_embedding(spec.width, size, "source_embedding"))

    @staticmethod
    def inputs() -> dict[str, Any]:
        return {"source": keras.Input((None,), dtype="int32", name="source")}

    def __call__(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        return self.embedding(inputs["source"]), padding_mask(inputs["source"])

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        return inputs["source"]

    @staticmethod
    def positions(tokens: Any) -> Any:
        return tokens


class AudioFrontend(keras.layers.Layer, _Encoded):
    """Samples [B, N] float32 and lengths [B] to [B, F, D] and its mask [B, F]: augmentation, features, subsampling.

    Args:
        spec: rate, features, augmentation, subsampling.
        width: D.
        causal: subsampling looks back only, for streaming.
        initializer: of the weights.
    """

    reads = ("source", "source_length")

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

    @classmethod
    def create(cls, spec: ModelSpec, source: AudioSpec, size: int, target_embedding: Any) -> AudioFrontend:
        """The frontend of a model."""
        return cls(source, spec.width, spec.encoder.streams, spec.initializer, name="frontend")

    @staticmethod
    def inputs() -> dict[str, Any]:
        return {
            "source": keras.Input((None,), dtype="float32", name="source"),
            "source_length": keras.Input((), dtype="int32", name="source_length"),
        }

    def build(self, input_shape: Any) -> None:
        self.features.build((None, None))
        self.subsampling.build((None, None, self.spec.frame_width))

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        samples, lengths = self.waves(inputs["source"], inputs["source_length"], training=training)
        frames, lengths = self.features(samples, lengths)
        frames = self.masks(frames, lengths, training=training)
        embedded, lengths = self.subsampling(ops.cast(frames, self.compute_dtype), lengths)
        return embedded, length_mask(lengths, ops.shape(embedded)[1])

    @property
    def spectra(self) -> tuple[Any, ...]:  # type: ignore[override]
        return (self.features,)

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        """Recordings have no token ids."""
        return None

    def positions(self, samples: Any) -> Any:
        """How many positions a number of samples becomes without augmentation, a number or a tensor."""
        return subsampled(self.features.frames_of(samples), self.spec.subsampling)


FRONTENDS: dict[type, Callable[[ModelSpec, Any, int, Any], Any]] = {
    NoSourceSpec: NoFrontend.create,
    TextSpec: TokenFrontend.create,
    AudioSpec: AudioFrontend.create,
}


def build_frontend(spec: ModelSpec, source: Any, size: int, target_embedding: Any = None) -> Any:
    """The frontend of a source.

    Args:
        spec: the model's.
        source: the spec of a source.
        size: entries of the source vocabulary, where it has one.
        target_embedding: of the target tokens, for sources that share it.
    """
    return lookup(FRONTENDS, source)(spec, source, size, target_embedding)
