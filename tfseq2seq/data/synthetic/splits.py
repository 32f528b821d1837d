"""Writing of generated pairs of text: three splits as parallel text files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfseq2seq.errors import UserError
from tfseq2seq.files import generated_folder


def check_sizes(counts: Mapping[str, int], noun: str = "pair") -> None:
    """Raises `UserError` if a split would be empty.

    Args:
        counts: the number of examples of each split.
        noun: what an example is.
    """
    for split, count in counts.items():
        if count < 1:
            raise UserError(f"{split}: must have at least 1 {noun}, got {count}")


def write_splits(folder: str | os.PathLike[str], splits: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Path]:
    """Writes pairs as UTF-8 text files with one line per example. Existing files are replaced.

    Args:
        folder: the folder to write to.
        splits: pairs of source and target by the name of their split; none is empty.

    Returns:
        The path of each file by its name, such as train.source and train.target.

    Raises:
        UserError: `folder` cannot be written.
    """
    folder, paths = Path(folder), {}
    with generated_folder(folder) as aside:
        for split, pairs in splits.items():
            sources, targets = zip(*pairs, strict=True)
            for name, lines in ((f"{split}.source", sources), (f"{split}.target", targets)):
                text = "".join(f"{line}\n" for line in lines)
                (aside / name).write_text(text, encoding="utf-8", newline="\n")
                paths[name] = folder / name
        for name, path in paths.items():
            os.replace(aside / name, path)
    return paths
