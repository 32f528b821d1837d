"""Losses and token metrics.

Losses are sums: the sample weight of a token is its share of the update, and 0 for padding. The weights of an update
sum to 1, so the loss is the mean over its real tokens, on however many batches and devices they are spread. See
`training.global_batch.globally_weighted`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from tfseq2seq.layers.alignment_losses import label_tokens
from tfseq2seq.layers.copying import IMPOSSIBLE


class TokenStatistics(NamedTuple):
    """Statistics of logits [B, T, V] and labels [B, T], in float32.

    Attributes:
        probabilities: [B, T, V], the softmax of the logits.
        own: [B, T], the logit of the label.
        top: [B, T], the largest logit.
        normalizer: [B, T], the logarithm of the normalizer of the softmax.
    """

    probabilities: Any
    own: Any
    top: Any
    normalizer: Any


def token_statistics(labels: Any, logits: Any) -> TokenStatistics:
    """Returns statistics for the loss and the metrics.

    Loss and metrics call this function with the same tensors, so a compiled step computes it only once. On CPUs the
    softmax of TensorFlow is several times faster than its fused cross entropy. The logarithm of the normalizer needs no
    further pass over the logits: it is the largest logit minus the logarithm of the largest probability.
    """
    logits = ops.cast(logits, "float32")
    probabilities = ops.softmax(logits, axis=-1)
    top = ops.max(logits, axis=-1)
    labels = ops.expand_dims(ops.cast(labels, "int32"), -1)
    own = ops.squeeze(ops.take_along_axis(logits, labels, axis=-1), -1)
    return TokenStatistics(probabilities, own, top, top - ops.log(ops.max(probabilities, axis=-1)))


@keras.saving.register_keras_serializable("tfseq2seq")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross entropy in nats with label smoothing (Szegedy et al. 2016), as a weighted sum over tokens.

    With smoothing e, the label has probability 1 - e, and e is spread evenly over the vocabulary. The gradient is
    computed in closed form, `softmax - (1 - e) * label - e / V`. Logits are by far the largest tensor of a training
    step, so each pass over them takes noticeable time.

    Args:
        label_smoothing: e, at least 0 and below 1.
        copies: whether the logits are of a decoder that copies, so that some are `IMPOSSIBLE`. Then e is spread over
            the words that are possible: the vocabulary and the words of the source.
    """

    def __init__(
        self, label_smoothing: float = 0.0, copies: bool = False, name: str = "token_cross_entropy", **kwargs: Any
    ):
        super().__init__(**{"name": name, "reduction": "sum", **kwargs})
        self.label_smoothing, self.copies = label_smoothing, copies

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each token, [B, T], for labels [B, T] and logits [B, T, V]."""
        smoothing, size = self.label_smoothing, y_pred.shape[-1]
        if size is None:  # with copying the number of words depends on the length of the sources
            size = ops.shape(y_pred)[-1]
        labels = ops.cast(y_true, "int32")

        @ops.custom_gradient
        def cross_entropy(logits: Any) -> Any:
            found = token_statistics(labels, logits)
            loss = found.normalizer - found.own
            share, mean = self._spread(logits, size) if smoothing else (0.0, 0.0)
            if smoothing:
                loss = loss + smoothing * (found.own - mean)

            def gradient(*args: Any, upstream: Any = None) -> Any:
                # The PyTorch backend passes the upstream gradient as the last positional argument, others by name.
                upstream = args[-1] if upstream is None else upstream
                spread = (found.probabilities - smoothing * share) * ops.expand_dims(upstream, -1)
                flat = ops.reshape(spread, (-1, size))
                rows = ops.arange(ops.shape(flat)[0], dtype="int32")
                indices = ops.stack([rows, ops.reshape(labels, (-1,))], axis=1)
                own = ops.reshape((smoothing - 1.0) * upstream, (-1,))
                flat = ops.scatter_update(flat, indices, own, reduction="add")
                return ops.cast(ops.reshape(flat, ops.shape(logits)), logits.dtype)

            return loss, gradient

        return cross_entropy(y_pred)

    def _spread(self, logits: Any, size: Any) -> tuple[Any, Any]:
        """Returns the share of e that each word gets, and the mean logit [B, T] with these shares."""
        logits = ops.cast(logits, "float32")
        if not self.copies:
            return 1.0 / size, ops.mean(logits, axis=-1)
        possible = logits > IMPOSSIBLE / 2
        share = ops.cast(possible, "float32") / ops.sum(ops.cast(possible, "float32"), axis=-1, keepdims=True)
        return share, ops.sum(share * ops.where(possible, logits, 0.0), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "copies": self.copies}


class _TokenMean(keras.metrics.Metric):
    """Mean over all real tokens since the last reset: those whose sample weight is not 0. `count` is their number.

    The mean metric of Keras gives each example the same weight, independent of its length.
    """

    def __init__(self, name: str, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.total = self.add_variable((), initializer="zeros", name="total")
        self.count = self.add_variable((), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        values = ops.cast(self.each(y_true, y_pred), "float32")
        weights = ops.ones_like(values)
        if sample_weight is not None:
            weights = ops.cast(ops.greater(sample_weight, 0), "float32")
        self.total.assign_add(ops.sum(values * weights))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Any:
        return self.total / ops.maximum(self.count, 1.0)

    def each(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the value of each token, [B, T], for labels [B, T] and logits [B, T, V]."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("tfseq2seq")
class NegativeLogLikelihood(_TokenMean):
    """Mean negative log-likelihood of real tokens, in nats. Its exponential is the perplexity."""

    def __init__(self, name: str = "nll", **kwargs: Any):
        super().__init__(name, **kwargs)

    def each(self, y_true: Any, y_pred: Any) -> Any:
        found = token_statistics(y_true, y_pred)
        return found.normalizer - found.own


@keras.saving.register_keras_serializable("tfseq2seq")
class TokenAccuracy(_TokenMean):
    """Share of real tokens that are predicted correctly with teacher forcing."""

    def __init__(self, name: str = "accuracy", **kwargs: Any):
        super().__init__(name, **kwargs)

    def each(self, y_true: Any, y_pred: Any) -> Any:
        found = token_statistics(y_true, y_pred)
        return found.own >= found.top


@keras.saving.register_keras_serializable("tfseq2seq")
class TokenCount(keras.metrics.Metric):
    """Number of label tokens since the last reset, without <eos>, for losses over alignments."""

    def __init__(self, name: str = "tokens", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.count = self.add_variable((), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.count.assign_add(ops.cast(ops.sum(label_tokens(y_true)[1]), "float32"))

    def result(self) -> Any:
        return self.count + 0.0


@keras.saving.register_keras_serializable("tfseq2seq")
class WeightedTokenCount(TokenCount):
    """Number of real label tokens since the last reset, with <eos>: those whose sample weight is not 0."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        weights = ops.ones_like(y_true) if sample_weight is None else sample_weight
        self.count.assign_add(ops.sum(ops.cast(ops.greater(weights, 0), "float32")))
