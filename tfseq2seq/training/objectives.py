"""Objectives: what a family of decoders is trained on. `OBJECTIVES` is the one place that asks which family it is."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.layers.alignment_losses import CTCLoss, TransducerLoss
from tfseq2seq.spec import (
    PAD,
    AutoregressiveDecoderBase,
    CTCDecoderSpec,
    ModelSpec,
    TrainingSpec,
    TransducerDecoderSpec,
    lookup,
)
from tfseq2seq.training.losses import NegativeLogLikelihood, TokenAccuracy, TokenCount, TokenCrossEntropy

Example = tuple[Any, Any, Any]


class Objective:
    """Base of all objectives.

    Args:
        model: encoder and decoder.
        training: label smoothing.
    """

    # Whether the model reads the target so far.
    reads_target = True

    def __init__(self, model: ModelSpec, training: TrainingSpec):
        self.model, self.training = model, training

    @property
    def aligned(self) -> bool:
        """Whether each token needs a position of the encoder's output of its own."""
        return "ctc" in self.model.provides

    @property
    def monitor(self) -> str:
        """The name in Keras's logs of the validation loss that selects checkpoints."""
        return "val_loss"

    def compile_options(self) -> dict[str, Any]:
        """Losses, their weights and metrics, as `keras.Model.compile` takes them."""
        raise NotImplementedError

    def example(self, batch: dict[str, tf.Tensor]) -> Example:
        """A batch of sources and target ids [B, T], each ending with <eos>, to what `fit` takes.

        Returns:
            Model inputs, labels and sample weights.
        """
        inputs = {name: value for name, value in batch.items() if name != "target"}
        if self.reads_target:
            inputs["target"] = decoder_input(batch["target"])
        return inputs, *self.labels(batch["target"])

    def labels(self, ids: tf.Tensor) -> tuple[Any, Any]:
        """Target ids [B, T] to labels and sample weights."""
        raise NotImplementedError


class TokenObjective(Objective):
    """Cross entropy of each token, and where asked for a CTC loss beside it (Watanabe et al. 2017)."""

    @property
    def monitor(self) -> str:
        # Without an auxiliary loss it is the likelihood of tokens without label smoothing.
        return "val_loss" if self.model.ctc_weight else "val_nll"

    def compile_options(self) -> dict[str, Any]:
        loss = TokenCrossEntropy(self.training.label_smoothing)
        metrics: Any = [NegativeLogLikelihood(), TokenAccuracy()]
        weight = self.model.ctc_weight
        if not weight:
            return {"loss": loss, "weighted_metrics": metrics}
        return {
            "loss": {"attention": loss, "ctc": CTCLoss()},
            "loss_weights": {"attention": 1.0 - weight, "ctc": weight},
            "weighted_metrics": {"attention": metrics, "ctc": []},
        }

    def labels(self, ids: tf.Tensor) -> tuple[Any, Any]:
        real = _real(ids)
        if not self.model.ctc_weight:
            return ids, real
        return {"attention": ids, "ctc": ids}, {"attention": real, "ctc": _tokens(real)}


class _AlignmentObjective(Objective):
    """Losses that sum over alignments: utterances are weighted by their tokens."""

    loss: Any

    def compile_options(self) -> dict[str, Any]:
        return {"loss": self.loss(), "weighted_metrics": [TokenCount()]}

    def labels(self, ids: tf.Tensor) -> tuple[Any, Any]:
        return ids, _tokens(_real(ids))


class CTCObjective(_AlignmentObjective):
    """CTC (Graves et al. 2006)."""

    reads_target = False
    loss = CTCLoss


class TransducerObjective(_AlignmentObjective):
    """RNN transducer (Graves 2012)."""

    loss = TransducerLoss


OBJECTIVES: dict[type, type[Objective]] = {
    AutoregressiveDecoderBase: TokenObjective,
    CTCDecoderSpec: CTCObjective,
    TransducerDecoderSpec: TransducerObjective,
}


def build_objective(model: ModelSpec, training: TrainingSpec) -> Objective:
    """The objective of a model."""
    return lookup(OBJECTIVES, model.decoder)(model, training)


def _real(ids: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.not_equal(ids, PAD), tf.float32)


def _tokens(real: tf.Tensor) -> tf.Tensor:
    """[B]: tokens of each row without <eos>."""
    return tf.reduce_sum(real, axis=1) - 1.0
