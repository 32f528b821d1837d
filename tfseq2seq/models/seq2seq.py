"""The encoder-decoder model: one functional Keras model for training, and its three ways in for search.

source ids [B, S] --embedding--> encoder --> memory --+
target ids [B, T] --embedding--------------------> decoder --output layer--> logits [B, T, V]
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.masks import padding_mask
from tfseq2seq.models.decoders import build_decoder
from tfseq2seq.models.encoders import build_encoder
from tfseq2seq.models.scheduled_sampling import StepSampling, TwoPassSampling
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import ModelSpec, TransformerDecoderSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class Seq2Seq(keras.Model):
    """Any encoder with any decoder.

    Called on {"source": [B, S] ids, "target": [B, T] ids beginning with <bos>} it gives logits [B, T, V] for the token
    after each target position. `encode`, `start` and `step` call the same layers for search.

    Args:
        spec: encoder, decoder and embeddings.
        source_size: entries of the source vocabulary.
        target_size: V, entries of the target vocabulary.
    """

    def __init__(self, spec: ModelSpec, source_size: int, target_size: int, **kwargs: Any):
        # layers
        target_embedding = _embedding(spec.width, target_size, "target_embedding")
        source_embedding = target_embedding
        if not spec.share_embeddings:
            source_embedding = _embedding(spec.width, source_size, "source_embedding")
        encoder = build_encoder(spec.encoder, spec.width, spec.initializer)
        sampled = spec.scheduled_sampling.schedule != "none"
        decoder = build_decoder(
            spec.decoder, spec.width, encoder.memory_width, encoder.summary_width, spec.initializer, walks=sampled
        )
        output = _TiedOutput(target_embedding, name="output") if spec.tie_output else None
        output = output or keras.layers.Dense(target_size, kernel_initializer=spec.initializer, name="output")

        # functional model
        source = keras.Input((None,), dtype="int32", name="source")
        target = keras.Input((None,), dtype="int32", name="target")
        target_mask = padding_mask(target)
        memory = encoder(source_embedding(source), padding_mask(source))
        sampling = None
        if sampled and isinstance(spec.decoder, TransformerDecoderSpec):
            sampling = TwoPassSampling(name="sampling")
            first, _ = decoder(target_embedding(target), *memory, target_mask)
            mixed = sampling(target, output(first))
            hidden, attention = decoder(target_embedding(mixed), *memory, target_mask)
        elif sampled:
            output.build((None, None, spec.width))
            sampling = StepSampling(decoder, target_embedding, output, name="sampling")
            hidden, attention = sampling(target_embedding(target), *memory, target_mask)
        else:
            hidden, attention = decoder(target_embedding(target), *memory, target_mask)
        super().__init__(inputs={"source": source, "target": target}, outputs=output(hidden), **kwargs)

        # config
        self.spec, self.source_size, self.target_size = spec, source_size, target_size
        self.source_embedding, self.target_embedding = source_embedding, target_embedding
        self.encoder, self.decoder, self.output_layer, self.sampling = encoder, decoder, output, sampling
        self._attention = attention

    def with_attention(self) -> keras.Model:
        """The same model with two outputs: "logits" [B, T, V] and "attention" [B, T, S'], each row summing to 1."""
        return keras.Model(self.inputs, {"logits": self.output, "attention": self._attention}, name="with_attention")

    def encode(self, source: Any) -> tuple[Any, Any, Any]:
        """Source ids [B, S] to memory [B, S', M], its mask [B, S'] and summary [B, Q]."""
        return self.encoder(self.source_embedding(source), padding_mask(source), training=False)

    def start(self, memory: tuple[Any, Any, Any], beam: int, length: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """What search needs before the first step: `fixed` per example and a `cache` for `beam` hypotheses of at most
        `length` tokens. See `models/decoders.py`."""
        return self.decoder.start(*memory, beam, length)

    def step(
        self, ids: Any, index: Any, visible: Any, fixed: dict[str, Any], cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Last tokens [B, K] at position `index` to logits [B, K, V], the next cache and attention [B, K, S']."""
        hidden, cache, attention = self.decoder.step(self.target_embedding(ids), index, visible, fixed, cache)
        return self.output_layer(hidden), cache, attention

    def get_config(self) -> dict[str, Any]:
        return {
            "spec": to_dict(self.spec),
            "source_size": self.source_size,
            "target_size": self.target_size,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Seq2Seq:
        return cls(**{**config, "spec": from_dict(ModelSpec, config["spec"])})


class _TiedOutput(keras.layers.Layer):
    """Logits from the transposed embedding matrix (Press & Wolf 2017), with a name in `summary()`."""

    def __init__(self, embedding: keras.layers.ReversibleEmbedding, **kwargs: Any):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape: Any) -> None:
        self.embedding.build(None)

    def call(self, inputs: Any) -> Any:
        return self.embedding(inputs, reverse=True)


def _embedding(width: int, size: int, name: str) -> keras.layers.ReversibleEmbedding:
    """Token vectors of deviation D^-0.5: small enough for logits; larger ones also make some CPUs crawl (denormals)."""
    initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
    return keras.layers.ReversibleEmbedding(size, width, embeddings_initializer=initializer, name=name)


def count_parameters(model: keras.Model) -> int:
    """Trainable numbers in a model."""
    return sum(int(ops.size(weight)) for weight in model.trainable_variables)
