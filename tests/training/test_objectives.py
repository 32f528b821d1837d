"""Objectives: labels, sample weights, losses and the monitored value of each family of decoders."""

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import build, inputs, model_spec

from tfseq2seq.layers.alignment_losses import CTCLoss, TransducerLoss
from tfseq2seq.spec import BOS, EOS, PAD, DecoderSpec, ModelSpec, TrainingSpec
from tfseq2seq.training.global_batch import globally_weighted
from tfseq2seq.training.losses import TokenCrossEntropy
from tfseq2seq.training.objectives import build_objective

IDS = [[4, 5, 6, EOS], [7, EOS, PAD, PAD]]
REAL = [[1, 1, 1, 1], [1, 1, 0, 0]]
TOKENS = [3, 1]
FAMILIES = ("transformer", "additive", "fixed-lstm", "joint", "ctc", "transducer")


def objective_of(decoder, **training):
    return build_objective(model_spec("transformer", decoder), TrainingSpec(**training))


def plain(value):
    return keras.tree.map_structure(lambda part: part.numpy().tolist(), value)


def test_every_kind_of_decoder_has_an_objective():
    for kind in typing.get_args(DecoderSpec):
        assert build_objective(ModelSpec(decoder=kind()), TrainingSpec()).monitor.startswith("val_")


@pytest.mark.parametrize("decoder", FAMILIES)
def test_an_example_is_model_inputs_labels_and_weights(decoder):
    source, length = tf.random.normal([2, 9]), tf.constant([9, 5])
    batch = {"source": source, "source_length": length, "target": tf.constant(IDS)}
    given, labels, weights = objective_of(decoder).example(batch)
    np.testing.assert_array_equal(given.pop("source"), source)
    np.testing.assert_array_equal(given.pop("source_length"), length)
    begun = {"target": [[BOS, 4, 5, 6], [BOS, 7, PAD, PAD]]}
    assert plain(given) == ({} if decoder == "ctc" else begun)
    expected = {
        "ctc": (IDS, TOKENS),
        "transducer": (IDS, TOKENS),
        "joint": ({"attention": IDS, "ctc": IDS}, {"attention": REAL, "ctc": TOKENS}),
    }
    assert (plain(labels), plain(weights)) == expected.get(decoder, (IDS, REAL))
    assert {weight.dtype for weight in keras.tree.flatten(weights)} == {tf.float32}


def test_an_example_without_a_source_is_the_target_alone():
    objective = build_objective(model_spec("", "fixed-lstm"), TrainingSpec())
    given, labels, _ = objective.example({"target": tf.constant(IDS)})
    assert set(given) == {"target"} and plain(labels) == IDS


@pytest.mark.parametrize("decoder", FAMILIES)
def test_each_token_needs_a_position_of_its_own_only_where_there_is_a_ctc_output(decoder):
    assert objective_of(decoder).aligned == (decoder in ("ctc", "joint"))


@pytest.mark.parametrize("decoder", FAMILIES)
def test_the_losses_are_those_of_the_family(decoder):
    options = objective_of(decoder, label_smoothing=0.2).compile_options()
    losses = {"ctc": CTCLoss, "transducer": TransducerLoss}
    if decoder == "joint":
        assert {name: type(loss) for name, loss in options["loss"].items()} == {
            "attention": TokenCrossEntropy,
            "ctc": CTCLoss,
        }
        assert options["loss"]["attention"].label_smoothing == 0.2
        assert options["loss_weights"] == {"attention": 0.7, "ctc": 0.3}
        return
    assert type(options["loss"]) is losses.get(decoder, TokenCrossEntropy)
    assert getattr(options["loss"], "label_smoothing", 0.2) == 0.2 and "loss_weights" not in options


@pytest.mark.parametrize(
    "encoder, decoder, source",
    [
        ("transformer", "transformer", "text"),
        ("pyramid", "joint", "audio"),
        ("pyramid", "ctc", "audio"),
        ("pyramid", "transducer", "audio"),
        ("", "transformer", "none"),
    ],
)
def test_keras_logs_what_is_monitored_and_the_tokens_behind_it(encoder, decoder, source):
    model = build(encoder, decoder, source)
    batch = {name: value for name, value in inputs(source).items() if name != "copy_ids"}
    target = np.concatenate([batch["target"][:, 1:], np.zeros((3, 1), "int32")], 1)
    target[np.arange(3), (target > 0).sum(1)] = EOS
    objective = build_objective(model.spec, TrainingSpec(label_smoothing=0.3))
    model.compile("sgd", jit_compile=False, **objective.compile_options())
    example = objective.example({**{name: tf.constant(value) for name, value in batch.items()}, "target": target})
    data = globally_weighted(tf.data.Dataset.from_tensors(example))
    (example,) = data
    logs = model.evaluate(data, verbose=0, return_dict=True)
    assert np.isfinite(logs[objective.monitor.removeprefix("val_")])
    given, labels, weights = example
    outputs = model({name: given[name] for name in model.input}, training=False)
    if decoder == "joint":
        parts = [
            float(loss(labels[name], outputs[name], weights[name]))
            for name, loss in (("attention", TokenCrossEntropy(0.3)), ("ctc", CTCLoss()))
        ]
        assert logs["loss"] == pytest.approx(0.7 * parts[0] + 0.3 * parts[1], rel=1e-5)
        assert logs["attention_nll"] == pytest.approx(
            float(TokenCrossEntropy()(labels["attention"], outputs["attention"], weights["attention"])), rel=1e-5
        )
    elif objective.monitor == "val_nll":
        # Without smoothing, so that models trained with and without it compare.
        assert logs["nll"] == pytest.approx(float(TokenCrossEntropy()(labels, outputs, weights)), rel=1e-5)
        assert logs["loss"] == pytest.approx(float(TokenCrossEntropy(0.3)(labels, outputs, weights)), rel=1e-5)
    else:
        assert logs["tokens"] == float((target > EOS).sum())
        assert objective.monitor == "val_loss"
