"""Where a speech recognizer errs, to be read by people, and how fast it is."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import RECOGNITION_UNITS, align, edit_counts
from tfseq2seq.evaluation.references import check_hypotheses

# One aligned position: reference token, hypothesis token, and S, D, I or a blank. The absent token is None.
_Pair = tuple[str | None, str | None, str]

# Columns of a terminal that an aligned row fills before it goes on below.
_COLUMNS = 110


def alignment_report(
    hypotheses: Sequence[str],
    references: Sequence[str],
    names: Sequence[str] | None = None,
    worst: int = 10,
    unit: str = "word",
) -> str:
    """The worst utterances, aligned, and the most frequent errors of a corpus.

        WER 40.00 %: 1 substitution, 1 deletion, 0 insertions in 5 words; 1 of 1 utterance wrong

        line 1: 2 errors in 5 words
        REF: the cat sat on the
        HYP: the hat *** on the
                 S   D

    Rows align on terminals that show East Asian wide characters in two columns. Of several optimal alignments jiwer's
    is shown. Utterances come by their number of errors, then by error rate, then in their own order; those without
    error are left out. Texts are compared as they are: change case or punctuation on both sides beforehand.

    Args:
        hypotheses: One output for each utterance.
        references: One reference for each utterance.
        names: What to call each utterance, such as its file; "line 1" and so on by default.
        worst: How many utterances to show, and how many substitutions, deletions and insertions; 1 or more.
        unit: "word" (what white space separates) or "character" (spaces inside count, those at the ends do not).

    Returns:
        Lines of text, the last one ended.

    Raises:
        UserError: No or uneven input, something that is no string, an unknown unit, or `worst` below 1.
    """
    if unit not in RECOGNITION_UNITS.values():
        raise UserError(f"unit {unit!r} is unknown; choose one of {', '.join(RECOGNITION_UNITS.values())}")
    if worst < 1:
        raise UserError(f"worst: {worst} utterances cannot be shown; give 1 or more")
    check_hypotheses("hypotheses", hypotheses)
    check_hypotheses("references", references)
    names = [f"line {number}" for number in range(1, len(references) + 1)] if names is None else names
    if not len(hypotheses) == len(references) == len(names):
        raise UserError(
            f"there are {len(hypotheses)} hypotheses, {len(references)} references and {len(names)} names; "
            "each utterance needs one of each"
        )
    found = align(hypotheses, references, unit)
    counts = [edit_counts(chunks, len(words)) for chunks, words in zip(found.alignments, found.references, strict=True)]
    wrong = sorted(
        (index for index, counted in enumerate(counts) if counted[0]),
        key=lambda index: (-counts[index][0], counts[index][1]),
    )
    lines = [_summary(counts, unit)]
    for index in wrong[:worst]:
        errors, length = counts[index][:2]
        lines += ["", f"{_shown(names[index])}: {_many(errors, 'error')} in {_many(length, unit)}"]
        lines += _rows(list(_pairs(found, index)), separator=" " if unit == "word" else "")
    lines += _frequent([pair for index in wrong for pair in _pairs(found, index)], worst)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def real_time_factor(seconds_of_audio: float, seconds_of_work: float) -> float:
    """Seconds of work for each second of audio: work / audio.

    Below 1 is faster than the speech, and less is better: 0.1 means an hour of audio in six minutes.

    Raises:
        UserError: The audio is not longer than 0, or the work is below 0.
    """
    # Written so that NaN is refused too.
    if not 0 < seconds_of_audio < float("inf"):
        raise UserError(f"real-time factor: there are {seconds_of_audio} seconds of audio; it takes more than 0")
    if not seconds_of_work >= 0:
        raise UserError(f"real-time factor: the work took {seconds_of_work} seconds; give 0 or more")
    return seconds_of_work / seconds_of_audio


def _summary(counts: Sequence[tuple[int, int, int, int, int]], unit: str) -> str:
    errors, length, substitutions, deletions, insertions = (sum(column) for column in zip(*counts, strict=True))
    rate = f" {100 * errors / length:.2f} %" if length else ""
    metric = next(name for name, counted in RECOGNITION_UNITS.items() if counted == unit)
    kinds = (_many(substitutions, "substitution"), _many(deletions, "deletion"), _many(insertions, "insertion"))
    wrong = sum(counted[0] > 0 for counted in counts)
    return (
        f"{metric.upper()}{rate}: {', '.join(kinds)} in {_many(length, unit)}; "
        f"{wrong} of {_many(len(counts), 'utterance')} wrong"
    )


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pairs(found: Any, index: int) -> Iterator[_Pair]:
    reference, hypothesis = found.references[index], found.hypotheses[index]
    for chunk in found.alignments[index]:
        mark = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}[chunk.type]
        ours = reference[chunk.ref_start_idx : chunk.ref_end_idx] or [None] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
        theirs = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx] or [None] * len(ours)
        yield from ((left, right, mark) for left, right in zip(ours, theirs, strict=True))


def _rows(pairs: Sequence[_Pair], separator: str) -> Iterator[str]:
    """REF, HYP and marks below each other, as many times as the width of a terminal asks for."""
    rows, filled = ["REF: ", "HYP: ", "     "], 0
    for reference, hypothesis, mark in pairs:
        tokens = [None if token is None else _shown(token) for token in (reference, hypothesis)]
        width = max(1, *(_width(token) for token in tokens if token is not None))
        if filled and filled + width > _COLUMNS:
            yield from rows
            rows, filled = ["REF: ", "HYP: ", "     "], 0
        cells = ["*" * width if token is None else token for token in tokens]
        for row, cell in enumerate((*cells, mark)):
            rows[row] += cell + " " * (width - _width(cell)) + separator
        filled += width + len(separator)
    yield from rows


def _frequent(pairs: Sequence[_Pair], most: int) -> Iterator[str]:
    for mark, title in (("S", "substitutions"), ("D", "deletions"), ("I", "insertions")):
        # Sorted first, as Counter leaves equals in the order in which they came.
        counted = Counter(sorted((left or "", right or "") for left, right, kind in pairs if kind == mark))
        if not counted:
            continue
        yield from ("", f"most frequent {title}, {len(counted)} different")
        for (left, right), number in counted.most_common(most):
            texts = [_quoted(token) for token in (left, right) if token]
            yield f"{number:6d}  {' -> '.join(texts)}"


def _quoted(token: str) -> str:
    return "' '" if token == " " else _shown(token)


def _shown(text: str) -> str:
    """Text without what would break the rows: characters that do not print are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _width(text: str) -> int:
    """Columns of a terminal: none for marks that go above or below, two for East Asian wide characters."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(c) in ("W", "F"))
        for c in text
    )
