"""The longest input: a longer one never reaches the encoder, and the others of its batch are answered."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from small_models import SOURCE, live, recordings

from tfseq2seq.errors import UserError
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.files import write_wave
from tfseq2seq.inference.inspection import attention_of
from tfseq2seq.runtime.ctranslate2_model import CTranslate2Model
from tfseq2seq.runtime.tflite_model import TFLiteModel

TOKENS = "too long: 21 tokens with <eos>, at most 20 are answered (search.max_input)"
BYTES = "too long: 2000 bytes, at most 1280 are answered, for 20 tokens (search.max_input)"
LONG = ["a" * 20, "a " * 1000]


@functools.cache
def graph(model, name):
    return next(endpoint for endpoint in endpoints(model) if endpoint.name == name).graph


def told(answer):
    return [message.decode() for message in answer["error"].numpy()]


def test_a_text_that_is_too_long_is_told_and_the_others_are_answered():
    model = live("rotary", beam=2, max_input=20)
    for name in ("serving_default", "n_best"):
        answer, alone = (graph(model, name)(text=tf.constant(texts)) for texts in (["abcd", *LONG], ["abcd"]))
        assert told(answer) == ["", TOKENS, BYTES]
        assert answer["text"].numpy()[0] == alone["text"].numpy()[0]
        np.testing.assert_allclose(answer["score"][0], alone["score"][0], rtol=1e-5)
        assert not any(np.ravel(answer["text"][1:])) and not np.any(answer["score"][1:])
    encoded = graph(model, "encode")(text=tf.constant(["abcd", *LONG]))
    assert encoded["memory"].shape[1] == 5 and told(encoded) == ["", TOKENS, BYTES]
    # As many tokens as are allowed.
    assert told(graph(model, "serving_default")(text=tf.constant(["a" * 19]))) == [""]


def test_pairs_are_scored_within_both_limits():
    model = live("rotary", max_input=20)
    text = tf.constant(["abcd", LONG[0], "abcd"])
    target = tf.constant(["dcba", "a", "a" * model.max_scored])
    too_many = f"too long: {model.max_scored + 1} tokens with <eos>, at most {model.max_scored} are answered "
    expected = ["", TOKENS, f"{too_many}(search.max_length)"]
    found = graph(model, "score")(text=text, target=target)
    assert told(found) == expected
    alone, _ = model.log_probabilities(text[:1], target[:1])
    np.testing.assert_allclose(found["log_prob"], [alone[0], 0, 0], rtol=1e-5)
    assert found["tokens"].numpy().tolist() == [5, 0, 0]
    shown = graph(model, "attention")(text=text, target=target)
    assert told(shown) == expected and shown["attention"].shape == (3, 5, 5)


def test_a_prompt_that_is_too_long_is_not_continued():
    model = live("lstm language model", max_input=20)
    found = graph(model, "serving_default")(text=tf.constant([LONG[0], "ab"]))
    assert told(found) == [TOKENS, ""]
    assert found["text"][0].numpy() == b"" and found["text"][1].numpy().startswith(b"ab")


def test_a_recording_that_is_too_long_is_told_and_does_not_make_the_others_longer(tmp_path):
    long, rate = np.random.default_rng(1).normal(size=9 * 8000).astype("float32"), SOURCE.sample_rate
    short = recordings()[0][: 4 * rate]
    model = live("conformer ctc", max_input=5)
    message = "too long: 9.0 s, at most 5 s are answered (search.max_input)"
    assert model.faults([short, long]) == [(1, message)]
    clean, errors = model.source.clean(5, *model.pack([short, long]))
    assert told(errors) == ["", message]
    # One window is added to all.
    assert clean[0].shape[1] <= len(short) + rate and clean[1].numpy().tolist() == [len(short), 0]
    alone = graph(model, "serving_default")(**dict(zip(("audio", "length"), model.pack([short]), strict=True)))
    contents = []
    for index, samples in enumerate((short, long)):
        write_wave(str(tmp_path / f"{index}.wav"), np.clip(samples, -1, 1), rate)
        contents.append((tmp_path / f"{index}.wav").read_bytes())
    found = graph(model, "transcribe_wav")(wav=tf.constant(contents))
    assert told(found) == ["", message]
    assert found["text"].numpy().tolist() == [alone["text"].numpy()[0], b""]


def test_exports_for_devices_know_the_limit(export):
    for kind, model, options in (
        ("tflite", TFLiteModel, {}),
        ("ctranslate2", CTranslate2Model, {"length_penalty": "average"}),
    ):
        if kind == "ctranslate2":
            pytest.importorskip("ctranslate2")
        _, folder = export(kind, "sinusoidal", beam=2, max_length=8, max_input=20, **options)
        opened = model(folder)
        assert opened.config["search"]["max_input"] == 20
        assert opened.faults(["abcd", *LONG]) == [(1, TOKENS), (2, BYTES)]
        with pytest.raises(UserError, match="^input 2: too long: 21 tokens"):
            opened.generate(["abcd", LONG[0]])
        del opened.config["search"]["max_input"]  # as of an earlier version
        assert opened.faults(LONG) == []


def test_attention_of_a_text_that_is_too_long():
    model = live("rotary", max_input=20)
    with pytest.raises(UserError, match="^the text is too long: 21 tokens with <eos>, at most 20"):
        attention_of(model, LONG[0])
    with pytest.raises(UserError, match="^the target is too long: 1101 tokens with <eos>, at most 1024"):
        attention_of(model, "ab", "a" * 1100)
