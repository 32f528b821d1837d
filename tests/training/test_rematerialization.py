"""Blocks that compute their activations twice give the updates of blocks that keep them, with the same random masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import build, inputs

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import EOS, PAD, OptimizerSpec, Recipe, TrainingSpec
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import build_optimizer

TARGETS = [[4, 5, 6, 7, 8, EOS], [9, EOS, PAD, PAD, PAD, PAD], [4, 4, 9, EOS, PAD, PAD]]


def trained(family, rematerialize, eagerly):
    """All variables after two updates, the seeds of dropout among them, and the losses."""
    keras.utils.set_random_seed(3)
    model = build(*family)
    for number, variable in enumerate(model.variables):
        if not variable.trainable and variable.shape == (2,):
            variable.assign([number, 0])
    if rematerialize:
        model.rematerialize()
        assert model.blocks
    objective = build_objective(model.spec, TrainingSpec())
    model.compile(
        build_optimizer(OptimizerSpec(name="sgd"), 0.1),
        run_eagerly=eagerly,
        jit_compile=False,
        **objective.compile_options(),
    )
    batch = {name: tf.constant(value) for name, value in inputs(family[2]).items() if name != "copy_ids"}
    batch["target"] = tf.constant(np.array(TARGETS[: len(batch["target"])], "int32"))
    example = objective.example(batch)
    losses = [model.train_on_batch(*example, return_dict=True)["loss"] for _ in range(2)]
    return [np.array(variable) for variable in model.variables], losses


@pytest.mark.parametrize(
    "family",
    [
        ("transformer", "transformer", "text"),
        # Its bias of positions is learned, and is the same tensor in all blocks.
        ("transformer-t5", "transformer-t5", "text"),
        ("transformer-relative-grouped", "additive", "text"),
        ("convolution", "transformer", "text"),
        ("conformer", "ctc", "audio"),
        ("conformer", "joint", "audio"),
    ],
    ids="-".join,
)
def test_activations_computed_twice_give_the_same_updates(family):
    expected, expected_losses = trained(family, False, eagerly=True)
    found, losses = trained(family, True, eagerly=True)
    assert losses == pytest.approx(expected_losses, rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_graphs_compute_activations_twice_with_the_same_masks():
    family = ("transformer", "transformer", "text")
    expected, _ = trained(family, False, eagerly=False)
    found, _ = trained(family, True, eagerly=False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_recurrent_models_have_no_blocks_to_compute_twice():
    values = {
        "model": {"encoder": {"kind": "recurrent"}, "decoder": {"kind": "recurrent"}},
        "training": {"rematerialize": True},
    }
    with pytest.raises(UserError, match=r"training.rematerialize: needs an encoder or decoder made of blocks"):
        from_dict(Recipe, values)
    del values["model"]["encoder"]
    assert from_dict(Recipe, values).training.rematerialize
