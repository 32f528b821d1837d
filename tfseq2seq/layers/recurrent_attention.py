"""Attention of recurrent decoders: weights of the source positions for a decoder state.

The scores of a state q [U] and a source position m [M] are:

    additive   v . tanh(W q + V m)                        Bahdanau et al. 2015
    dot        q . m                                      Luong et al. 2015
    general    q . W m                                    Luong et al. 2015
    scaled     q . m / sqrt(U)                            dot, scaled as in Vaswani et al. 2017
    location   v . tanh(W q + V m + F (f * last weights)) Chorowski et al. 2015

With coverage, additive and location scores have a further term: the sum of all past weights (See et al. 2017).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.masks import attention_bias
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import RecurrentDecoderSpec


class RecurrentAttention(keras.layers.Layer):
    """Computes attention weights over the memory, and context vectors.

    `prepare` computes everything that depends only on the memory. It is called once for all hypotheses and steps.

    Args:
        spec: the settings of the decoder, for the score, its inner width, the location filters and coverage.
        memory_width: M.
        initializer: the initializer of the weight matrices.
    """

    def __init__(self, spec: RecurrentDecoderSpec, memory_width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.memory_width, self.initializer, self.kind = spec, memory_width, initializer, spec.attention
        self.inner = self.kind in ("additive", "location")

        def dense(units: int, name: str, bias: bool = False) -> SequenceDense:
            return SequenceDense(
                units, use_bias=bias, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )

        if self.inner:
            self.query_dense = dense(spec.attention_units, "query", bias=True)
            self.key_dense = dense(spec.attention_units, "key")
            self.score_dense = dense(1, "score")
        elif self.kind == "general":
            self.key_dense = dense(spec.units, "key")
        if self.kind == "location":
            self.location_filter = keras.layers.Conv1D(
                spec.location_filters,
                spec.location_kernel,
                padding="same",
                use_bias=False,
                name="location_filter",
                dtype=self.dtype_policy,
            )
            self.location_dense = dense(spec.attention_units, "location")
        if spec.coverage:
            self.coverage_dense = dense(spec.attention_units, "coverage")

    def build(self, input_shape: Any) -> None:
        if self.inner:
            self.query_dense.build((None, None, self.spec.units))
            self.score_dense.build((None, None, None, self.spec.attention_units))
        if self.inner or self.kind == "general":
            self.key_dense.build((None, None, self.memory_width))
        if self.kind == "location":
            self.location_filter.build((None, None, 1))
            self.location_dense.build((None, None, self.spec.location_filters))
        if self.spec.coverage:
            self.coverage_dense.build((None, None, None, 1))

    def prepare(self, memory: Any, mask: Any) -> dict[str, Any]:
        """Returns the inputs of scoring that depend only on memory [B, S, M] and mask [B, S]."""
        keys = self.key_dense(memory) if self.inner or self.kind == "general" else memory
        return {"memory": memory, "keys": keys, "bias": ops.expand_dims(attention_bias(mask, self.compute_dtype), 1)}

    def call(self, query: Any, fixed: dict[str, Any], last: Any = None, coverage: Any = None) -> tuple[Any, Any]:
        """Returns contexts [B, Q, M] and weights [B, Q, S] for states [B, Q, U].

        Args:
            fixed: the result of `prepare`.
            last: [B, Q, S], the weights of the previous step, for location attention.
            coverage: [B, Q, S], the sum of all past weights, for coverage.
        """
        if self.inner:
            # [B, Q, 1, A] + [B, 1, S, A]
            hidden = ops.expand_dims(self.query_dense(query), 2) + ops.expand_dims(fixed["keys"], 1)
            if self.kind == "location":
                hidden = hidden + self._location(last)
            if self.spec.coverage:
                hidden = hidden + self.coverage_dense(ops.expand_dims(coverage, -1))
            scores = ops.squeeze(self.score_dense(ops.tanh(hidden)), -1)
        else:
            scores = ops.matmul(query, ops.swapaxes(fixed["keys"], 1, 2))
            if self.kind == "scaled":
                scores = scores * self.spec.units**-0.5
        # The bias is added before the scores become float32. Its value for float16 is too small to mask float32 scores.
        scores = scores + ops.cast(fixed["bias"], scores.dtype)
        weights = ops.cast(ops.softmax(ops.cast(scores, "float32"), axis=-1), query.dtype)
        return ops.matmul(weights, fixed["memory"]), weights

    def _location(self, last: Any) -> Any:
        rows, length = ops.shape(last)[1], ops.shape(last)[2]
        filtered = self.location_filter(ops.reshape(last, (-1, length, 1)))
        return ops.reshape(self.location_dense(filtered), (-1, rows, length, self.spec.attention_units))

    def get_config(self) -> dict[str, Any]:
        own = {"spec": to_dict(self.spec), "memory_width": self.memory_width, "initializer": self.initializer}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RecurrentAttention:
        return cls(**{**config, "spec": from_dict(RecurrentDecoderSpec, config["spec"])})
