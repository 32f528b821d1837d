"""The encoder-decoder model: a functional Keras model for training, and three functions for search.

source ids [B, S] or samples [B, N] --frontend--> encoder --> memory --CTC output (optional)--> logits [B, S', V]
                                                                 |
target ids [B, T] --------------------embedding------------> decoder --output layer--> logits [B, T, V]

With `decoder.copy` a last layer mixes the logits with copying from the source; see `layers/copying.py`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.copying import build_copying
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
    """Any encoder with any autoregressive decoder.

    The model maps {"source": ids [B, S], "target": ids [B, T] that start with <bos>} to logits [B, T, V] of the token
    after each target position. `encode`, `start` and `step` use the same layers for search.

    The source inputs depend on the frontend: ids [B, S] for text, samples [B, N] and "source_length" [B] for audio, and
    none for a language model.

    With `decoder.copy` there is a further input "copy_ids" [B, S]. The logits are then the log-probabilities of the
    mixture, float32, [B, T, V + S] or [B, T, V].

    With a `ctc_weight` there are two outputs. The logits [B, T, V] are the output "attention". The output "ctc" has
    float32 logits [B, S', V] over the positions of the encoder, with <pad> as the blank.

    Args:
        spec: the settings of the model.
        source_size: the size of the source vocabulary, or 0 if there is none.
        target_size: V, the size of the target vocabulary.
        source: the settings of the source. The default is text.
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
        output = Output(spec.width, target_size, spec.initializer, tied, spec.output_bias, name="output")
        copying = build_copying(spec, source, target_size)
        embed = target_embedding if copying is None else copying.embedder(target_embedding)
        ctc = None
        if spec.ctc_weight:
            ctc = CTCOutput(target_size, encoder.memory_width, spec.encoder.dropout, spec.initializer, name="ctc")

        # functional model
        inputs = {**frontend.inputs(), "target": keras.Input((None,), dtype="int32", name="target")}
        target, source_inputs = inputs["target"], {name: inputs[name] for name in frontend.reads}
        target_mask = padding_mask(target)
        values, mask, summary = encoder(*frontend(source_inputs))
        memory = Memory(values, mask, summary, frontend.ids(source_inputs), source_inputs.get("copy_ids"))
        sampling: Any = None
        if sampled and decoder.parallel:
            sampling = TwoPassSampling(name="sampling")
            first, attention = decoder(embed(target), memory, target_mask)
            mixed = sampling(target, _logits(output, copying, first, attention, memory.copy_ids))
            hidden, attention = decoder(embed(mixed), memory, target_mask)
        elif sampled:
            output.build(None)
            sampling = StepSampling(decoder, embed, output, copying, name="sampling")
            hidden, attention = sampling(embed(target), memory, target_mask)
        else:
            hidden, attention = decoder(embed(target), memory, target_mask)
        guidance = None
        if spec.guided_attention.weight:
            guided = spec.guided_attention
            guidance = GuidedAttention(guided.weight, guided.width, name="guided_attention")
            hidden = guidance(hidden, attention, memory.mask, target_mask)
        logits = _logits(output, copying, hidden, attention, memory.copy_ids)
        outputs = logits if ctc is None else {"attention": logits, "ctc": ctc(memory.values, memory.mask)}
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)

        # config
        self.configure(spec, source, source_size, target_size)
        self.source_embedding, self.target_embedding, self.frontend = frontend.embedding, target_embedding, frontend
        self.encoder, self.decoder, self.output_layer, self.sampling = encoder, decoder, output, sampling
        self.ctc, self.guidance, self._logits, self._attention = ctc, guidance, logits, attention
        self.copying, self._embed = copying, embed

    @property
    def blocks(self) -> list[Any]:
        return [*super().blocks, *self.decoder.blocks]

    @property
    def has_attention(self) -> bool:
        """Whether the decoder attends to positions of a source."""
        return "attention" in self.spec.provides and self.encoder.memory_width > 0

    def with_attention(self) -> keras.Model:
        """Returns the model with two outputs: "logits" [B, T, V] and attention weights "attention" [B, T, S']."""
        outputs = {"logits": self._logits, "attention": self._attention}
        return keras.Model(self.inputs, outputs, name="with_attention")

    def start(
        self, memory: Memory, beam: int, length: int, tokens: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns `fixed` and `cache` for the first step of a search; see `models/decoders.py`.

        Args:
            memory: the encoded sources.
            beam: the number of hypotheses per example.
            length: the maximum number of tokens before the cache must grow.
            tokens: [V'] ids. If given, `step` returns only the logits of these tokens.
        """
        fixed, cache = self.decoder.start(memory, beam, length)
        # Without copying there is (), not None, because exports flatten this structure into a list of tensors.
        copy_ids = () if memory.copy_ids is None else memory.copy_ids
        return {"decoder": fixed, "output": self.output_layer.columns(tokens), "copy_ids": copy_ids}, cache

    def step(
        self, ids: Any, index: Any, visible: Any, fixed: dict[str, Any], cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Computes one step of a search for the last tokens [B, K], which are at position `index`.

        Returns:
            Logits [B, K, V], with copying log-probabilities [B, K, V + S] or [B, K, V]; the next cache; and attention
            weights [B, K, S'].
        """
        embedded = self._embed(ids)
        hidden, cache, attention = self.decoder.step(embedded, index, visible, fixed["decoder"], cache)
        logits = _logits(self.output_layer, self.copying, hidden, attention, fixed["copy_ids"], fixed["output"])
        return logits, cache, attention


def _logits(output: Any, copying: Any, hidden: Any, attention: Any, copy_ids: Any, columns: Any = None) -> Any:
    """Returns the logits of hidden vectors, mixed with copying if there is a layer for it."""
    logits = output(hidden, columns)
    return logits if copying is None else copying(logits, hidden, attention, copy_ids)


def count_parameters(model: keras.Model) -> int:
    """Returns the number of trainable parameters of a model."""
    return sum(int(ops.size(weight)) for weight in model.trainable_variables)
