"""Models of other toolkits as runs of this package."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfseq2seq.features.text import TextFeatures
from tfseq2seq.files import folder_aside, write_whole
from tfseq2seq.interop.proof import TABLE
from tfseq2seq.run import FINAL, Run, save_weights
from tfseq2seq.sources import Source
from tfseq2seq.spec import Recipe


@dataclass(frozen=True)
class Imported:
    """What an architecture makes of a folder.

    Attributes:
        recipe: of the run.
        source: the source, with its vocabulary.
        target: the text features of the target.
        fill: sets the weights of the model that the recipe describes.
        foreign: of the ids of both sides, those in the other toolkit, and whether it writes the tokens of the target.
        told: sentences about what differs from the other toolkit, or what is to be set.
    """

    recipe: Recipe
    source: Source
    target: TextFeatures
    fill: Callable[[Any], None]
    foreign: Mapping[str, Sequence[Any]]
    told: Sequence[str] = ()


def write_run(imported: Imported, folder: str | Path, check: Callable[[Run], None]) -> Run:
    """Writes a run: recipe, vocabularies, weights, and the table of ids.

    Args:
        imported: the model.
        folder: the folder to write.
        check: is called with the run before it has its place. If it raises an exception, nothing is written.

    Raises:
        UserError: a weight is missing or has another shape, or the folder cannot be written. Nothing is written then.
    """
    with folder_aside(Path(folder)) as aside:
        run = Run.create(aside, imported.recipe, imported.source, imported.target)
        model = run.build_model()
        imported.fill(model)
        save_weights(model, aside / FINAL)
        write_whole(aside / TABLE, json.dumps(imported.foreign).encode("utf-8"))
        check(Run.open(aside))
    return Run.open(folder)
