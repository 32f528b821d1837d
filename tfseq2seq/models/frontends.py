"""Frontends. Each kind of source has a frontend, which maps the inputs of a model to the inputs of its encoder.

    reads                     names of the model inputs that the frontend reads
    inputs()                  symbolic inputs of a functional model, by name
    frontend(inputs)          embedded source [B, S, D] and its mask [B, S]
    encoder(spec)             the encoder of the model
    ids(inputs)               token ids [B, S] of the source, or None
    positions(size)           S for a source of `size` tokens or samples

`FRONTENDS` has the frontend of each kind of source. A new kind adds a class there; encoders and decoders do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfseq2seq.errors import UserError
from tfseq2seq.features.audio import AudioFeatures
from tfseq2seq.features.augmentation import ImageAugmentation, SpecAugment, WaveAugmentation
from tfseq2seq.features.image import ImageNormalization
from tfseq2seq.features.vocabulary import foreign_ids
from tfseq2seq.layers.backbones import FrameEmbedding, GridEmbedding
from tfseq2seq.layers.masks import length_mask, padding_mask
from tfseq2seq.layers.subsampling import INPUT_LAYERS, subsampled
from tfseq2seq.models.embedding import token_embedding
from tfseq2seq.models.encoders import NoEncoder, build_encoder
from tfseq2seq.models.hub_backbone import build_backbone
from tfseq2seq.models.pretrained import preset_folder
from tfseq2seq.spec import BOS, AudioSpec, ImageSpec, ModelSpec, NoSourceSpec, TextSpec, VideoSpec, lookup


class _Encoded:
    """Base class of the frontends of sources that need an encoder."""

    embedding: Any = None
    # Feature layers whose matrix products must not be quantized to 8 bits.
    spectra: tuple[Any, ...] = ()

    @staticmethod
    def encoder(spec: ModelSpec) -> Any:
        return build_encoder(spec.encoder, spec.width, spec.initializer)


class NoFrontend:
    """The frontend of a model without a source. It reads the target, for the number of examples."""

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
    """Maps token ids [B, S] to embeddings [B, S, D].

    The frontend is not a layer. The embedding is itself a layer of the functional model and in its weights file.

    Args:
        embedding: the embedding of the source tokens, which can be that of the target tokens.
        copies: whether the decoder copies. It then has a further input: the target ids of the source tokens.
    """

    def __init__(self, embedding: keras.layers.ReversibleEmbedding | None, copies: bool):
        self.embedding = embedding
        self.reads = ("source", "copy_ids") if copies else ("source",)

    @classmethod
    def create(cls, spec: ModelSpec, source: TextSpec, size: int, target_embedding: Any) -> Any:
        """Returns the frontend of a model. `size` is the size of the source vocabulary."""
        if spec.encoder.embeds_tokens:
            return PretrainedIds(spec, source, size)
        if spec.share_embeddings:
            return cls(target_embedding, spec.decoder.copies)
        return cls(token_embedding(spec.width, size, "source_embedding"), spec.decoder.copies)

    def inputs(self) -> dict[str, Any]:
        return {name: keras.Input((None,), dtype="int32", name=name) for name in self.reads}

    def __call__(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        return self.embedding(inputs["source"]), padding_mask(inputs["source"])

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        return inputs["source"]

    @staticmethod
    def positions(tokens: Any) -> Any:
        return tokens


class PretrainedIds(TokenFrontend):
    """Maps token ids [B, S] to the ids [B, S + 1] that a pretrained encoder knows, with its [CLS] before them.

    Args:
        spec: the settings of the model, whose encoder is a preset.
        source: the settings of the source.
        size: the size of the source vocabulary.

    Raises:
        UserError: the vocabulary of the preset cannot be read, or is not that of the source.
    """

    def __init__(self, spec: ModelSpec, source: TextSpec, size: int):
        super().__init__(None, spec.decoder.copies)
        preset: str = spec.encoder.preset  # type: ignore[union-attr]
        if not preset:
            raise UserError("model.encoder.preset: must be a folder or the name of a preset, got ''")
        folder = preset_folder(preset)
        if folder is None:
            # The name of a preset: its files are in the cache of keras-hub.
            folder = preset_folder(source.vocabulary)
        if folder is None:
            raise UserError(
                f"source.vocabulary: must be the folder of the tokenizer of {preset!r}, got {source.vocabulary!r}"
            )
        foreign = foreign_ids(folder, len(source.reserved), "model.encoder.preset")
        if len(foreign) != size:
            raise UserError(
                f"source.vocabulary: must be that of model.encoder.preset, which has {len(foreign):,} tokens, got "
                f"{size:,}"
            )
        self._foreign, self._begin = np.array(foreign, "int32"), foreign[BOS]

    def __call__(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        ids = ops.take(ops.convert_to_tensor(self._foreign), inputs["source"], axis=0)
        begins = ops.full_like(ids[:, :1], self._begin)
        mask = padding_mask(inputs["source"])
        return ops.concatenate([begins, ids], axis=1), ops.concatenate([ops.ones_like(mask[:, :1]), mask], axis=1)


class AudioFrontend(keras.layers.Layer, _Encoded):
    """Maps samples [B, N] float32 with lengths [B] to vectors [B, F, D] and their mask [B, F].

    The steps are augmentation, features and subsampling.

    Args:
        spec: the settings of the source.
        width: D.
        causal: whether subsampling reads only earlier frames, for streaming.
        initializer: the initializer of the weights.
    """

    reads = ("source", "source_length")

    def __init__(self, spec: AudioSpec, width: int, causal: bool, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width = spec, width
        # Powers of samples and their logarithms need float32 under every dtype policy.
        self.waves = WaveAugmentation(spec.augmentation, name="waves", dtype="float32")
        self.features = AudioFeatures(spec, name="features", dtype="float32")
        self.masks = SpecAugment(spec.augmentation, name="masks", dtype="float32")
        self.subsampling = INPUT_LAYERS[spec.input_layer](
            spec.subsampling, width, spec.frame_width, causal, initializer, name="subsampling"
        )
        # Recordings have at least so many samples.
        self.padded = spec.pad_seconds * spec.sample_rate

    @classmethod
    def create(cls, spec: ModelSpec, source: AudioSpec, size: int, target_embedding: Any) -> AudioFrontend:
        """Returns the frontend of a model."""
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
        if self.padded:
            samples, lengths = _in_silence(samples, lengths, self.padded)
        frames, lengths = self.features(samples, lengths)
        frames = self.masks(frames, lengths, training=training)
        embedded, lengths = self.subsampling(ops.cast(frames, self.compute_dtype), lengths)
        return embedded, length_mask(lengths, ops.shape(embedded)[1])

    @property
    def spectra(self) -> tuple[Any, ...]:  # type: ignore[override]
        return (self.features,)

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        """Returns None, because recordings have no token ids."""
        return None

    def positions(self, samples: Any) -> Any:
        """Returns the number of positions for a number of samples, which can be a tensor, without augmentation."""
        if self.padded:
            samples = samples * 0 + self.padded
        return subsampled(self.features.frames_of(samples), self.spec.subsampling)


def _in_silence(samples: Any, lengths: Any, size: int) -> tuple[Any, Any]:
    """Returns samples [B, size] with zeros after the lengths [B], and lengths that are all `size`."""
    width = ops.shape(samples)[1]
    samples = ops.where(length_mask(lengths, width), samples, 0.0)
    samples = ops.pad(samples, ((0, 0), (0, ops.maximum(size - width, 0))))[:, :size]
    return ops.reshape(samples, (-1, size)), ops.full_like(lengths, size)


class GridFrontend(keras.layers.Layer, _Encoded):
    """Maps the vectors [B, N, C] that a frozen backbone has computed of pictures to vectors [B, N, D] with positions.

    Args:
        spec: the settings of the source.
        channels: C.
        width: D.
        initializer: the initializer of the weights.
    """

    reads = ("source",)

    def __init__(self, spec: ImageSpec, channels: int, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.channels, self.grid = spec, channels, spec.backbone.grid(spec.size)
        self.grid_embedding = GridEmbedding(width, self.grid, spec.backbone.positions, initializer, name="grid")

    def inputs(self) -> dict[str, Any]:
        return {"source": keras.Input((self.grid, self.channels), dtype="float32", name="source")}

    def build(self, input_shape: Any) -> None:
        self.grid_embedding.build((None, self.grid, self.channels))

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        embedded = self.grid_embedding(ops.cast(inputs["source"], self.compute_dtype))
        return embedded, ops.ones(ops.shape(embedded)[:2], dtype="bool")

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        """Returns None, because pictures have no token ids."""
        return None

    def positions(self, size: Any) -> Any:
        """Returns the number of vectors of a picture, which is the same for all sizes; these can be a tensor."""
        return size * 0 + self.grid


class ImageFrontend(keras.layers.Layer, _Encoded):
    """Maps pictures [B, S, S, 3] uint8 to a grid of vectors [B, N, D] and their mask [B, N], which is True.

    The steps are augmentation, normalization and the backbone.

    Args:
        spec: the settings of the source.
        width: D.
        initializer: the initializer of the weights.
    """

    reads = ("source",)

    def __init__(self, spec: ImageSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec = spec
        self.augmentation = ImageAugmentation(spec.augmentation, name="augmentation", dtype="float32")
        self.normalization = ImageNormalization(spec, name="normalization", dtype="float32")
        # Pretrained backbones know the values of pixels that they were trained on.
        self.scaled = spec.backbone.scales_pixels
        self.backbone = build_backbone(spec.backbone, spec.size, width, initializer, name="backbone")

    @classmethod
    def create(cls, spec: ModelSpec, source: ImageSpec, size: int, target_embedding: Any) -> Any:
        """Returns the frontend of a model. `size` is the number of channels of vectors that come precomputed."""
        if source.backbone.precomputed:
            return GridFrontend(source, size, spec.width, spec.initializer, name="frontend")
        return cls(source, spec.width, spec.initializer, name="frontend")

    def inputs(self) -> dict[str, Any]:
        shape = (self.spec.size, self.spec.size, 3)
        return {"source": keras.Input(shape, dtype="uint8", name="source")}

    def build(self, input_shape: Any) -> None:
        self.backbone.build((None, self.spec.size, self.spec.size, 3))

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        pixels = self.augmentation(ops.cast(inputs["source"], "float32"), training=training)
        if not self.scaled:
            pixels = ops.cast(self.normalization(pixels), self.compute_dtype)
        embedded = self.backbone(pixels, training=training)
        return embedded, ops.ones(ops.shape(embedded)[:2], dtype="bool")

    @staticmethod
    def ids(inputs: dict[str, Any]) -> Any:
        """Returns None, because pictures have no token ids."""
        return None

    def positions(self, size: Any) -> Any:
        """Returns the number of vectors of a picture, which is the same for all sizes; these can be a tensor."""
        return size * 0 + self.spec.backbone.grid(self.spec.size)


class VideoFrontend(ImageFrontend):
    """Maps clips [B, F, S, S, 3] uint8 to vectors [B, N, D] in the order of time and their mask [B, N], which is True.

    The steps are augmentation, which is drawn once for all frames of a clip, normalization, the backbone over each
    frame, and positions in time.

    Args:
        spec: the settings of the source.
        width: D.
        initializer: the initializer of the weights.
    """

    spec: VideoSpec

    def __init__(self, spec: VideoSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(spec, width, initializer, **kwargs)
        self.sequence = FrameEmbedding(
            spec.frames, width, spec.vectors, spec.time_positions, initializer, name="sequence"
        )

    def inputs(self) -> dict[str, Any]:
        shape = (self.spec.frames, self.spec.size, self.spec.size, 3)
        return {"source": keras.Input(shape, dtype="uint8", name="source")}

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.sequence.build((None, self.spec.frames, self.spec.backbone.grid(self.spec.size), self.backbone.width))

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        frames, size = self.spec.frames, self.spec.size
        pixels = ops.cast(inputs["source"], "float32")
        if training and self.spec.augmentation.active:
            # Frames as channels of one picture: what is drawn is the same for all of them.
            joined = ops.reshape(ops.transpose(pixels, (0, 2, 3, 1, 4)), (-1, size, size, 3 * frames))
            joined = ops.reshape(self.augmentation(joined, training=True), (-1, size, size, frames, 3))
            pixels = ops.transpose(joined, (0, 3, 1, 2, 4))
        pixels = self.normalization(ops.reshape(pixels, (-1, size, size, 3)))
        grids = self.backbone(ops.cast(pixels, self.compute_dtype), training=training)
        embedded = self.sequence(ops.reshape(grids, (-1, frames, *grids.shape[1:])))
        return embedded, ops.ones(ops.shape(embedded)[:2], dtype="bool")

    def positions(self, size: Any) -> Any:
        """Returns the number of vectors of a clip, which is the same for all sizes; these can be a tensor."""
        return size * 0 + self.spec.positions


FRONTENDS: dict[type, Callable[[ModelSpec, Any, int, Any], Any]] = {
    NoSourceSpec: NoFrontend.create,
    TextSpec: TokenFrontend.create,
    AudioSpec: AudioFrontend.create,
    ImageSpec: ImageFrontend.create,
    VideoSpec: VideoFrontend.create,
}


def build_frontend(spec: ModelSpec, source: Any, size: int, target_embedding: Any = None) -> Any:
    """Returns the frontend of a source.

    Args:
        spec: the settings of the model.
        source: the settings of the source.
        size: the size of the source vocabulary, or the channels of precomputed vectors, or 0 if there is neither.
        target_embedding: the embedding of the target tokens, for a source that shares it.
    """
    return lookup(FRONTENDS, source)(spec, source, size, target_embedding)
