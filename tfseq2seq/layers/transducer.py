"""Prediction network and joint network of the RNN transducer (Graves 2012)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.ctc import blank_past_end
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.positions import PositionedEmbedding
from tfseq2seq.layers.recurrent import CellStack, over_time, time_major
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import RecurrentDecoderSpec, TransducerDecoderSpec

_SPECS: dict[str, Any] = {"transducer": TransducerDecoderSpec, "recurrent": RecurrentDecoderSpec}


class PredictionNetwork(keras.layers.Layer):
    """Recurrent network over the previous tokens.

    Args:
        spec: the settings of the decoder.
        width: D, the width of the token embeddings.
        initializer: the initializer of the input matrices.
    """

    def __init__(self, spec: TransducerDecoderSpec | RecurrentDecoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width, self.initializer = spec, width, initializer
        policy = self.dtype_policy
        self.embedding = PositionedEmbedding(width, dropout=spec.dropout, name="positions", dtype=policy)
        self.cells = CellStack(spec.cell, spec.layers, spec.units, width, initializer, name="cells", dtype=policy)
        self.dropout = keras.layers.Dropout(spec.dropout, dtype=policy)

    def build(self, input_shape: Any) -> None:
        self.embedding.build((None, None, self.width))
        self.cells.build(None)

    def call(self, embedded: Any, training: bool | None = None) -> Any:
        """Returns predictions [B, U, units] for token embeddings [B, U, D]."""
        projected = self.cells.project_input(self.embedding(embedded, training=training))
        _, states = over_time(
            lambda states, now: self.cells(now["projected"], states)[1],
            self.start(ops.shape(embedded)[0]),
            {"projected": time_major(projected)},
        )
        return self.dropout(time_major(states[-self.cells.states_each]), training=training)

    def start(self, rows: Any) -> list[Any]:
        """Returns the initial states, [N, units] each."""
        count = self.spec.layers * self.cells.states_each
        return [ops.zeros((rows, self.spec.units), dtype=self.compute_dtype) for _ in range(count)]

    def step(self, embedded: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns predictions [N, units] and the next states for the embeddings [N, D] of one token each."""
        projected = self.cells.project_input(self.embedding(ops.expand_dims(embedded, 1), training=False))
        return self.cells(ops.squeeze(projected, 1), states)

    def get_config(self) -> dict[str, Any]:
        own = {"spec": to_dict(self.spec), "width": self.width, "initializer": self.initializer}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PredictionNetwork:
        kind = _SPECS[config["spec"]["kind"]]
        return cls(**{**config, "spec": from_dict(kind, config["spec"])})


class JointNetwork(keras.layers.Layer):
    """`W tanh(A memory + B prediction)`: logits for each pair of a position and a number of previous tokens.

    Args:
        width: J, the width of the encoder projection A and of the predictor projection B.
        size: V, with the blank.
        memory_width: the width of the memory.
        units: the number of units of the prediction network.
        initializer: the initializer of the matrices.
    """

    def __init__(self, width: int, size: int, memory_width: int, units: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "size": size,
            "memory_width": memory_width,
            "units": units,
            "initializer": initializer,
        }
        self.supports_masking = True
        shared: dict[str, Any] = {"kernel_initializer": initializer, "dtype": self.dtype_policy}
        self.encoder_projection = SequenceDense(width, name="encoder_projection", **shared)
        self.predictor_projection = SequenceDense(width, use_bias=False, name="predictor_projection", **shared)
        self.output_dense = SequenceDense(size, name="output", **shared)

    def build(self, input_shape: Any) -> None:
        self.encoder_projection.build((None, None, self.settings["memory_width"]))
        self.predictor_projection.build((None, None, self.settings["units"]))
        self.output_dense.build((None, None, self.settings["width"]))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Returns no mask. Otherwise Keras would multiply the loss by the mask of a recurrent encoder."""

    def call(self, memory: Any, mask: Any, predicted: Any) -> Any:
        """Returns float32 logits [B, F, U, V] for memory [B, F, M], mask [B, F] and predictions [B, U, units].

        At positions after the end the blank has probability 1.
        """
        return blank_past_end(
            self.join(
                ops.expand_dims(self.encoder_projection(memory), 2),
                ops.expand_dims(self.predictor_projection(predicted), 1),
            ),
            mask,
        )

    def join(self, encoded: Any, predicted: Any) -> Any:
        """Returns logits [..., V] for an encoder and a predictor projection [..., J], which are broadcast."""
        return self.output_dense(ops.tanh(encoded + predicted))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
