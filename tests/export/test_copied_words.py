"""Exported models write words that the vocabulary lacks, as the live model does."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import ExportOptions, formats
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.spec import BOS, EOS, ModelSpec, SearchSpec, TextSpec

TEXTS = ["I am Zed of Zed", "小明 I", "", "Bo am Bo Ann", "am I"]
WORDS = TextSpec(scheme="words", reserved=("<2x>",), begin="<2x>")
UNIGRAM = TextSpec(scheme="unigram", vocabulary_size=30)
SENTENCES = ["a cat sat on a mat", "the dog ate my hat", "no man is an island"]


@functools.cache
def copying(spec=WORDS, text="I am", decoder="transformer", **search):
    """A model with random weights that mostly copies, as a predictor."""
    features = TextFeatures(spec, learn_vocabulary([text], spec))
    sizes = {"kind": decoder, **({"heads": 2, "ffn": 16} if decoder == "transformer" else {"units": 8})}
    parts = {"encoder": {"kind": "transformer", "heads": 2, "ffn": 16}, "decoder": {**sizes, "copy": True}}
    model = build_model(from_dict(ModelSpec, {"width": 16, **parts}), spec, features.size, features.size)
    keras.utils.set_random_seed(2)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(keras.random.normal(variable.shape, stddev=0.5))
    model.copying.gate.bias.assign([-3.0])
    return TextToText([model], features, features, SearchSpec(**{"beam": 3, "max_length": 6, **search}))


@pytest.mark.usefixtures("one_signature")
def test_live_and_saved_model_and_tflite_agree_on_unseen_words(tmp_path):
    model = copying(n_best=2)
    expected = Generator(model, 2, 1).generate(TEXTS)
    assert any("Zed" in output.texts[0] for output in expected)
    assert any("小明" in output.texts[0] for output in expected)

    folder = export_saved_model(model, tmp_path / "saved")
    found = tf.saved_model.load(str(folder)).signatures["serving_default"](text=tf.constant(TEXTS))
    assert [text.decode() for text in found["text"].numpy()] == [one.texts[0] for one in expected]
    np.testing.assert_allclose(found["score"], [one.scores[0] for one in expected], atol=1e-4)

    lite = TFLiteModel(export_tflite(model, tmp_path / "lite"), batch_size=2).generate(TEXTS)
    assert [one.texts for one in lite] == [one.texts for one in expected]
    np.testing.assert_allclose([one.log_probs for one in lite], [one.log_probs for one in expected], atol=1e-3)


@pytest.mark.usefixtures("forked_clients")
def test_verify_reads_the_ids_of_copied_words(tmp_path):
    model = copying(n_best=2)
    verdicts = verify(export_tflite(model, tmp_path / "lite"), model, TEXTS, batches=(2,))
    assert all(verdict.passed and verdict.same == len(TEXTS) for verdict in verdicts)


@pytest.mark.parametrize("strings", [False, True])
def test_subwords_are_copied_without_further_inputs(strings, tmp_path):
    model = copying(UNIGRAM, "\n".join(SENTENCES))
    assert [spec.name for spec in model.source.features_signature] == ["ids"]
    expected = Generator(model, 2, 1).generate(SENTENCES)
    assert len({one.texts[0] for one in expected}) > 1
    found = TFLiteModel(export_tflite(model, tmp_path / "lite", strings=strings)).generate(SENTENCES)
    assert [one.texts[0] for one in found] == [one.texts[0] for one in expected]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("decoder", ["transformer", "recurrent"])
def test_a_loop_of_a_client_copies_too(decoder):
    model = copying(TextSpec(scheme="words"), decoder=decoder, beam=1, max_length=5)
    texts = [text for text in TEXTS if text]
    found = model.search(model.source.inputs(tf.constant(texts))).ids.numpy()[:, 0]
    assert decoder == "recurrent" or (found >= model.target.size).any()

    def encode(text):
        return model.models[0].encode(model.source.inputs(text).inputs)

    def flat(given, name):
        return [given[f"{name}_{index}"] for index in range(sum(each.startswith(f"{name}_") for each in given))]

    first, step = model.decoding.loop(encode, list(model.signature))
    given = first.function(tf.constant(texts))
    fixed, tokens, done = flat(given, "fixed"), np.full(len(texts), BOS), np.zeros(len(texts), bool)
    for index in range(4):
        given = step.function(tf.constant(tokens, tf.int32), *fixed, *flat(given, "state"))
        allowed = given["log_probs"].numpy()
        allowed[:, [0, BOS]] = -np.inf
        tokens = allowed.argmax(1)
        assert np.where(done, 0, tokens).tolist() == found[:, index].tolist()
        done |= tokens == EOS


def test_ctranslate2_does_not_copy(tmp_path):
    pytest.importorskip("ctranslate2")
    with pytest.raises(UserError, match=r"model\.decoder\.copy: CTranslate2 does not copy"):
        formats()["ctranslate2"].write(copying(), str(tmp_path / "x"), ExportOptions())
