"""Encoder and CTC output: the shortest way from sound to text."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.layers.ctc import CTCOutput
from tfseq2seq.models.frontends import build_frontend
from tfseq2seq.models.trainable import Trainable
from tfseq2seq.spec import CTCDecoderSpec, ModelSpec, SourceSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class CTCModel(Trainable):
    """Called on {"source": [B, N] samples, "source_length": [B]} it gives float32 logits [B, F, V], blank being 0.

    Args:
        spec: with a decoder of kind ctc.
        source_size: entries of the source vocabulary; 0 where there is none.
        target_size: V, entries of the target vocabulary; <pad> stands for the blank.
        source: what the model reads.
    """

    def __init__(self, spec: ModelSpec, source_size: int, target_size: int, source: SourceSpec, **kwargs: Any):
        assert isinstance(spec.decoder, CTCDecoderSpec)
        # layers
        frontend = build_frontend(spec, source, source_size)
        encoder = frontend.encoder(spec)
        output = CTCOutput(target_size, encoder.memory_width, spec.decoder.dropout, spec.initializer, name="output")

        # functional model
        inputs = frontend.inputs()
        memory, mask, _ = encoder(*frontend(inputs))
        super().__init__(inputs=inputs, outputs=output(memory, mask), **kwargs)

        # config
        self.configure(spec, source, source_size, target_size)
        self.frontend, self.encoder, self.ctc = frontend, encoder, output
