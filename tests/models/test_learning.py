"""Each family learns: it fits a small set of sequences to be reversed within a bounded number of updates."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from families import DECODERS, ENCODERS

from tfseq2seq.data.batching import training_example
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import EOS, ModelSpec
from tfseq2seq.training.losses import TokenCrossEntropy
from tfseq2seq.training.schedules import sampling_share

SIZE, PAIRS, LENGTH, UPDATES = 12, 12, 3, 500
FAMILIES = {
    "transformer": ("transformer", "transformer", {}),
    "transformer-rotary-post": ("transformer-post-rotary-swiglu", "transformer-post-rotary-swiglu", {}),
    "transformer-relative": ("transformer-relative-grouped", "transformer-relative", {}),
    "lstm-fixed-vector": ("lstm-both-ways", "fixed-lstm", {}),
    "lstm-additive": ("lstm-both-ways", "additive", {}),
    "gru-dot": ("gru-one-way", "dot-gru", {}),
    "coverage": ("simple", "coverage", {}),
    "location": ("lstm-both-ways", "location-gru", {}),
    "convolution": ("convolution", "general-unfed", {}),
    "sampled-steps": ("lstm-both-ways", "additive", {"scheduled_sampling": {"schedule": "constant", "share": 0.2}}),
    "sampled-passes": ("transformer", "transformer", {"scheduled_sampling": {"schedule": "constant", "share": 0.2}}),
}


def pairs():
    random = np.random.default_rng(5)
    words = random.integers(4, SIZE, (PAIRS, LENGTH)).astype("int32")
    end = np.full((PAIRS, 1), EOS, "int32")
    return np.concatenate([words, end], 1), np.concatenate([words[:, ::-1], end], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_fits_a_small_set(family):
    encoder, decoder, options = FAMILIES[family]
    keras.utils.set_random_seed(1)
    easy = {"layers": 1, "dropout": 0.0}
    spec = from_dict(
        ModelSpec, {"width": 16, "encoder": ENCODERS[encoder] | easy, "decoder": DECODERS[decoder] | easy, **options}
    )
    model = Seq2Seq(spec, SIZE, SIZE)
    if model.sampling is not None:
        model.sampling.share.assign(sampling_share(spec.scheduled_sampling, 1))
    source, target = pairs()
    inputs, labels, weights = keras.tree.map_structure(np.asarray, training_example(source, target))
    model.compile(keras.optimizers.Adam(0.01), TokenCrossEntropy(), jit_compile=False)
    data = tf.data.Dataset.from_tensors((inputs, labels, weights)).repeat()
    losses = []
    for _ in range(UPDATES // 50):
        losses += model.fit(data, steps_per_epoch=50, verbose=0, shuffle=False).history["loss"]
        # Right at every position given the true past is the same as right when it decodes by itself.
        if np.array_equal(np.argmax(model(inputs), axis=-1), labels):
            return
    raise AssertionError(f"not all right after {UPDATES} updates, losses {losses}")
