"""Scores of the probability that a model gives to texts: what it costs a token, a character or a byte.

Perplexities of tokens compare only where the vocabulary is the same. A character and a byte are the same for every
vocabulary, so that models compare by these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import Counted, Settings
from tfseq2seq.evaluation.scores import Score, score


@dataclass(frozen=True)
class _Unit:
    """What a score divides by.

    Attributes:
        name: to print.
        unit: for the signature.
        size: of a text and its number of tokens.
        of_cost: from the nats of a unit to the score.
    """

    name: str
    unit: str
    size: Callable[[str, int], int]
    of_cost: Callable[[np.ndarray], np.ndarray]


LIKELIHOODS = {
    "perplexity": _Unit("perplexity", "token", lambda text, tokens: tokens, np.exp),
    # <eos> is the end of the line, which is one character and one byte.
    "perplexity_per_character": _Unit(
        "perplexity per character", "character", lambda text, tokens: len(text.strip()) + 1, np.exp
    ),
    "bits_per_byte": _Unit(
        "bits per byte",
        "byte",
        lambda text, tokens: len(text.strip().encode("utf-8")) + 1,
        lambda cost: cost / math.log(2),
    ),
}


def likelihood_scores(
    log_probs: Sequence[float], tokens: Sequence[int], texts: Sequence[str], metrics: Sequence[str], settings: Settings
) -> list[Score]:
    """Scores texts by the probability that a model gives to them. Lower is better.

    With log p the natural log-probability of a text and of its end, each summed over the corpus:

    - `perplexity`: exp(-log p / tokens), with <eos>.
    - `perplexity_per_character`: exp(-log p / characters). Characters are code points, and one for the end of the line.
    - `bits_per_byte`: -log2 p / bytes of UTF-8, and one for the end of the line.

    Characters that the vocabulary lacks are <unk>, and what they are costs nothing: both scores are then too low.

    Args:
        log_probs: [N] in nats, <eos> included.
        tokens: [N] how many tokens of the texts they count, <eos> included.
        texts: [N] as they are, white space at the ends left out.
        metrics: keys of `LIKELIHOODS`.
        settings: the bootstrap.

    Raises:
        UserError: there is no text.
    """
    if not len(texts):
        raise UserError("there is no text to score")
    found = []
    for metric in metrics:
        unit = LIKELIHOODS[metric]
        sizes = [unit.size(text, count) for text, count in zip(texts, tokens, strict=True)]
        statistics = np.stack([-np.asarray(log_probs, "float64"), np.asarray(sizes, "float64")], axis=1)

        def of_sums(sums: np.ndarray, of_cost: Callable[[np.ndarray], np.ndarray] = unit.of_cost) -> np.ndarray:
            with np.errstate(over="ignore"):
                return of_cost(sums[:, 0] / sums[:, 1])

        signature = f"per:{unit.unit}|end:counted|{unit.unit}s:{sum(sizes)}"
        found.append(score(Counted(unit.name, signature, statistics, of_sums), settings)[0])
    return found
