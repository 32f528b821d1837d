"""What scores of summaries are read beside: the lead of the source as a baseline, and how much of a summary is new."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.references import ReferenceSets, accepted_references
from tfseq2seq.evaluation.rouge import ScriptTokenizer, ngrams
from tfseq2seq.evaluation.scores import Score, corpus_scores

# A sentence ends with a full-width mark, or with an ASCII mark before a space or a Chinese or Japanese character, and
# includes closing quotation marks and brackets. "3.5" and "e.g.," end no sentence.
_END = re.compile(r"(?:[。！？；]+[”’」』）]*|[.!?]+[\"')\]”’]*(?=\s|[\u3040-\u30ff\u3400-\u9fff]|$))\s*")
_LONGEST = 4


def lead(text: str, count: int) -> str:
    """Returns the first `count` sentences of a text, or the whole text if it has no more.

    A line of text without any mark of a sentence is one sentence.
    """
    ends = [match.end() for match in _END.finditer(text)]
    return text[: ends[count - 1]].strip() if len(ends) >= count else text.strip()


def novel_share(outputs: Sequence[Sequence[str]], sources: Sequence[Sequence[str]], size: int) -> float:
    """Returns the share in percent of n-grams of outputs that their sources do not have (See et al. 2017, figure 6).

    An n-gram that occurs twice counts twice. Without any n-gram the share is 0.

    Args:
        outputs: the tokens of one output per example.
        sources: the tokens of the source of each example.
        size: n.
    """
    novel, total = 0, 0
    for output, source in zip(outputs, sources, strict=True):
        known, own = set(ngrams(source, size)), ngrams(output, size)
        novel, total = novel + sum(ngram not in known for ngram in own), total + len(own)
    return 100.0 * novel / total if total else 0.0


def summary_scores(
    outputs: Sequence[str],
    sources: Sequence[str],
    references: ReferenceSets,
    metrics: Sequence[str],
    count: int,
    **settings: Any,
) -> list[Score]:
    """Returns the scores of the lead baseline, and the shares of novel n-grams of outputs and references, n = 1 to 4.

    The n-grams are of the tokens of ROUGE: lower-cased words, and single characters of Chinese and Japanese. Of several
    references the first counts that is not missing.

    Args:
        outputs: one output per example.
        sources: the source of each example.
        references: as for `corpus_scores`.
        metrics: metrics of the baseline.
        count: the number of sentences of the baseline.
        settings: of `corpus_scores`.

    Raises:
        UserError: there are not as many sources as outputs, or as for `corpus_scores`.
    """
    if len(sources) != len(outputs):
        raise UserError(f"--lead: must have a source for each of {len(outputs):,} outputs, got {len(sources):,}")
    leads = [lead(text, count) for text in sources]
    found = [
        dataclasses.replace(one, name=f"lead-{count} {one.name}")
        for one in corpus_scores(leads, references, metrics, **settings)
    ]
    tokenize = ScriptTokenizer().tokenize
    source_tokens = [tokenize(text) for text in sources]
    first = [answers[0] for answers in accepted_references(outputs, references)]
    for name, texts in (("outputs", outputs), ("first references", first)):
        tokens = [tokenize(text) for text in texts]
        for size in range(1, _LONGEST + 1):
            share = novel_share(tokens, source_tokens, size)
            found.append(Score(f"novel {size}-grams of {name}", share, None, None, "case:lc|tok:rouge|avg:corpus"))
    return found
