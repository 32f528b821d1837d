"""Each family learns: it fits a small set of examples within a bounded number of updates."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import ALIGNED, DECODERS, ENCODERS, RATE, source_spec

from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import EOS, ModelSpec, TrainingSpec
from tfseq2seq.training.global_batch import globally_weighted
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import sampling_share

pytestmark = pytest.mark.slow

SIZE, PAIRS, LENGTH, UPDATES = 12, 12, 3, 500
SAMPLED = {"scheduled_sampling": {"schedule": "constant", "share": 0.2}}
# Each encoder and each decoder that computes in a way of its own, once: what takes most of the time is the graph of a
# family. The Transformer without sampling is the decoder of the Conformer and the language model, additive attention
# without sampling that of the pyramid, and attention by location that of a model of recordings.
FAMILIES = {
    "transformer-rotary-post": ("transformer-post-rotary-swiglu", "transformer-post-rotary-swiglu", {}),
    "transformer-relative": ("transformer-relative-grouped", "transformer-relative", {}),
    "lstm-fixed-vector": ("lstm-both-ways", "fixed-lstm", {}),
    "gru-dot": ("gru-one-way", "dot-gru", {}),
    "coverage": ("simple", "coverage", {}),
    "convolution": ("convolution", "general-unfed", {}),
    "conformer": ("conformer", "transformer", {}),
    "pyramid": ("pyramid", "additive", {}),
    "copying-sampled": ("transformer", "copying-transformer", SAMPLED),
    "sampled-steps": ("lstm-both-ways", "additive", SAMPLED),
    "sampled-passes": ("transformer", "transformer", SAMPLED),
}


def network(source, encoder, decoder, options, size=SIZE, seed=1, **source_options):
    """A model without dropout, of one layer where that is enough, and its objective."""
    keras.utils.set_random_seed(seed)
    parts = dict(ALIGNED.get(decoder) or {"decoder": DECODERS[decoder]})
    if encoder:
        parts["encoder"] = ENCODERS[encoder]
    for name, part in parts.items():
        if isinstance(part, dict):
            layers = {"layers": 1} if part.get("layers") and not part.get("joins") else {}
            parts[name] = {**part, **layers, "dropout": 0.0}
    spec = from_dict(ModelSpec, {"width": 16, **parts, **options})
    model = build_model(spec, source_spec(source, encoder, **source_options), SIZE if source == "text" else 0, size)
    objective = build_objective(spec, TrainingSpec(label_smoothing=0.0))
    return model, objective


def compiled(model, optimizer, objective):
    """Made ready for `fit`. Variables that an optimizer makes in the graph of the first update take long."""
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, jit_compile=False, **objective.compile_options())


def fitted(model, objective, batch):
    """Trains on one batch until each label is the likeliest one given the true past, which is the same as right when
    the model decodes by itself; tells whether that came about."""
    inputs, labels, weights = keras.tree.map_structure(np.asarray, objective.example(batch))
    weights = weights / weights.sum()
    compiled(model, keras.optimizers.Adam(0.01), objective)
    data = tf.data.Dataset.from_tensors((inputs, labels, weights)).repeat()
    for _ in range(UPDATES // 50):
        model.fit(data, steps_per_epoch=50, verbose=0, shuffle=False)
        if np.array_equal(np.argmax(model(inputs), axis=-1)[weights > 0], labels[weights > 0]):
            return True
    return False


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_text_learns_to_reverse_a_small_set(family):
    model, objective = network("text", *FAMILIES[family])
    if model.sampling is not None:
        model.sampling.share.assign(sampling_share(model.spec.scheduled_sampling, 1))
    words = np.random.default_rng(5).integers(4, SIZE, (PAIRS, LENGTH)).astype("int32")
    end = np.full((PAIRS, 1), EOS, "int32")
    batch = {"source": np.concatenate([words, end], 1), "target": np.concatenate([words[:, ::-1], end], 1)}
    if model.spec.decoder.copies:
        # The first word of each source is one that the target vocabulary lacks.
        batch["copy_ids"] = batch["source"].copy()
        batch["copy_ids"][:, 0], batch["target"][:, LENGTH - 1] = SIZE, SIZE
    assert fitted(model, objective, batch)


@pytest.mark.parametrize("decoder", ["transformer", "fixed-lstm"])
def test_a_language_model_learns_a_small_set(decoder):
    """Lines that begin alike go on alike: after the first token nothing is left to chance."""
    model, objective = network("none", "", decoder, {})
    first = np.arange(4, SIZE)
    others = np.random.default_rng(5).integers(4, SIZE, (len(first), LENGTH))
    lines = np.concatenate([first[:, np.newaxis], others, np.full((len(first), 1), EOS)], 1).astype("int32")
    lines[0, 3:] = EOS, 0
    example = objective.example

    def after_the_first(batch):
        inputs, labels, weights = example(batch)
        return inputs, labels, np.concatenate([np.zeros((len(first), 1), "float32"), weights[:, 1:]], 1)

    objective.example = after_the_first
    assert fitted(model, objective, {"target": lines})


@pytest.mark.parametrize("decoder", ["ctc", "transducer", "joint", "location-gru"])
def test_a_model_of_recordings_learns_a_small_set(decoder):
    """Three recordings, each its own pure tone: the loss of their texts falls to a fraction."""
    # Normalized over a recording, a tone that never changes would leave nothing to hear.
    model, objective = network("audio", "conformer", decoder, {}, size=9, seed=4, normalization="none")
    lengths, indices = np.array([1400, 1000, 777], "int32"), np.arange(1400) / RATE
    tones = [0.3 * np.sin(2 * np.pi * (150 + 250 * row) * indices) for row in range(3)]
    samples = np.stack(tones) * (np.arange(1400) < lengths[:, np.newaxis])
    target = np.array([[4, 5, 6, 3], [7, 3, 0, 0], [8, 8, 3, 0]], "int32")
    batch = {"source": samples.astype("float32"), "source_length": lengths, "target": target}
    examples = globally_weighted(tf.data.Dataset.from_tensors(objective.example(batch))).repeat()
    compiled(model, keras.optimizers.Adam(0.02, clipnorm=1.0), objective)
    # Without dropout, the loss of an update is that of the model before it.
    (before,) = model.fit(examples, steps_per_epoch=1, verbose=0).history["loss"]
    losses = model.fit(examples, steps_per_epoch=10, epochs=9, verbose=0).history["loss"]
    assert losses[-1] < 0.15 * before
