"""Scheduled sampling: in training, some decoder inputs are the model's own predictions (Bengio et al. 2015).

Recurrent decoders choose step by step, inside the loop over time. A Transformer sees all inputs at once, so it
predicts them in a first pass and trains on the mixture in a second (Mihaylova & Martins 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.masks import padding_mask
from tfseq2seq.layers.recurrent import over_time, time_major
from tfseq2seq.models.memory import Memory


class _Sampling(keras.layers.Layer):
    """Holds the share of own predictions, a weight so that a callback can move it while a compiled step runs."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator()
        self.share = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", autocast=False, name="share"
        )

    def coins(self, shape: Any) -> Any:
        """True with probability `share`."""
        return keras.random.uniform(shape, seed=self.generator) < self.share


class TwoPassSampling(_Sampling):
    """Replaces decoder inputs by the first pass's predictions for them."""

    def call(self, target: Any, logits: Any, training: bool | None = None) -> Any:
        """Decoder inputs [B, T] and first-pass logits [B, T, V] to inputs [B, T] for the second pass.

        The first input, <bos>, and padding stay. Outside training nothing is replaced.
        """
        if not training:
            return target
        predicted = ops.cast(ops.argmax(logits, axis=-1), target.dtype)
        predicted = ops.concatenate([target[:, :1], predicted[:, :-1]], axis=1)
        replace = ops.logical_and(self.coins(ops.shape(target)), padding_mask(target))
        return ops.where(replace, predicted, target)


class StepSampling(_Sampling):
    """Runs a recurrent decoder through time, feeding back its own predictions.

    Args:
        decoder: a `RecurrentDecoder` built with `stepwise`.
        embed: ids to vectors.
        output: the output layer, hidden vectors to logits.
    """

    def __init__(self, decoder: Any, embed: Callable[[Any], Any], output: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.decoder, self.embed, self.output_layer = decoder, embed, output

    def build(self, input_shape: Any) -> None:
        self.decoder.build(None)

    def call(self, embedded: Any, memory: Memory, target_mask: Any, training: bool | None = None) -> tuple[Any, Any]:
        """As the decoder's call: [B, T, D] to hidden [B, T, D] and attention [B, T, S]."""
        if not training:
            return self.decoder(embedded, memory, target_mask, training=training)
        fixed, cache = self.decoder.start(memory, 1, 1)
        projected = time_major(self.decoder.project_input(embedded, fixed, training))
        coins = self.coins((ops.shape(projected)[0], ops.shape(projected)[1], 1))
        later = ops.reshape(ops.arange(ops.shape(projected)[0]) > 0, (-1, 1, 1))  # <bos> is never replaced
        inputs = {"projected": projected, "own": ops.cast(ops.logical_and(coins, later), projected.dtype)}
        inputs.update(self.decoder.dropout_masks(embedded, training))
        columns = self.output_layer.columns()

        def advance(carry: Any, now: Any) -> Any:
            predicted = ops.argmax(self.output_layer(carry["hidden"], columns), axis=-1)
            own = ops.squeeze(self.decoder.project_input(self.embed(predicted), fixed, training=False), 1)
            return self.decoder.advance(
                carry, {**now, "projected": ops.where(now["own"] > 0, own, now["projected"])}, fixed
            )

        _, carries = over_time(advance, cache["state"], inputs)
        return self.decoder.collect(carries, target_mask, training)
