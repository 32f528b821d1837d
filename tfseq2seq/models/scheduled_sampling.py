"""Scheduled sampling: in training, some decoder inputs are predictions of the model (Bengio et al. 2015).

A recurrent decoder chooses its input in each step of the loop over time. A Transformer reads all inputs at once. It
therefore makes predictions in a first pass, and is trained on the mixed inputs in a second pass (Mihaylova & Martins
2019).
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
    """Base class of the layers for scheduled sampling.

    `share` is the share of predicted inputs. It is a weight, so a callback can change it between compiled steps.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator()
        self.share = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", autocast=False, name="share"
        )

    def coins(self, shape: Any) -> Any:
        """Draws booleans that are True with probability `share`."""
        return keras.random.uniform(shape, seed=self.generator) < self.share


class TwoPassSampling(_Sampling):
    """Replaces decoder inputs by predictions of the first pass."""

    def call(self, target: Any, logits: Any, training: bool | None = None) -> Any:
        """Returns the inputs [B, T] of the second pass, for decoder inputs [B, T] and first-pass logits [B, T, V].

        The first input, <bos>, and padding are not replaced. Outside of training no input is replaced.
        """
        if not training:
            return target
        predicted = ops.cast(ops.argmax(logits, axis=-1), target.dtype)
        predicted = ops.concatenate([target[:, :1], predicted[:, :-1]], axis=1)
        replace = ops.logical_and(self.coins(ops.shape(target)), padding_mask(target))
        return ops.where(replace, predicted, target)


class StepSampling(_Sampling):
    """Runs the loop of a recurrent decoder over time, and feeds back some of its predictions.

    Args:
        decoder: a `RecurrentDecoder` with `stepwise`.
        embed: the target embedding.
        output: the output layer.
        copying: the layer that mixes its logits with copying, or None.
    """

    def __init__(self, decoder: Any, embed: Callable[[Any], Any], output: Any, copying: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.decoder, self.embed, self.output_layer, self.copying = decoder, embed, output, copying

    def build(self, input_shape: Any) -> None:
        self.decoder.build(None)

    def call(self, embedded: Any, memory: Memory, target_mask: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Returns hidden vectors [B, T, D] and attention weights [B, T, S] for embeddings [B, T, D], as the decoder."""
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
            logits = self.output_layer(carry["hidden"], columns)
            if self.copying is not None:
                logits = self.copying(logits, carry["hidden"], carry["weights"], memory.copy_ids)
            predicted = ops.argmax(logits, axis=-1)
            own = ops.squeeze(self.decoder.project_input(self.embed(predicted), fixed, training=False), 1)
            return self.decoder.advance(
                carry, {**now, "projected": ops.where(now["own"] > 0, own, now["projected"])}, fixed
            )

        _, carries = over_time(advance, cache["state"], inputs)
        return self.decoder.collect(carries, target_mask, training)
