"""Batches of few shapes, for compilers that compile each shape, and training on the JAX backend with them."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.batching import few_lengths
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import dump_recipe, from_dict, to_dict
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe
from tfseq2seq.training.global_batch import few_shapes


def test_few_lengths_reach_the_longest_example():
    for most in (1, 8, 40, 128, 1000):
        lengths = few_lengths(most)
        assert lengths[-1] >= most and len(lengths) <= 25
        assert all(after <= 1.6 * before for before, after in zip(lengths, lengths[1:]))


def example(rows, source, target):
    """Inputs, labels and weights with the given numbers of rows and lengths."""
    inputs = {"source": tf.ones([rows, source], tf.int32), "target": tf.ones([rows, target], tf.int32)}
    return inputs, tf.ones([rows, target], tf.int32), tf.ones([rows, target])


@pytest.mark.parametrize(
    ("rows", "source", "target", "shape"),
    [
        (3, 5, 2, (4, 8, 8)),
        (4, 8, 8, (4, 8, 8)),
        (2, 9, 3, (2, 16, 8)),
        (1, 3, 13, (2, 16, 16)),
        (2, 16, 9, (2, 16, 16)),
    ],
)
def test_a_batch_gets_the_shape_of_its_bucket_and_nothing_of_weight(rows, source, target, shape):
    inputs, labels, weights = few_shapes([8, 16], [4, 2])(*example(rows, source, target))
    assert (*inputs["source"].shape, inputs["target"].shape[1]) == shape
    assert labels.shape == weights.shape == inputs["target"].shape == (shape[0], shape[2])
    assert float(tf.reduce_sum(weights)) == rows * target == np.count_nonzero(labels)


def test_without_a_source_targets_get_the_length_of_their_bucket():
    inputs, labels, weights = example(2, 1, 9)
    inputs, labels, _ = few_shapes([8, 12], [4, 2])({"target": inputs["target"]}, labels, weights)
    assert inputs["target"].shape == labels.shape == (2, 12)


def test_recordings_keep_their_lengths_beside_the_samples():
    given = {"source": tf.ones([1, 900]), "source_length": tf.constant([900])}
    inputs, labels, weights = few_shapes([500, 1000], [4, 2])(given, tf.ones([1, 3], tf.int32), tf.ones([1]))
    assert inputs["source"].shape == (2, 1000) and inputs["source_length"].numpy().tolist() == [900, 900]
    assert labels.shape == (2, 8) and weights.numpy().tolist() == [1, 0]


@pytest.fixture(scope="module")
def short_recipe(small_recipe):
    """A recipe whose batches have two or three shapes."""
    values = to_dict(small_recipe)
    for part in ("encoder", "decoder"):
        values["model"][part]["dropout"] = 0.0
    values["data"] |= {"max_source_length": 12, "max_target_length": 8, "shapes": "few"}
    values["training"] |= {"steps": 4, "evaluate_every": 4}
    return from_dict(Recipe, values)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax_trains_the_same_on_two_devices_and_tensorflow_generates_from_its_run(short_recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(short_recipe))
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    metrics = []
    for name, options in (("one", []), ("two", ["training.strategy=mirrored", "training.devices=2"])):
        settings = [part for option in options for part in ("--set", option)]
        command = [sys.executable, "-m", "tfseq2seq.cli", "train", str(tmp_path / "recipe.yaml")]
        done = subprocess.run(
            [*command, "--run", str(tmp_path / name), *settings],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "shapes in the first 200 batches, each of which is compiled once" in done.stderr
        metrics += Run.open(tmp_path / name).metrics()
    for name in ("nll", "val_nll", "accuracy"):
        assert metrics[1][name] == pytest.approx(metrics[0][name], rel=1e-5), name
    predictor = Predictor.of_runs([Run.open(tmp_path / "two")])
    assert len(Generator(predictor).generate(["3 May", "7th"])) == 2


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_what_jax_cannot_train_is_refused_with_the_reason(short_recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(short_recipe))
    command = [sys.executable, "-m", "tfseq2seq.cli", "train", str(tmp_path / "recipe.yaml"), "--run"]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    settings = ["--set", "training.monitor=bleu"]
    done = subprocess.run(
        [*command, str(tmp_path / "run"), *settings], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert (
        "training.monitor: must be loss with KERAS_BACKEND=jax (the search needs TensorFlow), got bleu" in done.stderr
    )
