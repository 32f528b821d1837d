"""Encoder and CTC output: the shortest way from sound to text."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.layers.ctc import CTCOutput
from tfseq2seq.models.encoders import build_encoder
from tfseq2seq.models.frontend import AudioFrontend
from tfseq2seq.models.sources import SpeechModel, looks_back_only, source_inputs
from tfseq2seq.spec import AudioSpec, ModelSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class CTCModel(SpeechModel):
    """Called on {"source": [B, N] samples, "source_length": [B]} it gives float32 logits [B, F, V], blank being 0.

    Args:
        spec: with a decoder of kind ctc.
        source: audio.
        target_size: V, entries of the target vocabulary; <pad> stands for the blank.
    """

    def __init__(self, spec: ModelSpec, source: AudioSpec, target_size: int, **kwargs: Any):
        # layers
        frontend = AudioFrontend(source, spec.width, looks_back_only(spec), spec.initializer, name="frontend")
        encoder = build_encoder(spec.encoder, spec.width, spec.initializer)
        output = CTCOutput(target_size, encoder.memory_width, spec.decoder.dropout, spec.initializer, name="output")

        # functional model
        inputs = source_inputs(source)
        memory, mask, _ = encoder(*frontend(inputs["source"], inputs["source_length"]))
        super().__init__(inputs=inputs, outputs=output(memory, mask), **kwargs)

        # config
        self.spec, self.source, self.target_size = spec, source, target_size
        self.frontend, self.encoder, self.ctc = frontend, encoder, output
