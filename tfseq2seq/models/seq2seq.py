"""The encoder-decoder model: one functional Keras model for training, and its three ways in for search.

source ids [B, S] --embedding--> encoder --> memory --+--(where asked for)--> CTC logits [B, S', V]
samples [B, N] --frontend--------------> encoder --> memory, likewise
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
from tfseq2seq.models.embedding import Output, token_embedding
from tfseq2seq.models.frontends import build_frontend
from tfseq2seq.models.memory import Memory
from tfseq2seq.models.scheduled_sampling import StepSampling, TwoPassSampling
from tfseq2seq.models.trainable import Trainable
from tfseq2seq.spec import ModelSpec, SourceSpec, TextSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class Seq2Seq(Trainable):
    """Any encoder with any decoder.

    Called on {"source": [B, S] ids, "target": [B, T] ids beginning with <bos>} it gives logits [B, T, V] for the token
    after each target position. `encode`, `start` and `step` call the same layers for search.

    The inputs of the source are those of its frontend: ids [B, S] above, samples [B, N] and "source_length" [B] of
    recordings, none for a language model. With a `ctc_weight` there are two outputs: "attention" [B, T, V], the logits
    above, and "ctc" [B, S', V], float32 logits over the encoder's positions with <pad> as the blank.

    Args:
        spec: encoder, decoder and embeddings.
        source_size: entries of the source vocabulary; 0 where there is none.
        target_size: V, entries of the target vocabulary.
        source: what the model reads; text by default.
    """

    def __init__(
        self, spec: ModelSpec, source_size: int, target_size: int, source: SourceSpec | None = None, **kwargs: Any
    ):
        source = TextSpec() if source is None else source
        # layers
        target_embedding = token_embedding(spec.width, target_size, "target_embedding")
        frontend = build_frontend(spec, source, source_size, target_embedding)
        encoder = frontend.encoder(spec)
        sampled = spec.scheduled_sampling.schedule != "none"
        decoder = build_decoder(
            spec.decoder, spec.width, encoder.memory_width, encoder.summary_width, spec.initializer, stepwise=sampled
        )
        tied = target_embedding if spec.tie_output else None
        output = Output(spec.width, target_size, spec.initializer, tied, name="output")
        ctc = None
        if spec.ctc_weight:
            ctc = CTCOutput(target_size, encoder.memory_width, spec.encoder.dropout, spec.initializer, name="ctc")

        # functional model
        inputs = {**frontend.inputs(), "target": keras.Input((None,), dtype="int32", name="target")}
        target, read = inputs["target"], {name: inputs[name] for name in frontend.reads}
        target_mask = padding_mask(target)
        values, mask, summary = encoder(*frontend(read))
        memory = Memory(values, mask, summary, frontend.ids(read))
        sampling: Any = None
        if sampled and decoder.parallel:
            sampling = TwoPassSampling(name="sampling")
            first, _ = decoder(target_embedding(target), memory, target_mask)
            mixed = sampling(target, output(first))
            hidden, attention = decoder(target_embedding(mixed), memory, target_mask)
        elif sampled:
            output.build(None)
            sampling = StepSampling(decoder, target_embedding, output, name="sampling")
            hidden, attention = sampling(target_embedding(target), memory, target_mask)
        else:
            hidden, attention = decoder(target_embedding(target), memory, target_mask)
        guidance = None
        if spec.guided_attention.weight:
            guided = spec.guided_attention
            guidance = GuidedAttention(guided.weight, guided.width, name="guided_attention")
            hidden = guidance(hidden, attention, memory.mask, target_mask)
        logits = output(hidden)
        outputs = logits if ctc is None else {"attention": logits, "ctc": ctc(memory.values, memory.mask)}
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)

        # config
        self.configure(spec, source, source_size, target_size)
        self.source_embedding, self.target_embedding, self.frontend = frontend.embedding, target_embedding, frontend
        self.encoder, self.decoder, self.output_layer, self.sampling = encoder, decoder, output, sampling
        self.ctc, self.guidance, self._logits, self._attention = ctc, guidance, logits, attention

    @property
    def has_attention(self) -> bool:
        """Whether the decoder attends to positions of a source."""
        return "attention" in self.spec.provides and self.encoder.memory_width > 0

    def with_attention(self) -> keras.Model:
        """The same model with two outputs: "logits" [B, T, V] and "attention" [B, T, S'], each row summing to 1."""
        outputs = {"logits": self._logits, "attention": self._attention}
        return keras.Model(self.inputs, outputs, name="with_attention")

    def start(
        self, memory: Memory, beam: int, length: int, tokens: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What search needs before the first step: what is `fixed` and a `cache` for `beam` hypotheses of at most
        `length` tokens. See `models/decoders.py`. Logits are of `tokens` [V'] alone where some are given."""
        fixed, cache = self.decoder.start(memory, beam, length)
        return {"decoder": fixed, "output": self.output_layer.columns(tokens)}, cache

    def step(
        self, ids: Any, index: Any, visible: Any, fixed: dict[str, Any], cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Last tokens [B, K] at position `index` to logits [B, K, V], the next cache and attention [B, K, S']."""
        embedded = self.target_embedding(ids)
        hidden, cache, attention = self.decoder.step(embedded, index, visible, fixed["decoder"], cache)
        return self.output_layer(hidden, fixed["output"]), cache, attention


def count_parameters(model: keras.Model) -> int:
    """Trainable numbers in a model."""
    return sum(int(ops.size(weight)) for weight in model.trainable_variables)
