"""Prediction and joint network of the RNN transducer (Graves 2012)."""

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
    """Recurrent network over the tokens said so far; a recurrent language model has the same.

    Args:
        spec: sizes.
        width: D, of the embeddings it reads.
        initializer: of the input matrices.
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
        """[B, U, D] to [B, U, units]."""
        projected = self.cells.project_input(self.embedding(embedded, training=training))
        _, states = over_time(
            lambda states, now: self.cells(now["projected"], states)[1],
            self.start(ops.shape(embedded)[0]),
            {"projected": time_major(projected)},
        )
        return self.dropout(time_major(states[-self.cells.states_each]), training=training)

    def start(self, rows: Any) -> list[Any]:
        """The states [N, units] before the first token."""
        count = self.spec.layers * self.cells.states_each
        return [ops.zeros((rows, self.spec.units), dtype=self.compute_dtype) for _ in range(count)]

    def step(self, embedded: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """One token [N, D] to [N, units] and the next states."""
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
    """`W tanh(A memory + B prediction)`: logits for every pair of a position and a number of tokens said.

    Args:
        width: J, in which both are joined.
        size: V, the blank included.
        memory_width: of the memory.
        units: of the prediction network.
        initializer: of the matrices.
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
        self.encoder_projection = SequenceDense(width, name="heard", **shared)
        self.predictor_projection = SequenceDense(width, use_bias=False, name="said", **shared)
        self.output_dense = SequenceDense(size, name="output", **shared)

    def build(self, input_shape: Any) -> None:
        self.encoder_projection.build((None, None, self.settings["memory_width"]))
        self.predictor_projection.build((None, None, self.settings["units"]))
        self.output_dense.build((None, None, self.settings["width"]))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Keras would multiply the loss by a mask that recurrent layers leave on their outputs."""

    def call(self, memory: Any, mask: Any, predicted: Any) -> Any:
        """Memory [B, F, M], mask [B, F] and predictions [B, U, units] to float32 logits [B, F, U, V], blank for certain
        past the end."""
        return blank_past_end(
            self.join(
                ops.expand_dims(self.encoder_projection(memory), 2),
                ops.expand_dims(self.predictor_projection(predicted), 1),
            ),
            mask,
        )

    def join(self, encoded: Any, predicted: Any) -> Any:
        """Projections [..., J] that broadcast against each other to logits [..., V]."""
        return self.output_dense(ops.tanh(encoded + predicted))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
