"""Is one output better than another? Paired bootstrap resampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.bootstrap import confidence_interval
from tfseq2seq.evaluation.metrics import LOWER_IS_BETTER, Settings, check_metric, count
from tfseq2seq.evaluation.references import ReferenceSets, accepted_references, check_hypotheses
from tfseq2seq.evaluation.scores import Score, score


@dataclass(frozen=True)
class Comparison:
    """Two outputs for the same test set under one metric.

    Attributes:
        system: Score of the system, with its interval.
        baseline: Score of the baseline, with its interval.
        difference: system - baseline, in points. For an error rate less than 0 is an improvement.
        low: Lower end of the 95 % bootstrap confidence interval of the difference.
        high: Upper end.
        p_value: Two-sided p-value of "there is no difference"; see `compare`.
        lower_is_better: Whether the metric is an error rate.
    """

    system: Score
    baseline: Score
    difference: float
    low: float
    high: float
    p_value: float
    lower_is_better: bool

    def __str__(self) -> str:
        better = "lower" if self.lower_is_better else "higher"
        return (
            f"{self.system.name} {self.system.value:.2f} against {self.baseline.value:.2f}: difference = "
            f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}], p = {self.p_value:.4f}, "
            f"{better} is better ({self.system.signature})"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


def compare(
    system: Sequence[str],
    baseline: Sequence[str],
    references: ReferenceSets,
    metric: str,
    resamples: int = 1000,
    seed: int = 12345,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> Comparison:
    """Paired bootstrap resampling (Koehn 2004) of the difference between two outputs for the same test set.

    Both outputs are scored on the same resampled test sets, which gives differences d_1 ... d_R about their mean m.
    With d the difference on the whole test set, the p-value is

        p = (1 + number of r with |d_r - m| >= |d|) / (R + 1)

    two-sided: how often chance alone, which the differences about their own mean stand for, makes a difference as
    large as the one seen (Noreen 1989; Riezler and Maxwell 2005). Identical outputs have p = 1, and no p is below
    1 / (R + 1). sacrebleu's paired bootstrap takes |d_r| less its own mean for d_r - m, which makes it in effect
    one-sided, and "> |d|", by which identical outputs would differ with p = 1 / (R + 1).

    Args:
        system: Output of the system, one line for each example.
        baseline: Output of the baseline, likewise.
        references: `references[r][i]` as `corpus_scores` takes them.
        metric: A name from `tfseq2seq.evaluation.metrics.METRICS`.
        resamples: R, the number of resampled test sets.
        seed: Seed of the resampling.
        tokenize: sacrebleu's BLEU tokenizer, as in `corpus_scores`.
        lowercase: Lower-case both sides first.

    Raises:
        UserError: No or uneven input, an unknown metric or tokenizer, or too few resamples.
    """
    import numpy as np

    check_metric(metric)
    if resamples == 0:
        raise UserError("resamples: the paired bootstrap needs them; give 40 or more")
    settings = Settings(tokenize=tokenize, lowercase=lowercase, resamples=resamples, seed=seed)
    check_hypotheses("system", system)
    check_hypotheses("baseline", baseline)
    if len(system) != len(baseline):
        raise UserError(f"system has {len(system)} lines but baseline has {len(baseline)}; both are for one test set")
    accepted = accepted_references(system, references)
    ours, ours_sampled = score(count(metric, system, accepted, settings), settings)
    theirs, theirs_sampled = score(count(metric, baseline, accepted, settings), settings)
    difference = ours.value - theirs.value
    differences = ours_sampled - theirs_sampled
    # The slack keeps rounding in the last bit from deciding a tie.
    by_chance = np.abs(differences - differences.mean()) >= abs(difference) - 1e-9
    p_value = (1 + int(by_chance.sum())) / (resamples + 1)
    low, high = confidence_interval(differences)
    return Comparison(ours, theirs, difference, low, high, p_value, metric in LOWER_IS_BETTER)
