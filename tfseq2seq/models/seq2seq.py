"""The encoder-decoder model: one functional Keras model for training, and its three ways in for search.

source ids [B, S] --embedding--> encoder --> memory --+--(where asked for)--> CTC logits [B, S', V]
or samples [B, N] --frontend-->                       |
target ids [B, T] --embedding--------------------> decoder --output layer--> logits [B, T, V]
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.ctc import CTCOutput
from tfseq2seq.layers.guided_attention import GuidedAttention
from tfseq2seq.layers.masks import padding_mask
from tfseq2seq.models.decoders import build_decoder
from tfseq2seq.models.encoders import build_encoder
from tfseq2seq.models.frontend import AudioFrontend
from tfseq2seq.models.scheduled_sampling import StepSampling, TwoPassSampling
from tfseq2seq.models.sources import looks_back_only, source_inputs
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import AudioSpec, ModelSpec, NoEncoderSpec, TransformerDecoderSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class Seq2Seq(keras.Model):
    """Any encoder with any decoder.

    Called on {"source": [B, S] ids, "target": [B, T] ids beginning with <bos>} it gives logits [B, T, V] for the token
    after each target position. `encode`, `start` and `step` call the same layers for search.

    Of audio the source is [B, N] samples, with "source_length": [B] beside it. With a `ctc_weight` there are two
    outputs: "attention" [B, T, V], the logits above, and "ctc" [B, S', V], float32 logits over the encoder's positions
    with <pad> as the blank.

    Args:
        spec: encoder, decoder and embeddings.
        source_size: entries of the source vocabulary; of audio it does not matter.
        target_size: V, entries of the target vocabulary.
        source: of audio; None for token ids.
    """

    def __init__(
        self, spec: ModelSpec, source_size: int, target_size: int, source: AudioSpec | None = None, **kwargs: Any
    ):
        # layers
        target_embedding = token_embedding(spec.width, target_size, "target_embedding")
        source_embedding: Any = None
        frontend: Any = None
        if source is not None:
            frontend = AudioFrontend(source, spec.width, looks_back_only(spec), spec.initializer, name="frontend")
        elif spec.share_embeddings:
            source_embedding = target_embedding
        else:
            source_embedding = token_embedding(spec.width, source_size, "source_embedding")
        encoder = build_encoder(spec.encoder, spec.width, spec.initializer)
        sampled = spec.scheduled_sampling.schedule != "none"
        decoder = build_decoder(
            spec.decoder, spec.width, encoder.memory_width, encoder.summary_width, spec.initializer, stepwise=sampled
        )
        tied = target_embedding if spec.tie_output else None
        output = Output(spec.width, target_size, spec.initializer, tied, name="output")

        ctc = None
        if spec.ctc_weight and not isinstance(spec.encoder, NoEncoderSpec):
            ctc = CTCOutput(target_size, encoder.memory_width, spec.encoder.dropout, spec.initializer, name="ctc")

        # functional model
        inputs = source_inputs(source)
        target = keras.Input((None,), dtype="int32", name="target")
        target_mask = padding_mask(target)
        if frontend is not None:
            memory = encoder(*frontend(inputs["source"], inputs["source_length"]))
        else:
            memory = encoder(source_embedding(inputs["source"]), padding_mask(inputs["source"]))
        sampling = None
        if sampled and isinstance(spec.decoder, TransformerDecoderSpec):
            sampling = TwoPassSampling(name="sampling")
            first, _ = decoder(target_embedding(target), *memory, target_mask)
            mixed = sampling(target, output(first))
            hidden, attention = decoder(target_embedding(mixed), *memory, target_mask)
        elif sampled:
            output.build(None)
            sampling = StepSampling(decoder, target_embedding, output, name="sampling")
            hidden, attention = sampling(target_embedding(target), *memory, target_mask)
        else:
            hidden, attention = decoder(target_embedding(target), *memory, target_mask)
        guidance = None
        if spec.guided_attention.weight:
            guided = spec.guided_attention
            guidance = GuidedAttention(guided.weight, guided.width, name="guided_attention")
            hidden = guidance(hidden, attention, memory[1], target_mask)
        logits = output(hidden)
        outputs = logits if ctc is None else {"attention": logits, "ctc": ctc(memory[0], memory[1])}
        super().__init__(inputs={**inputs, "target": target}, outputs=outputs, **kwargs)

        # config
        self.spec, self.source_size, self.target_size, self.source = spec, source_size, target_size, source
        self.source_embedding, self.target_embedding, self.frontend = source_embedding, target_embedding, frontend
        self.encoder, self.decoder, self.output_layer, self.sampling = encoder, decoder, output, sampling
        self.ctc, self.guidance, self._logits, self._attention = ctc, guidance, logits, attention

    # What training sets where there is more to learn from than labels: a function of the loss over the labels, the
    # inputs, the logits and the sample weights.
    distillation_loss: Any = None

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The compiled loss; in training, as changed by `distillation_loss`."""
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if self.distillation_loss is None or not training:
            return loss
        return self.distillation_loss(loss, x, y_pred, sample_weight)

    def with_attention(self) -> keras.Model:
        """The same model with two outputs: "logits" [B, T, V] and "attention" [B, T, S'], each row summing to 1."""
        outputs = {"logits": self._logits, "attention": self._attention}
        return keras.Model(self.inputs, outputs, name="with_attention")

    def encode(self, source: Any, lengths: Any = None) -> tuple[Any, Any, Any]:
        """Source ids [B, S], or samples [B, N] and lengths [B], to memory [B, S', M], its mask [B, S'] and summary
        [B, Q]."""
        if self.frontend is not None:
            return self.encoder(*self.frontend(source, lengths, training=False), training=False)
        return self.encoder(self.source_embedding(source), padding_mask(source), training=False)

    def start(
        self, memory: tuple[Any, Any, Any], beam: int, length: int, tokens: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What search needs before the first step: what is `fixed` and a `cache` for `beam` hypotheses of at most
        `length` tokens. See `models/decoders.py`. Logits are of `tokens` [V'] alone where some are given."""
        fixed, cache = self.decoder.start(*memory, beam, length)
        return {"decoder": fixed, "output": self.output_layer.columns(tokens)}, cache

    def step(
        self, ids: Any, index: Any, visible: Any, fixed: dict[str, Any], cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Last tokens [B, K] at position `index` to logits [B, K, V], the next cache and attention [B, K, S']."""
        embedded = self.target_embedding(ids)
        hidden, cache, attention = self.decoder.step(embedded, index, visible, fixed["decoder"], cache)
        return self.output_layer(hidden, fixed["output"]), cache, attention

    def get_config(self) -> dict[str, Any]:
        return {
            "spec": to_dict(self.spec),
            "source_size": self.source_size,
            "target_size": self.target_size,
            "source": None if self.source is None else to_dict(self.source),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Seq2Seq:
        source = config.get("source")
        parts = {"spec": from_dict(ModelSpec, config["spec"]), "source": source and from_dict(AudioSpec, source)}
        return cls(**{**config, **parts})


class Output(keras.layers.Layer):
    """Hidden vectors [B, T, D] to logits [B, T, V], by the transposed embedding (Press & Wolf 2017) or, where none is
    given, by a matrix and a bias of its own."""

    def __init__(
        self, width: int, size: int, initializer: str, embedding: keras.layers.ReversibleEmbedding | None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.width, self.size, self.initializer, self.embedding = width, size, initializer, embedding

    def build(self, input_shape: Any) -> None:
        if self.embedding is not None:
            self.embedding.build(None)
            return
        self.kernel = self.add_weight(shape=(self.width, self.size), initializer=self.initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.size,), initializer="zeros", name="bias")

    def columns(self, tokens: Any = None) -> dict[str, Any]:
        """The "matrix" [D, V] and, where there is one, the "bias" [V], of all tokens or of `tokens` [V'].

        Loops over time compute it once: transposing the embedding takes as long as a step's own product.
        """
        if self.embedding is not None:
            rows = self.embedding.embeddings
            rows = rows if tokens is None else ops.take(rows, tokens, axis=0)
            return {"matrix": ops.cast(ops.transpose(rows), self.compute_dtype)}
        parts = {"matrix": self.kernel, "bias": self.bias}
        if tokens is not None:
            parts = {name: ops.take(part, tokens, axis=-1) for name, part in parts.items()}
        return {name: ops.cast(part, self.compute_dtype) for name, part in parts.items()}

    def call(self, inputs: Any, columns: dict[str, Any] | None = None) -> Any:
        parts = self.columns() if columns is None else columns
        rows = ops.matmul(ops.reshape(inputs, (-1, self.width)), parts["matrix"])
        if "bias" in parts:
            rows = rows + parts["bias"]
        size = parts["matrix"].shape[1]
        return ops.reshape(rows, (-1, ops.shape(inputs)[1], ops.shape(rows)[1] if size is None else size))


def token_embedding(width: int, size: int, name: str) -> keras.layers.ReversibleEmbedding:
    """Token vectors of deviation D^-0.5: small enough for logits; larger ones also make some CPUs crawl (denormals)."""
    initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
    return keras.layers.ReversibleEmbedding(size, width, embeddings_initializer=initializer, name=name)


def count_parameters(model: keras.Model) -> int:
    """Trainable numbers in a model."""
    return sum(int(ops.size(weight)) for weight in model.trainable_variables)
