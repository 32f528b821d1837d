"""A training whose loss is no longer finite: it stops at once, and keeps the batch at which this was seen."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.files import open_file, written_aside
from tfseq2seq.run import Run
from tfseq2seq.spec import PAD
from tfseq2seq.training.batches import TrainingBatches

FAILED_BATCH = "failed_batch.npz"
# The largest file that is read, in bytes.
_LARGEST = 1 << 32


class Diverged(UserError):
    """A loss, a score or a weight is not finite, or the loss is too large.

    Attributes:
        step: the step of training.
        reason: what must hold and what was found.
        loss: the mean training loss since the last evaluation, if it is the reason.
    """

    def __init__(self, step: int, reason: str, loss: float = math.nan, advice: str = ""):
        super().__init__(f"step {step:,}: {reason}{advice}")
        self.step, self.reason, self.loss = step, reason, loss


class LossGuard(keras.callbacks.Callback):
    """Stops the training at the first batch after which the mean loss is not finite, or is too large.

    With `training.steps_per_execution` it looks after the last batch of each call.

    It looks at the mean since the last evaluation, which stays not finite once a batch was so. Keras converts it to a
    Python number for its callbacks after each batch, so that this check waits for nothing else.

    Args:
        limit: the largest mean loss; 0 for no limit.
        position: the callback that counts training steps.
    """

    def __init__(self, limit: float, position: Any):
        super().__init__()
        self.limit, self.position = limit, position

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise Diverged(self.position.step, f"the training loss must be finite, got {loss}", loss)
        if self.limit and loss > self.limit:
            most = f"{self.limit:g} (training.loss_limit)"
            raise Diverged(self.position.step, f"the training loss must be at most {most}, got {loss:g}", loss)


def explained(error: Diverged, run: Run, batches: TrainingBatches, drawn: int) -> Diverged:
    """Returns the error with advice, after it has saved the last batch.

    Args:
        error: what was found.
        run: the run.
        batches: the training batches.
        drawn: the number of batches drawn from the dataset that was last opened.
    """
    path = run.folder / FAILED_BATCH
    try:
        if not drawn:
            raise UserError("none was drawn since the training was resumed")
        _save_last(error, path, batches, drawn, run.recipe.training.optimizer.accumulate)
        together = run.recipe.training.steps_per_execution
        of = f", of {together} training steps that ran together" if together > 1 else ""
        where = f"tfseq2seq data show {path} prints the last batch{of}"
    except UserError as problem:
        where = f"the last batch is not saved ({problem})"
    best = run.progress().get("best")
    kept = f"the last good checkpoint, of step {best:,}, is kept" if best else "there is no checkpoint yet"
    advice = (
        f". Training stops; {kept}. Try a lower learning rate, a longer warmup or training.optimizer.clip_norm, and "
        f"look for wrong data: {where}"
    )
    return Diverged(error.step, error.reason, error.loss, advice)


def _save_last(error: Diverged, path: Path, batches: TrainingBatches, drawn: int, accumulate: int) -> None:
    """Writes the batch that was drawn last. It is read again, so that training need not hold on to any batch."""
    index = drawn - 1
    before = index % accumulate
    position = batches.position(index - before)
    dataset = batches.dataset(position).skip(before).take(1)
    inputs, labels, weights = next(iter(dataset.as_numpy_iterator()))
    arrays: dict[str, Any] = {"step": np.asarray(error.step), "loss": np.asarray(error.loss)}
    for name, part in (("inputs", inputs), ("labels", labels), ("weights", weights)):
        values = part if isinstance(part, dict) else {"": part}
        arrays |= {f"{name}.{key}".rstrip("."): value for key, value in values.items()}
    with written_aside(path) as aside:
        np.savez_compressed(aside, **arrays)


def show_batch(path: str | Path, run: Run | None) -> Iterator[str]:
    """Yields lines of text about a saved batch.

    Args:
        path: the file, as a failed training writes it.
        run: the run whose vocabularies have the tokens. None: ids are shown instead.

    Raises:
        UserError: the file is damaged, or not such a file.
    """
    arrays = _read_batch(path)
    inputs = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith("inputs.")}
    labels = {name: value for name, value in arrays.items() if name.partition(".")[0] == "labels"}
    weights = {name: value for name, value in arrays.items() if name.partition(".")[0] == "weights"}
    rows = len(next(iter(labels.values())))
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items() if value.ndim)
    count = f"{rows:,} example{'s' if rows > 1 else ''}"
    yield f"step {int(arrays['step']):,}, mean loss {float(arrays['loss']):g}, {count}: {shapes}"
    for row in range(rows):
        yield f"example {row + 1}"
        yield from (f"  {line}" for line in _shown_inputs({name: value[row] for name, value in inputs.items()}, run))
        for name, values in labels.items():
            ids = values[row][values[row] != PAD]
            yield f"  {name}: {len(ids):,} tokens: {_shown_ids(ids, run.target if run else None)}"
        for name, values in weights.items():
            yield f"  {name}: {_shown_weights(values[row])}"


def _read_batch(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with open_file(path, _LARGEST) as file, np.load(file) as saved:
            arrays = {name: saved[name] for name in saved.files}
        rows = {len(value) for value in arrays.values() if value.ndim}
        labels = [name for name in arrays if name.partition(".")[0] == "labels"]
        if len(rows) != 1 or not labels or not {"step", "loss"} <= set(arrays):
            raise ValueError("it must hold labels, step and loss of one batch")
    except UserError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise UserError(f"{path}: must be a batch that `train` has saved; it cannot be read ({reason})") from None
    return arrays


def _shown_inputs(example: Mapping[str, np.ndarray], run: Run | None) -> Iterator[str]:
    """Yields a line for each input of an example."""
    if run is not None:
        yield from run.source.described(example)
        return
    for name, value in example.items():
        if value.ndim and np.issubdtype(value.dtype, np.integer):
            ids = value[value != PAD]
            yield f"{name}: {len(ids):,} tokens: {_shown_ids(ids, None)}"
        elif value.ndim:
            yield f"{name}: {_shown_numbers(value)}"
        else:
            yield f"{name}: {value}"


def _shown_ids(ids: np.ndarray, features: Any) -> str:
    return " ".join(map(str, ids)) if features is None else features.shown(ids)


def _shown_numbers(values: np.ndarray) -> str:
    wrong = np.count_nonzero(~np.isfinite(values))
    return f"{list(values.shape)} numbers from {values.min():g} to {values.max():g}, {wrong:,} not finite"


def _shown_weights(weights: np.ndarray) -> str:
    if not weights.ndim:
        return f"{weights:g}"
    real = weights[weights != 0]
    return f"{len(real):,} of {len(weights):,} above 0, sum {real.sum():g}"
