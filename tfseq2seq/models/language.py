"""Language models: a decoder alone. They rank transcripts and translations inside a search, or complete ones after it.

target ids [B, T] --embedding--> recurrent network or Transformer blocks --output layer--> logits [B, T, V]
"""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.transducer import PredictionNetwork
from tfseq2seq.models.decoders import TransformerDecoder
from tfseq2seq.models.seq2seq import Output, token_embedding
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import ModelSpec, RecurrentDecoderSpec, TransformerDecoderSpec


@keras.saving.register_keras_serializable("tfseq2seq")
class LanguageModel(keras.Model):
    """Called on {"target": [B, T] ids beginning with <bos>} it gives logits [B, T, V] for the token after each.

    Args:
        spec: with an encoder of kind none; a Transformer or a recurrent decoder.
        target_size: V.
    """

    # It reads its own output in no training, and there is nothing to attend to.
    sampling = guidance = None

    def __init__(self, spec: ModelSpec, target_size: int, **kwargs: Any):
        # layers
        embedding = token_embedding(spec.width, target_size, "target_embedding")
        tied = embedding if spec.tie_output else None
        output = Output(spec.width, target_size, spec.initializer, tied, name="output")
        network: Any
        combine: Any = None
        if isinstance(spec.decoder, RecurrentDecoderSpec):
            network = PredictionNetwork(spec.decoder, spec.width, spec.initializer, name="decoder")
            combine = SequenceDense(spec.width, activation="tanh", kernel_initializer=spec.initializer, name="combine")
        else:
            assert isinstance(spec.decoder, TransformerDecoderSpec)
            network = TransformerDecoder(spec.decoder, spec.width, 0, 0, spec.initializer, name="decoder")

        # functional model
        target = keras.Input((None,), dtype="int32", name="target")
        embedded = embedding(target)
        hidden = network(embedded) if combine is None else combine(network(embedded))
        super().__init__(inputs={"target": target}, outputs=output(hidden), **kwargs)

        # config
        self.spec, self.target_size = spec, target_size
        self.target_embedding, self.network, self.combine, self.output_layer = embedding, network, combine, output

    @property
    def recurrent(self) -> bool:
        """Whether it can go on token by token from states of hypotheses at different places."""
        return self.combine is not None

    def start(self, rows: Any) -> list[Any]:
        """States [N, units] before the first token, of a recurrent one."""
        return self.network.start(rows)

    def step(self, ids: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Last tokens [N] to logits [N, V] and the next states, of a recurrent one."""
        hidden, new_states = self.network.step(self.target_embedding(ids), states)
        logits = self.output_layer(self.combine(keras.ops.expand_dims(hidden, 1)))
        return keras.ops.squeeze(logits, 1), new_states

    def get_config(self) -> dict[str, Any]:
        return {"spec": to_dict(self.spec), "target_size": self.target_size, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LanguageModel:
        return cls(**{**config, "spec": from_dict(ModelSpec, config["spec"])})
