"""What a new training begins with, the weights of another run or word vectors, and which weights it leaves alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.features.word_vectors import embedding_matrix, read_vectors
from tfseq2seq.files import expanded_path
from tfseq2seq.layers.freezing import leave
from tfseq2seq.models.adapters import adapters, add_adapters
from tfseq2seq.models.seq2seq import count_parameters
from tfseq2seq.origin import Origin
from tfseq2seq.path_patterns import matches, near_patterns
from tfseq2seq.recipe import to_dict
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe

# The parts of a recipe that decide what a model computes. Of them, what changes only its training may differ. Scheduled
# sampling and guided attention may not: their shares are weights of the model.
_PARTS = ("source", "target", "share_vocabulary", "model")
_OF_TRAINING = ("augmentation", "initializer", "coverage_loss", "trainable")
# The settings of the training that cannot change when a run is resumed.
_FIXED = ("start_from", "freeze", "lora")


def open_start(recipe: Recipe) -> Run:
    """Opens the run that `training.start_from` names.

    Raises:
        UserError: there is no run, it has no weights yet, or its model is another one than that of the recipe.
    """
    name = recipe.training.start_from
    try:
        base = Run.open(expanded_path(name))
        base.weights_file()
    except UserError as error:
        raise UserError(f"training.start_from: {error}") from None
    own, other = (dict(_settings({part: to_dict(each)[part] for part in _PARTS})) for each in (recipe, base.recipe))
    for key in {**own, **other}:
        found, wanted = own.get(key), other.get(key)
        if found != wanted:
            raise UserError(f"{key}: must be {_shown(wanted)}, as in training.start_from ({name}), got {_shown(found)}")
    if base.adapts and recipe.training.lora.rank:
        raise UserError(
            f"training.start_from: must be a run with weights of its own for lora, got {name}, which has adapters; "
            f"`tfseq2seq merge {name} OUT` writes such a run"
        )
    return base


def new_run(recipe: Recipe, folder: str | Path) -> Run:
    """Returns a run that is not on disk yet, with the vocabularies of the run that `training.start_from` names.

    Raises:
        UserError: as `open_start`.
    """
    base = open_start(recipe)
    run = Run.with_vocabularies(folder, recipe, base.folder / "vocabulary")
    run.origin = Origin.of(base.weights_file(), base.folder, Path(folder))
    return run


def _settings(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the key and the value of each setting that decides what a model computes."""
    for name, value in values.items():
        if name in _OF_TRAINING or name.endswith("dropout"):
            continue
        if isinstance(value, Mapping):
            yield from _settings(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _shown(value: Any) -> str:
    return "left out" if value is None else json.dumps(value, ensure_ascii=False)


def load_start(model: Any, run: Run, log: Callable[[str], None]) -> None:
    """Sets the weights to those of `training.start_from`.

    Raises:
        UserError: they cannot be read.
    """
    base = open_start(run.recipe)
    path = base.weights_file()
    if not run.adapts:  # `adapt` has loaded them already
        base.load_into(model, path)
    log(f"weights: those of {path}")


def adapt(model: Any, run: Run, log: Callable[[str], None]) -> None:
    """Loads the weights that the adapters of a run adapt, and adds new adapters. All else is frozen.

    Args:
        model: the model, which is not compiled yet.
        run: the run of adapters.
        log: told the number of parameters that are trained.

    Raises:
        UserError: the weights are not there, or a pattern matches no layer that can have adapters.
    """
    count = sum(math.prod(weight.shape) for weight in model.weights)
    run.load_origin(model)
    add_adapters(model, run.recipe.training.lora)
    trained = sum(math.prod(variable.shape) for variable in adapters(model).values())
    log(f"adapters: {trained:,} parameters are trained; frozen: {count:,}")


def check_same_start(recipe: Recipe, run: Run) -> None:
    """Checks that a resumed run trains what it has trained before.

    Args:
        recipe: what the training continues with.
        run: the run, with the recipe it has had.

    Raises:
        UserError: a setting differs that cannot change.
    """
    own, before = (to_dict(each)["training"] for each in (recipe, run.recipe))
    for name in _FIXED:
        if own[name] != before[name]:
            raise UserError(
                f"training.{name}: must be {_shown(before[name])}, with which {run.folder} was trained, got "
                f"{_shown(own[name])}; train in a new folder to change it"
            )


def freeze(model: Any, patterns: Sequence[str], log: Callable[[str], None]) -> None:
    """Lets the weights whose paths match a pattern be as they are in the training.

    No gradient is computed for them. A layer of which all weights are frozen works as it does in inference, so that the
    statistics of a batch normalization stay too.

    Args:
        model: the model, which is not compiled yet.
        patterns: as of file names, such as "encoder/*". A path is that of the layers and the weight.
        log: told the number of parameters that are trained.

    Raises:
        UserError: a pattern matches no weight, or no weight is left to train.
    """
    paths, count = {variable.path: variable for variable in model.weights}, count_parameters(model)
    frozen: set[str] = set()
    for pattern in patterns:
        matching = [path for path in paths if matches(path, [pattern])]
        if not matching:
            raise UserError(
                f"training.freeze: {pattern!r} must match the path of a weight, and matches none; near are "
                f"{', '.join(near_patterns(pattern, paths))}"
            )
        frozen.update(matching)
    for layer in model._flatten_layers(include_self=False):
        own = {variable.path for variable in layer.variables}
        if own and own <= frozen:
            layer.trainable = False
    for path in frozen:
        leave(paths[path])
    trained = count_parameters(model)
    if not trained:
        raise UserError("training.freeze: must leave a weight to train, and all are frozen")
    log(f"frozen: {count - trained:,} of {count:,} parameters")


def load_vectors(model: Any, run: Run, log: Callable[[str], None] = print) -> None:
    """Initializes embeddings with the vector files of the recipe. Tokens without a vector get random vectors."""
    spec, seed = run.recipe.model, run.recipe.seed
    for side, path, features in (
        ("source", spec.source_vectors, run.source.features),
        ("target", spec.target_vectors, run.target),
    ):
        if not path or features is None:
            continue
        tokens = features.vocabulary.tokens
        vectors = read_vectors(expanded_path(path), set(tokens))
        # Vectors in files have a standard deviation of about 1. The model multiplies its embeddings by width^0.5.
        matrix, found = embedding_matrix(tokens, vectors, spec.width, seed, spec.width**-0.5)
        getattr(model, f"{side}_embedding").embeddings.assign(matrix)
        log(f"{side} vectors: {found:,} of {len(tokens):,} tokens found in {path}")
