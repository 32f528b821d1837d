"""Encoder, prediction network and joint network: the RNN transducer (Graves 2012).

samples --frontend--> encoder --> memory [B, F, M] --+
tokens  --embedding--> prediction [B, U, units] -----> joint --> logits [B, F, U, V]
"""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.layers.transducer import JointNetwork, PredictionNetwork
from tfseq2seq.models.embedding import token_embedding
from tfseq2seq.models.frontends import build_frontend
from tfseq2seq.models.trainable import Trainable
from tfseq2seq.spec import ModelSpec, SourceSpec, TransducerDecoderSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class TransducerModel(Trainable):
    """Called on {"source": [B, N] samples, "source_length": [B], "target": [B, U] ids beginning with <bos>} it gives
    float32 logits [B, F, U, V]: of what comes at each position after each number of tokens, blank being 0.

    Args:
        spec: with a decoder of kind transducer.
        source_size: entries of the source vocabulary; 0 where there is none.
        target_size: V, entries of the target vocabulary; <pad> stands for the blank.
        source: what the model reads.
    """

    def __init__(self, spec: ModelSpec, source_size: int, target_size: int, source: SourceSpec, **kwargs: Any):
        decoder = spec.decoder
        assert isinstance(decoder, TransducerDecoderSpec)
        # layers
        frontend = build_frontend(spec, source, source_size)
        encoder = frontend.encoder(spec)
        embedding = token_embedding(spec.width, target_size, "target_embedding")
        prediction = PredictionNetwork(decoder, spec.width, spec.initializer, name="prediction")
        joint = JointNetwork(
            decoder.joint, target_size, encoder.memory_width, decoder.units, spec.initializer, name="joint"
        )

        # functional model
        read = frontend.inputs()
        inputs = {**read, "target": keras.Input((None,), dtype="int32", name="target")}
        memory, mask, _ = encoder(*frontend(read))
        logits = joint(memory, mask, prediction(embedding(inputs["target"])))
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        # config
        self.configure(spec, source, source_size, target_size)
        self.frontend, self.encoder, self.target_embedding = frontend, encoder, embedding
        self.prediction, self.joint = prediction, joint

    def project_memory(self, memory: Any) -> Any:
        """Memory [B, F, M] as `logits` takes it, [B, F, J]."""
        return self.joint.encoder_projection(memory)

    def start(self, rows: Any) -> list[Any]:
        """The prediction network's states [N, units] before the first token."""
        return self.prediction.start(rows)

    def predictor_step(self, ids: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Last tokens [N] to what `logits` takes, [N, J], and the next states."""
        predicted, new_states = self.prediction.step(self.target_embedding(ids), states)
        return self.joint.predictor_projection(predicted), new_states

    def logits(self, encoded: Any, predicted: Any) -> Any:
        """[..., J] of positions and of predictions, which broadcast, to logits [..., V]."""
        return self.joint.join(encoded, predicted)
