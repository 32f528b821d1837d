"""A run's folder: recipe, vocabularies, checkpoints, metrics.

    recipe.yaml                          everything that was asked for
    vocabulary/source.txt, target.txt    (and .model for SentencePiece)
    checkpoints/00001000.weights.h5      weights at the last evaluations and at the best one
    checkpoints/progress.json            which checkpoint is best, which are kept
    checkpoints/resume.npz               all that continuing needs: optimizer, random states, position in the data
    model.weights.h5                     the finished model: best checkpoint, or mean of the last ones
    metrics.jsonl, logs/                 a line per evaluation; TensorBoard

Every file is written aside and renamed, so a run stopped at any moment keeps its last good state.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import load_vocabulary, save_vocabulary, vocabulary_file
from tfseq2seq.files import write_whole, written_aside
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import dump_recipe, load_run_recipe
from tfseq2seq.sources import Source, source_class
from tfseq2seq.spec import Recipe

FINAL = "model.weights.h5"

# Names of layers in weights files, as runs of earlier versions have them, and as they are now.
_EARLIER_NAMES = {
    "alignment": "attention_layer",
    "heard": "encoder_projection",
    "memory_attention": "cross_attention",
    "memory_norm": "cross_attention_norm",
    "read_dense": "input_dense",
    "recall_dense": "recurrent_dense",
    "said": "predictor_projection",
}


class Run:
    """A training run on disk.

    Args:
        folder: where it is.
        recipe: what it was made from.
        source: what the model reads, with its vocabulary where it has one.
        target: text features of what the model writes.
    """

    def __init__(self, folder: str | Path, recipe: Recipe, source: Source, target: TextFeatures):
        self.folder, self.recipe, self.source, self.target = Path(folder), recipe, source, target
        source.with_target(target)

    @classmethod
    def create(cls, folder: str | Path, recipe: Recipe, source: Source, target: TextFeatures) -> Run:
        """Makes the folder and writes recipe and vocabularies.

        Raises:
            UserError: there is a run already.
        """
        run = cls(folder, recipe, source, target)
        if (run.folder / "recipe.yaml").exists():
            raise UserError(f"{folder}: holds a run already; continue it with --resume, or name another folder")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        source.save(run.folder / "vocabulary")
        if not recipe.share_vocabulary:
            save_vocabulary(target.vocabulary, run.folder / "vocabulary" / "target.txt")
        write_whole(run.folder / "recipe.yaml", dump_recipe(recipe).encode("utf-8"))
        return run

    @classmethod
    def open(cls, folder: str | Path, overrides: Sequence[str] = ()) -> Run:
        """Opens a run's folder; `overrides` change its recipe for this use.

        Raises:
            UserError: there is no run, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        recipe = load_run_recipe(folder, overrides)

        vocabularies = folder / "vocabulary"
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
        """A new model of the recipe, with fresh weights."""
        sizes = self.source.size, self.target.size
        return build_model(self.recipe.model, self.recipe.source, *sizes, name=_identifier(self.recipe.name))

    def load_model(self, weights: str | Path | None = None) -> Any:
        """The trained model: from `weights`, else the finished one, else the best checkpoint so far.

        Raises:
            UserError: there are no weights yet, or the file is damaged or of another model.
        """
        model = self.build_model()
        load_weights(model, Path(weights) if weights else self.weights_file())
        return model

    def weights_file(self) -> Path:
        """The finished model's weights, else the best checkpoint's."""
        if (self.folder / FINAL).exists():
            return self.folder / FINAL
        best = self.progress().get("best")
        if not best:
            raise UserError(f"{self.folder}: no checkpoint yet; train further")
        return self.checkpoint_file(best)

    def checkpoint_file(self, step: int) -> Path:
        return self.checkpoints / f"{step:08d}.weights.h5"

    def progress(self) -> dict[str, Any]:
        """Step, best step and its score, steps of the checkpoints kept; empty before the first."""
        path = self.checkpoints / "progress.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise UserError(f"{path}: damaged; delete it to start the run again") from None

    def save_checkpoint(self, model: keras.Model, step: int) -> None:
        """Writes the model's weights as the checkpoint of `step`."""
        save_weights(model, self.checkpoint_file(step))

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        """Writes the progress and deletes the checkpoints it does not name."""
        write_whole(self.checkpoints / "progress.json", json.dumps(progress, indent=1).encode("utf-8"))
        kept = {self.checkpoint_file(step).name for step in (*progress["kept"], progress["best"])}
        for path in self.checkpoints.glob("*.weights.h5"):
            if path.name not in kept:
                path.unlink()

    def save_resume(self, model: keras.Model, progress: Mapping[str, Any]) -> None:
        """Writes all that `load_resume` needs to continue as if never stopped."""
        arrays: dict[str, Any] = {name: np.asarray(variable) for name, variable in _state(model).items()}
        with written_aside(self.checkpoints / "resume.npz") as aside:
            np.savez(aside, progress=json.dumps(progress), **arrays)

    def load_resume(self, model: keras.Model) -> dict[str, Any]:
        """Restores model and optimizer and returns the progress they were saved with; empty where nothing was saved.

        Raises:
            UserError: the file is damaged, or of another model or optimizer.
        """
        path = self.checkpoints / "resume.npz"
        if not path.exists():
            return {}
        state = _state(model)
        try:
            with np.load(path) as saved:
                arrays = {name: saved[name] for name in saved.files}
            progress: dict[str, Any] = json.loads(str(arrays.pop("progress")))
        except Exception as error:  # zip, numpy and the filesystem each have their own for a damaged file
            raise UserError(f"{path}: damaged ({error}); delete it to start again from step 0") from None
        if {name: array.shape for name, array in arrays.items()} != {name: tuple(v.shape) for name, v in state.items()}:
            raise UserError(f"{path}: is of another model or optimizer than the recipe's; train in a new folder")
        for name, variable in state.items():
            variable.assign(arrays[name])
        # The run may have been stopped after this file was written and before its progress was.
        self.save_progress(progress)
        return progress

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """What was logged at each evaluation, in order."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


def shared_target(source: Source, recipe: Recipe) -> TextFeatures:
    """Text features of a target that shares the source's vocabulary; one object where their begin tokens agree."""
    features = source.features
    assert features is not None
    same = recipe.target.begin == features.spec.begin
    return features if same else features.with_begin(recipe.target.begin)


def _state(model: keras.Model) -> dict[str, Any]:
    """Every variable that training moves, random states included, by a name that does not depend on the process."""
    named = {f"model_{i}": variable for i, variable in enumerate(model.variables)}
    return named | {f"optimizer_{i}": variable for i, variable in enumerate(model.optimizer.variables)}


def save_weights(model: keras.Model, path: Path) -> None:
    """Writes the model's weights, without its optimizer's state, which would make three of one."""
    with _without_optimizer(model), written_aside(path) as aside:
        model.save_weights(aside)


@contextlib.contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    optimizer = getattr(model, "optimizer", None)  # a model that was never compiled has no such attribute
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def load_weights(model: keras.Model, path: Path) -> None:
    """Reads weights into a model.

    Raises:
        UserError: no such file, damaged, or of another model.
    """
    if not path.exists():
        raise UserError(f"{path}: no such weights")
    try:
        with _without_optimizer(model), warnings.catch_warnings():
            # Layers for which the file has nothing would keep their random weights: Keras only warns.
            warnings.filterwarnings("error", message="Skipping nested container")
            with _renamed(path) as current:
                model.load_weights(current)
        # Of arrays for which the model has no layer Keras says nothing.
        found, expected = _count_arrays(path), len(model.weights)
        if found != expected:
            raise ValueError(f"it holds {found} arrays of weights, the model {expected}")
    except Exception as error:  # h5py and Keras raise many kinds for a damaged or foreign file
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(f"{path}: damaged, or of another model than the recipe's: {reason}") from None


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A weights file under today's names: the file itself, or a copy of one whose parts have earlier names."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visit(lambda name: names.append(name) if name.rsplit("/", 1)[-1] in _EARLIER_NAMES else None)
        # Earlier recurrent language models had a prediction network and a dense layer of their own.
        is_language_model = "layers/prediction_network" in file and "layers/joint_network" not in file
    if not names:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "renamed.weights.h5"
        shutil.copyfile(path, copy)
        with h5py.File(copy, "a") as file:
            # The innermost first: the names of the outer ones are still those that were found.
            for name in sorted(names, key=len, reverse=True):
                parent, _, last = name.rpartition("/")
                file.move(name, f"{parent}/{_EARLIER_NAMES[last]}")
            if is_language_model:
                file.move("layers/prediction_network", "layers/recurrent_decoder")
                file.move("layers/sequence_dense", "layers/recurrent_decoder/combine")
        yield copy


def _count_arrays(path: Path) -> int:
    """Arrays in a weights file."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return len(names)


def average_weights(model: keras.Model, paths: Sequence[Path]) -> None:
    """Sets each weight of the model to its mean over the given files."""
    total: list[np.ndarray] = []
    for path in paths:
        load_weights(model, path)
        values = [np.asarray(value, "float64") for value in model.get_weights()]
        total = [a + b for a, b in zip(total, values, strict=True)] if total else values
    model.set_weights([(value / len(paths)) for value in total])


def _identifier(name: str) -> str:
    cleaned = "".join(letter if letter.isalnum() else "_" for letter in name)
    return cleaned if cleaned[:1].isalpha() else f"model_{cleaned}"
