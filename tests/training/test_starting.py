"""Trainings that begin with the weights of another run, and weights that a training leaves as they are."""

import dataclasses
import hashlib
import json
import os
import re
import shutil

import keras
import numpy as np
import pytest
from trainings import changed

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict
from tfseq2seq.run import Run
from tfseq2seq.spec import GuidedAttentionSpec, Recipe, SpecError
from tfseq2seq.training.fit import train
from tfseq2seq.training.start import freeze

pytestmark = pytest.mark.usefixtures("eagerly")


def weights_of(run):
    model = run.load_model()
    return {variable.path: np.asarray(variable) for variable in model.weights}


def started(recipe, base, **training):
    return changed(recipe, start_from=str(base.folder), **training)


def test_a_training_begins_with_the_weights_and_vocabularies_of_another_run(
    small_recipe, trained_run, tmp_path, capsys
):
    # Other texts, of which a vocabulary of its own would be another one.
    for side in ("source", "target"):
        (tmp_path / side).write_text("1 2\n3 4\n" * 20)
    corpus = dataclasses.replace(
        small_recipe.data.train, source=str(tmp_path / "source"), target=str(tmp_path / "target")
    )
    recipe = dataclasses.replace(small_recipe, data=dataclasses.replace(small_recipe.data, train=corpus))
    # Adam's updates are as large as the learning rate.
    recipe = started(recipe, trained_run, steps=1, evaluate_every=1, optimizer={"learning_rate": 1e-7})
    run = train(recipe, tmp_path / "run")
    assert run.target.vocabulary == trained_run.target.vocabulary
    before, after = weights_of(trained_run), weights_of(run)
    assert all(np.abs(after[path] - before[path]).max() < 1e-5 for path in before)
    assert f"weights: those of {trained_run.weights_file()}" in capsys.readouterr().out
    note = json.loads((run.folder / "start.json").read_text())
    assert note == {
        "run": str(trained_run.folder),
        "weights": "model.weights.h5",
        "sha256": hashlib.sha256(trained_run.weights_file().read_bytes()).hexdigest(),
        "beside": os.path.relpath(trained_run.folder, run.folder),
    }


def test_a_run_continues_without_the_run_it_began_with(small_recipe, trained_run, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(trained_run.folder, base)
    recipe = started(small_recipe, Run.open(base), steps=4, evaluate_every=2)
    whole = weights_of(train(recipe, tmp_path / "whole"))
    train(recipe, tmp_path / "run", until=2)
    shutil.rmtree(base)
    continued = weights_of(train(recipe, tmp_path / "run", resume=True))
    assert all(np.array_equal(whole[path], continued[path]) for path in whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: dataclasses.replace(model, width=32), "model.width: must be 16, as in training.start_from"),
        (
            lambda model: dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, layers=2)),
            "model.encoder.layers: must be 1, as in training.start_from",
        ),
        (
            lambda model: dataclasses.replace(model, guided_attention=GuidedAttentionSpec(weight=0.5)),
            "model.guided_attention.weight: must be 0.0, as in training.start_from",
        ),
    ],
)
def test_another_model_is_refused_by_its_setting(small_recipe, trained_run, tmp_path, change, message):
    recipe = started(small_recipe, trained_run)
    with pytest.raises(UserError, match=re.escape(message)):
        train(dataclasses.replace(recipe, model=change(recipe.model)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_rates_of_dropout_are_no_other_model(small_recipe, trained_run, tmp_path):
    recipe = started(small_recipe, trained_run, steps=1, evaluate_every=1)
    encoder = dataclasses.replace(recipe.model.encoder, dropout=0.3)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, encoder=encoder))
    assert train(recipe, tmp_path / "run").progress()["step"] == 1


def test_a_run_that_is_missing_or_has_no_weights_is_refused(small_recipe, trained_run, tmp_path):
    with pytest.raises(UserError, match=r"^training.start_from: .*none"):
        train(changed(small_recipe, start_from=str(tmp_path / "none")), tmp_path / "run")
    Run.create(tmp_path / "begun", small_recipe, trained_run.source, trained_run.target)
    with pytest.raises(UserError, match=r"^training.start_from: .*has no checkpoint yet"):
        train(changed(small_recipe, start_from=str(tmp_path / "begun")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "other"), [("start_from", ""), ("freeze", ["encoder/*"])])
def test_another_start_is_refused_when_a_run_is_resumed(small_recipe, trained_run, tmp_path, name, other):
    recipe = started(small_recipe, trained_run)
    Run.create(tmp_path / "run", recipe, trained_run.source, trained_run.target)
    with pytest.raises(UserError, match=rf"^training.{name}: must be .*, with which .* was trained, got .*"):
        train(changed(recipe, **{name: other}), tmp_path / "run", resume=True)


@pytest.mark.parametrize("optimizer", [{}, {"ema": 0.9}, {"accumulate": 2}])
def test_frozen_weights_stay_bit_for_bit(small_recipe, trained_run, tmp_path, optimizer, capsys):
    patterns = ["encoder/*", "*embedding*"]
    recipe = started(small_recipe, trained_run, steps=2, evaluate_every=1, freeze=patterns, optimizer=optimizer)
    run = train(recipe, tmp_path / "run")
    before, after = weights_of(trained_run), weights_of(run)
    frozen = {path for path in before if path.startswith("encoder/") or "embedding" in path}
    assert frozen and {path for path in before if np.array_equal(before[path], after[path])} == frozen
    count = sum(before[path].size for path in frozen)
    total = sum(value.size for value in before.values())
    assert f"frozen: {count:,} of {total:,} parameters" in capsys.readouterr().out


def test_statistics_of_frozen_normalizations_stay():
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(keras.layers.BatchNormalization(name="statistics")(inputs))
    model = keras.Model(inputs, outputs)
    freeze(model, ["statistics/*"], lambda line: None)
    before = [np.asarray(weight) for weight in model.get_layer("statistics").weights]
    model(np.ones((4, 3), "float32") * 5, training=True)
    after = [np.asarray(weight) for weight in model.get_layer("statistics").weights]
    assert all(map(np.array_equal, before, after)) and len(model.trainable_variables) == 2


def test_patterns_that_match_nothing_or_everything_are_refused(trained_run):
    with pytest.raises(UserError, match=r"'encodr/\*' must match .* near are encoder/\*"):
        freeze(trained_run.build_model(), ["encodr/*"], print)
    with pytest.raises(UserError, match="must leave a weight to train"):
        freeze(trained_run.build_model(), ["*"], print)


@pytest.mark.parametrize(
    ("training", "model", "message"),
    [
        ({"freeze": ["x"], "pruning": {"sparsity": 0.5}}, {}, "training.freeze: must be empty with pruning"),
        ({"start_from": "x"}, {"source_vectors": "v"}, "model.source_vectors: must be empty with training.start_from"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(training, model, message):
    with pytest.raises((SpecError, UserError), match=re.escape(message)):
        from_dict(Recipe, {"training": training, "model": model})
