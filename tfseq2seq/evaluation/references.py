"""Reading of reference files, and the checks of hypotheses and references that every score needs."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.files import read_lines

ReferenceSets = Sequence[Sequence[str | None]]


def unwritten_warnings(references: ReferenceSets, target: Any) -> list[str]:
    """Returns a warning if references have characters that a model can never write, as its vocabulary lacks them.

    Args:
        references: the reference sets.
        target: the target text features of the model.
    """
    written = target.characters()
    if written is None:
        return []
    missing: collections.Counter[str] = collections.Counter()
    lines = 0
    for text in itertools.chain.from_iterable(references):
        lacking = [letter for letter in target.writable(text) if letter not in written] if text else []
        lines += bool(lacking)
        missing.update(lacking)
    if not lines:
        return []
    shown = ", ".join(f"{letter!r} ({count:,})" for letter, count in missing.most_common(5))
    return [
        f"{lines:,} references have characters that the model never writes, such as {shown}; its target has "
        f"normalization {target.spec.normalization} and a vocabulary without them"
    ]


def read_references(
    paths: str | Path | Sequence[str | Path], *, separator: str | None = None
) -> list[list[str | None]]:
    """Reads reference files into reference sets, as `corpus_scores` and `compare` expect them.

    Args:
        paths: One file or several. Line i of each is a reference for example i.
        separator: Text between the accepted answers of one line, such as `"|"` in `AH B | EY B`. White space around
            each answer is removed. With None the whole line is one reference.

    Returns:
        `references[r][i]`, the r-th reference of example i, or None if example i has fewer than r + 1 references.

    Raises:
        UserError: There is no path; a file cannot be read; the separator is empty; or the files have different numbers
            of lines.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise UserError("references: must have at least one file, got none")
    if separator == "":
        raise UserError('separator: must not be empty; give the text between accepted answers, for example "|"')
    columns = [read_lines(path, pipe=True) for path in files]
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{path} has {len(column)}" for path, column in zip(files, columns, strict=True))
        raise UserError(f"reference files: must have the same number of lines (line i is for example i), got {counts}")
    rows = zip(*columns, strict=True)
    if separator is None:
        answers = [list(row) for row in rows]
    else:
        answers = [[answer.strip() for line in row for answer in line.split(separator)] for row in rows]
    return [list(answer_set) for answer_set in itertools.zip_longest(*answers)]


def accepted_references(hypotheses: Sequence[str], references: ReferenceSets) -> list[list[str]]:
    """Checks hypotheses and reference sets, and returns the references of each example.

    None is a missing reference. A blank reference is missing too if the example has another one: files mark a missing
    second reference in this way. As text, it would remove BLEU's brevity penalty and halve the denominator of TER. If
    the only reference of an example is blank, it is an empty reference.

    Args:
        hypotheses: One output per example.
        references: `references[r][i]`, the r-th reference of example i, or None.

    Returns:
        The references of each example, at least one per example.

    Raises:
        UserError: There are no hypotheses; the numbers of lines differ; or an example has no reference.
    """
    check_hypotheses("hypotheses", hypotheses)
    if isinstance(references, str) or any(isinstance(answer_set, str) for answer_set in references):
        raise UserError("references: expected a list of reference sets, got strings; for one set write [references]")
    if not references:
        raise UserError("references: must have at least one reference set, got none")
    for r, answer_set in enumerate(references):
        if len(answer_set) != len(hypotheses):
            raise UserError(
                f"references[{r}]: must have one line per hypothesis ({len(hypotheses)}), got {len(answer_set)}; "
                "line i of each must be for the same example"
            )
    accepted = []
    for i, answers in enumerate(zip(*references, strict=True)):
        present = [answer for answer in answers if answer is not None]
        if not all(isinstance(answer, str) for answer in present):
            raise UserError(f"example {i + 1}: references must be strings; decode them to text first")
        if not present:
            raise UserError(f"example {i + 1}: must have at least one reference, got {len(references)} times None")
        accepted.append([answer for answer in present if answer.strip()] or [""])
    return accepted


def check_hypotheses(name: str, hypotheses: Sequence[str]) -> None:
    """Raises UserError with `name` as the place unless `hypotheses` is a non-empty list of strings."""
    if isinstance(hypotheses, str):
        raise UserError(f"{name}: expected a list of strings, got one string; for one example write [text]")
    if not hypotheses:
        raise UserError(f"{name}: must have at least one line, got none")
    for i, hypothesis in enumerate(hypotheses):
        if not isinstance(hypothesis, str):
            raise UserError(
                f"{name}: line {i + 1}: expected a string, got {type(hypothesis).__name__}; decode it to text first"
            )
