"""A student learns a teacher's probabilities."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import Run
from tfseq2seq.sources import AudioSource, NoSource
from tfseq2seq.spec import DistillationSpec, Recipe
from tfseq2seq.training.distillation import build_distillation_loss
from tfseq2seq.training.fit import compile_model, train


def student_recipe(small_recipe, **training):
    values = to_dict(small_recipe)
    values["name"] = "student"
    values["model"]["width"] = 8
    for side in ("source", "target"):
        values[side]["vocabulary"] = f"$TEACHER/vocabulary/{side}.txt"
    values["training"] |= {"distillation": {"teacher": "$TEACHER", "weight": 1.0}, **training}
    return from_dict(Recipe, values)


@pytest.fixture(autouse=True)
def index(trained_run, monkeypatch):
    monkeypatch.setenv("TEACHER", str(trained_run.folder))


def batch(run, generated):
    source, target = (generated[f"test.{side}"].read_text().split("\n")[:8] for side in ("source", "target"))
    labels = run.target(tf.constant(target))
    return {**run.source.inputs(tf.constant(source)).inputs, "target": decoder_input(labels)}, labels


@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 1.0), (1.0, 2.0)])
def test_the_loss_is_that_of_the_formula(small_recipe, trained_run, generated, weight, temperature):
    inputs, labels = batch(trained_run, generated)
    weights = np.asarray(labels != 0, "float32")
    weights /= weights.sum()
    model, teacher = trained_run.build_model(), trained_run.load_model()
    compile_model(model, small_recipe)
    logits = model(inputs, training=False)
    plain = float(model.compute_loss(inputs, labels, logits, weights, training=True))
    spec = DistillationSpec(str(trained_run.folder), weight, temperature)
    model.distillation_loss = build_distillation_loss(spec, trained_run)
    found = float(model.compute_loss(inputs, labels, logits, weights, training=True))
    wanted = tf.nn.softmax(teacher(inputs, training=False) / temperature)
    each = -tf.reduce_sum(wanted * tf.nn.log_softmax(logits / temperature), axis=-1) * weights
    expected = (1 - weight) * plain + weight * temperature**2 * float(tf.reduce_sum(each))
    assert found == pytest.approx(expected, rel=1e-5)
    assert float(model.compute_loss(inputs, labels, logits, weights, training=False)) == pytest.approx(plain)


def test_a_student_comes_to_agree_with_its_teacher(small_recipe, trained_run, generated, tmp_path):
    inputs, labels = batch(trained_run, generated)
    real = labels.numpy() != 0
    wanted = trained_run.load_model()(inputs, training=False).numpy()[real]

    def distance(model):
        found = tf.nn.log_softmax(model(inputs, training=False)).numpy()[real]
        return -np.mean(np.sum(tf.nn.softmax(wanted).numpy() * found, axis=-1))

    recipe = student_recipe(small_recipe, steps=30, evaluate_every=30)
    run = train(recipe, tmp_path / "student")
    assert distance(run.load_model()) < 0.9 * distance(run.build_model())
    assert Run.open(run.folder).recipe.training.distillation.weight == 1.0


def test_a_teacher_of_another_vocabulary_is_refused(small_recipe, trained_run, tmp_path):
    recipe = student_recipe(small_recipe)
    recipe = dataclasses.replace(recipe, target=dataclasses.replace(recipe.target, vocabulary="", scheme="characters"))
    with pytest.raises(UserError, match="must have the target vocabulary of the student, .* set target.vocabulary"):
        train(recipe, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_teacher_without_source_text_is_refused(small_recipe, trained_run, tmp_path):
    values = to_dict(small_recipe)
    values |= {"source": {"kind": "audio"}, "data": {}}
    recipe = from_dict(Recipe, values)
    heard = Run.create(tmp_path / "heard", recipe, AudioSource(recipe.source), trained_run.target)
    recipe = from_dict(Recipe, {"source": {"kind": "none"}, "target": values["target"]})
    continued = Run.create(tmp_path / "continued", recipe, NoSource(recipe.source), trained_run.target)
    for run, kind in ((heard, "audio"), (continued, "none")):
        with pytest.raises(
            UserError, match=rf"^training.distillation.teacher: must have source.kind text, .* got {kind} in "
        ):
            build_distillation_loss(DistillationSpec(str(run.folder)), trained_run)
