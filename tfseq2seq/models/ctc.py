"""The CTC model: an encoder with a CTC output layer (Graves et al. 2006)."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.layers.ctc import CTCOutput
from tfseq2seq.models.frontends import build_frontend
from tfseq2seq.models.trainable import Trainable
from tfseq2seq.spec import CTCDecoderSpec, ModelSpec, SourceSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class CTCModel(Trainable):
    """Maps {"source": samples [B, N], "source_length": [B]} to float32 logits [B, F, V]. The blank has id 0.

    Args:
        spec: the settings of the model, with a decoder of kind ctc.
        source_size: the size of the source vocabulary, or 0 if there is none.
        target_size: V, the size of the target vocabulary. <pad> serves as the blank.
        source: the settings of the source.
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
