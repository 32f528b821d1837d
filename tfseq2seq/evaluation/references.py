"""Hypothesis and reference text: files to lists, and the checks every score needs before it can count anything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.files import read_lines

ReferenceSets = Sequence[Sequence[str | None]]


def read_references(
    paths: str | Path | Sequence[str | Path], *, separator: str | None = None
) -> list[list[str | None]]:
    """Reads reference files into reference sets, the form that `corpus_scores` and `compare` take.

    Args:
        paths: One file, or several with line i of each a reference for example i.
        separator: Text between the accepted answers of one line, such as `"|"` in `AH B | EY B`. White space around
            each answer is dropped. None: the whole line is one reference.

    Returns:
        `references[r][i]`, the r-th reference of example i, or None where example i has fewer than r + 1.

    Raises:
        UserError: No path, an unreadable file, an empty separator, or files of different line counts.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise UserError("references: no file was given; name at least one")
    if separator == "":
        raise UserError('separator: it is empty; give the text between accepted answers, for example "|"')
    columns = [read_lines(path) for path in files]
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{path} has {len(column)}" for path, column in zip(files, columns, strict=True))
        raise UserError(f"reference files differ in their number of lines: {counts}; line i of each is for example i")
    rows = zip(*columns, strict=True)
    if separator is None:
        answers = [list(row) for row in rows]
    else:
        answers = [[answer.strip() for line in row for answer in line.split(separator)] for row in rows]
    return [list(answer_set) for answer_set in itertools.zip_longest(*answers)]


def accepted_references(hypotheses: Sequence[str], references: ReferenceSets) -> list[list[str]]:
    """Checks hypotheses against reference sets and turns the sets over: all references of each example.

    None is a missing reference. So is a blank one where the example has another: it is how a file says "no second
    reference here", and counted as text it would let BLEU drop its brevity penalty and TER halve its denominator.
    A blank reference that is an example's only one is a real, empty, reference.

    Args:
        hypotheses: One output for each example.
        references: `references[r][i]`, the r-th reference of example i, or None.

    Returns:
        For each example its references, at least one.

    Raises:
        UserError: Nothing to score, counts that differ, or an example with no reference.
    """
    check_hypotheses("hypotheses", hypotheses)
    if isinstance(references, str) or any(isinstance(answer_set, str) for answer_set in references):
        raise UserError("references: expected a list of reference sets, got strings; with one set write [references]")
    if not references:
        raise UserError("references: there is no reference set; give at least one list of references")
    for r, answer_set in enumerate(references):
        if len(answer_set) != len(hypotheses):
            raise UserError(
                f"references[{r}] has {len(answer_set)} lines but there are {len(hypotheses)} hypotheses; "
                "line i of each must be for the same example"
            )
    accepted = []
    for i, answers in enumerate(zip(*references, strict=True)):
        present = [answer for answer in answers if answer is not None]
        if not all(isinstance(answer, str) for answer in present):
            raise UserError(f"example {i + 1} has a reference that is not a string; decode references to text first")
        if not present:
            raise UserError(f"example {i + 1} has no reference: all {len(references)} are None; give it at least one")
        accepted.append([answer for answer in present if answer.strip()] or [""])
    return accepted


def check_hypotheses(name: str, hypotheses: Sequence[str]) -> None:
    """Raises UserError, naming `name`, unless `hypotheses` is a non-empty list of strings."""
    if isinstance(hypotheses, str):
        raise UserError(f"{name}: expected a list of strings, got one string; for one example write [text]")
    if not hypotheses:
        raise UserError(f"{name}: there is nothing to score; give at least one line")
    for i, hypothesis in enumerate(hypotheses):
        if not isinstance(hypothesis, str):
            raise UserError(
                f"{name}: line {i + 1} is {type(hypothesis).__name__}, not a string; decode it to text first"
            )
