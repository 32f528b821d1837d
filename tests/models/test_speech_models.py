"""Speech models: lengths are exact, padding and batch mates change nothing, and each family learns."""

import keras
import numpy as np
import pytest

from tfseq2seq.layers.alignment_losses import CTCLoss, TransducerLoss
from tfseq2seq.layers.ctc import real_positions
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import AudioSpec, ModelSpec
from tfseq2seq.training.losses import TokenCrossEntropy

RATE, SIZE = 2000, 9
PLAIN = {"frequency_masks": 0, "time_masks": 0}
SOURCE = {"kind": "audio", "sample_rate": RATE, "bins": 12, "subsampling": 2, "augmentation": PLAIN}
CONFORMER = {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3, "relative_distance": 4}
ENCODERS = {
    "conformer": CONFORMER,
    "conformer-rotary": {**CONFORMER, "positions": "rotary"},
    "conformer-chunked": {**CONFORMER, "chunk": 3, "left_chunks": 1},
    "pyramid": {"kind": "pyramid", "layers": 2, "joins": 1, "units": 8},
    "pyramid-gru": {"kind": "pyramid", "cell": "gru", "layers": 3, "joins": 2, "units": 8},
    "transformer": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16},
    "recurrent": {"kind": "recurrent", "layers": 1, "units": 8},
    "convolution": {"kind": "convolution", "layers": 1, "filters": 16, "pooling": 2},
}
RECURRENT = {"kind": "recurrent", "layers": 1, "units": 16, "attention": "location", "attention_units": 8}
DECODERS = {
    "ctc": {"decoder": {"kind": "ctc"}},
    "transducer": {"decoder": {"kind": "transducer", "units": 12, "joint": 10}},
    "attention": {"decoder": RECURRENT},
    "joint": {"decoder": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}, "ctc_weight": 0.3},
}


def build(encoder, decoder, **source):
    keras.utils.set_random_seed(4)
    if encoder == "conformer-chunked":
        source = {"normalization": "none", **source}
    spec = from_dict(ModelSpec, {"width": 16, "encoder": ENCODERS[encoder], **DECODERS[decoder]})
    return build_model(spec, from_dict(AudioSpec, {**SOURCE, **source}), 0, SIZE)


def batch():
    random = np.random.default_rng(0)
    lengths = np.array([1400, 1000, 777], "int32")
    samples = random.normal(size=(3, 1400)).astype("float32") * 0.1
    samples[np.arange(1400) >= lengths[:, np.newaxis]] = 0.0
    target = np.array([[2, 4, 5, 6], [2, 7, 0, 0], [2, 8, 8, 0]], "int32")
    return {"source": samples, "source_length": lengths, "target": target}


def outputs(model, inputs):
    wanted = {name: inputs[name] for name in model.input}
    found = model(wanted, training=False)
    return list(map(np.asarray, found.values())) if isinstance(found, dict) else [np.asarray(found)]


@pytest.mark.parametrize(
    "encoder, decoder", [*((encoder, "ctc") for encoder in ENCODERS), *(("pyramid", decoder) for decoder in DECODERS)]
)
def test_padding_and_batch_mates_change_nothing(encoder, decoder):
    model, inputs = build(encoder, decoder), batch()
    whole = outputs(model, inputs)
    noisy = np.pad(inputs["source"], ((0, 0), (0, 333)))
    noisy[np.arange(1733) >= inputs["source_length"][:, np.newaxis]] = 7.0
    padded = outputs(model, {**inputs, "source": noisy})
    for row, length in enumerate(inputs["source_length"]):
        positions = model.encoder.positions(model.frontend.positions(int(length)))
        alone = outputs(
            model, {name: value[row : row + 1] for name, value in {**inputs, "source": inputs["source"]}.items()}
        )
        for one, two, three in zip(whole, padded, alone):
            size = positions if one.shape[1] != inputs["target"].shape[1] else one.shape[1]
            np.testing.assert_allclose(two[row, :size], one[row, :size], atol=2e-4)
            np.testing.assert_allclose(three[0, :size], one[row, :size], atol=2e-4)


@pytest.mark.parametrize("encoder", ["conformer", "pyramid-gru", "convolution"])
@pytest.mark.parametrize("subsampling", [1, 4, 8])
def test_lengths_are_exact_for_every_number_of_samples(encoder, subsampling):
    model = build(encoder, "ctc", subsampling=subsampling)
    lengths = np.array([1, 2, 19, 20, 21, 49, 50, 51, 99, 100, 101, 333, 400, 401, 777, 800], "int32")
    samples = np.random.default_rng(0).normal(size=(len(lengths), 800)).astype("float32")
    logits = model({"source": samples, "source_length": lengths}, training=False)
    found = np.asarray(real_positions(logits)).sum(axis=1)
    expected = [model.encoder.positions(model.frontend.positions(int(length))) for length in lengths]
    assert found.tolist() == expected
    assert np.asarray(model.encoder.positions(model.frontend.positions(lengths))).tolist() == expected
    assert min(expected) >= 1 and logits.shape[1] == max(expected)


def test_a_chunked_encoder_hears_nothing_after_the_chunk():
    model, inputs = build("conformer-chunked", "ctc"), batch()
    changed = {**inputs, "source": inputs["source"].copy()}
    changed["source"][0, 1000:] = 0.3
    before, after = outputs(model, inputs)[0][0], outputs(model, changed)[0][0]
    # Frames of 50 samples centered every 20, subsampled by 2, heard in chunks of 3.
    safe = (1000 - 25) // 20 // 2 // 3 * 3
    np.testing.assert_allclose(after[:safe], before[:safe], atol=1e-5)
    assert np.abs(after[safe:] - before[safe:]).max() > 1e-3


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_saved_keras_file_answers_as_the_model(decoder, tmp_path):
    model, inputs = build("conformer", decoder), batch()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, two in zip(outputs(model, inputs), outputs(loaded, inputs)):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_losses_of_mixed_precision_are_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for decoder in ("ctc", "transducer"):
            assert all(found.dtype == "float32" for found in outputs(build("conformer", decoder), batch()))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("decoder", DECODERS)
def test_each_family_learns(decoder):
    """Three recordings, each its own pure tone: the loss of their texts falls to a fraction."""
    # Normalized over a recording, a tone that never changes would leave nothing to hear.
    model, inputs = build("conformer", decoder, normalization="none"), batch()
    indices = np.arange(1400) / RATE
    for row in range(3):
        inputs["source"][row] = (
            0.3 * np.sin(2 * np.pi * (150 + 250 * row) * indices) * (np.arange(1400) < inputs["source_length"][row])
        )
    labels = np.array([[4, 5, 6, 3], [7, 3, 0, 0], [8, 8, 3, 0]], "int32")
    real = (labels > 0).astype("float32")
    tokens = real.sum(axis=1) - 1
    losses = {"ctc": CTCLoss(), "transducer": TransducerLoss(), "attention": TokenCrossEntropy()}
    joint = decoder == "joint"
    loss = {"attention": TokenCrossEntropy(), "ctc": CTCLoss()} if joint else losses[decoder]
    weights = {"attention": real, "ctc": tokens} if joint else real if decoder == "attention" else tokens
    model.compile(keras.optimizers.Adam(0.02, clipnorm=1.0), loss, jit_compile=False)
    before = _evaluated(model, inputs, labels, weights, joint)
    model.fit(
        {name: inputs[name] for name in model.input},
        {"attention": labels, "ctc": labels} if joint else labels,
        sample_weight=weights,
        epochs=90,
        batch_size=3,
        verbose=0,
    )
    assert _evaluated(model, inputs, labels, weights, joint) < 0.15 * before


def _evaluated(model, inputs, labels, weights, joint):
    return model.evaluate(
        {name: inputs[name] for name in model.input},
        {"attention": labels, "ctc": labels} if joint else labels,
        sample_weight=weights,
        batch_size=3,
        verbose=0,
        return_dict=True,
    )["loss"]
