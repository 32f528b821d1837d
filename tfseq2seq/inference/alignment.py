"""Alignments of tokens with the positions of a source: Viterbi over CTC and transducers, and over attention weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfseq2seq.spec import BLANK

_LOWEST = -1e30


def ctc_alignment(log_probs: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
    """Where the likeliest alignment of [F, V] has each token: positions from the first to behind the last.

    Where there are fewer positions than the tokens need, they are spread evenly.
    """
    states = np.full(2 * len(tokens) + 1, BLANK)
    states[1::2] = tokens
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), _LOWEST)
    best[:2] = log_probs[0, states[:2]]
    moves = np.zeros((len(log_probs), len(states)), "int8")
    for frame in range(1, len(log_probs)):
        stay, one, two = best, np.append(_LOWEST, best[:-1]), np.append([_LOWEST] * 2, best[:-2])
        ways = np.stack([stay, one, np.where(skips, two[: len(states)], _LOWEST)])
        moves[frame] = ways.argmax(axis=0)
        best = ways.max(axis=0) + log_probs[frame, states]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    if best[state] <= _LOWEST / 2:
        return _evenly(len(log_probs), len(tokens))
    spans = [[0, 0] for _ in tokens]
    for frame in range(len(log_probs) - 1, -1, -1):
        if state % 2:
            span = spans[state // 2]
            span[0], span[1] = frame, span[1] or frame + 1
        state -= moves[frame, state]
    return [(start, end) for start, end in spans]


def transducer_alignment(log_probs: np.ndarray, count: int) -> list[int]:
    """The position at which the likeliest path through a lattice says each of `count` tokens.

    Args:
        log_probs: [F, U, 2], of the blank and of the next token at each position after each number of tokens.
    """
    frames = len(log_probs)
    best, emitted = np.full((frames, count + 1), _LOWEST), np.zeros((frames, count + 1), bool)
    best[0, 0] = 0.0
    for frame in range(frames):
        if frame:
            best[frame] = best[frame - 1] + log_probs[frame - 1, : count + 1, 0]
        for index in range(1, count + 1):
            way = best[frame, index - 1] + log_probs[frame, index - 1, 1]
            if way > best[frame, index]:
                best[frame, index], emitted[frame, index] = way, True
    indices, frame, index = [0] * count, frames - 1, count
    while index:
        if emitted[frame, index]:
            index -= 1
            indices[index] = frame
        else:
            frame -= 1
    return indices


def forward_alignment(weights: np.ndarray) -> list[tuple[float, float]]:
    """Positions of tokens by log attention weights [F, T], none before that of the token before; each token lasts until
    the next one begins."""
    frames, count = weights.shape
    best, came = weights[:, 0], np.zeros((count, frames), "int64")
    for index in range(1, count):
        reachable = np.maximum.accumulate(best)
        is_best = best >= reachable
        came[index] = np.maximum.accumulate(np.where(is_best, np.arange(frames), 0))
        best = reachable + weights[:, index]
    starts = [int(best.argmax())]
    for index in range(count - 1, 0, -1):
        starts.append(int(came[index, starts[-1]]))
    starts.reverse()
    ends = [max(after, start + 1) for start, after in zip(starts, [*starts[1:], starts[-1] + 1])]
    return list(zip(map(float, starts), map(float, ends)))


def _evenly(frames: int, count: int) -> list[tuple[float, float]]:
    edges = np.linspace(0, frames, count + 1)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist()))
