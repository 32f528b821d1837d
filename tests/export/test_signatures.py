"""What exported models can be asked beside the best output: each answer is that of the live model."""

import io
import re
import struct

import numpy as np
import pytest
import tensorflow as tf
from small_models import LETTERS, SPEECH_FAMILIES, TEXT_FAMILIES, inputs_of, live, network, predictor

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.files import write_wave
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.inspection import attention_of
from tfseq2seq.spec import BOS, PAD


def concrete(model, *names):
    return {endpoint.name: endpoint.graph for endpoint in endpoints(model) if endpoint.name in names}


def numbered(outputs, name):
    return {key: value for key, value in outputs.items() if key.startswith(name + "_")}


def step_by_step(functions, encoded, labels):
    """Log-probabilities [B, T, V] of what follows each token that a decoder is given, as a client's loop sees them."""
    fixed, states, found = numbered(encoded, "fixed"), numbered(encoded, "state"), []
    for token in tf.unstack(decoder_input(labels), axis=1):
        answer = functions["decode_step"](token=token, **fixed, **states)
        states = numbered(answer, "state")
        found.append(answer["log_probs"])
    return tf.stack(found, axis=1)


def assert_same_where_real(found, expected, labels):
    real = labels.numpy() != PAD
    np.testing.assert_allclose(found.numpy()[real], expected.numpy()[real], atol=1e-4)


# Source tokens that a position of the memory covers, in families that join some.
STRIDES = {"convolution": 2, "pyramid": 2}


def assert_positions_are_told(shown, stride):
    """Of the sources "abcd" and "b": which tokens they have, and how many of them each position covers."""
    tokens = shown["source_tokens"].numpy()
    assert tokens.tolist() == [[b"a", b"b", b"c", b"d", b"<eos>"], [b"b", b"<eos>", b"<pad>", b"<pad>", b"<pad>"]]
    assert shown["source_stride"].numpy().tolist() == [stride, stride]
    assert shown["attention"].shape == (2, 5, -(-tokens.shape[1] // stride))
    # What covers padding alone is not attended to.
    assert not shown["attention"].numpy()[1, :, -(-2 // stride) :].any()


def not_traced(model, *names):
    """As `concrete`, without graphs."""

    def of(endpoint):
        return lambda **given: endpoint.function(*(given[spec.name] for spec in endpoint.signature))

    return {endpoint.name: of(endpoint) for endpoint in endpoints(model) if endpoint.name in names}


# What scores and attends is the model as training calls it. Graphs of it are those of these families; every family has
# graphs of what a loop outside calls.
WHOLE_GRAPHS = ("lstm fixed", "coverage", "pyramid", "conformer", "learned")


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_every_signature_of_text_answers_as_live(family):
    model = live(family, beam=2)
    functions = concrete(model, "encode", "decode_step")
    functions |= (concrete if family in WHOLE_GRAPHS else not_traced)(model, "score", "attention")
    assert set(functions) == {"score", "encode", "decode_step"} | ({"attention"} if family != "lstm fixed" else set())
    text, target = tf.constant(["abcd", "b"]), tf.constant(["dcba", "ab"])
    found = functions["score"](text=text, target=target)
    expected, counts = model.log_probabilities(text, target)
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-5)
    assert found["tokens"].numpy().tolist() == counts.numpy().tolist() == [5, 3]

    labels = LETTERS(target)
    logits = model.models[0]({"source": LETTERS(text), "target": decoder_input(labels)}, training=False)
    stepped = step_by_step(functions, functions["encode"](text=text), labels)
    assert_same_where_real(stepped, tf.nn.log_softmax(logits), labels)

    if "attention" in functions:
        shown = functions["attention"](text=text, target=target)
        np.testing.assert_allclose(tf.reduce_sum(shown["attention"], axis=-1), np.ones((2, 5)), rtol=1e-5)
        assert shown["target_tokens"].numpy()[1].tolist() == [b"a", b"b", b"<eos>", b"<pad>", b"<pad>"]
        assert_positions_are_told(shown, STRIDES.get(family, 1))

    if family in ("convolution", "conformer"):
        return  # TensorFlow's own convolution fails on no rows
    nothing = tf.constant([], tf.string)
    assert functions["score"](text=nothing, target=nothing)["log_prob"].shape == (0,)
    assert functions["encode"](text=nothing)["memory"].shape[0] == 0


@pytest.mark.parametrize("family", SPEECH_FAMILIES)
def test_every_signature_of_speech_answers_as_live(family):
    model = live(family, beam=2)
    own = model.models[0]
    functions = concrete(model, "score", "encode", "decode_step")
    audio, length = model.pack(inputs_of(family))
    target = tf.constant(["ab", "dcba", "a"])
    found = functions["score"](audio=audio, length=length, target=target)
    expected, counts = model.log_probabilities(audio, length, target)
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-4)
    assert found["tokens"].numpy().tolist() == counts.numpy().tolist()

    encoded = functions["encode"](audio=audio, length=length)
    memory, mask, *_ = own.encode({"source": audio, "source_length": length})
    # The exported model makes room for one window, so that it can have more positions, which are not real.
    encoded["memory"], encoded["mask"] = (encoded[name][:, : memory.shape[1]] for name in ("memory", "mask"))
    np.testing.assert_array_equal(encoded["mask"], mask)
    assert_same_where_real(encoded["memory"], memory, tf.cast(mask, tf.int32))
    if family == "conformer ctc":
        logits = own.ctc(memory, mask, training=False)
        assert "decode_step" not in functions
        assert_same_where_real(
            encoded["log_probs"][:, : memory.shape[1]], tf.nn.log_softmax(logits), tf.cast(mask, tf.int32)
        )
    elif family == "transducer":
        states, token = numbered(encoded, "state"), tf.fill([3], BOS)
        for _ in range(2):
            answer = functions["decode_step"](frame=encoded["frames"][:, 1], token=token, **states)
            said, following = own.predictor_step(token, list(states.values()))
            logits = own.logits(own.project_memory(memory)[:, 1], said)
            np.testing.assert_allclose(answer["log_probs"], tf.nn.log_softmax(logits), atol=1e-4)
            states, token = numbered(answer, "state"), tf.constant([4, 5, 6])
            for name, state in zip(states, following, strict=True):
                np.testing.assert_allclose(states[name], state, atol=1e-5)
    else:
        labels = LETTERS(target)
        outputs = own({"source": audio, "source_length": length, "target": decoder_input(labels)}, training=False)
        logits = outputs["attention"] if isinstance(outputs, dict) else outputs
        assert_same_where_real(step_by_step(functions, encoded, labels), tf.nn.log_softmax(logits), labels)


def test_an_ensemble_has_no_loop_outside():
    both = predictor([network("gru", seed=seed) for seed in (4, 5)], "gru", beam=2, max_length=5)
    assert [endpoint.name for endpoint in endpoints(both)] == ["serving_default", "n_best", "score"]


def test_a_saved_model_keeps_them_all(export):
    _, folder = export("savedmodel", "rotary", beam=1, max_length=8)
    loaded = tf.saved_model.load(str(folder))
    functions = dict(loaded.signatures)
    streams = {"stream_start", "stream_step"}
    assert set(functions) == {"serving_default", "n_best", "score", "attention", "encode", "decode_step", *streams}
    text, target = tf.constant(["abcd", "cab"]), tf.constant(["bad", "dab"])
    log_probs = step_by_step(functions, functions["encode"](text=text), LETTERS(target))
    each = tf.gather(log_probs, LETTERS(target), batch_dims=2)
    score = functions["score"](text=text, target=target)
    np.testing.assert_allclose(tf.reduce_sum(each, axis=1), score["log_prob"], rtol=1e-5)


def test_a_saved_model_tells_how_many_tokens_a_position_covers(export):
    model, folder = export("savedmodel", "pyramid", beam=3, n_best=2)
    attention = tf.saved_model.load(str(folder)).signatures["attention"]
    text, target = tf.constant(["abcd", "b"]), tf.constant(["dcba", "ab"])
    shown = attention(text=text, target=target)
    assert_positions_are_told(shown, 2)
    own = attention_of(model, "abcd", "dcba")
    np.testing.assert_allclose(shown["attention"][0], own.weights, atol=1e-5)
    assert own.source_labels == ["a b", "c d", "<eos>"]


def test_a_transcript_that_a_recording_has_no_room_for_cannot_be_said():
    model = live("conformer ctc")
    samples = inputs_of("conformer ctc")[0]
    totals, counts = Generator(model, 2, 1).log_probabilities([samples, samples], ["abcd", "abcd" * 150])
    assert counts.tolist() == [4, 600] and np.isfinite(totals[0]) and totals[1] == -np.inf


def test_an_answer_that_may_be_cut_has_a_warning():
    for family in ("gru", "conformer ctc"):
        model = live(family, beam=1, max_length=3)
        functions = concrete(model, "serving_default", "n_best")
        expected = [output.cut for output in Generator(model, 16, 1).generate(inputs_of(family))]
        told = [b"the output reached search.max_length=3 and may be cut" if cut else b"" for cut in expected]
        assert any(expected)
        given = dict(zip((spec.name for spec in model.signature), model.pack(inputs_of(family)), strict=True))
        for function in functions.values():
            assert function(**given)["warning"].numpy().tolist() == told


def test_a_wav_file_that_is_not_complete_is_answered_with_a_warning():
    model = live("conformer ctc", beam=1, max_length=200)
    (answer,) = concrete(model, "transcribe_wav").values()
    content = io.BytesIO()
    write_wave(content, inputs_of("conformer ctc")[0], 8000)
    whole = content.getvalue()
    half = 2 * (len(whole) // 4)
    # mu-law, as the telephone has it: silence and a code that is not.
    companded = whole[:20] + struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8) + whole[36:40]
    companded += struct.pack("<I", 8000) + bytes([0xFF, 0x30] * 4000)
    found = answer(wav=tf.constant([whole, whole[:half], whole + whole, b"no WAV file", companded]))
    warnings = [message.decode() for message in found["warning"].numpy()]
    assert warnings[0] == warnings[3] == warnings[4] == ""
    assert re.fullmatch(r"ends after \d\.\d{3} of \d\.\d{3} s; \d+ bytes are missing", warnings[1])
    assert warnings[2] == "holds another recording after its end, which is not read"
    assert [bool(error) for error in found["error"].numpy()] == [False, False, False, True, False]
    assert found["text"].numpy()[2] == found["text"].numpy()[0]
