"""The folder of a training run.

    recipe.yaml                          the recipe, with all values
    vocabulary/source.txt, target.txt    the vocabularies (.model for SentencePiece)
    checkpoints/00001000.weights.h5      weights at the last evaluations and at the best ones
    checkpoints/progress.json            steps of the best checkpoint and of the checkpoints that are kept
    checkpoints/resume.npz               state to continue from: weights, optimizer, random states, metrics, step
    checkpoints/resume.previous.npz      the state before, in case the last one is damaged
    failed_batch.npz                     the batch at which the loss was no longer finite
    model.weights.h5                     weights of the finished model: best checkpoint, or mean of the last ones
    adapters.weights.h5                  instead of these, if only adapters of another run's weights were trained
    start.json                           the run whose weights the training began with, and their digest
    metrics.jsonl                        a line per evaluation
    logs/                                TensorBoard logs
    .lock                                held by the process that trains the run

Each file is written under a temporary name and then renamed. If a run is interrupted, its last state stays complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from tfseq2seq.adapter_files import read_adapters, write_adapters
from tfseq2seq.errors import UserError, first_line
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import load_vocabulary, save_vocabulary, vocabulary_file
from tfseq2seq.files import append_line, exclusive, open_file, read_file, sweep, write_whole
from tfseq2seq.layers.freezing import is_left
from tfseq2seq.models.adapters import adapter_shapes, adapters, merge_adapters
from tfseq2seq.models.build import build_model
from tfseq2seq.models.pretrained import adapter_weights
from tfseq2seq.origin import START, Origin, read_origin
from tfseq2seq.recipe import dump_recipe, load_run_recipe
from tfseq2seq.sources import Source, source_class
from tfseq2seq.spec import LoraSpec, Recipe
from tfseq2seq.state_files import (
    ADAPTERS,
    FINAL,
    METRIC,
    PROGRESS_LIMIT,
    State,
    is_step,
    progress_fault,
    read_state,
    recorded_progress,
    write_state,
)

# The largest metrics.jsonl, in bytes.
_METRICS_LIMIT = 1 << 30

# Names of layers in weights files of earlier versions, and their current names.
_EARLIER_NAMES = {
    "alignment": "attention_layer",
    "heard": "encoder_projection",
    "memory_attention": "cross_attention",
    "memory_norm": "cross_attention_norm",
    "read_dense": "input_dense",
    "recall_dense": "recurrent_dense",
    "said": "predictor_projection",
}


class NotFiniteError(Exception):
    """A variable of a model or an optimizer is not finite. The text is its name in the state."""


class Resumed(NamedTuple):
    """A state that a training continues from.

    Attributes:
        progress: the values of progress.json; empty if the training begins anew.
        training: further values, of the parts of the training.
        interval: values of the variables of all metrics since the last evaluation; empty directly after one.
    """

    progress: dict[str, Any]
    training: dict[str, Any]
    interval: list[np.ndarray]


class Run:
    """A training run on disk.

    Args:
        folder: the folder of the run.
        recipe: the recipe of the run.
        source: the source of the model, with its vocabulary if it has one.
        target: the text features of the target.
        origin: the run that the training starts from, or None.
    """

    def __init__(
        self, folder: str | Path, recipe: Recipe, source: Source, target: TextFeatures, origin: Origin | None = None
    ):
        self.folder, self.recipe, self.source, self.target = Path(folder), recipe, source, target
        self.origin = origin
        source.with_data(recipe.data)
        source.with_target(target, recipe.model.decoder.copies)

    @classmethod
    def create(
        cls, folder: str | Path, recipe: Recipe, source: Source, target: TextFeatures, origin: Origin | None = None
    ) -> Run:
        """Creates the folder and writes the recipe, the vocabularies and the origin if there is one.

        Raises:
            UserError: the folder has a run already.
        """
        run = cls(folder, recipe, source, target, origin)
        if (run.folder / "recipe.yaml").exists():
            raise UserError(f"{folder}: has a run already; continue it with --resume, or give another folder")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        source.save(run.folder / "vocabulary")
        if not recipe.share_vocabulary:
            save_vocabulary(target.vocabulary, run.folder / "vocabulary" / "target.txt")
        if origin is not None:
            write_whole(run.folder / START, origin.content())
        write_whole(run.folder / "recipe.yaml", dump_recipe(recipe).encode("utf-8"))
        return run

    @classmethod
    def open(cls, folder: str | Path, overrides: Sequence[str] = ()) -> Run:
        """Opens the folder of a run.

        Args:
            folder: the folder of the run.
            overrides: changes of the recipe as `a.b=c`. The file stays as it is.

        Raises:
            UserError: the folder has no run, or a file is missing or damaged.
        """
        folder = Path(folder)
        run = cls.with_vocabularies(folder, load_run_recipe(folder, overrides), folder / "vocabulary")
        run.origin = read_origin(folder)
        return run

    @classmethod
    def with_vocabularies(cls, folder: str | Path, recipe: Recipe, vocabularies: Path) -> Run:
        """Returns a run with the vocabularies in a folder, such as those of another run. It is not written.

        Raises:
            UserError: a vocabulary is missing or damaged.
        """
        source = source_class(recipe.source).load(recipe.source, vocabularies)
        if recipe.share_vocabulary:
            return cls(folder, recipe, source, shared_target(source, recipe))
        spec = recipe.target
        target = TextFeatures(spec, load_vocabulary(vocabulary_file(vocabularies, "target", spec), spec))
        return cls(folder, recipe, source, target)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def build_model(self) -> Any:
        """Returns the model of the recipe with random initial weights."""
        sizes = self.source.size, self.target.size
        return build_model(self.recipe.model, self.recipe.source, *sizes, name=_identifier(self.recipe.name))

    def load_model(self, weights: str | Path | None = None) -> Any:
        """Returns the trained model. Adapters are merged into the weights that they adapt.

        Args:
            weights: the weights file. By default, the weights of the finished model, or else of the best checkpoint.

        Raises:
            UserError: there are no weights yet, or the file is damaged or belongs to another model.
        """
        model = self.build_model()
        self.load_into(model, Path(weights) if weights else self.weights_file())
        return model

    def load_into(self, model: Any, weights: Path) -> None:
        """As `load_model`, for a model that is there: one of this recipe, without adapters."""
        if not self.adapts:
            return load_weights(model, weights)
        self.load_origin(model)
        lora = self.recipe.training.lora
        merge_adapters(model, read_adapters(weights, adapter_shapes(model, lora)), lora)

    @property
    def adapts(self) -> bool:
        """Whether the run consists of adapters, and its other weights are those of another run."""
        return self.recipe.training.lora.rank > 0

    def load_origin(self, model: Any) -> None:
        """Loads the weights that the adapters of this run adapt.

        Raises:
            UserError: the other run is not where it was, or has other weights now.
        """
        if self.origin is None:
            raise UserError(f"{self.folder / START}: missing; put it back, as it names the weights that the run adapts")
        load_weights(model, self.origin.find(self.folder))

    @property
    def final_file(self) -> Path:
        """The path of the weights of the finished model, or of its adapters."""
        return self.folder / (ADAPTERS if self.adapts else FINAL)

    def weights_file(self) -> Path:
        """Returns the path of the finished model's weights, or else of the best checkpoint."""
        if self.final_file.exists():
            return self.final_file
        best = self.progress().get("best")
        if not best:
            raise UserError(f"{self.folder}: has no checkpoint yet; continue the training until its first evaluation")
        return self.checkpoint_file(best)

    def checkpoint_file(self, step: int) -> Path:
        return self.checkpoints / f"{step:08d}.weights.h5"

    def progress(self) -> dict[str, Any]:
        """Returns the step, the best step with its score, and the steps of all checkpoints; empty before the first."""
        path = self.checkpoints / "progress.json"
        try:
            values = json.loads(read_file(path, PROGRESS_LIMIT))
        except FileNotFoundError:
            return {}
        except UserError:
            raise
        except (OSError, ValueError, RecursionError):
            raise UserError(f"{path}: damaged; delete it to start the run again") from None
        if fault := progress_fault(values):
            raise UserError(f"{path}: {fault}; delete the file, and train again with --resume")
        return values

    def save_checkpoint(self, model: keras.Model, step: int) -> None:
        """Writes the weights of the model as the checkpoint of `step`."""
        save_trained(model, self.checkpoint_file(step))

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        """Writes the progress, and deletes checkpoints that neither it nor a state to continue from mentions."""
        values = {key: value for key, value in progress.items() if key != "training"}
        write_whole(self.checkpoints / "progress.json", json.dumps(values, indent=1).encode("utf-8"))
        kept = {
            self.checkpoint_file(step).name
            for known in (values, *recorded_progress(self.checkpoints))
            for step in checkpoint_steps(known)
        }
        for path in self.checkpoints.glob("*.weights.h5"):
            if path.name not in kept:
                path.unlink()

    def save_resume(self, model: keras.Model, progress: Mapping[str, Any], interval: Sequence[Any] = ()) -> None:
        """Writes the state of the training, from which `load_resume` continues exactly.

        Args:
            model: the model, with its optimizer.
            progress: the values of `save_progress`, and under "training" further ones of the training.
            interval: values of the variables of all metrics, if they have summed up a part of the time from one
                evaluation to the next.

        Raises:
            UserError: the file cannot be written. The states that were there stay.
            NotFiniteError: a weight is not finite. A training could not continue from such a state.
        """
        arrays = finite_state(model)
        arrays |= {f"{METRIC}{i}": np.asarray(values) for i, values in enumerate(interval)}
        write_state(self.checkpoints, State(arrays, dict(progress)))

    def load_resume(self, model: keras.Model, log: Callable[[str], None] = print) -> Resumed:
        """Restores the model and the optimizer, and returns the rest of the state; empty if no state was saved.

        Args:
            model: the compiled model, with a built optimizer.
            log: a function that prints lines for the user, such as one about a damaged file.

        Raises:
            UserError: the files are damaged, or belong to another model or optimizer.
        """
        variables = training_state(model)
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        state = read_state(self.checkpoints, shapes, log)
        if state is None:
            # The training begins anew. The next line must not join one that was cut.
            self._restore_metrics(math.inf)
            return Resumed({}, {}, [])
        for name, variable in variables.items():
            variable.assign(state.arrays[name])
        progress = dict(state.progress)
        training = progress.pop("training", {})
        # The run may have been interrupted after this file was written, and before progress.json or metrics.jsonl was.
        self.save_progress(progress)
        self._restore_metrics(progress["step"])
        metrics = [name for name in state.arrays if name.startswith(METRIC)]
        interval = [state.arrays[f"{METRIC}{i}"] for i in range(len(metrics))]
        return Resumed(progress, training, interval)

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl."""
        append_line(self.folder / "metrics.jsonl", json.dumps(values))

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the logged values of each evaluation, in order.

        The last line is left out if it is not complete. The progress has the last values too, in case the run was
        interrupted before they were logged.

        Raises:
            UserError: another line is damaged.
        """
        path = self.folder / "metrics.jsonl"
        lines = read_file(path, _METRICS_LIMIT).split(b"\n") if path.exists() else []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line else None
            except (ValueError, RecursionError):
                row = False
            if isinstance(row, dict):
                rows.append(row)
            elif row is not None and number < len(lines):
                raise UserError(f"{path}, line {number}: must be a JSON object, got {line[:40]!r}; delete the line")
        last = self.progress().get("metrics")
        if last and all(row.get("step") != last["step"] for row in rows):
            rows.append(last)
        return rows

    def _restore_metrics(self, step: float) -> None:
        """Makes metrics.jsonl end with the line of `step`, from which the training continues, and with a whole line."""
        path = self.folder / "metrics.jsonl"
        rows = [row for row in self.metrics() if not is_step(row.get("step")) or row["step"] <= step]
        content = "".join(f"{json.dumps(row)}\n" for row in rows).encode("utf-8")
        if content != (path.read_bytes() if path.exists() else b""):
            write_whole(path, content)

    def sweep(self) -> None:
        """Deletes the partial files that killed processes have left."""
        for folder in (self.folder, self.checkpoints, self.folder / "vocabulary"):
            sweep(folder)


def training_lock(folder: str | Path) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which no other process can train the run in `folder`.

    Raises:
        UserError: another process trains it.
    """
    taken = f"{folder}: another process is training this run; wait until it ends, or give another folder"
    return exclusive(Path(folder) / ".lock", taken)


def checkpoint_steps(progress: Mapping[str, Any]) -> set[int]:
    """Returns the steps of all checkpoints that a progress mentions."""
    best = [progress["best"]] if progress["best"] is not None else []
    return {*progress["kept"], *best, *(step for step, _ in progress.get("best_kept", []))}


def check_writable(folder: str | Path) -> None:
    """Checks that files can be written into the folder of a run, or that it can be created.

    Raises:
        UserError: they cannot, for example because the file system is read-only.
    """
    for path in (Path(folder), Path(folder) / "checkpoints"):
        there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not there.is_dir():
            raise UserError(f"{folder}: cannot be written, because {there} is no folder; give another folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(
                f"{folder}: cannot be written, because {there} is read-only for this user; give another folder, or "
                "change its permissions"
            )


def shared_target(source: Source, recipe: Recipe) -> TextFeatures:
    """Returns text features for a target that shares the vocabulary of the source.

    If source and target have the same begin token, they also share the object.
    """
    features = source.features
    assert features is not None
    same = recipe.target.begin == features.spec.begin
    return features if same else features.with_begin(recipe.target.begin)


def merge_run(run: Run, folder: str | Path) -> Run:
    """Writes a run of adapters as one with weights of its own: the sums of matrices and products of adapters.

    Args:
        run: the run of adapters.
        folder: the folder of the new run.

    Raises:
        UserError: the run has no adapters, or the folder has a run already.
    """
    if not run.adapts:
        raise UserError(f"{run.folder}: must have adapters (training.lora), got a run with weights of its own")
    check_writable(folder)
    model = run.load_model()
    training = dataclasses.replace(run.recipe.training, lora=LoraSpec())
    recipe = dataclasses.replace(run.recipe, training=training)
    merged = Run.create(folder, recipe, run.source, run.target, run.origin)
    save_weights(model, merged.final_file)
    for row in run.metrics():
        merged.log(row)
    if progress := run.progress():
        # The checkpoints stay where they are: they are adapters.
        step = progress["step"]
        merged.save_progress({**progress, "best": None, "best_kept": [], "kept": [], "final": step})
    return merged


def finite_state(model: keras.Model) -> dict[str, Any]:
    """Returns the values of `training_state`.

    Raises:
        NotFiniteError: a value is not finite.
    """
    # Variables of several devices are not arrays by themselves.
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in training_state(model).items()}
    for name, values in arrays.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise NotFiniteError(name)
    return arrays


def training_state(model: keras.Model) -> dict[str, Any]:
    """Returns all variables that training changes, with random states. Their names are the same in each process.

    Frozen weights are among them, unless they are those of another run, which the adapters of this one adapt.
    """
    adapted = getattr(model, "adapted", False)
    kept = [variable for variable in model.variables if not (adapted and is_left(variable))]
    named = {f"model_{i}": variable for i, variable in enumerate(kept)}
    return named | {f"optimizer_{i}": variable for i, variable in enumerate(model.optimizer.variables)}


def save_trained(model: Any, path: Path) -> None:
    """Writes the weights of a model, or its adapters alone if only these were trained.

    Raises:
        UserError: the file cannot be written.
    """
    if getattr(model, "adapted", False):
        write_adapters(adapters(model), path)
    else:
        save_weights(model, path)


def load_trained(model: Any, path: Path) -> None:
    """Loads what `save_trained` has written of such a model.

    Raises:
        UserError: the file does not exist, is damaged, or belongs to another model.
    """
    if not getattr(model, "adapted", False):
        return load_weights(model, path)
    variables = adapters(model)
    values = read_adapters(path, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        variable.assign(values[name])


class _InMemory(io.BytesIO):
    """A weights file in memory. Keras looks at the end of its name."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights(model: keras.Model, path: Path) -> None:
    """Writes the weights of a model without the optimizer state, which would triple the size of the file.

    Raises:
        UserError: the file cannot be written.
    """
    # HDF5 cannot close a file on a full disk: it prints hundreds of lines, and may end the process.
    with _without_optimizer(model), _InMemory() as content:
        model.save_weights(content)
        write_whole(path, content.getvalue())


@contextlib.contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    optimizer = getattr(model, "optimizer", None)  # a model that is not compiled has no such attribute
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def load_weights(model: keras.Model, path: Path) -> None:
    """Loads weights into a model.

    Raises:
        UserError: the file does not exist, is damaged, or belongs to another model.
    """
    if not path.exists():
        raise UserError(f"{path}: no such weights")
    try:
        open_file(path).close()
        # Sizes come first: a small file can unpack to more than the memory.
        arrays, entries = _count_entries(path)
        expected = sum(math.prod(variable.shape) for variable in model.weights)
        if entries > expected:
            raise ValueError(f"must have {expected:,} numbers, got {entries:,}")
        with _without_optimizer(model), warnings.catch_warnings():
            # If the file lacks a layer, Keras only warns, and the layer keeps its random weights.
            warnings.filterwarnings("error", message="Skipping nested container")
            with _renamed(path) as current:
                model.load_weights(current)
        # If the model lacks a layer of the file, Keras does not even warn.
        if arrays != (wanted := len(model.weights) - len(adapter_weights(model))):
            raise ValueError(f"must have {wanted} arrays of weights, got {arrays}")
    except UserError:
        raise
    except Exception as error:  # h5py and Keras raise many different errors for a damaged or unsuitable file
        raise UserError(f"{path}: damaged, or of another model than the recipe's: {first_line(error)}") from None
    for variable in model.weights:
        values = np.asarray(keras.ops.convert_to_numpy(variable), "float32")
        if not np.isfinite(values).all():
            count = np.count_nonzero(~np.isfinite(values))
            raise UserError(
                f"{path}: must have finite weights, got {count:,} of {values.size:,} that are not in {variable.path}; "
                "give another checkpoint"
            )


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """Yields a weights file with the current layer names: the file itself, or a copy if it has earlier names."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visit(lambda name: names.append(name) if name.rsplit("/", 1)[-1] in _EARLIER_NAMES else None)
        # Earlier recurrent language models had a prediction network and a separate dense layer.
        is_language_model = "layers/prediction_network" in file and "layers/joint_network" not in file
    if not names:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "renamed.weights.h5"
        shutil.copyfile(path, copy)
        with h5py.File(copy, "a") as file:
            # Inner groups are renamed first, because renaming an outer group changes their paths.
            for name in sorted(names, key=len, reverse=True):
                parent, _, last = name.rpartition("/")
                file.move(name, f"{parent}/{_EARLIER_NAMES[last]}")
            if is_language_model:
                file.move("layers/prediction_network", "layers/recurrent_decoder")
                file.move("layers/sequence_dense", "layers/recurrent_decoder/combine")
        yield copy


def _count_entries(path: Path) -> tuple[int, int]:
    """Returns the number of arrays in a weights file, and the number of their entries."""
    sizes: list[int] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: sizes.append(int(item.size)) if isinstance(item, h5py.Dataset) else None)
    return len(sizes), sum(sizes)


def average_weights(model: keras.Model, paths: Sequence[Path]) -> None:
    """Sets each weight of the model to its mean over the given weights files."""
    total: list[np.ndarray] = []
    for path in paths:
        load_weights(model, path)
        values = [np.asarray(value, "float64") for value in model.get_weights()]
        total = [a + b for a, b in zip(total, values, strict=True)] if total else values
    model.set_weights([(value / len(paths)) for value in total])


def _identifier(name: str) -> str:
    cleaned = "".join(letter if letter.isalnum() else "_" for letter in name)
    return cleaned if cleaned[:1].isalpha() else f"model_{cleaned}"
