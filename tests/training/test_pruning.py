"""Weights pruned while training: as many as asked for, the smallest ones, and they stay zero."""

import re
import shutil

import keras
import numpy as np
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import FINAL, Run, average_weights, load_weights
from tfseq2seq.spec import PruningSpec, Recipe
from tfseq2seq.training.batches import build_batches
from tfseq2seq.training.fit import compile_model, set_average, train
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.pruning import Mask, Pruning, matrices, prune, sparsity, zeros


def pruned_recipe(small_recipe, pruning=None, **training):
    values = to_dict(small_recipe)
    values["training"] |= {"evaluate_every": 2, "pruning": {"sparsity": 0.75, "start": 2, "steps": 4, "every": 2}}
    values["training"]["pruning"] |= pruning or {}
    values["training"] |= training
    return from_dict(Recipe, values)


@pytest.fixture(scope="module")
def pruned_run(small_recipe, tmp_path_factory):
    logged = []
    run = train(pruned_recipe(small_recipe), tmp_path_factory.mktemp("pruned") / "run", log=logged.append)
    run.logged = "\n".join(logged)
    return run


def weights(run):
    return run.load_model().get_weights()


def gone(model):
    """Where the matrices are zero."""
    return [weight.numpy() == 0 for weight in matrices(model)]


def shares(run, step=None):
    """Of each matrix, at a checkpoint or in the end."""
    model = run.load_model(None if step is None else run.checkpoint_file(step))
    return [indices.mean() for indices in gone(model)]


def assert_sparse(found, share):
    assert found == pytest.approx([share] * len(found), abs=0.01)


def test_the_share_grows_by_a_cubic():
    spec = PruningSpec(sparsity=0.8, start=100, steps=200)
    found = [sparsity(spec, step) for step in (0, 100, 150, 200, 300, 1000)]
    assert found == pytest.approx([0, 0, 0.8 * (1 - 0.75**3), 0.8 * (1 - 0.5**3), 0.8, 0.8])


def test_the_smallest_numbers_of_matrices_go():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="normal")])
    model.layers[0].kernel.assign([[0.1, -5.0], [-0.2, 3.0], [4.0, 0.3]])
    prune(model, 0.5)
    np.testing.assert_array_equal(model.layers[0].kernel, np.array([[0, -5], [0, 3], [4, 0]], "float32"))
    assert np.all(np.asarray(model.layers[0].bias) != 0)
    assert zeros(model) == 0.5


def test_biases_of_two_rows_are_not_matrices():
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(2)])
    assert [weight.name for weight in matrices(model)] == ["kernel", "recurrent_kernel"]


def test_masked_numbers_stay_zero_while_others_learn():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    callback = Pruning(PruningSpec(sparsity=0.5, steps=1, every=1), 0)
    after = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: after.append(model.get_weights()[0].ravel())
    )
    inputs = np.random.default_rng(0).normal(size=(64, 4))
    model.fit(inputs, inputs.sum(axis=1), batch_size=8, callbacks=[callback, note], verbose=0)
    pruned = after[0] == 0
    assert pruned.sum() == 2
    assert all(np.array_equal(values == 0, pruned) for values in after)
    assert np.all(after[0][~pruned] != after[-1][~pruned])
    assert not isinstance(model.layers[0].kernel.constraint, Mask)


def test_checkpoints_become_as_sparse_as_asked_for(pruned_run):
    spec = pruned_run.recipe.training.pruning
    assert pruned_run.progress()["kept"] == [4, 6, 8, 10, 12]
    model, found = pruned_run.build_model(), {}
    for step in pruned_run.progress()["kept"]:
        load_weights(model, pruned_run.checkpoint_file(step))
        found[step] = gone(model)
        assert_sparse([indices.mean() for indices in found[step]], sparsity(spec, step))
    for one, other in zip(found[6], found[12], strict=True):
        np.testing.assert_array_equal(one, other)
    load_weights(model, pruned_run.folder / FINAL)
    assert_sparse([indices.mean() for indices in gone(model)], 0.75)


@pytest.mark.usefixtures("eagerly")
def test_moving_averages_are_validated_and_kept_as_sparse(small_recipe, generated, tmp_path):
    run = train(pruned_recipe(small_recipe, steps=6, optimizer={"learning_rate": 0.01, "ema": 0.9}), tmp_path / "run")
    assert_sparse(shares(run, 6), 0.75)
    model = run.load_model(run.checkpoint_file(6))
    compile_model(model, run.recipe)
    corpora = type(run.source).open_corpora(run.recipe)
    objective = build_objective(run.recipe.model, run.recipe.training)
    validation = build_batches(corpora, run, model, objective, lambda *_: None).validation
    found = model.evaluate(validation, verbose=0, return_dict=True)["nll"]
    assert found == pytest.approx(run.metrics()[-1]["val_nll"], rel=1e-5)


def test_means_of_checkpoints_are_as_sparse_as_the_last(pruned_run):
    model = pruned_run.build_model()
    average_weights(model, [pruned_run.checkpoint_file(step) for step in (4, 6)])
    assert zeros(model) < 0.7
    set_average(model, pruned_run, [4, 6])
    assert zeros(model) == pytest.approx(0.75, abs=0.01)


def test_how_sparse_it_is_is_told(pruned_run):
    assert float(re.search(r"pruned: (.*)% of", pruned_run.logged)[1]) == pytest.approx(75, abs=1)


@pytest.mark.usefixtures("eagerly")
def test_the_best_checkpoint_is_one_after_pruning_has_ended(small_recipe, tmp_path):
    # No output is right, so every evaluation has the same score, and the first one would be the best.
    run = train(pruned_recipe(small_recipe, monitor="exact_match", patience=1), tmp_path / "run")
    assert {line["val_exact_match"] for line in run.metrics()} == {0.0}
    assert run.progress()["best"] == 6
    assert run.progress()["step"] == 8


def test_a_resumed_run_ends_as_one_never_stopped(pruned_run, tmp_path, monkeypatch):
    save = Run.save_checkpoint

    def killed(run, model, step):
        if step > 4:  # in the middle of pruning
            raise KeyboardInterrupt
        save(run, model, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "save_checkpoint", killed)
        train(pruned_run.recipe, tmp_path / "run")
    resumed = train(pruned_run.recipe, tmp_path / "run", resume=True)
    for one, other in zip(weights(pruned_run), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("eagerly")
def test_a_finished_run_is_pruned_by_resuming_it(trained_run, small_recipe, tmp_path):
    shutil.copytree(trained_run.folder, tmp_path / "run")
    recipe = pruned_recipe(small_recipe, {"start": 12, "every": 1}, steps=18, evaluate_every=6)
    run = train(recipe, tmp_path / "run", resume=True)
    assert run.progress()["best"] == 18
    assert_sparse(shares(run, 18), 0.75)


def test_pruning_that_should_have_begun_before_is_refused(trained_run, small_recipe, tmp_path):
    shutil.copytree(trained_run.folder, tmp_path / "run")
    before = (tmp_path / "run" / FINAL).read_bytes()
    for steps in (12, 18):
        with pytest.raises(UserError, match=r"pruning\.start: must be at least 12, .* got 2; "):
            train(pruned_recipe(small_recipe, steps=steps), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / FINAL).read_bytes() == before


def test_a_plateau_is_not_for_pruning(small_recipe):
    with pytest.raises(UserError, match=r"schedule\.name: must not be plateau with pruning"):
        pruned_recipe(small_recipe, schedule={"name": "plateau"})


def test_a_training_too_short_for_its_pruning_is_refused(small_recipe):
    with pytest.raises(UserError, match=r"pruning\.steps: must let pruning end by training step 12, .* 20"):
        pruned_recipe(small_recipe, {"start": 10, "steps": 10})


@pytest.mark.usefixtures("eagerly")
def test_time_that_runs_out_before_pruning_ends_is_told(small_recipe, tmp_path, capsys):
    run = train(pruned_recipe(small_recipe, {"start": 0, "steps": 12, "every": 1}, minutes=1e-6), tmp_path / "run")
    assert run.progress()["step"] == 1
    assert "before the end of pruning at step 12" in capsys.readouterr().out
    assert 0 < zeros(run.load_model()) < 0.75
