"""Prints the largest differences between updates on one device and on several, for the test of distribution.

TensorFlow divides the CPU into devices only before it computes anything, so this runs in a process of its own.
"""

import functools
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from families import build, inputs

from tfseq2seq.models.adapters import adapters, add_adapters
from tfseq2seq.spec import EOS, PAD, LoraSpec, OptimizerSpec, TrainingSpec
from tfseq2seq.training.distribution import Distribution
from tfseq2seq.training.global_batch import globally_weighted
from tfseq2seq.training.keras_distribution import distributed_fit, sum_gradients_first
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import build_optimizer

TARGETS = [[4, 5, 6, 7, 8, EOS], [9, EOS], [4, 4, 9, EOS], [7, 5, 6, EOS], [8, EOS]]
# All inputs are predictions, so that nothing is drawn at random.
SAMPLED = {"guided_attention": {"weight": 0.5}, "scheduled_sampling": {"schedule": "constant", "share": 1.0}}
# Name: encoder, decoder, source, options of the model, options of the optimizer.
CASES = {
    "cross entropy": ("simple", "transformer", "text", {}, {}),
    "clipped": ("simple", "transformer", "text", {}, {"clip_norm": 0.05}),
    "accumulated": (
        "simple",
        "transformer",
        "text",
        {},
        {"accumulate": 2, "clip_norm": 0.05, "momentum": 0.9, "ema": 0.5},
    ),
    "guided attention, coverage, scheduled sampling": ("simple", "coverage", "text", SAMPLED, {}),
    "adapters": ("transformer", "transformer", "text", {}, {"accumulate": 2, "ema": 0.5}),
    "distillation": ("simple", "additive", "text", {}, {}),
    "ctc": ("simple", "ctc", "audio", {}, {}),
    "transducer": ("simple", "transducer", "audio", {}, {}),
    "joint": ("simple", "joint", "audio", {}, {}),
}


def examples_of(source, objective, count):
    """Two batches, of five rows and of three."""
    given = {name: value for name, value in inputs(source).items() if name not in ("target", "copy_ids")}

    def batch(rows):
        wanted = {name: np.concatenate([value, value])[rows] for name, value in given.items()}
        longest = max(len(TARGETS[row]) for row in rows)
        target = [TARGETS[row] + [PAD] * (longest - len(TARGETS[row])) for row in rows]
        values = {**wanted, "target": np.array(target, "int32")}
        return objective.example({name: tf.constant(value) for name, value in values.items()})

    batches = [batch([0, 1, 2, 3, 4]), batch([4, 2, 1])]
    shapes = tf.nest.map_structure(lambda *parts: tf.TensorSpec([None] * parts[0].ndim, parts[0].dtype), *batches)
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=shapes)
    return globally_weighted(dataset, count)


def teach(model):
    """Gives the model a loss with distillation from fixed probabilities, which depend on the position alone."""

    def loss_of(loss, inputs, logits, weights):
        wanted = tf.nn.softmax(tf.sin(tf.cast(tf.range(tf.shape(logits)[-1]), tf.float32)))
        each = -tf.reduce_sum(wanted * tf.nn.log_softmax(logits), axis=-1)
        return 0.5 * loss + 0.5 * tf.reduce_sum(each * weights)

    model.distillation_loss = loss_of


def fill(model):
    """Gives the adapters of a model values, which are otherwise drawn anew for each model."""
    random = np.random.default_rng(1)
    for variable in adapters(model).values():
        variable.assign(random.normal(0, 0.3, variable.shape))


@functools.cache
def strategy_of(replicas):
    """One strategy for all cases: the collective operations of two would get in each other's way."""
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])


def updated(case, replicas):
    """What an update changes, and what Keras logged."""
    encoder, decoder, source, options, optimizer = CASES[case]
    strategy = strategy_of(replicas) if replicas > 1 else None
    distribution = Distribution(strategy, local=replicas)
    source_options = {"normalization": "none"} if source == "audio" else {}
    with distribution.scope():
        model = build(encoder, decoder, source, options=options, **source_options)
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        if case == "adapters":
            add_adapters(model, LoraSpec(rank=2))
            fill(model)
        objective = build_objective(model.spec, TrainingSpec(label_smoothing=0.1))
        spec = OptimizerSpec(name="sgd", **optimizer)
        # Large steps, so that the rounding of weights does not hide what changes.
        model.compile(build_optimizer(spec, 8.0), jit_compile=False, **objective.compile_options())
        model.optimizer.build(model.trainable_variables)
    if case == "distillation":
        teach(model)
    if model.sampling is not None:
        model.sampling.share.assign(1.0)
    before = [weight.copy() for weight in model.get_weights()]
    examples = examples_of(source, objective, spec.accumulate)
    if strategy is None:
        logs = model.fit(examples, steps_per_epoch=spec.accumulate, verbose=0, shuffle=False).history
    else:
        sum_gradients_first(model.optimizer)
        (batch,) = distribution.local_rows(examples).take(1)
        with distributed_fit(model, batch):
            rows = distribution.distribute(examples)
            logs = model.fit(rows, steps_per_epoch=spec.accumulate, verbose=0, shuffle=False).history
    changes = [after - weight for after, weight in zip(model.get_weights(), before, strict=True)]
    return changes, {name: values[0] for name, values in logs.items()}


def compared(case, replicas):
    """The largest difference of a change, relative to the largest change, and of a logged value."""
    (expected, logged), (found, values) = updated(case, 1), updated(case, replicas)
    largest = max(np.abs(change).max() for change in expected)
    changes = [np.abs(one - other).max() / largest for one, other in zip(found, expected, strict=True)]
    logs = [abs(values[name] - logged[name]) / max(abs(logged[name]), 1.0) for name in logged if "loss" not in name]
    return {"changes": float(max(changes)), "logs": float(max(logs, default=0.0))}


def equal_masks(replicas):
    """The share of the entries of dropout masks that are equal in the first two replicas."""
    strategy = strategy_of(replicas)
    with strategy.scope():
        model = build("simple", "additive", "text")
        layer = keras.layers.Dropout(0.5, seed=1)
        layer.build(None)
    objective = build_objective(model.spec, TrainingSpec())
    model.compile("sgd", jit_compile=False, **objective.compile_options())
    (batch,) = examples_of("text", objective, 1).take(1)
    with distributed_fit(model, batch):
        masks = strategy.run(tf.function(lambda: layer(tf.ones([1000]), training=True)))
    first, second, *_ = (mask.numpy() > 0 for mask in strategy.experimental_local_results(masks))
    return float(np.mean(first == second))


if __name__ == "__main__":
    replicas = int(sys.argv[1])
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    updates = {case: compared(case, replicas) for case in sys.argv[2:] or CASES}
    print(json.dumps({"updates": updates, "equal masks": equal_masks(replicas)}))
