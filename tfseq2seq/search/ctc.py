"""CTC search: the best path, and prefix beam search (Graves et al. 2006, Hannun et al. 2014).

Logits are those of `CTCOutput`: the blank is <pad>, and padded positions have the blank with probability 1.
Transcripts have no <eos>. Unlike TensorFlow's CTC decoder, both searches keep two equal tokens that are separated by a
blank.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion
from tfseq2seq.search.prefixes import Prefixes, allowed_tokens, empty_prefixes, extended_prefixes, log_add, merged
from tfseq2seq.spec import BLANK, EOS, PAD


def best_path(logits: Any, max_length: int) -> Hypotheses:
    """Returns the transcript of the likeliest alignment of logits [B, F, V], cut to `max_length` tokens.

    Its log-probability is that of the alignment, which is a lower bound of the log-probability of the transcript.
    """
    tokens, total = likeliest_alignment(logits)
    return transcript_of(tokens, total, max_length)


def likeliest_alignment(logits: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the likeliest label [B, F] at each position of logits [B, F, V], and the sum of their log_probs [B]."""
    log_probs = _log_probs(logits)
    return tf.argmax(log_probs, axis=2, output_type=tf.int32), tf.reduce_sum(tf.reduce_max(log_probs, axis=2), axis=1)


def transcript_of(tokens: Any, total: Any, max_length: int) -> Hypotheses:
    """Collapses alignments [B, F] with log-probabilities [B] to transcripts, cut to `max_length` tokens."""
    previous = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=BLANK)
    emitted = tf.logical_and(tf.not_equal(tokens, BLANK), tf.not_equal(tokens, previous))
    indices = tf.cumsum(tf.cast(emitted, tf.int32), axis=1) - 1
    # An extra column receives blanks, repeated labels and tokens beyond max_length. It is cut off below.
    columns = tf.where(emitted, tf.minimum(indices, max_length), max_length)
    batch, frames = tf.shape(tokens)[0], tf.shape(tokens)[1]
    rows = tf.repeat(tf.expand_dims(tf.range(batch), 1), frames, axis=1)
    shape = tf.stack([batch, max_length + 1])
    where = tf.reshape(rows * (max_length + 1) + columns, [-1, 1])
    flat = tf.tensor_scatter_nd_update(tf.fill([batch * (max_length + 1)], PAD), where, tf.reshape(tokens, [-1]))
    ids = tf.expand_dims(tf.reshape(flat, shape)[:, :max_length], 1)
    lengths = tf.minimum(tf.reduce_sum(tf.cast(emitted, tf.int32), axis=1, keepdims=True), max_length)
    total = tf.expand_dims(total, 1)
    return Hypotheses(ids, lengths, total, total, None)


class PrefixBeam(NamedTuple):
    """The state of a prefix beam search."""

    prefixes: Prefixes
    blank: tf.Tensor  # [B, K]: log-probability of the prefix's alignments so far that end with a blank
    token: tf.Tensor  # [B, K]: log-probability of the prefix's alignments so far that end with its last token
    added: tf.Tensor  # [B, K]: the sum of the external scores
    states: list[tf.Tensor]  # the states of the external scorers


def prefix_beam_search(logits: Any, max_length: int, beam: int, count: int, fusion: Fusion | None = None) -> Hypotheses:
    """Returns the `count` best transcripts of logits [B, F, V] found with `beam` hypotheses.

    The log-probability of a transcript sums over all its alignments whose prefixes stayed in the beam. Its score adds
    the external scores. Both are exact if the beam holds all prefixes.

    Args:
        logits: [B, F, V].
        max_length: the maximum number of tokens of a transcript.
        beam: the number of prefixes kept, K.
        count: the number of transcripts to return, at most `beam`.
        fusion: external scorers for shallow fusion. Their scores rank prefixes from the first token on.
    """
    fusion = fusion or Fusion()
    batch, frames = tf.shape(logits)[0], tf.shape(logits)[1]
    length = tf.maximum(tf.minimum(frames, max_length), 1)
    return best_prefixes(advance(begin(batch, beam, length, fusion), logits, fusion), count, fusion)


def begin(batch: Any, beam: int, length: Any, fusion: Fusion) -> PrefixBeam:
    """Returns the state before the first position, with the capacity for `length` tokens per prefix."""
    prefixes = empty_prefixes(batch, beam, length)
    return PrefixBeam(
        prefixes,
        tf.where(prefixes.used, 0.0, FORBIDDEN),
        tf.fill(tf.shape(prefixes.used), FORBIDDEN),
        tf.zeros_like(prefixes.lengths, tf.float32),
        fusion.start(batch, beam),
    )


def advance(state: PrefixBeam, logits: Any, fusion: Fusion) -> PrefixBeam:
    """Advances the search over further positions, whose logits are [B, F, V]."""
    log_probs = _log_probs(logits)
    frames, size, length = tf.shape(log_probs)[1], log_probs.shape[2], tf.shape(state.prefixes.ids)[2]

    def body(index: Any, state: PrefixBeam) -> Any:
        return index + 1, _next_frame(state, tf.gather(log_probs, index, axis=1), length, size, fusion)

    _, state = tf.while_loop(lambda index, _: index < frames, body, (tf.constant(0), state))
    return state


def best_prefixes(state: PrefixBeam, count: int, fusion: Fusion) -> Hypotheses:
    """Returns the `count` best transcripts if the input ends here."""
    sums = log_add(state.blank, state.token)
    scores = sums + state.added
    if fusion:
        scores += fusion.scores(state.states)[:, :, EOS]
    scores = tf.where(state.prefixes.used, scores, FORBIDDEN)
    scores, best = tf.math.top_k(scores, count)
    found = Prefixes(*(tf.gather(part, best, batch_dims=1) for part in state.prefixes))
    return Hypotheses(found.ids, found.lengths, tf.gather(sums, best, batch_dims=1), scores, None)


def _next_frame(state: PrefixBeam, frame: Any, length: Any, size: int, fusion: Fusion) -> PrefixBeam:
    """Advances the search over one position, whose log-probabilities are [B, V]."""
    prefixes = state.prefixes
    beam = prefixes.used.shape[1]
    total = log_add(state.blank, state.token)
    blank = total + tf.expand_dims(frame[:, BLANK], 1)
    repeated = state.token + tf.gather(frame, prefixes.last, batch_dims=1)
    repeated = tf.where(prefixes.lengths > 0, repeated, FORBIDDEN)
    # The last token of a prefix extends it only after a blank. Without a blank it repeats the label.
    same_token = tf.one_hot(prefixes.last, size, True, False, dtype=tf.bool)
    before = tf.where(same_token, tf.expand_dims(state.blank, 2), tf.expand_dims(total, 2))
    extended = before + tf.expand_dims(frame, 1) + allowed_tokens(size)
    extended = tf.where(tf.expand_dims(prefixes.lengths < length, 2), extended, FORBIDDEN)
    token, extended = merged(repeated, extended, prefixes)

    external_scores = tf.expand_dims(state.added, 2)
    if fusion:
        external_scores = external_scores + fusion.scores(state.states)
    kept_scores = tf.where(prefixes.used, log_add(blank, token) + state.added, FORBIDDEN)
    extended_scores = tf.where(tf.expand_dims(prefixes.used, 2), extended + external_scores, FORBIDDEN)
    ranked = tf.concat([kept_scores, tf.reshape(extended_scores, tf.stack([-1, beam * size]))], axis=1)
    best, indices = tf.math.top_k(ranked, beam)
    longer = indices >= beam
    parents = tf.where(longer, (indices - beam) // size, indices)
    tokens = tf.where(longer, (indices - beam) % size, PAD)
    flat = tf.reshape(extended, tf.stack([-1, beam * size]))
    extended_sums = tf.gather(flat, tf.maximum(indices - beam, 0), batch_dims=1)
    states = fusion.moved(state.states, parents, tokens, longer)
    added = state.added
    if fusion:
        added = tf.where(longer, best - extended_sums, tf.gather(state.added, parents, batch_dims=1))
    return PrefixBeam(
        extended_prefixes(prefixes, parents, tokens, longer, best > FORBIDDEN / 2),
        tf.where(longer, FORBIDDEN, tf.gather(blank, parents, batch_dims=1)),
        tf.where(longer, extended_sums, tf.gather(token, parents, batch_dims=1)),
        added,
        states,
    )


def _log_probs(logits: Any) -> tf.Tensor:
    """Returns log-probabilities [B, F, V]; those of <bos> and <eos>, which no transcript has, are FORBIDDEN."""
    log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    size = logits.shape[2]
    blank = tf.one_hot(BLANK, size, True, False, dtype=tf.bool)
    return tf.where(blank, log_probs, tf.maximum(log_probs + allowed_tokens(size), FORBIDDEN))
