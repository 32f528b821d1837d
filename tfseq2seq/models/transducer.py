"""The RNN transducer: an encoder, a prediction network and a joint network (Graves 2012).

samples --frontend--> encoder --> memory [B, F, M] ---------------+
                                                                  |
target ids --embedding--> prediction network --> [B, U, units] --> joint network --> logits [B, F, U, V]
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
    """Maps {"source": samples [B, N], "source_length": [B], "target": ids [B, U]} to float32 logits [B, F, U, V].

    The target starts with <bos>. Logits [:, f, u] are for the next label at position f after u tokens. The blank has
    id 0.

    Args:
        spec: the settings of the model, with a decoder of kind transducer.
        source_size: the size of the source vocabulary, or 0 if there is none.
        target_size: V, the size of the target vocabulary. <pad> serves as the blank.
        source: the settings of the source.
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
        source_inputs = frontend.inputs()
        inputs = {**source_inputs, "target": keras.Input((None,), dtype="int32", name="target")}
        memory, mask, _ = encoder(*frontend(source_inputs))
        logits = joint(memory, mask, prediction(embedding(inputs["target"])))
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        # config
        self.configure(spec, source, source_size, target_size)
        self.frontend, self.encoder, self.target_embedding = frontend, encoder, embedding
        self.prediction, self.joint = prediction, joint

    def project_memory(self, memory: Any) -> Any:
        """Returns the encoder projection [B, F, J] of memory [B, F, M]."""
        return self.joint.encoder_projection(memory)

    def start(self, rows: Any) -> list[Any]:
        """Returns the initial states of the prediction network, [N, units] each."""
        return self.prediction.start(rows)

    def predictor_step(self, ids: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns the predictor projection [N, J] and the next states for the last tokens [N]."""
        predicted, new_states = self.prediction.step(self.target_embedding(ids), states)
        return self.joint.predictor_projection(predicted), new_states

    def logits(self, encoded: Any, predicted: Any) -> Any:
        """Returns logits [..., V] for an encoder and a predictor projection [..., J], which are broadcast."""
        return self.joint.join(encoded, predicted)
