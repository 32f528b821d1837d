"""Copying from the source against brute force, with real models over a vocabulary of six words."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import louder

from tfseq2seq.errors import UserError
from tfseq2seq.features.copying import Copying
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import Vocabulary, learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.inspection import attention_of
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import BOS, EOS, UNK, FusionSpec, ModelSpec, SearchSpec, TextSpec

WORDS = TextSpec(scheme="words")
FEATURES = TextFeatures(WORDS, learn_vocabulary([b"am I"], WORDS))
V = FEATURES.size
TEXTS = ["I am Zed of Zed", "Bo", "am am I", ""]
PARTS = {
    "transformer": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16},
    "recurrent": {"kind": "recurrent", "layers": 1, "units": 8, "attention_units": 8, "coverage": True},
}


def network(decoder, seed=2, features=FEATURES, **options):
    keras.utils.set_random_seed(seed)
    parts = {"encoder": PARTS["transformer"], "decoder": {**PARTS[decoder], "copy": True, **options}}
    model = Seq2Seq(from_dict(ModelSpec, {"width": 16, **parts}), features.size, features.size, features.spec)
    if model.copying is not None:
        model.copying.gate.bias.assign([-2.0])
    return louder(model, 2)


def predictor(models, features=FEATURES, **search):
    return TextToText(models, features, features, SearchSpec(**{"max_length": 4, **search}))


def every_output(words, length=4):
    for count in range(length):
        yield from ([*chosen, EOS] for chosen in itertools.product(words, repeat=count))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("decoder", PARTS)
def test_a_beam_finds_what_brute_force_finds(decoder):
    assert V == 6
    model = predictor([network(decoder)], beam=60, n_best=5, length_penalty="none")
    given = model.source.inputs(tf.constant(TEXTS[:1]))
    copy_ids = given.inputs["copy_ids"]
    assert copy_ids.numpy().tolist() == [[4, 5, V + 2, V + 3, V + 2, EOS]]
    outputs = list(every_output([UNK, 4, 5, V + 2, V + 3]))
    labels = tf.ragged.constant(outputs, dtype=tf.int32).to_tensor()
    inputs = {name: tf.repeat(value, len(outputs), axis=0) for name, value in given.inputs.items()}
    expected = model.decoding.log_probabilities(inputs, labels)[0].numpy()
    best = np.argsort(-expected)[:5]
    found = model.search(given)
    assert [row[row > 0].tolist() for row in found.ids.numpy()[0]] == [outputs[index] for index in best]
    np.testing.assert_allclose(found.log_probs[0], expected[best], atol=1e-4)


@pytest.mark.parametrize("decoder", PARTS)
def test_probabilities_sum_to_one_and_other_rows_have_no_part_in_them(decoder):
    model, source = network(decoder), predictor([network(decoder)]).source
    given = source.inputs(tf.constant(TEXTS)).inputs
    target = tf.constant([[BOS, V + 2, 4]] * len(TEXTS))
    probs = np.exp(model({**given, "target": target}).numpy())
    assert probs.shape == (4, 3, V + 6)
    np.testing.assert_allclose(probs.sum(-1), 1.0, atol=1e-5)
    possible = np.zeros((4, V + 6), bool)
    possible[:, :V] = True
    possible[0, [V + 2, V + 3]] = possible[1, V] = True
    assert (probs.max(1) > 0).tolist() == possible.tolist()


def test_the_mixture_is_that_of_the_paper():
    model = network("transformer")
    given = {**predictor([model]).source.inputs(tf.constant(TEXTS)).inputs, "target": tf.constant([[BOS, 4]] * 4)}
    attention = model.with_attention()(given)["attention"].numpy()
    hidden, _ = model.decoder(model.target_embedding(given["target"]), model.encode(given), None)
    p_gen = 1 / (1 + np.exp(-model.copying.gate(hidden).numpy()))
    expected = np.zeros((4, 2, V + 6))
    expected[..., :V] = p_gen * tf.nn.softmax(model.output_layer(hidden)).numpy()
    for row, step, position in np.ndindex(attention.shape):
        word = given["copy_ids"].numpy()[row, position]
        expected[row, step, word] += (1 - p_gen[row, step, 0]) * attention[row, step, position]
    np.testing.assert_allclose(np.exp(model(given)), expected, atol=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_scores_are_those_of_the_outputs_also_of_ensembles():
    both = predictor([network("transformer"), network("recurrent", 5)], beam=3, n_best=2)
    found = both.search(both.source.inputs(tf.constant(TEXTS)))
    assert (found.ids.numpy() >= V).any()
    outputs = Generator(both, 2, 1).generate(TEXTS)
    for rank in range(2):
        texts = [output.texts[rank] for output in outputs[:3]]
        totals, _ = Generator(both, 3, 1).log_probabilities(TEXTS[:3], texts)
        np.testing.assert_allclose(totals, [output.log_probs[rank] for output in outputs[:3]], atol=1e-4)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "search",
    [
        {"sample": True, "n_best": 4, "top_k": 3},
        {"sample": True, "n_best": 4, "top_p": 0.7},
        {"sample": True, "n_best": 2, "top_k": 500},
        {"beam": 3, "no_repeat_ngram": 1, "max_run": 1},
    ],
)
def test_samples_and_constraints_know_copied_words(search):
    model = predictor([network("recurrent", 6)], max_length=6, **search)
    given = model.source.inputs(tf.constant(TEXTS[:2]))
    found = model.search(given)
    assert (found.ids.numpy() >= V).any()
    for rank in range(found.ids.shape[1]):
        totals, _ = model.decoding.log_probabilities(given.inputs, found.ids[:, rank])
        np.testing.assert_allclose(totals, found.log_probs[:, rank], atol=1e-4)
    if "no_repeat_ngram" in search:
        assert all(len(set(row[row > 0])) == (row > 0).sum() for row in found.ids[:, 0].numpy())


@pytest.mark.usefixtures("eagerly")
def test_a_forced_prefix_can_have_words_of_the_source():
    model = predictor([network("recurrent")], beam=2)
    outputs = Generator(model, 2, 1).generate(TEXTS[:2], ["Zed I", "Zed I"])
    # What neither the vocabulary nor the source has is unknown.
    assert outputs[0].texts[0].startswith("Zed I") and outputs[1].texts[0].startswith("<unk> I")


@pytest.mark.usefixtures("eagerly")
def test_attention_names_copied_words():
    model = predictor([network("recurrent")], beam=2)
    assert attention_of(model, "I am Zed", "Zed Bo").target_tokens == ["Zed", "<unk>", "<eos>"]
    assert len(attention_of(model, "Zed Bo Zed").target_tokens) > 0


def test_words_are_normalized_as_each_side_says_and_begin_tokens_are_not_copied():
    lower = TextSpec(scheme="words", lowercase=True, reserved=("<2en>",), begin="<2en>")
    copying = Copying(TextFeatures(lower, learn_vocabulary([b"i am"], lower)), FEATURES, True)
    found = copying.encode(tf.constant(["I AM Zed", ""]), tf.constant(["I zed Zed", "x"]))
    assert found["copy_ids"].to_list() == [[UNK, V + 1, 5, V + 3, EOS], [EOS]]
    assert found["target"].to_list() == [[4, V + 3, UNK, EOS], [UNK, EOS]]


def test_subwords_are_copied_by_their_spelling():
    spec = TextSpec(scheme="bytes", reserved=("<a>",), begin="<a>")
    plain = dataclasses.replace(spec, reserved=(), begin="")
    copying = Copying(*(TextFeatures(one, learn_vocabulary([], one)) for one in (spec, plain)), False)
    found = copying.encode(tf.constant(["ab"]), tf.constant(["a"]))
    assert found["copy_ids"].to_list() == [[UNK, 4 + 97, 4 + 98, EOS]] and found["target"].to_list() == [[101, EOS]]
    pieces = TextSpec(scheme="wordpiece")
    one, other = (
        TextFeatures(pieces, Vocabulary(("<pad>", "<unk>", "<bos>", "<eos>", *tokens)))
        for tokens in (("a", "##b", "c"), ("c", "a"))
    )
    assert Copying(one, other, False).mapped(tf.constant([[4, 5, 6, EOS]])).numpy().tolist() == [[5, UNK, 4, EOS]]


@pytest.mark.parametrize("scheme", ["words", "characters"])
def test_text_comes_back_through_extended_ids(scheme):
    spec = TextSpec(scheme=scheme)
    features = TextFeatures(spec, learn_vocabulary([b"a b"], spec))
    copying, texts = Copying(features, features, True), ["小明 told 小红 a b", "b a"]
    words = features.words(tf.constant(texts))
    ids = copying.target_ids(tf.constant(texts), words)
    assert UNK not in ids.flat_values.numpy()
    found = features.detokenize(tf.expand_dims(ids.to_tensor(), 1), words=words.to_tensor(""))
    assert [text.decode() for text in found[:, 0].numpy()] == texts


def test_what_cannot_be_copied_is_refused():
    copying, plain = network("transformer"), network("transformer", copy=False)
    with pytest.raises(UserError, match="must be the same in all runs of an ensemble"):
        predictor([copying, plain])
    with pytest.raises(UserError, match=r"search\.fusion: must be left out with model\.decoder\.copy"):
        predictor([copying], fusion=FusionSpec(token_bonus=1.0))
    with pytest.raises(UserError, match=r"search\.stop_strings: must be left out with model\.decoder\.copy"):
        predictor([copying], stop_strings=("I",))
