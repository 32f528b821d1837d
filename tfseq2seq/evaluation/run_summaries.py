"""What the folders of runs tell about their training, read without TensorFlow, while it goes on too."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import lower_is_better
from tfseq2seq.files import is_held, read_file
from tfseq2seq.recipe import load_run_recipe
from tfseq2seq.state_files import ADAPTERS, FINAL, PROGRESS_LIMIT, is_number

# The largest metrics.jsonl, in bytes.
_METRICS_LIMIT = 1 << 30


@dataclass(frozen=True)
class RunSummary:
    """A run as it is on disk.

    Attributes:
        folder: the folder of the run.
        name: the name in its recipe.
        state: running while a process trains it, finished with final weights, else stopped.
        step: the training step of the last evaluation; 0 before the first one.
        steps: the number of training steps that the recipe asks for.
        monitor: the name of the score that selects checkpoints; "" before the first evaluation.
        best_score: the best value of that score, or None.
        best_step: the training step of the best checkpoint, or None.
        loss: the last training loss, or None.
        tokens_per_second: the median over evaluations of real target tokens per second, or None.
        minutes: the training time with evaluations, over all processes that trained the run.
        metrics: the logged values of each evaluation, in order.
    """

    folder: str
    name: str
    state: str
    step: int = 0
    steps: int = 0
    monitor: str = ""
    best_score: float | None = None
    best_step: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    minutes: float = 0.0
    metrics: Sequence[dict[str, Any]] = field(default=(), repr=False)


def find_runs(folders: Iterable[str]) -> list[str]:
    """Returns the folders of all runs that are in some folders, or are these, in order.

    Raises:
        UserError: a folder does not exist, or none has a run.
    """
    found: dict[str, None] = {}
    given = list(folders)
    for folder in given:
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: must be a folder, and there is none")
        for path, inside, files in os.walk(folder):
            inside.sort()
            if "recipe.yaml" in files:
                found[path] = None
                inside.clear()
    if not found:
        raise UserError(f"{', '.join(given)}: must have a run, which is a folder with recipe.yaml, but there is none")
    return list(found)


def summarize(folder: str) -> RunSummary:
    """Reads what the folder of a run tells about its training.

    Raises:
        UserError: a file is damaged.
    """
    recipe = load_run_recipe(folder)
    progress, rows = _progress(Path(folder, "checkpoints", "progress.json")), _metrics(Path(folder, "metrics.jsonl"))
    last = progress.get("metrics")
    # If a process was killed before it logged the last values, the progress has them.
    if isinstance(last, dict) and all(row.get("step") != last.get("step") for row in rows):
        rows.append(last)
    # Where the progress tells of which step the final weights are, later steps have none yet.
    written = Path(folder, ADAPTERS if recipe.training.lora.rank else FINAL).exists()
    final = written and progress.get("final", progress.get("step")) == progress.get("step")
    state = "finished" if final else "stopped"
    rates = [row["tokens_per_second"] for row in rows if is_number(row.get("tokens_per_second"))]
    losses = [row["loss"] for row in rows if is_number(row.get("loss"))]
    return RunSummary(
        folder=folder,
        name=recipe.name,
        state="running" if is_held(Path(folder, ".lock")) else state,
        step=_last_evaluation(rows, progress),
        steps=recipe.training.steps,
        monitor=progress.get("monitor", ""),
        best_score=progress.get("best_score"),
        best_step=progress.get("best"),
        loss=losses[-1] if losses else None,
        tokens_per_second=statistics.median(rates) if rates else None,
        minutes=_seconds(rows) / 60,
        metrics=rows,
    )


def ranked(runs: Iterable[RunSummary]) -> list[RunSummary]:
    """Returns runs with the same monitor together, the best first, and those without a score last."""

    def place(run: RunSummary) -> tuple[bool, str, float, str]:
        if run.best_score is None:
            return True, run.monitor, 0.0, run.folder
        return False, run.monitor, run.best_score if lower_is_better(run.monitor) else -run.best_score, run.folder

    return sorted(runs, key=place)


def values_of(runs: Iterable[RunSummary]) -> list[str]:
    """Returns the names of all values that evaluations of runs have logged, other than the step."""
    names = {name for run in runs for row in run.metrics for name, value in row.items() if is_number(value)}
    return sorted(names - {"step"})


def curve(run: RunSummary, name: str) -> tuple[list[int], list[float]]:
    """Returns the training steps of a run that have a value of a name, and the values."""
    rows = [row for row in run.metrics if is_number(row.get(name)) and is_number(row.get("step"))]
    return [row["step"] for row in rows], [float(row[name]) for row in rows]


def _progress(path: Path) -> dict[str, Any]:
    """The content of progress.json; empty if it does not exist.

    Raises:
        UserError: it is damaged.
    """
    try:
        values = json.loads(read_file(path, PROGRESS_LIMIT))
    except FileNotFoundError:
        return {}
    except UserError:
        raise
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path}: damaged") from None
    tests = {
        "step": is_number,
        "best": lambda value: value is None or is_number(value),
        "best_score": lambda value: value is None or is_number(value),
        "monitor": lambda value: isinstance(value, str),
    }
    if not isinstance(values, dict) or any(key in values and not test(values[key]) for key, test in tests.items()):
        raise UserError(f"{path}: damaged")
    return values


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl. The last line is left out if it is not complete.

    Raises:
        UserError: another line is damaged.
    """
    try:
        *lines, last = read_file(path, _METRICS_LIMIT).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    rows = []
    for number, line in enumerate([*lines, last], start=1):
        try:
            row = json.loads(line) if line else {}
        except (ValueError, RecursionError):
            row = None
        if row:
            if not isinstance(row, dict):
                row = None
            else:
                rows.append(row)
        if row is None and number <= len(lines):
            raise UserError(f"{path}, line {number}: must be a JSON object, got {line[:40]!r}")
    return rows


def _last_evaluation(rows: Sequence[dict[str, Any]], progress: dict[str, Any]) -> int:
    """The training step of the last evaluation. The progress may be that of a state between two evaluations."""
    evaluated = [row["step"] for row in rows if is_number(row.get("step"))]
    if evaluated:
        return evaluated[-1]
    return progress.get("step", 0) if progress.get("best") is not None else 0


def _seconds(rows: Sequence[dict[str, Any]]) -> float:
    """The training time of a run. A process that continues it may count from 0 again."""
    total = earlier = 0.0
    for row in rows:
        if is_number(row.get("seconds")):
            seconds = float(row["seconds"])
            total += seconds - earlier if seconds >= earlier else seconds
            earlier = seconds
    return total
