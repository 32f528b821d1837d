"""Contextual biasing: an external scorer that prefers given phrases, such as names and terms (Zhao et al. 2019).

Each token of a phrase adds a bonus immediately, from the first token on, so that the phrase stays in the beam. If the
phrase is not completed, the bonus is subtracted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tfseq2seq.search.automata import Arcs, Automaton

_Path = tuple[int, ...]


@dataclass
class _Node:
    """A node of the trie of all phrases.

    Attributes:
        path: the tokens from the root to this node.
        complete: whether a phrase ends here.
        weight: the bonus of the last token.
        pending: the bonus to subtract if the phrase is not completed after this node.
        next_states: the child node for each next token.
    """

    path: _Path
    complete: bool = False
    weight: float = 0.0
    pending: float = 0.0
    next_states: dict[int, int] = field(default_factory=dict)


def phrase_scorer(phrases: Sequence[tuple[Sequence[int], float]], size: int, opening: Sequence[int] = ()) -> Automaton:
    """Builds a scorer with a bonus for each token of a phrase. The bonus of an incomplete phrase is subtracted again.

    Phrases do not overlap. If several match, the one that begins first counts, and of these the longest.

    Args:
        phrases: the token ids of each phrase, at least one, and the bonus in nats for each of its tokens. If two
            phrases share a prefix, the higher bonus counts for the shared tokens.
        size: the size of the vocabulary.
        opening: tokens that are assumed before the output begins, such as the space that begins phrases of whole
            words. They have no bonus themselves.
    """
    nodes = [_Node(())]
    for tokens, weight in phrases:
        index = 0
        for token in tokens:
            if token not in nodes[index].next_states:
                nodes[index].next_states[token] = len(nodes)
                nodes.append(_Node((*nodes[index].path, token)))
            index = nodes[index].next_states[token]
            # The opening precedes every word, so it has no bonus.
            if nodes[index].path != tuple(opening):
                nodes[index].weight = max(nodes[index].weight, weight)
        nodes[index].complete = True
    by_path = {node.path: index for index, node in enumerate(nodes)}
    # Parents precede their children in the list.
    for node in nodes[1:]:
        node.pending = 0.0 if node.complete else nodes[by_path[node.path[:-1]]].pending + node.weight
    failures = {}
    for index, node in enumerate(nodes[1:], start=1):
        # `done` tokens are a completed phrase. Its bonus is not pending any more, and its tokens begin no other phrase.
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
    """Returns the bonus of the complete phrases inside a path that did not become a phrase. They keep their bonus."""
    index, kept = 0, 0.0
    while index < len(path):
        stops = range(index + 1, len(path) + 1)
        found = [stop for stop in stops if (inner := by_path.get(path[index:stop])) and nodes[inner].complete]
        if found:
            kept += _bonus(path[index : found[-1]], nodes, by_path)
        index = found[-1] if found else index + 1
    return kept


def _bonus(path: _Path, nodes: list[_Node], by_path: dict[_Path, int]) -> float:
    """Returns the bonus of all tokens of a path."""
    return sum(nodes[by_path[path[:stop]]].weight for stop in range(1, len(path) + 1))
