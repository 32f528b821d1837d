"""Files of the state that a training continues from, and checks of the progress in them.

    checkpoints/resume.npz             the last state: arrays, progress as JSON, and a digest of both
    checkpoints/resume.previous.npz    the state before, which is used if the last one is damaged

A state is written under a temporary name. Only when it is complete and on the disk, the last state becomes the previous
one. At each moment one of the two files is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.files import open_file, written_aside

NEWEST, PREVIOUS = "resume.npz", "resume.previous.npz"
# The weights of a finished run: all of them, or adapters alone.
FINAL, ADAPTERS = "model.weights.h5", "adapters.weights.h5"

# The largest progress.json, in bytes, and the most numbers of metrics in a state.
PROGRESS_LIMIT, _METRIC_LIMIT = 1 << 20, 1 << 20
# Arrays whose names begin so belong to metrics. A model has these variables only when it has been trained.
METRIC = "metric_"


def is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_ranking(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list) and len(entry) == 2 and is_step(entry[0]) and is_number(entry[1]) for entry in value
    )


# What the progress of a run must hold: a description of each value, and a test for it.
_PROGRESS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "step": ("a step", is_step),
    "best": ("a step or null", lambda value: value is None or is_step(value)),
    "kept": ("a list of steps", lambda value: isinstance(value, list) and all(map(is_step, value))),
}
# What it can hold.
_OPTIONAL_PROGRESS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "best_score": ("a finite number or null", lambda value: value is None or is_number(value)),
    "best_kept": ("a list of pairs of a step and a score", _is_ranking),
    "monitor": ("text", lambda value: isinstance(value, str)),
    "without_progress": ("a whole number of at least 0", is_step),
    "ended": ("text", lambda value: isinstance(value, str)),
    "final": ("a step", is_step),
    "metrics": ("an object with a step", lambda value: isinstance(value, dict) and is_step(value.get("step"))),
    "training": ("an object", lambda value: isinstance(value, dict)),
}


class State(NamedTuple):
    """A state of a training.

    Attributes:
        arrays: values of variables by name.
        progress: as in progress.json, with further values under "training".
    """

    arrays: dict[str, np.ndarray]
    progress: dict[str, Any]


class _Damaged(Exception):
    """A file is not as it was written."""


def write_state(folder: Path, state: State) -> None:
    """Writes a state, and keeps the last one as the previous one.

    Args:
        folder: the folder of checkpoints.
        state: what to write.

    Raises:
        UserError: it cannot be written. The states that were there stay.
    """
    text = json.dumps(state.progress)
    content: dict[str, Any] = {**state.arrays, "progress": text, "digest": _digest(text, state.arrays)}
    newest = folder / NEWEST
    with written_aside(newest) as aside:
        with open(aside, "wb") as file:
            np.savez(file, **content)
            file.flush()
            # After a loss of power a renamed file must not be empty.
            os.fsync(file.fileno())
        if newest.exists():
            os.replace(newest, folder / PREVIOUS)


def read_state(folder: Path, shapes: Mapping[str, tuple[int, ...]], log: Callable[[str], None]) -> State | None:
    """Returns the last state that is whole; None if there is none at all.

    If the last state is damaged, it is told and deleted, and the previous one is returned.

    Args:
        folder: the folder of checkpoints.
        shapes: of all variables of the model and its optimizer, by name.
        log: a function that prints lines for the user.

    Raises:
        UserError: each state is damaged, or belongs to another model or optimizer.
    """
    problems: dict[Path, str] = {}
    for path in (folder / NEWEST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            found = _read(path, shapes)
        except _Damaged as error:
            problems[path] = f"{path}: {error}"
            continue
        for damaged, problem in problems.items():
            log(f"{problem}; training continues from the state before, of step {found.progress['step']:,}")
            # It must not take the place of the previous state when the next one is written.
            damaged.unlink()
        return found
    if problems:
        remedy = "delete it" if len(problems) == 1 else "delete both"
        raise UserError(f"{', and '.join(problems.values())}; {remedy} to start again from step 0")
    return None


def recorded_progress(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the progress in each state of a folder. One that is damaged is left out: `read_state` tells about it."""
    for path in (folder / NEWEST, folder / PREVIOUS):
        try:
            with open_file(path) as file, np.load(file) as saved:
                progress = json.loads(str(saved["progress"]))
        except Exception:  # noqa: S112 - numpy and zipfile raise many errors, and all of them mean the same here
            continue
        if not progress_fault(progress):
            yield progress


def _read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Returns the state in a file.

    Raises:
        _Damaged: it is not as it was written.
        UserError: it is no regular file, or belongs to another model or optimizer.
    """
    try:
        with open_file(path) as file, np.load(file) as saved:
            # Shapes come first: a small file can unpack to more than the memory.
            found = _shapes(saved)
            if found.pop("progress", None) != ():
                raise ValueError("the progress is missing")
            # Files of earlier versions have no digest.
            has_digest = found.pop("digest", None) == ()
            metrics = {name: found.pop(name) for name in list(found) if name.startswith(METRIC)}
            if found != dict(shapes) or sum(map(math.prod, metrics.values())) > _METRIC_LIMIT:
                if saved.zip.testzip():
                    raise ValueError("its shapes are not those that were written")
                raise UserError(
                    f"{path}: belongs to another model or optimizer than the recipe's; train in a new folder"
                )
            arrays = {name: saved[name] for name in [*found, *metrics]}
            text = str(saved["progress"])
            progress = json.loads(text)
            if fault := progress_fault(progress):
                raise _Damaged(fault)
            if has_digest and str(saved["digest"]) != _digest(text, arrays):
                raise ValueError("its digest is another one")
    except (UserError, _Damaged):
        raise
    except Exception as error:  # zipfile, numpy and the file system raise different errors for a damaged file
        raise _Damaged(f"damaged ({first_line(error)})") from None
    return State(arrays, progress)


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 digest of a text, and of names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256(text.encode("utf-8"))
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def progress_fault(values: Any) -> str:
    """Returns what is wrong with the progress of a run; "" if it has all values, of their types."""
    if not isinstance(values, dict):
        return f"must hold an object with {', '.join(_PROGRESS)}, got {_shown(values)}"
    for key, (expected, test) in (_PROGRESS | _OPTIONAL_PROGRESS).items():
        # An earlier version may not have written all values.
        if (key in _PROGRESS or key in values) and not test(values.get(key)):
            return f"{key} must be {expected}, got {_shown(values.get(key, 'nothing'))}"
    return ""


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 50 else f"{text[:50]}..."


def _shapes(saved: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the arrays in an .npz file without reading the arrays.

    Raises:
        ValueError: an array has entries that no variable, no progress and no digest has.
    """
    shapes = {}
    for name in saved.files:
        with saved.zip.open(f"{name}.npy") as file:
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[np.lib.format.read_magic(file)]
            shapes[name], _, dtype = reader(file)
        largest = {"progress": 4 * PROGRESS_LIMIT, "digest": 4 * 64}.get(name, 16)
        if dtype.hasobject or dtype.itemsize > largest:
            raise ValueError(f"{name} has entries of type {dtype}"[:100])
    return shapes
