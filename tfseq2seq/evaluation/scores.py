"""Corpus scores of text against references, with confidence intervals and signatures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.bootstrap import confidence_interval, resampled_sums
from tfseq2seq.evaluation.metrics import Counted, Settings, check_metric, count
from tfseq2seq.evaluation.references import ReferenceSets, accepted_references

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Score:
    """One metric on one test set.

    Attributes:
        name: The metric, as it is printed: BLEU, chrF2, TER, WER, CER, or the name asked for.
        value: In percent. Error rates can pass 100.
        low: Lower end of the 95 % bootstrap confidence interval, None if none was asked for.
        high: Upper end.
        signature: What a reader needs to compute the same number.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    signature: str

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.name} = {self.value:.2f}{interval}{self._counts()} ({self.signature})"

    def _counts(self) -> str:
        return ""

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class DetailedScore(Score):
    """A score with the counts that it is made of: `wer` and `cer` are one.

    Attributes:
        details: Counts of the whole test set by name: length (of the references), substitutions, deletions, insertions.
            With several references those of the one that counted.
    """

    details: dict[str, int] = dataclasses.field(hash=False)

    def _counts(self) -> str:
        return "".join(f", {name} {number}" for name, number in self.details.items())


def corpus_scores(
    hypotheses: Sequence[str],
    references: ReferenceSets,
    metrics: Sequence[str],
    bootstrap: int = 1000,
    seed: int = 12345,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[Score]:
    """Scores a system's output against references.

    All scores are in percent. h is a hypothesis, r a reference; tokens are what white space separates.

    - `bleu`: Papineni et al. (2002), by sacrebleu (Post 2018).
    - `chrf`: character n-gram F2, Popovic (2015), by sacrebleu.
    - `ter`: translation edit rate, Snover et al. (2006), by sacrebleu with Tercom's settings: always lower-cased. With
      `tokenize` zh, char or ja-mecab, Chinese and Japanese characters are words; else white space splits words.
    - `exact_match`: examples whose h equals any r, both stripped of white space at the ends. Sequence accuracy.
    - `wer_any`: 100 - `exact_match`, the word error rate of grapheme-to-phoneme work, where an output is wrong if it
      is none of the accepted pronunciations.
    - `token_accuracy`: positions j with h_j = r_j, divided by max(|h|, |r|), both summed over the corpus; each example
      takes the r with the highest ratio, or the longer of equals. One extra token at the start shifts all the rest.
    - `token_error_rate`, `phoneme_error_rate` (the same under two names; on words it is the word error rate): the
      Levenshtein distance from h to the nearest r, divided by |r|, both summed over the corpus; of two references
      equally near, the longer.
    - `wer`, `cer`: word and character error rate of speech recognition, the same distance in words or in characters,
      by jiwer, as a `DetailedScore` that tells substitutions, deletions and insertions (an optimal alignment's; there
      may be others). `cer` strips white space at the ends and drops nothing else: spaces inside, punctuation and every
      code point count, and text is compared as it is, without Unicode normalization. With no reference token at all the
      rate is 0 if nothing was inserted, else 100.
    - `rouge1`, `rouge2`, `rougeL`: Lin (2004), the mean over examples of the F1 with the best r, by rouge-score on
      lower-cased words, with Chinese and Japanese split into characters; no stemmer.

    Intervals are 95 % percentile intervals of the score over test sets resampled with replacement; sacrebleu's
    "mean +- half width" comes from the same resamples and has the same width.

    Args:
        hypotheses: One output for each example.
        references: `references[r][i]`, the r-th reference of example i. None is a missing reference, and so is a blank
            one where the example has another.
        metrics: Names from `tfseq2seq.evaluation.metrics.METRICS`.
        bootstrap: Resamples for the confidence interval, 40 or more; 0 for no interval.
        seed: Seed of the resampling.
        tokenize: sacrebleu's BLEU tokenizer: 13a, intl, zh, char, none, ...
        lowercase: Lower-case both sides first (TER and ROUGE always do).

    Returns:
        One score for each name in `metrics`, in its order.

    Raises:
        UserError: No or uneven input, an example without a reference, an unknown metric or tokenizer, too small a
            `bootstrap`, or a negative seed.
    """
    names = check_metrics(metrics)
    settings = Settings(tokenize=tokenize, lowercase=lowercase, resamples=bootstrap, seed=seed)
    accepted = accepted_references(hypotheses, references)
    return [score(count(name, hypotheses, accepted, settings), settings)[0] for name in names]


def perplexity(total_log_probability: float, tokens: int) -> float:
    """Perplexity, exp(-log p / n), of a text of n tokens.

    Args:
        total_log_probability: Natural log-probability of all tokens together, at most 0 (up to rounding).
        tokens: How many tokens that is, end-of-sentence tokens included if their log-probability is.

    Returns:
        1 or more; infinite where it is more than a float can hold.

    Raises:
        UserError: No tokens, or a log-probability above 0.
    """
    if tokens <= 0:
        raise UserError(f"perplexity: tokens is {tokens}; it takes at least one token")
    # The slack is float32 rounding: the log-probability of a certain token can come out a little above 0.
    if total_log_probability > 1e-4 * tokens:
        raise UserError(
            f"perplexity: the log-probability is {total_log_probability}, above 0; a loss has the opposite sign"
        )
    try:
        return math.exp(-total_log_probability / tokens)
    except OverflowError:
        return math.inf


def check_metrics(metrics: Sequence[str]) -> list[str]:
    """The names as a list; raises UserError if there is none or one is unknown."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise UserError("metrics: none was given; name at least one, for example bleu")
    for name in names:
        check_metric(name)
    return names


def score(counted: Counted, settings: Settings) -> tuple[Score, np.ndarray]:
    """The score of what was counted, and its values on the resampled test sets, `[R]`, from which the interval comes.

    Two outputs for one test set see the same resampled test sets, since these depend on the settings and the number
    of examples alone.
    """
    value = float(counted.score(counted.statistics.sum(0, keepdims=True))[0])
    sampled = counted.score(resampled_sums(counted.statistics, settings.resamples, settings.seed))
    low, high = confidence_interval(sampled) if settings.resamples else (None, None)
    if not counted.details:
        return Score(counted.name, value, low, high, counted.signature), sampled
    totals = counted.statistics.sum(0)[-len(counted.details) :]
    details = {name: int(total) for name, total in zip(counted.details, totals, strict=True)}
    return DetailedScore(counted.name, value, low, high, counted.signature, details), sampled
