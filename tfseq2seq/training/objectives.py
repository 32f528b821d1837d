"""Objectives: losses, metrics and training examples of each decoder family. `OBJECTIVES` has one for each family."""

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
from tfseq2seq.training.losses import (
    NegativeLogLikelihood,
    TokenAccuracy,
    TokenCount,
    TokenCrossEntropy,
    WeightedTokenCount,
)

Example = tuple[Any, Any, Any]


class Objective:
    """Base class of all objectives.

    Args:
        model: the settings of the model.
        training: the settings of the training, for label smoothing.
    """

    # Whether the model reads the previous target tokens.
    reads_target = True

    def __init__(self, model: ModelSpec, training: TrainingSpec):
        self.model, self.training = model, training

    @property
    def aligned(self) -> bool:
        """Whether an alignment gives at most one token to each position of the encoder output, as in CTC."""
        return "ctc" in self.model.provides

    @property
    def monitor(self) -> str:
        """The name in the Keras logs of the validation loss that selects the best checkpoint."""
        return "val_loss"

    def compile_options(self) -> dict[str, Any]:
        """Returns losses, loss weights and metrics as arguments for `keras.Model.compile`."""
        raise NotImplementedError

    def example(self, batch: dict[str, tf.Tensor]) -> Example:
        """Returns model inputs, labels and sample weights for `fit`.

        Args:
            batch: the sources and the target ids [B, T]. Each target ends with <eos>.
        """
        inputs = {name: value for name, value in batch.items() if name != "target"}
        if self.reads_target:
            inputs["target"] = decoder_input(batch["target"])
        return inputs, *self.labels(batch["target"])

    def labels(self, ids: tf.Tensor) -> tuple[Any, Any]:
        """Returns labels and sample weights for target ids [B, T]."""
        raise NotImplementedError


class TokenObjective(Objective):
    """Cross entropy of each token, with an additional CTC loss if `ctc_weight` is set (Watanabe et al. 2017)."""

    @property
    def monitor(self) -> str:
        # Without a CTC loss it is the negative log-likelihood of the tokens, which has no label smoothing.
        return "val_loss" if self.model.ctc_weight else "val_nll"

    def compile_options(self) -> dict[str, Any]:
        loss = TokenCrossEntropy(self.training.label_smoothing, self.model.decoder.copies)
        metrics: Any = [NegativeLogLikelihood(), TokenAccuracy(), WeightedTokenCount()]
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
    """Base class of objectives with a sum over alignments. The weight of an utterance is its number of tokens."""

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
    """Returns the objective of a model."""
    return lookup(OBJECTIVES, model.decoder)(model, training)


def _real(ids: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.not_equal(ids, PAD), tf.float32)


def _tokens(real: tf.Tensor) -> tf.Tensor:
    """Returns the number of tokens in each row, [B], without <eos>."""
    return tf.reduce_sum(real, axis=1) - 1.0
