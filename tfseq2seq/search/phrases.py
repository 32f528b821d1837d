"""Phrases to listen for: names and terms that are likely in what is said (contextual biasing, Zhao et al. 2019).

Each token of a phrase, from its first one on, adds a bonus at once, so that the phrase survives in the beam; if the
phrase is not completed, the bonus is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tfseq2seq.search.automata import Arcs, Automaton

_Path = tuple[int, ...]


@dataclass
class _Node:
    """A prefix of phrases: its tokens, bonuses of the tokens behind it, and what is lost if it ends here."""

    path: _Path
    complete: bool = False
    weight: float = 0.0
    pending: float = 0.0
    next_states: dict[int, int] = field(default_factory=dict)


def phrase_scorer(phrases: Sequence[tuple[Sequence[int], float]], size: int, opening: Sequence[int] = ()) -> Automaton:
    """A bonus for each token of a phrase as it is said, taken back where the phrase is not completed.

    Phrases do not overlap: of several that fit, the one that begins first counts, and of those the longest.

    Args:
        phrases: token ids of each, at least one, and the bonus in nats for each of its tokens. Where two begin alike,
            the higher bonus counts for what they share.
        size: of the vocabulary.
        opening: what counts as said before the output begins, such as the space that phrases of whole words begin
            with; it has no bonus itself.
    """
    nodes = [_Node(())]
    for tokens, weight in phrases:
        index = 0
        for token in tokens:
            if token not in nodes[index].next_states:
                nodes[index].next_states[token] = len(nodes)
                nodes.append(_Node((*nodes[index].path, token)))
            index = nodes[index].next_states[token]
            # What opens words is no sign of a phrase.
            if nodes[index].path != tuple(opening):
                nodes[index].weight = max(nodes[index].weight, weight)
        nodes[index].complete = True
    by_path = {node.path: index for index, node in enumerate(nodes)}
    # Parents stand before their children.
    for node in nodes[1:]:
        node.pending = 0.0 if node.complete else nodes[by_path[node.path[:-1]]].pending + node.weight
    failures = {}
    for index, node in enumerate(nodes[1:], start=1):
        # Up to here a whole phrase has been said, whose bonus is pending no more, and whose tokens begin no other.
        path = node.path
        done = max((cut for cut in range(1, len(path) + 1) if nodes[by_path[path[:cut]]].complete), default=0)
        suffix = next(path[cut:] for cut in range(max(done, 1), len(path) + 1) if path[cut:] in by_path)
        kept = _inside(path[max(done, 1) : len(path) - len(suffix)], nodes, by_path) + _bonus(suffix, nodes, by_path)
        failures[index] = (by_path[suffix], kept - node.pending)

    arcs = {
        (index, token): (nodes[next_states].weight, next_states)
        for index, node in enumerate(nodes)
        if index
        for token, next_states in node.next_states.items()
    }
    scores, targets = np.zeros(size), np.zeros(size, "int32")
    for token, next_states in nodes[0].next_states.items():
        scores[token], targets[token] = nodes[next_states].weight, next_states
    start = by_path.get(tuple(opening), 0)
    return Automaton(Arcs(scores, targets, arcs, failures, start), name="phrases")


def _inside(path: _Path, nodes: list[_Node], by_path: dict[_Path, int]) -> float:
    """The bonus of whole phrases inside a path that is given up: they have been said all the same."""
    index, kept = 0, 0.0
    while index < len(path):
        stops = range(index + 1, len(path) + 1)
        found = [stop for stop in stops if (inner := by_path.get(path[index:stop])) and nodes[inner].complete]
        if found:
            kept += _bonus(path[index : found[-1]], nodes, by_path)
        index = found[-1] if found else index + 1
    return kept


def _bonus(path: _Path, nodes: list[_Node], by_path: dict[_Path, int]) -> float:
    """The bonus of all tokens of a path."""
    return sum(nodes[by_path[path[:stop]]].weight for stop in range(1, len(path) + 1))
