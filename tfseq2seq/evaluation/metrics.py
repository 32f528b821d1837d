"""The sufficient statistics of each metric per example, and the corpus score of their sums.

Every metric here is a function of sums over examples. A bootstrap resample therefore costs one row of a matrix product,
and no text is processed twice.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.score_normalization import NORMALIZATIONS

if TYPE_CHECKING:
    import numpy as np

METRICS = (
    "bleu",
    "bleu1",
    "bleu2",
    "bleu3",
    "bleu4",
    "chrf",
    "ter",
    "exact_match",
    "wer_any",
    "token_accuracy",
    "token_error_rate",
    "phoneme_error_rate",
    "wer",
    "cer",
    "rouge1",
    "rouge2",
    "rougeL",
    "cider",
    "distinct1",
    "distinct2",
    "top10_share",
)
# These look at the outputs alone.
WITHOUT_REFERENCES = frozenset({"distinct1", "distinct2", "top10_share"})
LOWER_IS_BETTER = frozenset({"ter", "wer_any", "token_error_rate", "phoneme_error_rate", "wer", "cer", "top10_share"})


def lower_is_better(monitor: str) -> bool:
    """Returns whether a lower value of a monitored score is better; `monitor` may be its name in the logs. What is no
    metric of text is a loss."""
    name = monitor.removeprefix("val_")
    return name in LOWER_IS_BETTER or name not in METRICS


# The units that the error rates of speech recognition count.
RECOGNITION_UNITS = {"wer": "word", "cer": "character"}

# The n of the n-grams that a metric counts.
_DISTINCT = {"distinct1": 1, "distinct2": 2}

# BLEU tokenizers for scripts without spaces. With them, TER splits text into characters.
_UNSPACED = ("zh", "char", "ja-mecab")


@dataclass(frozen=True)
class Settings:
    """The settings of a score, which are part of its signature.

    Attributes:
        tokenize: sacrebleu's tokenizer for BLEU: 13a, intl, zh, char, none and others.
        lowercase: Whether to compare lower-cased text.
        normalize: How outputs and references are normalized first, a name in `NORMALIZATIONS`.
        resamples: Number of bootstrap resamples, 0 for none.
        seed: Seed of the bootstrap.

    Raises:
        UserError: There are too few resamples to cut 2.5 % off at each end, or the seed is negative.
    """

    tokenize: str = "13a"
    lowercase: bool = False
    normalize: str = "none"
    resamples: int = 0
    seed: int = 12345

    def __post_init__(self) -> None:
        if self.resamples != 0 and self.resamples < 40:
            raise UserError(f"bootstrap resamples: must be at least 40 for a 95 % interval, got {self.resamples}")
        if self.normalize not in NORMALIZATIONS:
            raise UserError(f"normalize: must be one of {', '.join(NORMALIZATIONS)}, got {self.normalize!r}")
        if self.seed < 0:
            raise UserError(f"seed: must be at least 0, got {self.seed}")


@dataclass(frozen=True)
class Counted:
    """The statistics of a metric on a corpus.

    Attributes:
        name: Name to print.
        signature: The settings needed to reproduce the score, in sacrebleu's `key:value|...` style.
        statistics: `[N, C]` float64, the sufficient statistics of each example.
        score: Maps sums of the statistics, `[R, C]`, to scores `[R]`, in percent.
        details: Names of the last statistics, if their sums are reported with the score.
        resampled: Whether the score is a function of sums over examples. Otherwise there is one row of statistics, and
            the score has no interval.
    """

    name: str
    signature: str
    statistics: np.ndarray
    score: Callable[[np.ndarray], np.ndarray]
    details: tuple[str, ...] = ()
    resampled: bool = True


def count(metric: str, hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings) -> Counted:
    """Computes the statistics of one metric.

    Args:
        metric: A name in `METRICS`.
        hypotheses: One output per example.
        accepted: The references of each example, at least one per example.
        settings: The settings of the score.

    Raises:
        UserError: The metric is unknown (the message names the nearest valid one), or the tokenizer is unknown or not
            installed.
    """
    check_metric(metric)
    if settings.normalize == "none":
        return _count(metric, hypotheses, accepted, settings)
    normalized = NORMALIZATIONS[settings.normalize]
    hypotheses = [normalized(text) for text in hypotheses]
    accepted = [[normalized(text) for text in texts] for texts in accepted]
    counted = _count(metric, hypotheses, accepted, settings)
    return dataclasses.replace(counted, signature=f"{counted.signature}|norm:{settings.normalize}")


def _count(metric: str, hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings) -> Counted:
    if metric.startswith("bleu") or metric in ("chrf", "ter"):
        return _count_sacrebleu(metric, hypotheses, accepted, settings)
    if metric.startswith("rouge"):
        return _count_rouge(metric, hypotheses, accepted, settings)
    if metric == "cider":
        return _count_cider(hypotheses, accepted, settings)
    if metric in _DISTINCT:
        return _count_distinct(metric, hypotheses, settings)
    if metric == "top10_share":
        return _count_frequent(metric, hypotheses, settings)
    if metric in RECOGNITION_UNITS:
        return _count_recognition(metric, hypotheses, accepted, settings)
    return _count_tokens(metric, hypotheses, accepted, settings)


def check_metric(metric: str) -> None:
    """Raises UserError with the nearest valid metric unless `metric` is in `METRICS`."""
    if metric in METRICS:
        return
    lowered = {name.lower(): name for name in METRICS}
    close = difflib.get_close_matches(str(metric).lower(), lowered, n=1, cutoff=0.5)
    hint = f"did you mean {lowered[close[0]]!r}?" if close else ""
    raise UserError(f"metric {metric!r} is unknown; {hint or 'choose one'} (metrics: {', '.join(METRICS)})")


def check_monitor(monitor: str) -> None:
    """Raises UserError with the key `training.monitor` unless it is "loss" or in `METRICS`."""
    if monitor == "loss":
        return
    try:
        check_metric(monitor)
    except UserError as error:
        raise UserError(f"training.monitor: {error}; or choose loss") from None


def _count_sacrebleu(
    metric: str, hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings
) -> Counted:
    import numpy as np

    scorer = _sacrebleu_scorer(metric, settings)
    # sacrebleu.significance uses these two private methods. The public functions of sacrebleu do not return both ends
    # of an interval, and take the seed only from the environment.
    statistics = scorer._extract_corpus_statistics(hypotheses, list(itertools.zip_longest(*accepted)))

    def score(sums: np.ndarray) -> np.ndarray:
        return np.array([scorer._compute_score_from_stats(row).score for row in sums])

    if settings.resamples:
        scorer.n_bootstrap, scorer.seed = settings.resamples, str(settings.seed)
    values = np.array(statistics, dtype="float64")
    name = scorer._compute_score_from_stats(values.sum(0)).name
    if metric.removeprefix("bleu").isdigit():
        name = f"{name}-{metric.removeprefix('bleu')}"
    return Counted(name, str(scorer.get_signature()), values, score)


def _sacrebleu_scorer(metric: str, settings: Settings) -> Any:
    from sacrebleu.metrics import BLEU, CHRF, TER

    tokenizers = list(BLEU.TOKENIZERS)
    if settings.tokenize not in tokenizers:
        close = difflib.get_close_matches(str(settings.tokenize), tokenizers, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "choose one"
        raise UserError(f"tokenize {settings.tokenize!r} is unknown; {hint} (tokenizers: {', '.join(tokenizers)})")
    if metric == "chrf":
        return CHRF(lowercase=settings.lowercase)
    if metric == "ter":
        # The settings of Tercom, as in published TER scores: lower-cased, split at spaces. In a script without spaces
        # each sentence would be one word.
        split = settings.tokenize in _UNSPACED
        return TER(normalized=split, asian_support=split)
    try:
        order = int(metric.removeprefix("bleu") or 4)
        return BLEU(lowercase=settings.lowercase, tokenize=settings.tokenize, max_ngram_order=order)
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(f"tokenize {settings.tokenize!r} is not available: {' '.join(str(error).split())}") from error


def _count_rouge(
    metric: str, hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings
) -> Counted:
    """Computes the mean over examples of the F1 of Lin (2004) with the best reference, by rouge-score."""
    from importlib.metadata import version

    import numpy as np
    from rouge_score.rouge_scorer import RougeScorer

    from tfseq2seq.evaluation.rouge import ScriptTokenizer

    scorer = RougeScorer([metric], tokenizer=ScriptTokenizer())
    f1 = [
        scorer.score_multi(answers, hypothesis)[metric].fmeasure
        for hypothesis, answers in zip(hypotheses, accepted, strict=True)
    ]
    signature = _signature(accepted, settings, case="lc", tok="script", avg="examples", rouge=version("rouge-score"))
    return Counted(metric, signature, np.stack([f1, np.ones(len(f1))], axis=1), _ratio)


def _count_cider(hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings) -> Counted:
    """Computes the mean of CIDEr-D over examples. N-grams have the weights of the whole test set in resamples too."""
    import numpy as np

    from tfseq2seq.evaluation.cider import cider_scores
    from tfseq2seq.evaluation.rouge import ScriptTokenizer

    tokenize = ScriptTokenizer().tokenize
    scores = cider_scores(
        [tokenize(text) for text in hypotheses], [[tokenize(text) for text in answers] for answers in accepted]
    )
    signature = _signature(accepted, settings, case="lc", tok="script", avg="examples", version="d")
    return Counted("CIDEr-D", signature, np.stack([scores, np.ones(len(scores))], axis=1), _ratio)


def _count_distinct(metric: str, hypotheses: Sequence[str], settings: Settings) -> Counted:
    """Counts different n-grams. A resampled test set has examples twice, and so fewer different ones: an interval from
    such sets would lie below the score."""
    import numpy as np

    from tfseq2seq.evaluation.diversity import distinct_ngrams

    found = distinct_ngrams(hypotheses, _DISTINCT[metric])
    statistics = np.array([found], dtype="float64")
    return Counted(metric, "case:lc|tok:script|per:token", statistics, _ratio, resampled=False)


def _count_frequent(metric: str, hypotheses: Sequence[str], settings: Settings) -> Counted:
    """Counts outputs that are among the ten most frequent ones of the whole test set."""
    import numpy as np

    from tfseq2seq.evaluation.diversity import is_frequent

    frequent = np.array(is_frequent(hypotheses), dtype="float64")
    parts = ["case:lc", *([f"bs:{settings.resamples}|seed:{settings.seed}"] if settings.resamples else [])]
    return Counted(metric, "|".join(parts), np.stack([frequent, np.ones(len(frequent))], axis=1), _ratio)


def _count_recognition(
    metric: str, hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings
) -> Counted:
    """Counts errors, reference length, substitutions, deletions and insertions against the nearest reference."""
    from importlib.metadata import version

    import numpy as np

    unit = RECOGNITION_UNITS[metric]
    repeated = [hypothesis for hypothesis, answers in zip(hypotheses, accepted, strict=True) for _ in answers]
    flat = [answer for answers in accepted for answer in answers]
    if settings.lowercase:
        repeated, flat = [text.lower() for text in repeated], [text.lower() for text in flat]
    found = align(repeated, flat, unit)
    counts = iter(map(edit_counts, found.alignments, map(len, found.references)))
    best = [
        min(itertools.islice(counts, len(answers)), key=lambda counted: (counted[0], -counted[1]))
        for answers in accepted
    ]
    case = "lc" if settings.lowercase else "mixed"
    tok = "space" if unit == "word" else "char"
    signature = _signature(accepted, settings, case=case, tok=tok, avg="corpus", jiwer=version("jiwer"))
    details = ("length", "substitutions", "deletions", "insertions")
    return Counted(metric.upper(), signature, np.array(best, dtype="float64"), _ratio, details)


def align(hypotheses: Sequence[str], references: Sequence[str], unit: str) -> Any:
    """Computes jiwer's Levenshtein alignment of each hypothesis with its reference.

    Words are separated by any white space. Characters are the code points of a text without white space at its ends;
    spaces inside the text count.

    Args:
        hypotheses: One output per example.
        references: One reference per example.
        unit: "word" or "character".

    Returns:
        A `jiwer.WordOutput` or `jiwer.CharacterOutput`: `references` and `hypotheses` are lists of tokens, `alignments`
        are lists of chunks, one list per example.
    """
    import jiwer

    if unit == "character":
        return jiwer.process_characters(list(references), list(hypotheses))
    # jiwer splits only at spaces, so two words with a tab between them would be one word.
    spaced = [[" ".join(text.split()) for text in texts] for texts in (references, hypotheses)]
    return jiwer.process_words(spaced[0], spaced[1])


def edit_counts(chunks: Sequence[Any], length: int) -> tuple[int, int, int, int, int]:
    """Returns (errors, reference length, substitutions, deletions, insertions) of one alignment from `align`."""
    kinds = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for chunk in chunks:
        of_reference, of_hypothesis = chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
        kinds[chunk.type] += max(of_reference, of_hypothesis)
    substitutions, deletions, insertions = kinds["substitute"], kinds["delete"], kinds["insert"]
    return substitutions + deletions + insertions, length, substitutions, deletions, insertions


def _count_tokens(
    metric: str, hypotheses: Sequence[str], accepted: Sequence[Sequence[str]], settings: Settings
) -> Counted:
    import numpy as np

    compared, tok, empty = _BY_EXAMPLE[metric]
    if settings.lowercase:
        hypotheses = [hypothesis.lower() for hypothesis in hypotheses]
        accepted = [[answer.lower() for answer in answers] for answers in accepted]
    pairs = [compared(hypothesis, answers) for hypothesis, answers in zip(hypotheses, accepted, strict=True)]
    case = "lc" if settings.lowercase else "mixed"
    signature = _signature(accepted, settings, case=case, tok=tok, avg="corpus")

    def score(sums: np.ndarray) -> np.ndarray:
        return _ratio(sums, empty=empty)

    return Counted(metric, signature, np.array(pairs, dtype="float64"), score)


def _ratio(sums: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """Returns 100 * first / second statistic. If the second is 0, returns 100 for a positive first, else `empty`."""
    import numpy as np

    counted, total = sums[:, 0], sums[:, 1]
    without_total = np.where(counted > 0, 100.0, empty)
    return np.divide(100.0 * counted, total, out=without_total, where=total > 0)


def _signature(accepted: Sequence[Sequence[str]], settings: Settings, **details: str) -> str:
    references = {len(answers) for answers in accepted}
    parts = {"nrefs": references.pop() if len(references) == 1 else "var"}
    if settings.resamples:
        parts |= {"bs": settings.resamples, "seed": settings.seed}
    return "|".join(f"{key}:{value}" for key, value in (parts | details).items())


# ---- one example: (count, total) with the best of its references --------------------------------------------------
# Ties are decided for the longer reference, so that scores do not depend on the order of references.


def _exact_match(hypothesis: str, answers: Sequence[str]) -> tuple[int, int]:
    return int(hypothesis.strip() in {answer.strip() for answer in answers}), 1


def _wer_any(hypothesis: str, answers: Sequence[str]) -> tuple[int, int]:
    return 1 - _exact_match(hypothesis, answers)[0], 1


def _token_accuracy(hypothesis: str, answers: Sequence[str]) -> tuple[int, int]:
    tokens = hypothesis.split()
    counts = []
    for answer in answers:
        reference = answer.split()
        equal = sum(ours == theirs for ours, theirs in zip(tokens, reference, strict=False))
        counts.append((equal, max(len(tokens), len(reference))))
    return max(counts, key=lambda pair: (pair[0] / pair[1] if pair[1] else 1.0, pair[1]))


def _token_errors(hypothesis: str, answers: Sequence[str]) -> tuple[int, int]:
    tokens = hypothesis.split()
    counts = []
    for answer in answers:
        reference = answer.split()
        counts.append((edit_distance(tokens, reference), len(reference)))
    return min(counts, key=lambda pair: (pair[0], -pair[1]))


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the Levenshtein distance: the minimum number of insertions, deletions and substitutions that turn `first`
    into `second`.
    """
    start, end_first, end_second = 0, len(first), len(second)
    # A common prefix and a common suffix do not change the distance. With a good system they are most of the text.
    while start < min(end_first, end_second) and first[start] == second[start]:
        start += 1
    while min(end_first, end_second) > start and first[end_first - 1] == second[end_second - 1]:
        end_first, end_second = end_first - 1, end_second - 1
    first, second = first[start:end_first], second[start:end_second]
    previous = list(range(len(second) + 1))
    for row, left in enumerate(first, start=1):
        current = [row]
        for column, right in enumerate(second):
            current.append(min(previous[column] + (left != right), previous[column + 1] + 1, current[column] + 1))
        previous = current
    return previous[-1]


# The counting function, the token unit in the signature, and the score if both sides are empty.
_BY_EXAMPLE: dict[str, tuple[Callable[[str, Sequence[str]], tuple[int, int]], str, float]] = {
    "exact_match": (_exact_match, "line", 100.0),
    "wer_any": (_wer_any, "line", 0.0),
    "token_accuracy": (_token_accuracy, "space", 100.0),
    "token_error_rate": (_token_errors, "space", 0.0),
    "phoneme_error_rate": (_token_errors, "space", 0.0),
}
