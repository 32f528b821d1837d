"""Parts of a job that several processes share: which inputs a part has, and the joining of the outputs of all parts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.files import iterate_lines, open_file, written_aside

# What the name of a part contains, such as 02-of-16.
_PLACE = re.compile(r"(\d+)-of-(\d+)")
_ADVICE = "name the parts such as out.1-of-4.txt"


def shard_bounds(count: int, index: int, of: int) -> tuple[int, int]:
    """Returns where a part of some inputs begins and ends.

    The parts are contiguous, their sizes differ by at most one, and together they are all inputs.

    Args:
        count: the number of inputs.
        index: the part, from 1.
        of: the number of parts.

    Returns:
        The number of inputs before the part, and that number plus the inputs of the part.
    """
    return (index - 1) * count // of, index * count // of


def count_lines(path: str) -> int:
    """Returns the number of lines of a plain or .gz file that can be read more than once.

    Raises:
        UserError: as `iterate_lines`.
    """
    return sum(1 for _ in iterate_lines(path))


def join_outputs(output: str, parts: Sequence[str], inputs: str | None = None, n_best: int = 1) -> int:
    """Joins the outputs of the parts of a job to one file.

    Args:
        output: the file to write.
        parts: files of lines, one of each part, in any order. Each name contains its place, such as 2-of-4.
        inputs: the file of the inputs of the whole job, one per line, to count the lines of each part.
        n_best: the number of lines for each input.

    Returns:
        The number of lines written.

    Raises:
        UserError: a part is missing, given twice or not complete, or the output cannot be written.
    """
    ordered = _ordered(parts)
    for path in ordered:
        if os.path.exists(f"{path}.partial"):
            raise UserError(f"{path}: is not complete, because {path}.partial exists; continue it with --resume")
        if os.path.exists(output) and os.path.exists(path) and os.path.samefile(path, output):
            raise UserError(f"{output}: must be another file than the parts; give another name")
    found = [_whole_lines(path) for path in ordered]
    if inputs:
        count = count_lines(inputs)
        for index, (path, lines) in enumerate(zip(ordered, found, strict=True), start=1):
            begin, end = shard_bounds(count, index, len(ordered))
            expected = (end - begin) * n_best
            if lines != expected:
                each = f", {n_best} for each," if n_best > 1 else ""
                raise UserError(
                    f"{path}: must have {expected:,} lines{each} for lines {begin + 1:,} to {end:,} of {inputs}, got "
                    f"{lines:,}; generate this part again"
                )
    with written_aside(output) as aside, open(aside, "wb") as joined:
        for path in ordered:
            with open_file(path) as part:
                shutil.copyfileobj(part, joined)
    return sum(found)


def _ordered(parts: Sequence[str]) -> list[str]:
    """The paths in the order of the places that their names contain.

    Raises:
        UserError: a name has no place, or a part is missing or given twice.
    """
    places: dict[int, str] = {}
    of = 0
    for path in parts:
        found = _PLACE.findall(Path(path).name)
        if not found:
            raise UserError(f"{path}: must have its place I-of-N in its name; {_ADVICE}")
        index, total = map(int, found[-1])
        of = of or total
        if total != of:
            raise UserError(f"{path}: must be one of {of} parts, as {parts[0]} is, got a name of {total} parts")
        if not 1 <= index <= of:
            raise UserError(f"{path}: must have a place from 1 to {of} in its name, got {index}")
        if index in places:
            raise UserError(f"{places[index]} and {path}: must have different places, got {index} for both")
        places[index] = path
    if missing := [index for index in range(1, of + 1) if index not in places]:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise UserError(f"all {of} parts must be given, got no part {shown}")
    return [places[index] for index in sorted(places)]


def _whole_lines(path: str) -> int:
    """The number of lines of a part.

    Raises:
        UserError: it cannot be read, or its last line has no end.
    """
    count, last = 0, b"\n"
    try:
        with open_file(path) as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                count, last = count + block.count(b"\n"), block[-1:]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); generate this part") from None
    if last != b"\n":
        raise UserError(f"{path}: must end with a line break, but its last line is cut; generate this part again")
    return count
