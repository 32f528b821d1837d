"""CTC search: the best path, and prefix beam search (Graves et al. 2006, Hannun et al. 2014).

Logits are those of `CTCOutput`: the blank is <pad>, and positions past the end say it for certain. Transcripts have no
<eos>. Unlike TensorFlow's decoder, neither merges a token that comes twice with a blank between.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion
from tfseq2seq.search.prefixes import Prefixes, empty_prefixes, grown, joined, log_add, sayable
from tfseq2seq.spec import BLANK, EOS, PAD


def best_path(logits: Any, longest: int) -> Hypotheses:
    """The transcript of the likeliest alignment of logits [B, F, V], at most `longest` tokens of it.

    Its log-probability is that of the alignment: a lower bound of the transcript's.
    """
    tokens, total = likeliest_alignment(logits)
    return transcript_of(tokens, total, longest)


def likeliest_alignment(logits: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The likeliest label [B, F] at each position of logits [B, F, V], and the log-probability of all together, [B]."""
    log_probs = _log_probs(logits)
    return tf.argmax(log_probs, axis=2, output_type=tf.int32), tf.reduce_sum(tf.reduce_max(log_probs, axis=2), axis=1)


def transcript_of(tokens: Any, total: Any, longest: int) -> Hypotheses:
    """The transcript, at most `longest` tokens of it, of alignments [B, F] with log-probabilities [B]."""
    before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=BLANK)
    said = tf.logical_and(tf.not_equal(tokens, BLANK), tf.not_equal(tokens, before))
    indices = tf.cumsum(tf.cast(said, tf.int32), axis=1) - 1
    # One more column takes what is not said and what is too long.
    columns = tf.where(said, tf.minimum(indices, longest), longest)
    batch, frames = tf.shape(tokens)[0], tf.shape(tokens)[1]
    rows = tf.repeat(tf.expand_dims(tf.range(batch), 1), frames, axis=1)
    shape = tf.stack([batch, longest + 1])
    where = tf.reshape(rows * (longest + 1) + columns, [-1, 1])
    flat = tf.tensor_scatter_nd_update(tf.fill([batch * (longest + 1)], PAD), where, tf.reshape(tokens, [-1]))
    ids = tf.expand_dims(tf.reshape(flat, shape)[:, :longest], 1)
    lengths = tf.minimum(tf.reduce_sum(tf.cast(said, tf.int32), axis=1, keepdims=True), longest)
    total = tf.expand_dims(total, 1)
    return Hypotheses(ids, lengths, total, total, None)


class PrefixBeam(NamedTuple):
    """Where a prefix beam search stands."""

    prefixes: Prefixes
    blank: tf.Tensor  # [B, K]: log-probability of the alignments so far that end with a blank
    token: tf.Tensor  # [B, K]: and of those that end with the prefix's last token
    added: tf.Tensor  # [B, K]: what scorers gave
    states: list[tf.Tensor]  # of the scorers


def prefix_beam_search(logits: Any, longest: int, beam: int, count: int, fusion: Fusion | None = None) -> Hypotheses:
    """The `count` likeliest transcripts a beam of `beam` finds in logits [B, F, V], of at most `longest` tokens.

    A transcript's log-probability sums over all its alignments whose prefixes the beam held; its score adds what
    scorers gave. With a beam as wide as there are prefixes both are exact.

    Args:
        fusion: scorers whose opinion ranks prefixes as they grow.
    """
    fusion = fusion or Fusion()
    batch, frames = tf.shape(logits)[0], tf.shape(logits)[1]
    length = tf.maximum(tf.minimum(frames, longest), 1)
    return best_prefixes(hear(begin(batch, beam, length, fusion), logits, fusion), count, fusion)


def begin(batch: Any, beam: int, length: Any, fusion: Fusion) -> PrefixBeam:
    """Nothing heard, and room for `length` tokens."""
    prefixes = empty_prefixes(batch, beam, length)
    return PrefixBeam(
        prefixes,
        tf.where(prefixes.used, 0.0, FORBIDDEN),
        tf.fill(tf.shape(prefixes.used), FORBIDDEN),
        tf.zeros_like(prefixes.lengths, tf.float32),
        fusion.start(batch, beam),
    )


def hear(now: PrefixBeam, logits: Any, fusion: Fusion) -> PrefixBeam:
    """The beam after some more positions, of logits [B, F, V]."""
    log_probs = _log_probs(logits)
    frames, size, length = tf.shape(log_probs)[1], log_probs.shape[2], tf.shape(now.prefixes.ids)[2]

    def body(index: Any, now: PrefixBeam) -> Any:
        return index + 1, _next_frame(now, tf.gather(log_probs, index, axis=1), length, size, fusion)

    _, last = tf.while_loop(lambda index, _: index < frames, body, (tf.constant(0), now))
    return last


def best_prefixes(last: PrefixBeam, count: int, fusion: Fusion) -> Hypotheses:
    """The `count` likeliest transcripts if nothing more comes."""
    sums = log_add(last.blank, last.token)
    scores = sums + last.added
    if fusion:
        scores += fusion.scores(last.states)[:, :, EOS]
    scores = tf.where(last.prefixes.used, scores, FORBIDDEN)
    scores, best = tf.math.top_k(scores, count)
    found = Prefixes(*(tf.gather(part, best, batch_dims=1) for part in last.prefixes))
    return Hypotheses(found.ids, found.lengths, tf.gather(sums, best, batch_dims=1), scores, None)


def _next_frame(now: PrefixBeam, frame: Any, length: Any, size: int, fusion: Fusion) -> PrefixBeam:
    """The beam after one more position, of log-probabilities [B, V]."""
    prefixes = now.prefixes
    beam = prefixes.used.shape[1]
    total = log_add(now.blank, now.token)
    blank = total + tf.expand_dims(frame[:, BLANK], 1)
    repeated = now.token + tf.gather(frame, prefixes.last, batch_dims=1)
    repeated = tf.where(prefixes.lengths > 0, repeated, FORBIDDEN)
    # A token said again is a new one only after a blank.
    again = tf.one_hot(prefixes.last, size, True, False, dtype=tf.bool)
    before = tf.where(again, tf.expand_dims(now.blank, 2), tf.expand_dims(total, 2))
    said = before + tf.expand_dims(frame, 1) + sayable(size)
    said = tf.where(tf.expand_dims(prefixes.lengths < length, 2), said, FORBIDDEN)
    token, said = joined(repeated, said, prefixes)

    opinions = tf.expand_dims(now.added, 2)
    if fusion:
        opinions = opinions + fusion.scores(now.states)
    waiting = tf.where(prefixes.used, log_add(blank, token) + now.added, FORBIDDEN)
    saying = tf.where(tf.expand_dims(prefixes.used, 2), said + opinions, FORBIDDEN)
    ranked = tf.concat([waiting, tf.reshape(saying, tf.stack([-1, beam * size]))], axis=1)
    best, indices = tf.math.top_k(ranked, beam)
    longer = indices >= beam
    parents = tf.where(longer, (indices - beam) // size, indices)
    tokens = tf.where(longer, (indices - beam) % size, PAD)
    flat = tf.reshape(said, tf.stack([-1, beam * size]))
    said_sum = tf.gather(flat, tf.maximum(indices - beam, 0), batch_dims=1)
    states = fusion.moved(now.states, parents, tokens, longer)
    added = tf.where(longer, best - said_sum, tf.gather(now.added, parents, batch_dims=1)) if fusion else now.added
    return PrefixBeam(
        grown(prefixes, parents, tokens, longer, best > FORBIDDEN / 2),
        tf.where(longer, FORBIDDEN, tf.gather(blank, parents, batch_dims=1)),
        tf.where(longer, said_sum, tf.gather(token, parents, batch_dims=1)),
        added,
        states,
    )


def _log_probs(logits: Any) -> tf.Tensor:
    """[B, F, V] log-probabilities, those of <bos> and <eos>, which no transcript holds, large negative numbers."""
    log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    size = logits.shape[2]
    blank = tf.one_hot(BLANK, size, True, False, dtype=tf.bool)
    return tf.where(blank, log_probs, tf.maximum(log_probs + sayable(size), FORBIDDEN))
