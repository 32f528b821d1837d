"""Reports of recognition errors with alignments, and the real-time factor."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import RECOGNITION_UNITS, align, edit_counts
from tfseq2seq.evaluation.references import check_hypotheses

# One aligned position: reference token, hypothesis token, and "S", "D", "I" or "". A missing token is None.
_Pair = tuple[str | None, str | None, str]

# The number of terminal columns after which an aligned row is wrapped.
_COLUMNS = 110


def alignment_report(
    hypotheses: Sequence[str],
    references: Sequence[str],
    names: Sequence[str] | None = None,
    worst: int = 10,
    unit: str = "word",
) -> str:
    """Returns a report with the worst utterances, aligned, and the most frequent errors of a corpus.

        WER 40.00 %: 1 substitution, 1 deletion, 0 insertions in 5 words; 1 of 1 utterance wrong

        line 1: 2 errors in 5 words
        REF: the cat sat on the
        HYP: the hat *** on the
                 S   D

    The rows are aligned on terminals that show East Asian wide characters in two columns. If there are several optimal
    alignments, jiwer's is shown. Utterances are sorted by the number of errors, then by error rate, then by their
    order. Utterances without errors are omitted. Texts are compared as they are; to ignore case or punctuation,
    normalize both sides first.

    Args:
        hypotheses: One output per utterance.
        references: One reference per utterance.
        names: Name of each utterance, such as its file; "line 1" and so on by default.
        worst: Number of utterances to show, and of substitutions, deletions and insertions; 1 or more.
        unit: "word" (separated by white space) or "character" (spaces inside count, spaces at the ends do not).

    Returns:
        Lines of text, each ending with a line break.

    Raises:
        UserError: The input is empty or has different lengths; an entry is not a string; the unit is unknown; or
            `worst` is below 1.
    """
    if unit not in RECOGNITION_UNITS.values():
        raise UserError(f"unit: must be one of {', '.join(RECOGNITION_UNITS.values())}, got {unit!r}")
    if worst < 1:
        raise UserError(f"worst: must be at least 1, got {worst}")
    check_hypotheses("hypotheses", hypotheses)
    check_hypotheses("references", references)
    names = [f"line {number}" for number in range(1, len(references) + 1)] if names is None else names
    if not len(hypotheses) == len(references) == len(names):
        raise UserError(
            "each utterance needs one hypothesis, one reference and one name, got "
            f"{len(hypotheses)} hypotheses, {len(references)} references and {len(names)} names"
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
        lines += ["", f"{_shown(names[index])}: {_plural(errors, 'error')} in {_plural(length, unit)}"]
        lines += _rows(list(_pairs(found, index)), separator=" " if unit == "word" else "")
    lines += _frequent([pair for index in wrong for pair in _pairs(found, index)], worst)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def real_time_factor(seconds_of_audio: float, seconds_of_work: float) -> float:
    """Returns the real-time factor: processing time / duration of the audio.

    Less is better, and below 1 is faster than real time: 0.1 means an hour of audio in six minutes.

    Args:
        seconds_of_audio: Duration of the audio in seconds.
        seconds_of_work: Processing time in seconds.

    Raises:
        UserError: The duration is not a finite number above 0, or the processing time is below 0.
    """
    # The conditions also reject NaN.
    if not 0 < seconds_of_audio < float("inf"):
        raise UserError(
            f"real-time factor: the duration of the audio must be finite and above 0 seconds, got {seconds_of_audio}"
        )
    if not seconds_of_work >= 0:
        raise UserError(f"real-time factor: the processing time must be at least 0 seconds, got {seconds_of_work}")
    return seconds_of_work / seconds_of_audio


def _summary(counts: Sequence[tuple[int, int, int, int, int]], unit: str) -> str:
    errors, length, substitutions, deletions, insertions = (sum(column) for column in zip(*counts, strict=True))
    rate = f" {100 * errors / length:.2f} %" if length else ""
    metric = next(name for name, counted in RECOGNITION_UNITS.items() if counted == unit)
    kinds = (_plural(substitutions, "substitution"), _plural(deletions, "deletion"), _plural(insertions, "insertion"))
    wrong = sum(counted[0] > 0 for counted in counts)
    return (
        f"{metric.upper()}{rate}: {', '.join(kinds)} in {_plural(length, unit)}; "
        f"{wrong} of {_plural(len(counts), 'utterance')} wrong"
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pairs(found: Any, index: int) -> Iterator[_Pair]:
    reference, hypothesis = found.references[index], found.hypotheses[index]
    for chunk in found.alignments[index]:
        mark = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}[chunk.type]
        ref = reference[chunk.ref_start_idx : chunk.ref_end_idx] or [None] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
        hyp = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx] or [None] * len(ref)
        yield from ((left, right, mark) for left, right in zip(ref, hyp, strict=True))


def _rows(pairs: Sequence[_Pair], separator: str) -> Iterator[str]:
    """Returns the rows REF, HYP and marks, wrapped to the width of a terminal."""
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


def _frequent(pairs: Sequence[_Pair], count: int) -> Iterator[str]:
    for mark, title in (("S", "substitutions"), ("D", "deletions"), ("I", "insertions")):
        # Counter keeps equally frequent entries in the order of insertion, so they are sorted first.
        counted = Counter(sorted((left or "", right or "") for left, right, kind in pairs if kind == mark))
        if not counted:
            continue
        yield from ("", f"most frequent {title}, {len(counted)} different")
        for (left, right), number in counted.most_common(count):
            texts = [_quoted(token) for token in (left, right) if token]
            yield f"{number:6d}  {' -> '.join(texts)}"


def _quoted(token: str) -> str:
    return "' '" if token == " " else _shown(token)


def _shown(text: str) -> str:
    """Returns text with escapes for characters that are not printable and would break the rows."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _width(text: str) -> int:
    """Returns the number of terminal columns: none for combining marks, two for East Asian wide characters."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(c) in ("W", "F"))
        for c in text
    )
