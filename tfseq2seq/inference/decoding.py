"""What endpoints of text and of speech do alike: search with attention decoders, answers, scores of given targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.features.rules import Rules
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.search.beam import Hypotheses, StepFunction, beam_search
from tfseq2seq.search.constraints import length_limits
from tfseq2seq.search.ensemble import ensemble_cache, ensemble_step
from tfseq2seq.search.fusion import JointScorer
from tfseq2seq.search.sampling import sample
from tfseq2seq.search.shortlist import Candidates, narrowed_step
from tfseq2seq.spec import BOS, PAD, SearchSpec


def decode(
    models: Sequence[Seq2Seq],
    memories: Sequence[Any],
    lengths: Any,
    spec: SearchSpec,
    prefix: Any = None,
    with_attention: bool = False,
    joint_scorer: JointScorer | None = None,
    candidates: Candidates | None = None,
) -> Hypotheses:
    """Searches for the outputs of models with attention decoders, or draws samples where the spec says so.

    Args:
        models: one, or several whose probabilities are averaged.
        memories: what each gave for the sources.
        lengths: [B], of the sources, for limits relative to them.
        spec: how to search.
        prefix: [B, P] ids the outputs begin with, or None.
        with_attention: return attention weights too.
        opinion: what a beam search ranks by beside the models; where there are candidates, narrowed to them.
        candidates: of a shortlist; other tokens do not come.
    """
    tokens = None
    if candidates is not None:
        tokens = candidates.ids
        # From here on ids are places among the candidates.
        prefix = None if prefix is None else tf.gather(candidates.indices, prefix)
    batch = tf.shape(lengths)[0]
    limits = length_limits(spec, batch, lengths, prefix)
    beam = spec.n_best if spec.sample else spec.beam
    # Room for one position: search makes more as it needs it.
    starts = [model.start(memory, beam, 1, tokens) for model, memory in zip(models, memories, strict=True)]
    steps: list[StepFunction] = [model.step for model in models]
    if candidates is not None:
        steps = [narrowed_step(step, candidates) for step in steps]
    step = steps[0]
    fixed: Any = starts[0][0]
    cache = starts[0][1]
    if len(models) > 1:
        step = ensemble_step(steps)
        fixed, cache = [own for own, _ in starts], ensemble_cache([own for _, own in starts])
    first = tf.fill([batch], BOS)
    mask = memories[0][1]
    if spec.sample:
        return sample(step, fixed, cache, first, limits, spec, prefix, with_attention, tf.shape(mask)[1])
    found = beam_search(step, fixed, cache, first, limits, spec, prefix, mask, with_attention, joint_scorer)
    return found if tokens is None else found._replace(ids=tf.gather(tokens, found.ids))


def answers(found: Hypotheses, target: TextFeatures, empty: Any, rules: Rules) -> dict[str, tf.Tensor]:
    """Hypotheses as "text" [B, N], "score" [B, N] and "log_prob" [B, N]; where `empty` [B, 1], nothing and 0."""
    return {
        "text": tf.where(empty, "", rules(target.detokenize(found.ids))),
        "score": tf.where(empty, 0.0, found.scores),
        "log_prob": tf.where(empty, 0.0, found.log_probs),
    }


def summed_log_probs(log_probs: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Log-probabilities [B, T, V] and padded labels [B, T] to the sum over each row's labels, [B], and their number."""
    real = tf.not_equal(labels, PAD)
    each = tf.where(real, tf.gather(log_probs, labels, batch_dims=2), 0.0)
    return tf.reduce_sum(each, axis=1), tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
