"""Trainings of low-rank adapters: what a run keeps, what it needs, and that it is used as any other run."""

import os
import re
import shutil

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from trainings import changed

from tfseq2seq.cli import main
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.run_summaries import summarize
from tfseq2seq.recipe import from_dict
from tfseq2seq.run import Run, merge_run
from tfseq2seq.spec import Recipe
from tfseq2seq.training.fit import train
from tfseq2seq.training.start import freeze

pytestmark = pytest.mark.usefixtures("eagerly")

LORA = {"rank": 2, "alpha": 8.0}


def adapted(recipe, base, **training):
    options = {"steps": 2, "evaluate_every": 2, "lora": LORA, "start_from": str(base), **training}
    return changed(recipe, **options)


def weights_of(run):
    return {variable.path: variable.numpy() for variable in run.load_model().weights}


def names_in(path):
    names = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


@pytest.fixture(scope="module")
def adapted_run(small_recipe, trained_run, tmp_path_factory):
    """A finished run of adapters; tests must not change it."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        return train(adapted(small_recipe, trained_run.folder), tmp_path_factory.mktemp("runs") / "adapted")
    finally:
        tf.config.run_functions_eagerly(before)


def test_a_run_keeps_adapters_alone_and_is_opened_merged(trained_run, adapted_run):
    run = Run.open(adapted_run.folder)
    files = {path.name for path in run.folder.iterdir()} | {path.name for path in run.checkpoints.iterdir()}
    assert "adapters.weights.h5" in files and "model.weights.h5" not in files
    for path in (run.final_file, *run.checkpoints.glob("*.weights.h5")):
        assert names_in(path) and all("/lora_kernel_" in name and "attention" in name for name in names_in(path))
    with np.load(run.checkpoints / "resume.npz") as state:
        kept = sum(state[name].size for name in state.files if name.startswith("model_"))
    base, merged = weights_of(trained_run), weights_of(run)
    assert kept < sum(values.size for values in base.values()) / 2
    differing = {path for path in base if not np.array_equal(base[path], merged[path])}
    assert differing == {path for path in base if "attention" in path and path.endswith("kernel")}
    assert summarize(str(run.folder)).state == "finished"


def test_a_resumed_training_ends_as_one_that_was_not_stopped(small_recipe, trained_run, tmp_path):
    optimizer = {"ema": 0.9}
    recipe = adapted(small_recipe, trained_run.folder, evaluate_every=1, optimizer=optimizer)
    whole = train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "run", until=1)
    resumed = train(recipe, tmp_path / "run", resume=True)
    one, other = weights_of(whole), weights_of(resumed)
    assert all(np.array_equal(one[path], other[path]) for path in one)


def test_what_was_trained_cannot_change_when_a_run_is_resumed(small_recipe, trained_run, adapted_run):
    for name, other in (("rank", 3), ("alpha", 1.0)):
        recipe = adapted(small_recipe, trained_run.folder, steps=4, lora={**LORA, name: other})
        with pytest.raises(UserError, match=r"training.lora: must be .*\"rank\": 2.*, got .*; train in a new folder"):
            train(recipe, adapted_run.folder, resume=True)


def test_weights_that_are_adapted_must_be_there_as_they_were(small_recipe, trained_run, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(trained_run.folder, base)
    run = train(adapted(small_recipe, base), tmp_path / "run")
    weights = weights_of(run)
    # Both may be moved together.
    os.rename(tmp_path, moved := tmp_path.with_name(f"{tmp_path.name}-moved"))
    again = weights_of(Run.open(moved / "run"))
    assert all(np.array_equal(weights[path], again[path]) for path in weights)
    final = moved / "base" / "model.weights.h5"
    final.write_bytes(final.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"must have the SHA-256 digest .*; put the earlier file back"):
        Run.open(moved / "run").load_model()
    final.unlink()
    with pytest.raises(UserError, match=r"has adapters for the weights .*model.weights.h5, which are not there"):
        Run.open(moved / "run").load_model()


def test_a_merged_run_answers_as_its_adapters_without_the_other_run(adapted_run, tmp_path, capsys):
    main(["merge", str(adapted_run.folder), str(tmp_path / "merged")])
    assert "MB of weights" in capsys.readouterr().out
    merged = Run.open(tmp_path / "merged")
    assert not merged.adapts and merged.recipe.training.lora.rank == 0 and merged.final_file.name == "model.weights.h5"
    one, other = weights_of(adapted_run), weights_of(merged)
    assert all(np.array_equal(one[path], other[path]) for path in one)
    assert merged.metrics() == adapted_run.metrics() and summarize(str(merged.folder)).state == "finished"
    with pytest.raises(UserError, match="has a run already"):
        merge_run(adapted_run, tmp_path / "merged")
    with pytest.raises(UserError, match="must have adapters"):
        merge_run(merged, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_commands_open_a_run_of_adapters_as_any_other(adapted_run, trained_run, generated, tmp_path, capsys):
    main(["generate", "--run", str(adapted_run.folder), "--input", str(generated["test.source"])])
    assert capsys.readouterr().out.count("\n") >= 40
    with pytest.raises(SystemExit) as ended:
        main(["average", "--run", str(adapted_run.folder), "--last", "1"])
    assert ended.value.code == 2 and "needs a run with weights of its own" in capsys.readouterr().err


def test_a_training_may_start_from_a_run_of_adapters_but_not_adapt_it(small_recipe, adapted_run, tmp_path):
    recipe = changed(small_recipe, start_from=str(adapted_run.folder), steps=1, evaluate_every=1)
    tiny = {"optimizer": {"learning_rate": 1e-7}}
    run = train(changed(recipe, **tiny), tmp_path / "run")
    before, after = weights_of(adapted_run), weights_of(run)
    assert all(np.abs(after[path] - before[path]).max() < 1e-5 for path in before)
    with pytest.raises(UserError, match=r"which has adapters; `tfseq2seq merge"):
        train(changed(recipe, lora=LORA), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_student_of_a_teacher_can_have_adapters_and_the_megabytes_are_told(small_recipe, trained_run, tmp_path):
    lines, teacher = [], {"teacher": str(trained_run.folder), "weight": 0.5}
    recipe = adapted(small_recipe, trained_run.folder, steps=1, evaluate_every=1, distillation=teacher)
    run = train(recipe, tmp_path / "run", log=lines.append)
    assert len(run.metrics()) == 1
    count = sum(values.size for values in weights_of(trained_run).values())
    assert any(re.match(rf"adapters: [\d,]+ parameters are trained; frozen: {count:,}$", line) for line in lines)
    size = run.final_file.stat().st_size / 1e6
    assert f"{run.final_file}: {size:.2f} MB of adapters, for the weights of {trained_run.folder}" in lines


def test_adapters_are_trained_in_bfloat16_too(small_recipe, trained_run, tmp_path):
    try:
        recipe = adapted(small_recipe, trained_run.folder, precision="mixed_bfloat16", rematerialize=True)
        run = train(recipe, tmp_path / "run")
    finally:
        keras.config.set_dtype_policy("float32")
    base, merged = weights_of(trained_run), weights_of(run)
    assert {path for path in base if not np.array_equal(base[path], merged[path])}
    assert all(np.array_equal(base[path], merged[path]) for path in base if "attention" not in path)


def test_a_damaged_file_of_adapters_is_told(adapted_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(adapted_run.folder, copy)
    run = Run.open(copy)
    run.final_file.write_bytes(run.final_file.read_bytes()[:500])
    with pytest.raises(UserError, match="adapters.weights.h5: damaged, or of other adapters than the recipe's"):
        run.load_model()
    with h5py.File(run.final_file, "w") as file:
        file["decoder/odd/lora_kernel_a"] = np.zeros((2, 2), "float32")
    with pytest.raises(UserError, match="of other adapters than the recipe's: .* must have the shape"):
        run.load_model()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"lora": {"rank": 2}}, "training.lora.rank: must be 0 without training.start_from"),
        ({"lora": {"alpha": 2.0}}, "training.lora.alpha: needs a rank of at least 1"),
        ({"lora": {"layers": ["*"]}}, "training.lora.layers: needs a rank of at least 1"),
        ({"start_from": "x", "lora": {"rank": 2, "layers": []}}, "training.lora.layers: must have a pattern"),
        ({"start_from": "x", "lora": {"rank": 2}, "freeze": ["encoder/*"]}, "training.freeze: must be empty with lora"),
        ({"start_from": "x", "lora": {"rank": 2}, "average": 2}, "training.average: must be 1 with lora"),
        (
            {"start_from": "x", "lora": {"rank": 2}, "pruning": {"sparsity": 0.5}},
            "pruning.sparsity: must be 0 with lora",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(training, message):
    with pytest.raises(UserError, match=re.escape(message)):
        from_dict(Recipe, {"training": training})


def test_blocks_that_are_computed_twice_have_the_same_gradients_beside_weights_that_stay(trained_run):
    found = []
    for twice in (False, True):
        model = trained_run.load_model()
        freeze(model, ["*norm*", "encoder/block_0/feed_forward/*", "*bias"], lambda line: None)
        if twice:
            model.rematerialize()
        inputs = {name: tf.constant([[4, 5, 6, 7], [5, 6, 0, 0]]) for name in ("source", "target")}
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs, training=True) ** 2)
        found.append(tape.gradient(loss, [variable.value for variable in model.trainable_variables]))
    for one, other in zip(*found, strict=True):
        one, other = (tf.convert_to_tensor(each) for each in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
