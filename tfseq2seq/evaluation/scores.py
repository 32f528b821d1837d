"""Corpus scores of text with references, with confidence intervals and signatures."""

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
    """The score of one metric on one test set.

    Attributes:
        name: The printed name of the metric: BLEU, chrF2, TER, WER, CER, or the requested name.
        value: In percent. Error rates can exceed 100.
        low: Lower end of the 95 % bootstrap confidence interval, or None without an interval.
        high: Upper end of the interval, or None.
        signature: The settings needed to reproduce the score.
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
        """Returns the fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class DetailedScore(Score):
    """A score with its counts, for `wer` and `cer`.

    Attributes:
        details: Counts of the whole test set by name: length (of the references), substitutions, deletions, insertions.
            With several references per example, those of the nearest reference.
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
    normalize: str = "none",
) -> list[Score]:
    """Scores the output of a system with references.

    All scores are in percent, but that of CIDEr-D is 100 where a hypothesis has one tenth of the possible agreement,
    as in publications. h is a hypothesis, r is a reference. Tokens are separated by white space.

    - `bleu`: Papineni et al. (2002), by sacrebleu (Post 2018). `bleu1` to `bleu4` have n-grams up to this length;
      `bleu4` is `bleu`. Captions are usually scored with `lowercase`.
    - `chrf`: character n-gram F2, Popovic (2015), by sacrebleu.
    - `ter`: translation edit rate, Snover et al. (2006), by sacrebleu with Tercom's settings: always lower-cased. With
      `tokenize` zh, char or ja-mecab, Chinese and Japanese characters are words; otherwise words are split at white
      space.
    - `exact_match`: sequence accuracy, the share of examples whose h equals any r. White space at the ends is ignored.
    - `wer_any`: 100 - `exact_match`, the word error rate of grapheme-to-phoneme conversion, where an output is wrong if
      it is not one of the accepted pronunciations.
    - `token_accuracy`: the number of positions j with h_j = r_j, divided by max(|h|, |r|), both summed over the corpus.
      Each example uses the r with the highest ratio; of equal ones, the longest. One extra token at the start shifts
      all other tokens.
    - `token_error_rate`, `phoneme_error_rate` (two names of the same metric; on words it is the word error rate): the
      Levenshtein distance from h to the nearest r, divided by |r|, both summed over the corpus. Of equally near
      references the longest is used.
    - `wer`, `cer`: word and character error rate of speech recognition, the same distance in words or characters, by
      jiwer. The score is a `DetailedScore` with substitutions, deletions and insertions of an optimal alignment; there
      may be other optimal alignments. `cer` removes only white space at the ends: spaces inside, punctuation and every
      code point count, and text is compared without Unicode normalization. If there are no reference tokens at all, the
      rate is 0 without insertions and 100 with insertions.
    - `rouge1`, `rouge2`, `rougeL`: Lin (2004), the mean over examples of the F1 with the best r, by rouge-score on
      lower-cased words, with Chinese and Japanese split into characters; no stemmer.
    - `cider`: CIDEr-D of Vedantam et al. (2015) on the same words, for examples with several references. It needs a
      whole test set, as rare n-grams count more.

    - `distinct1`, `distinct2`: Li et al. (2016), the number of different words or pairs of words in all h, divided by
      the number of words. They need no r, and have no interval.
    - `top10_share`: the share of h that are one of the ten most frequent ones. The interval takes these ten as given.

    Intervals are 95 % percentile intervals of the score over test sets resampled with replacement. sacrebleu's
    "mean +- half width" comes from the same resamples and has the same width.

    Args:
        hypotheses: One output per example.
        references: `references[r][i]`, the r-th reference of example i. None is a missing reference. A blank reference
            is missing too if the example has another one.
        metrics: Names from `tfseq2seq.evaluation.metrics.METRICS`.
        bootstrap: Number of resamples for the confidence interval, 40 or more; 0 for no interval.
        seed: Seed of the resampling.
        tokenize: sacrebleu's BLEU tokenizer: 13a, intl, zh, char, none, ...
        lowercase: Whether to lower-case both sides first (TER and ROUGE always do).
        normalize: How both sides are normalized first: none, nfc, nfkc, or basic (as Whisper's scores: NFKC, lower
            case, without punctuation, symbols and text in brackets).

    Returns:
        One score for each name in `metrics`, in the same order.

    Raises:
        UserError: The input is empty or has different lengths; an example has no reference; the metric or tokenizer is
            unknown; `bootstrap` is too small; or the seed is negative.
    """
    names = check_metrics(metrics)
    settings = Settings(tokenize, lowercase, normalize, bootstrap, seed)
    accepted = accepted_references(hypotheses, references)
    return [score(count(name, hypotheses, accepted, settings), settings)[0] for name in names]


def perplexity(total_log_probability: float, tokens: int) -> float:
    """Returns the perplexity, exp(-log p / n), of a text of n tokens.

    Args:
        total_log_probability: Sum of the natural log-probabilities of all tokens, at most 0 (up to rounding).
        tokens: Number of tokens n. End-of-sentence tokens count if their log-probabilities are part of the sum.

    Returns:
        1 or more; infinite if it exceeds the range of a float.

    Raises:
        UserError: There are no tokens, or the log-probability is above 0.
    """
    if tokens <= 0:
        raise UserError(f"perplexity: must have at least one token, got {tokens}")
    # The tolerance is for float32 rounding: the log-probability of a certain token can be slightly above 0.
    if total_log_probability > 1e-4 * tokens:
        raise UserError(
            f"perplexity: the log-probability must be at most 0, got {total_log_probability}; a loss has the opposite "
            "sign"
        )
    try:
        return math.exp(-total_log_probability / tokens)
    except OverflowError:
        return math.inf


def check_metrics(metrics: Sequence[str]) -> list[str]:
    """Returns the names as a list. Raises UserError if there are none or one is unknown."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise UserError("metrics: must have at least one metric, for example bleu, got none")
    for name in names:
        check_metric(name)
    return names


def score(counted: Counted, settings: Settings) -> tuple[Score, np.ndarray]:
    """Computes a score from statistics, and its values `[R]` on the resampled test sets, which give the interval.

    The resampled test sets depend only on the settings and the number of examples, so they are the same for two outputs
    for one test set.
    """
    value = float(counted.score(counted.statistics.sum(0, keepdims=True))[0])
    if not counted.resampled:
        return Score(counted.name, value, None, None, counted.signature), counted.statistics[:0, 0]
    sampled = counted.score(resampled_sums(counted.statistics, settings.resamples, settings.seed))
    low, high = confidence_interval(sampled) if settings.resamples else (None, None)
    if not counted.details:
        return Score(counted.name, value, low, high, counted.signature), sampled
    totals = counted.statistics.sum(0)[-len(counted.details) :]
    details = {name: int(total) for name, total in zip(counted.details, totals, strict=True)}
    return DetailedScore(counted.name, value, low, high, counted.signature, details), sampled
