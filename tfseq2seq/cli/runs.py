"""Opens trained runs, and imports TensorFlow, which only the commands that compute need."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfseq2seq.errors import UserError
from tfseq2seq.spec import NEEDS, Recipe, SearchSpec

if TYPE_CHECKING:
    from tfseq2seq.inference.predictor import Predictor
    from tfseq2seq.run import Run

NO_LOG = "3"  # TensorFlow's level at which its C++ parts log nothing


def import_tensorflow() -> None:
    """Imports TensorFlow without its first log messages.

    They come from C++ before it knows its log level, and would hide the one line that a user has to read. They are
    shown if the import fails, or if the user has set the log level.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") != NO_LOG or sys.stderr is None:
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            aside.seek(0)
            os.write(standard_error, aside.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def open_runs(runs: Sequence[str], overrides: Sequence[str] = ()) -> list[Run]:
    """Opens the runs of a command.

    Args:
        runs: folders.
        overrides: settings `search.x=y` that replace those in the recipes.

    Raises:
        UserError: a run is missing or damaged, or an override is not a setting of the search.
    """
    for override in overrides:
        if not override.startswith("search."):
            raise UserError(f"--set {override}: must be a key of search; only search.* can change after training")
    import_tensorflow()
    from tfseq2seq.run import Run

    return [Run.open(folder, overrides) for folder in runs]


def open_predictor(
    runs: Sequence[Run],
    weights: str | None = None,
    batches: int = 0,
    workers: int = 0,
    search: SearchSpec | None = None,
) -> Predictor:
    """The models of one or several runs as one predictor.

    Args:
        runs: from `open_runs`.
        weights: a weights file instead of the final weights.
        batches: the number of batches to generate, if this process does nothing else.
        workers: the number of batches at the same time.
        search: instead of that of the first run's recipe.
    """
    if weights and len(runs) > 1:
        raise UserError(f"--weights: needs a single --run, got {len(runs)}")
    from tfseq2seq.inference.generator import share_cores
    from tfseq2seq.inference.predictor import Predictor

    if batches:
        share_cores(batches, workers)
    return Predictor.of_runs(runs, weights, search)


def require(recipe: Recipe, need: str, what: str) -> None:
    """Refuses a command or an option that needs another kind of model.

    Args:
        recipe: of the model.
        need: a key of `NEEDS`.
        what: the command or the option, for the message.

    Raises:
        UserError: the recipe does not provide what is needed.
    """
    if need not in recipe.provides:
        raise UserError(f"{what}: needs {NEEDS[need]}, got source.kind {recipe.source.kind}")
