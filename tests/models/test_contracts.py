"""What every encoder and decoder must hold: steps equal the whole, padding and batch mates change nothing."""

import keras
import numpy as np
import pytest
from families import (
    ALIGNED,
    AUDIO_FAMILIES,
    FAMILIES,
    IMAGE_FAMILIES,
    NO_SOURCE_FAMILIES,
    TARGET_SIZE,
    TARGET_TOKENS,
    TEXT_FAMILIES,
    VIDEO_FAMILIES,
    Family,
    answers,
    arrays,
    build,
    built,
    inputs,
    model_spec,
    outputs,
    sizes,
)

from tfseq2seq.models.seq2seq import Seq2Seq

TOLERANCE = 1e-4
# Each decoder once for each source.
BY_DECODER = list({(family.decoder, family.source): family for family in FAMILIES}.values())
AUTOREGRESSIVE = [family for family in BY_DECODER if model_spec(decoder=family.decoder).autoregressive]
ALIGNED_FAMILIES = [family for family in BY_DECODER if family.decoder in ALIGNED]
TRANSDUCERS = [family for family in ALIGNED_FAMILIES if family.decoder.startswith("transducer")]
WITH_SOURCE = [*TEXT_FAMILIES, *AUDIO_FAMILIES, *IMAGE_FAMILIES, *VIDEO_FAMILIES]


def step_by_step(model, batch, beam, shuffled=False, tolerance=TOLERANCE):
    """Logits [B, K, T, V] from `step`, all hypotheses fed the same target; `shuffled` makes them change slots."""
    target = batch["target"]
    rows, length = target.shape
    random = np.random.default_rng(1)
    memory = model.encode(batch)
    fixed, cache = model.start(memory, beam, length)
    slots = np.zeros((rows, beam, length), "int64")
    logits = []
    for index in range(length):
        slots[:, :, index] = np.arange(beam)
        visible = (slots[..., None] == np.arange(beam)) & (np.arange(length) <= index)[:, None]
        step_ids = np.repeat(target[:, index : index + 1], beam, axis=1)
        out, cache, attention = model.step(
            step_ids, np.int32(index), visible.reshape(rows, beam, length * beam), fixed, cache
        )
        logits.append(np.asarray(out))
        assert attention.shape == (rows, beam, memory.mask.shape[1])
        if attention.shape[2]:
            np.testing.assert_allclose(np.asarray(attention).astype("float32").sum(-1), 1.0, atol=tolerance)
        if shuffled:
            parents = random.integers(0, beam, (rows, beam))
            slots = np.take_along_axis(slots, parents[..., None], axis=1)
            cache["state"] = keras.tree.map_structure(
                lambda part, parents=parents: np.asarray(part)[np.arange(rows)[:, None], parents], cache["state"]
            )
    return np.stack(logits, axis=2)


@pytest.mark.parametrize("family", AUTOREGRESSIVE, ids=str)
def test_steps_equal_the_whole(family):
    model, batch = built(family), inputs(family.source)
    whole = answers(family)["tokens"]
    for beam, shuffled in ((1, False), (3, True)):
        steps = step_by_step(model, batch, beam, shuffled)
        for hypothesis in range(beam):
            np.testing.assert_allclose(steps[:, hypothesis], whole, atol=TOLERANCE)


@pytest.mark.parametrize("family", TRANSDUCERS, ids=str)
def test_steps_of_a_transducer_equal_its_whole_lattice(family):
    model, batch = built(family), inputs("audio")
    whole, memory = answers(family)["lattice"], model.encode(batch)
    encoded, states, real = model.project_memory(memory.values), model.start(len(whole)), np.asarray(memory.mask)
    for index, ids in enumerate(batch["target"].T):
        predicted, states = model.predictor_step(ids, states)
        found = np.asarray(model.logits(encoded, keras.ops.expand_dims(predicted, 1)))
        np.testing.assert_allclose(found[real], whole[:, :, index][real], atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_padding_and_batch_mates_change_nothing(family):
    model, batch, tolerance = built(family), inputs(family.source), 2 * TOLERANCE
    padded = arrays(model, _padded(batch, family.source))
    # The first example is as long as its batch: alone it is what it was.
    for row, size in list(enumerate(sizes(family.source)))[1:]:
        expected = _real(model, {name: value[row] for name, value in answers(family).items()}, size)
        alone = arrays(model, _cut(batch, row, size))
        for name, value in _real(model, {name: value[0] for name, value in alone.items()}, size).items():
            np.testing.assert_allclose(value, expected[name], atol=tolerance, err_msg=f"row {row} alone, {name}")
        for name, value in _real(model, {name: value[row] for name, value in padded.items()}, size).items():
            value = _first_tokens(name, value)
            np.testing.assert_allclose(value, expected[name], atol=tolerance, err_msg=f"row {row} padded, {name}")


def _real(model, row, size):
    """Outputs of an example of that size, without those for positions that are padding.

    Of a decoder that copies, tokens from TARGET_SIZE on stand for positions of the source.
    """
    count = model.positions(size)
    return {name: value[:, : TARGET_SIZE + size] if name == "tokens" else value[:count] for name, value in row.items()}


def _first_tokens(name, value):
    length = max(TARGET_TOKENS)
    return {"tokens": value[:length], "lattice": value[:, :length], "positions": value}[name]


def _cut(batch, row, size):
    """One example, its source without padding."""
    alone = {name: value[row : row + 1] for name, value in batch.items()}
    # Pictures have one size and no padding.
    padded = [name for name in ("source", "copy_ids") if name in alone and alone[name].ndim == 2]
    return {name: value[:, :size] if name in padded else value for name, value in alone.items()}


def _padded(batch, source):
    """More padding behind source and target; of recordings it is noise, which lengths hide."""
    longer = {**batch, "target": np.pad(batch["target"], ((0, 0), (0, 2)))}
    if source == "text":
        longer |= {name: np.pad(batch[name], ((0, 0), (0, 3))) for name in ("source", "copy_ids")}
    if source.startswith("audio"):
        longer["source"] = np.pad(batch["source"], ((0, 0), (0, 333)))
        behind = np.arange(longer["source"].shape[1]) >= batch["source_length"][:, np.newaxis]
        longer["source"][behind] = 7.0
    return longer


@pytest.mark.parametrize("family", WITH_SOURCE, ids=str)
def test_a_memory_is_as_large_as_its_encoder_tells(family):
    model, batch = built(family), inputs(family.source)
    memory, lengths = model.encode(batch), [model.positions(size) for size in sizes(family.source)]
    assert memory.values.shape == (3, max(lengths), model.encoder.memory_width)
    assert memory.summary.shape == (3, model.encoder.summary_width)
    assert np.asarray(memory.mask).sum(1).tolist() == np.asarray(memory.lengths).tolist() == lengths
    assert np.asarray(model.positions(np.array(sizes(family.source)))).tolist() == lengths
    if family.source == "text":
        np.testing.assert_array_equal(memory.ids, batch["source"])
    else:
        assert memory.ids is None
    if model.encoder.stride > 1 and family.source == "text":
        assert max(lengths) < batch["source"].shape[1], "fewer positions than tokens"


@pytest.mark.parametrize("family", NO_SOURCE_FAMILIES, ids=str)
def test_without_a_source_the_memory_has_no_position(family):
    model, batch = built(family), inputs("none")
    memory = model.encode(batch)
    assert (memory.values.shape, memory.mask.shape, memory.ids) == ((3, 0, 0), (3, 0), None)
    assert set(model.input) == {"target"} and not model.has_attention
    found = model.with_attention()(batch)
    np.testing.assert_allclose(found["logits"], answers(family)["tokens"], atol=1e-6)
    assert found["attention"].shape == (3, 5, 0)


def test_the_future_is_hidden():
    decoders = ("transformer", "additive", "general-unfed", "location-gru")
    for family in AUTOREGRESSIVE:
        if family.source == "audio" or (family.source == "text" and family.decoder not in decoders):
            continue
        model, batch = built(family), inputs(family.source)
        changed = batch["target"].copy()
        changed[:, -1] = 4
        before, after = answers(family)["tokens"], arrays(model, {**batch, "target": changed})["tokens"]
        np.testing.assert_allclose(before[:, :-1], after[:, :-1], atol=TOLERANCE)
        assert np.abs(before[:, -1] - after[:, -1]).max() > TOLERANCE


@pytest.mark.parametrize("family", [family for family in AUTOREGRESSIVE if family.encoder], ids=str)
def test_attention_is_an_output_and_sums_to_one(family):
    model, batch = built(family), inputs(family.source)
    found = model.with_attention()({name: batch[name] for name in model.input})
    np.testing.assert_allclose(found["logits"], answers(family)["tokens"], atol=1e-6)
    attention, lengths = np.asarray(found["attention"]), [model.positions(size) for size in sizes(family.source)]
    assert attention.shape == (3, 5, max(lengths))
    np.testing.assert_allclose(attention.sum(-1), 1.0, atol=TOLERANCE)
    for row, length in enumerate(lengths):
        assert not attention[row, :, length:].size or attention[row, :, length:].max() < TOLERANCE, "no look at padding"
    assert model.has_attention == (not family.decoder.startswith("fixed"))


SAMPLED = {"scheduled_sampling": {"schedule": "linear"}}
SAVED = {
    "text-sampled-in-steps": (Family("gru-one-way", "coverage", "text"), {**SAMPLED, "tie_output": False}),
    "text-sampled-in-passes": (Family("pyramid", "transformer-relative", "text"), SAMPLED),
    "text-copying-sampled-in-steps": (Family("gru-one-way", "copying-coverage", "text"), SAMPLED),
    "text-copying-sampled-in-passes": (Family("simple", "copying-transformer", "text"), SAMPLED),
    "audio-guided": (Family("convolution-pooled", "location-gru", "audio"), {"guided_attention": {"weight": 1.0}}),
    **{f"audio-{family.decoder}": (family, {}) for family in ALIGNED_FAMILIES},
    **{f"{family.source}-{family.decoder}": (family, {}) for family in (*IMAGE_FAMILIES[1:3], VIDEO_FAMILIES[1])},
    **{f"none-{family.decoder}": (family, {}) for family in (NO_SOURCE_FAMILIES[1], NO_SOURCE_FAMILIES[-2])},
}


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_keras_file_answers_as_the_model(name, tmp_path):
    family, options = SAVED[name]
    model, batch = build(*family, options=options) if options else built(family), inputs(family.source)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model) and loaded.name == model.name
    for attribute in ("spec", "source", "source_size", "target_size"):
        assert getattr(loaded, attribute) == getattr(model, attribute)
    expected, found = arrays(model, batch), arrays(loaded, batch)
    assert set(found) == set(expected)
    for kind, value in expected.items():
        np.testing.assert_allclose(found[kind], value, atol=1e-6)


def test_summary_and_plot_show_the_parts(capsys):
    for family, parts in (
        (TEXT_FAMILIES[0], ("source_embedding", "encoder", "target_embedding", "decoder", "output")),
        (AUDIO_FAMILIES[0], ("frontend", "encoder", "output")),
        (NO_SOURCE_FAMILIES[0], ("target_embedding", "decoder", "output")),
    ):
        model = built(family)
        model.summary()
        printed = capsys.readouterr().out
        assert all(part in printed for part in parts)
        assert len(keras.utils.model_to_dot(model).get_nodes()) >= len(parts)


def test_shared_and_tied_embeddings_are_one_matrix():
    tied, apart = (build("simple", "additive", options={"tie_output": tie}).count_params() for tie in (True, False))
    assert apart - tied == 16 * TARGET_SIZE + TARGET_SIZE
    biased = build("simple", "additive", options={"output_bias": True})
    assert biased.count_params() - tied == TARGET_SIZE
    biased.output_layer.bias.assign(np.full(TARGET_SIZE, 3.0))
    assert float(biased.output_layer(np.zeros((1, 1, 16), "float32"))[0, 0, 0]) == 3.0
    shared, own = (
        Seq2Seq(model_spec("simple", "additive", share_embeddings=share), TARGET_SIZE, TARGET_SIZE).count_params()
        for share in (True, False)
    )
    assert own - shared == 16 * TARGET_SIZE


def test_initializers_are_used():
    deviations = {}
    for name in ("glorot_uniform", "he_normal"):
        model = build("transformer", "zero-bridge", options={"initializer": name})
        deviations[name] = float(np.std(np.asarray(model.encoder.blocks[0].feed_forward.inner_dense.kernel)))
    assert deviations["glorot_uniform"] == pytest.approx((2 / (16 + 24)) ** 0.5, rel=0.15)
    assert deviations["he_normal"] == pytest.approx((2 / 16) ** 0.5, rel=0.15)


MIXED = [
    TEXT_FAMILIES[0],
    next(family for family in TEXT_FAMILIES if family.decoder == "coverage"),
    next(family for family in TEXT_FAMILIES if family.decoder == "copying-transformer"),
    next(family for family in TEXT_FAMILIES if family.encoder == "conformer"),
    *(family for family in ALIGNED_FAMILIES if family.decoder != "transducer-gru"),
    NO_SOURCE_FAMILIES[-2],
    IMAGE_FAMILIES[0],
    IMAGE_FAMILIES[2],
    VIDEO_FAMILIES[0],
]


@pytest.mark.parametrize("family", MIXED, ids=str)
def test_mixed_precision_keeps_logits_close(family):
    model, batch = built(family), inputs(family.source)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build(*family)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    for name, value in outputs(mixed, batch).items():
        # Losses over alignments add up more than 8 bits hold, and so do sums of copied and generated words.
        assert value.dtype == ("bfloat16" if name == "tokens" and not model.spec.decoder.copies else "float32")
    exact, found = answers(family), arrays(mixed, batch)
    for row, size in enumerate(sizes(family.source)):
        one, other = (_real(model, {name: value[row] for name, value in each.items()}, size) for each in (exact, found))
        for name, value in one.items():
            assert np.abs(other[name] - value).max() < 0.1
    if "tokens" in found:
        steps = step_by_step(mixed, batch, 2, tolerance=0.02).astype("float32")
        assert np.abs(steps[:, 0] - found["tokens"]).max() < 0.1
