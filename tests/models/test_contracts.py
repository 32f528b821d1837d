"""What every encoder and decoder must hold: steps equal the whole, padding and batch mates change nothing."""

import keras
import numpy as np
import pytest
from families import DECODERS, ENCODERS, model_spec

from tfseq2seq.models.seq2seq import Seq2Seq

SOURCE_SIZE, TARGET_SIZE, BATCH, SOURCE, TARGET = 20, 30, 3, 7, 5
TOLERANCE = 1e-4


def build(spec):
    keras.utils.set_random_seed(3)
    return Seq2Seq(spec, SOURCE_SIZE, TARGET_SIZE)


def ids():
    random = np.random.default_rng(0)
    source = random.integers(4, SOURCE_SIZE, (BATCH, SOURCE)).astype("int32")
    source[1, 5:] = 0
    target = random.integers(4, TARGET_SIZE, (BATCH, TARGET)).astype("int32")
    target[:, 0] = 2
    return source, target


def step_by_step(model, source, target, beam, shuffled=False):
    """Logits [B, K, T, V] from `step`, all hypotheses fed the same target; `shuffled` makes them change slots."""
    batch, length = target.shape
    random = np.random.default_rng(1)
    fixed, cache = model.start(model.encode({"source": source}), beam, length)
    slots = np.zeros((batch, beam, length), "int64")
    logits = []
    for index in range(length):
        slots[:, :, index] = np.arange(beam)
        visible = (slots[..., None] == np.arange(beam)) & (np.arange(length) <= index)[:, None]
        step_ids = np.repeat(target[:, index : index + 1], beam, axis=1)
        out, cache, attention = model.step(
            step_ids, np.int32(index), visible.reshape(batch, beam, length * beam), fixed, cache
        )
        logits.append(np.asarray(out))
        sums = np.asarray(attention).astype("float32").sum(-1)
        np.testing.assert_allclose(sums, 1.0, atol=TOLERANCE if model.compute_dtype == "float32" else 0.02)
        if shuffled:
            parents = random.integers(0, beam, (batch, beam))
            slots = np.take_along_axis(slots, parents[..., None], axis=1)
            cache["state"] = keras.tree.map_structure(
                lambda part, parents=parents: np.asarray(part)[np.arange(batch)[:, None], parents], cache["state"]
            )
    return np.stack(logits, axis=2)


@pytest.mark.parametrize("decoder", DECODERS)
def test_steps_equal_the_whole(decoder):
    model = build(model_spec("lstm-both-ways", decoder))
    source, target = ids()
    whole = np.asarray(model({"source": source, "target": target}))
    for beam, shuffled in ((1, False), (3, True)):
        steps = step_by_step(model, source, target, beam, shuffled)
        for hypothesis in range(beam):
            np.testing.assert_allclose(steps[:, hypothesis], whole, atol=TOLERANCE)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_and_batch_mates_change_nothing(encoder):
    model = build(model_spec(encoder, "coverage" if encoder.startswith("transformer") else "transformer"))
    source, target = ids()
    whole = np.asarray(model({"source": source, "target": target}))
    padded = np.pad(source, ((0, 0), (0, 3)))
    np.testing.assert_allclose(np.asarray(model({"source": padded, "target": target})), whole, atol=TOLERANCE)
    for row in range(BATCH):
        alone = model({"source": source[row : row + 1], "target": target[row : row + 1]})
        np.testing.assert_allclose(np.asarray(alone)[0], whole[row], atol=TOLERANCE)
    later = np.pad(target, ((0, 0), (0, 2)))
    np.testing.assert_allclose(
        np.asarray(model({"source": source, "target": later}))[:, :TARGET], whole, atol=TOLERANCE
    )


def test_the_future_is_hidden():
    source, target = ids()
    for decoder in ("transformer", "additive", "general-unfed"):
        model = build(model_spec("convolution", decoder))
        changed = target.copy()
        changed[:, -1] = 4
        before = np.asarray(model({"source": source, "target": target}))
        after = np.asarray(model({"source": source, "target": changed}))
        np.testing.assert_allclose(before[:, :-1], after[:, :-1], atol=TOLERANCE)
        assert np.abs(before[:, -1] - after[:, -1]).max() > TOLERANCE


def test_attention_is_an_output_and_sums_to_one():
    source, target = ids()
    for encoder, decoder in (
        ("convolution-pooled", "additive"),
        ("lstm-both-ways", "transformer"),
        ("simple", "fixed-gru"),
    ):
        model = build(model_spec(encoder, decoder))
        found = model.with_attention()({"source": source, "target": target})
        np.testing.assert_allclose(found["logits"], model({"source": source, "target": target}), atol=1e-6)
        np.testing.assert_allclose(np.asarray(found["attention"]).sum(-1), 1.0, atol=TOLERANCE)
        if encoder != "convolution-pooled":
            # Nothing is looked for where example 1 has padding.
            assert np.asarray(found["attention"])[1, :, 5:].max() < TOLERANCE


@pytest.mark.parametrize(
    "encoder,decoder,options",
    [
        ("transformer-relative-grouped", "transformer-grouped-rotary", {"tie_output": False}),
        ("lstm-both-ways", "coverage", {"scheduled_sampling": {"schedule": "linear"}}),
        ("convolution", "transformer", {"scheduled_sampling": {"schedule": "linear"}}),
    ],
)
def test_a_saved_keras_file_answers_as_the_model(encoder, decoder, options, tmp_path):
    model = build(model_spec(encoder, decoder, **options))
    source, target = ids()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.spec == model.spec
    expected = np.asarray(model({"source": source, "target": target}))
    np.testing.assert_allclose(np.asarray(loaded({"source": source, "target": target})), expected, atol=1e-6)


def test_summary_and_plot_show_the_parts(capsys):
    model = build(model_spec())
    model.summary()
    printed = capsys.readouterr().out
    for part in ("source_embedding", "encoder", "target_embedding", "decoder", "output"):
        assert part in printed
    assert len(keras.utils.model_to_dot(model).get_nodes()) >= 6


def test_shared_and_tied_embeddings_are_one_matrix():
    apart = build(model_spec(tie_output=False)).count_params()
    tied = build(model_spec(tie_output=True)).count_params()
    assert apart - tied == 16 * TARGET_SIZE + TARGET_SIZE
    keras.utils.set_random_seed(0)
    shared = Seq2Seq(model_spec(share_embeddings=True), TARGET_SIZE, TARGET_SIZE)
    own = Seq2Seq(model_spec(), TARGET_SIZE, TARGET_SIZE)
    assert own.count_params() - shared.count_params() == 16 * TARGET_SIZE


def test_initializers_are_used():
    deviations = {}
    for name in ("glorot_uniform", "he_normal"):
        weights = build(model_spec(initializer=name)).encoder.blocks[0].feed_forward.inner_dense.kernel
        deviations[name] = float(np.std(np.asarray(weights)))
    assert deviations["glorot_uniform"] == pytest.approx((2 / (16 + 24)) ** 0.5, rel=0.15)
    assert deviations["he_normal"] == pytest.approx((2 / 16) ** 0.5, rel=0.15)


def test_mixed_precision_keeps_logits_close():
    source, target = ids()
    for encoder, decoder in (("transformer", "transformer-relative"), ("gru-one-way", "coverage")):
        model = build(model_spec(encoder, decoder))
        exact = np.asarray(model({"source": source, "target": target}))
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            mixed = Seq2Seq(model_spec(encoder, decoder), SOURCE_SIZE, TARGET_SIZE)
        finally:
            keras.config.set_dtype_policy("float32")
        mixed.set_weights(model.get_weights())
        found = np.asarray(keras.ops.cast(mixed({"source": source, "target": target}), "float32"))
        assert np.abs(found - exact).max() < 0.1
        steps = step_by_step(mixed, source, target, 2).astype("float32")
        assert np.abs(steps[:, 0] - found).max() < 0.1
