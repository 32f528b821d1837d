"""Trained models opened, with TensorFlow, which only the commands that compute import."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    from tfseq2seq.inference.endpoints import TextToText
    from tfseq2seq.inference.speech import SpeechToText
    from tfseq2seq.run import Run
    from tfseq2seq.spec import AudioSpec, Recipe

NO_LOG = "3"  # TensorFlow's level at which its C++ parts log nothing


def import_tensorflow() -> None:
    """Imports TensorFlow without its greetings: they come from C++ before it knows its log level, and would bury the
    one line a user has to read. They are shown if the import fails, or if the user has set the log level."""
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


def recipe_of(runs: Sequence[str]) -> Recipe:
    from tfseq2seq.recipe import load_run_recipe

    return load_run_recipe(runs[0])


def source_of(runs: Sequence[str]) -> AudioSpec | None:
    """How recordings become features in the model of the first run, or None where its source is text."""
    from tfseq2seq.spec import AudioSpec

    source = recipe_of(runs).source
    return source if isinstance(source, AudioSpec) else None


def open_endpoint(
    runs: Sequence[str], weights: str | None, overrides: Sequence[str], batches: int = 0, workers: int = 0
) -> TextToText | SpeechToText:
    """The models of one or several runs as one endpoint, with the first run's search settings, changed by overrides.

    Args:
        batches: to generate in all, where this process does nothing else.
        workers: of them at a time.
    """
    for override in overrides:
        if not override.startswith("search."):
            raise UserError(f"--set {override}: only search.* can change after training")
    if weights and len(runs) > 1:
        raise UserError("--weights goes with a single --run")
    import_tensorflow()
    from tfseq2seq.inference.generator import share_cores
    from tfseq2seq.run import Run

    if batches:
        share_cores(batches, workers)
    opened: list[Run] = [Run.open(folder, overrides) for folder in runs]
    first = opened[0]
    for run in opened[1:]:
        for side in ("source", "target"):
            own, other = getattr(run, side), getattr(first, side)
            if (own is None) != (other is None) or own is not None and own.vocabulary != other.vocabulary:
                raise UserError(
                    f"{run.folder}: its {side} vocabulary is not that of {first.folder}; ensembles share both"
                )
    from tfseq2seq.inference.endpoints import endpoint

    models = [run.load_model(weights) for run in opened]
    return endpoint(models, first.source, first.target, first.recipe.search)
