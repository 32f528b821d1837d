"""CIDEr-D, the agreement of captions with several references (Vedantam, Zitnick and Parikh 2015)."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

from tfseq2seq.evaluation.rouge import ngrams

_LONGEST = 4
# Of the Gaussian penalty on the difference of lengths, in tokens.
_SIGMA = 6.0

NGram = tuple[str, ...]
Vector = dict[NGram, float]


def cider_scores(hypotheses: Sequence[Sequence[str]], accepted: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """Computes CIDEr-D of each example, from 0 to 10.

    For n from 1 to 4, a text is a vector of its n-grams with the weights count * log(N / documents). N is the number of
    examples, and documents are those of them with the n-gram in a reference. The similarity of hypothesis h and
    reference r (equation 3 of the paper, with the changes of CIDEr-D in section 5) is

        10 * exp(-(length(h) - length(r))^2 / (2 * 6^2)) * sum(min(h, r) * r) / (|h| * |r|)

    and the score is its mean over n and over the references.

    Args:
        hypotheses: the tokens of one output per example.
        accepted: the tokens of the references of each example, at least one per example.
    """
    documents: collections.Counter[NGram] = collections.Counter()
    for answers in accepted:
        documents.update({gram for answer in answers for gram in _counts(answer)})
    logarithm = math.log(len(accepted))

    def vectors(tokens: Sequence[str]) -> list[Vector]:
        found: list[Vector] = [{} for _ in range(_LONGEST)]
        for gram, count in _counts(tokens).items():
            found[len(gram) - 1][gram] = count * (logarithm - math.log(max(1, documents[gram])))
        return found

    scores = []
    for hypothesis, answers in zip(hypotheses, accepted, strict=True):
        own, total = vectors(hypothesis), 0.0
        for answer in answers:
            penalty = math.exp(-((len(hypothesis) - len(answer)) ** 2) / (2 * _SIGMA**2))
            total += penalty * sum(map(_similarity, own, vectors(answer)))
        scores.append(10.0 * total / (_LONGEST * len(answers)))
    return scores


def _counts(tokens: Sequence[str]) -> collections.Counter[NGram]:
    """Counts the n-grams of a text, with n from 1 to 4."""
    return collections.Counter(gram for n in range(1, _LONGEST + 1) for gram in ngrams(tokens, n))


def _similarity(one: Vector, reference: Vector) -> float:
    """The clipped cosine of two vectors; 0 if one of them is 0."""
    lengths = [math.sqrt(sum(weight**2 for weight in vector.values())) for vector in (one, reference)]
    if not all(lengths):
        return 0.0
    product = sum(min(weight, reference.get(gram, 0.0)) * reference.get(gram, 0.0) for gram, weight in one.items())
    return product / (lengths[0] * lengths[1])
