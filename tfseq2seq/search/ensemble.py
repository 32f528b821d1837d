"""Several models as one: their probabilities averaged at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.search.beam import StepFunction


def ensemble_step(steps: Sequence[StepFunction]) -> StepFunction:
    """One step function from several over the same target vocabulary.

    It takes a list of their `fixed` values and a cache made by `ensemble_cache`. Its logits are the logarithm of the
    mean probability, its attention the mean of those of the models (which see the same source positions).
    """

    def step(ids: Any, index: Any, visible: Any, fixed: Any, cache: dict[str, Any]) -> tuple[Any, Any, Any]:
        logs, caches, attentions = [], [], []
        for number, one in enumerate(steps):
            own = {"state": cache["state"][number], "history": cache["history"][number]}
            logits, own, attention = one(ids, index, visible, fixed[number], own)
            logs.append(tf.nn.log_softmax(tf.cast(logits, tf.float32)))
            caches.append(own)
            attentions.append(tf.cast(attention, tf.float32))
        mean = tf.reduce_logsumexp(tf.stack(logs), axis=0) - tf.math.log(float(len(steps)))
        return mean, ensemble_cache(caches), tf.add_n(attentions) / len(steps)

    return step


def ensemble_cache(caches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The models' caches as one of the same form."""
    return {"state": [cache["state"] for cache in caches], "history": [cache["history"] for cache in caches]}
