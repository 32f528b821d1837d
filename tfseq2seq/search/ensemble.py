"""Ensembles: the probabilities of several models are averaged at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.search.beam import StepFunction


def ensemble_step(steps: Sequence[StepFunction]) -> StepFunction:
    """Combines step functions of models with the same target vocabulary into one.

    The combined function takes a list of the models' `fixed` values and a cache from `ensemble_cache`. Its logits are
    the logarithm of the mean probability. Its attention is the mean of the models' attention weights; all models
    attend over the same source positions.
    """

    def step(ids: Any, index: Any, visible: Any, fixed: Any, cache: dict[str, Any]) -> tuple[Any, Any, Any]:
        log_probs, caches, attentions = [], [], []
        for number, model_step in enumerate(steps):
            model_cache = {"state": cache["state"][number], "history": cache["history"][number]}
            logits, model_cache, attention = model_step(ids, index, visible, fixed[number], model_cache)
            log_probs.append(tf.nn.log_softmax(tf.cast(logits, tf.float32)))
            caches.append(model_cache)
            attentions.append(tf.cast(attention, tf.float32))
        mean = tf.reduce_logsumexp(tf.stack(log_probs), axis=0) - tf.math.log(float(len(steps)))
        return mean, ensemble_cache(caches), tf.add_n(attentions) / len(steps)

    return step


def ensemble_cache(caches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combines the caches of the models into one cache of the same form."""
    return {"state": [cache["state"] for cache in caches], "history": [cache["history"] for cache in caches]}
