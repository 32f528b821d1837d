"""Several batches of one update: their gradient is that of the joined batch, and what counts steps counts updates."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import build, inputs

from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import EOS, PAD, OptimizerSpec, Recipe, ScheduleSpec, TrainingSpec
from tfseq2seq.training.fit import train
from tfseq2seq.training.global_batch import globally_weighted
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import build_optimizer, learning_rate

# Rows of a batch of four in groups of two, three and four batches, of different sizes.
SPLITS = {2: [[0, 1, 2], [3]], 3: [[1], [0, 3], [2]], 4: [[3], [0], [2], [1]]}
TARGETS = [[4, 5, 6, 7, 8, EOS], [9, EOS], [4, 4, 9, EOS], [7, 5, 6, EOS]]


def rows_of(source, rows):
    """Examples of a batch, padded to the longest of them."""
    given = {
        name: np.concatenate([value, value[:1]])
        for name, value in inputs(source).items()
        if name not in ("target", "copy_ids")
    }
    batch = {name: value[rows] for name, value in given.items()}
    lengths = batch.get("source_length", np.sum(batch["source"] != PAD, 1)) if "source" in batch else []
    if "source" in batch:
        batch["source"] = batch["source"][:, : max(lengths)]
    longest = max(len(TARGETS[row]) for row in rows)
    batch["target"] = np.array([TARGETS[row] + [PAD] * (longest - len(TARGETS[row])) for row in rows], "int32")
    return {name: tf.constant(value) for name, value in batch.items()}


def updated(family, groups):
    """The weights after one update by groups of rows, and what Keras logged."""
    encoder, decoder, source = family
    options = {} if source == "text" else {"normalization": "none"}
    model = build(encoder, decoder, source, **options)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    objective = build_objective(model.spec, TrainingSpec(label_smoothing=0.1))
    spec = OptimizerSpec(name="sgd", accumulate=len(groups))
    # A graph of each would take longer than the few steps.
    model.compile(build_optimizer(spec, 0.1), jit_compile=False, run_eagerly=True, **objective.compile_options())
    examples = [objective.example(rows_of(source, rows)) for rows in groups]
    shapes = tf.nest.map_structure(lambda *parts: tf.TensorSpec([None] * parts[0].ndim, parts[0].dtype), *examples)
    dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=shapes)
    batches = globally_weighted(dataset, len(groups))
    logs = model.fit(batches, steps_per_epoch=len(groups), verbose=0, shuffle=False).history
    return model.get_weights(), {name: values[0] for name, values in logs.items()}


@pytest.mark.parametrize(
    "family",
    [
        ("simple", "transformer", "text"),
        ("simple", "ctc", "audio"),
        ("simple", "transducer", "audio"),
        ("simple", "joint", "audio"),
    ],
    ids="-".join,
)
def test_an_update_of_several_batches_is_that_of_the_joined_batch(family):
    expected, logged = updated(family, [[0, 1, 2, 3]])
    for count, groups in SPLITS.items():
        found, logs = updated(family, groups)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=str(count))
        for name in set(logged) - {"loss", "attention_loss", "ctc_loss"}:
            assert logs[name] == pytest.approx(logged[name], rel=1e-4)


def test_schedules_and_averages_count_updates():
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer = build_optimizer(
        OptimizerSpec(name="sgd", accumulate=3, ema=0.5),
        learning_rate(1.0, ScheduleSpec(name="inverse_sqrt", warmup=4), 10, 16),
    )
    optimizer.build([variable])
    found = []
    for _ in range(6):
        optimizer.apply([np.array([-1.0], "float32")], [variable])
        found.append((variable.numpy().item(), optimizer._model_variables_moving_average[0].numpy().item()))
    # Learning rates 1/4 and 2/4. The moving average begins with the weights of the first update.
    assert found == [(0, 0), (0, 0), (0.25, 0.25), (0.25, 0.25), (0.25, 0.25), (0.75, 0.5)]


def test_training_counts_updates(small_recipe, tmp_path):
    def recipe(steps):
        values = to_dict(small_recipe)
        values["training"] |= {"steps": steps, "evaluate_every": 2}
        values["training"] |= {"pruning": {"sparsity": 0.5, "start": 1, "steps": 1, "every": 1}}
        values["training"]["optimizer"] |= {"accumulate": 3}
        return from_dict(Recipe, values)

    run = train(recipe(4), tmp_path / "whole")
    assert [line["step"] for line in run.metrics()] == [2, 4] and run.progress()["step"] == 4
    train(recipe(2), tmp_path / "half")
    resumed = train(recipe(4), tmp_path / "half", resume=True)
    for one, other in zip(resumed.load_model().get_weights(), run.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
