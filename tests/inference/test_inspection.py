"""What is shown of a trained model: attention is that which decoding uses, with the right names beside it."""

import dataclasses
import warnings

import numpy as np
import pytest
import tensorflow as tf
from small_models import live, recordings

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.pictures import attention_text
from tfseq2seq.inference.inspection import attention_of, reference_attention, word_vectors
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.spec import SPECIAL_TOKENS, ConvolutionEncoderSpec, ModelSpec, RecurrentDecoderSpec, RecurrentEncoderSpec

TEXT, TARGET = "on 3 May", "on may third"


@pytest.fixture(scope="module")
def trained(trained_run):
    return trained_run.load_model()


@pytest.fixture(scope="module")
def predictor(trained_run, trained):
    """The trained model, with outputs of some length although it has hardly learned to end any."""
    search = dataclasses.replace(trained_run.recipe.search, min_length=3)
    return Predictor([trained], trained_run.source, trained_run.target, search)


def untrained(run, spec, **search):
    model = Seq2Seq(spec, run.source.size, run.target.size)
    return Predictor([model], run.source, run.target, dataclasses.replace(run.recipe.search, **search))


def pooling_model(run, pooling):
    encoder = ConvolutionEncoderSpec(layers=1, filters=8, pooling=pooling)
    return untrained(run, ModelSpec(width=8, encoder=encoder, decoder=RecurrentDecoderSpec(layers=1, units=8)))


def tokens_of(features, text):
    """Tokens by another way than ids: the schemes of the small recipe are characters and words."""
    return [*(text if features.spec.scheme == "characters" else text.split()), "<eos>"]


def labels_of(tokens, stride):
    """A label for every `stride` tokens. Of several, spaces in them are not those between them."""
    if stride == 1:
        return tokens
    shown = [token.replace(" ", "␣") for token in tokens]
    return [" ".join(shown[begin : begin + stride]) for begin in range(0, len(shown), stride)]


def test_attention_of_the_own_output_is_that_of_search(predictor):
    found = attention_of(predictor, TEXT)
    searched = predictor.search(predictor.source.inputs(tf.constant([TEXT])), with_attention=True)
    length = int(searched.lengths[0, 0])
    assert length > 3
    np.testing.assert_allclose(found.weights, searched.attention[0, 0, :length], rtol=1e-4, atol=1e-6)
    output = predictor.target.detokenize(searched.ids)[0, 0].numpy().decode()
    assert found.target_tokens == tokens_of(predictor.target, output)
    assert found.source_tokens == tokens_of(predictor.source.features, TEXT)


def test_rows_are_distributions_over_the_source(predictor):
    found = attention_of(predictor, TEXT, TARGET)
    assert found.weights.shape == (len(found.target_tokens), len(found.source_tokens))
    assert found.weights.min() >= 0
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)
    assert found.source_tokens == tokens_of(predictor.source.features, TEXT)
    assert found.target_tokens == tokens_of(predictor.target, TARGET)


def test_a_row_is_what_is_seen_before_its_token_is_known(predictor):
    long = attention_of(predictor, TEXT, f"{TARGET} twenty")
    short = attention_of(predictor, TEXT, TARGET)
    np.testing.assert_allclose(short.weights, long.weights[: len(short.weights)], rtol=1e-4, atol=1e-6)
    other = attention_of(predictor, TEXT, "costs five euros")
    np.testing.assert_allclose(other.weights[0], short.weights[0], rtol=1e-4, atol=1e-6)
    assert np.abs(other.weights[1] - short.weights[1]).max() > 1e-4


def test_a_given_target_stands_whatever_search_forbids(trained_run, trained):
    strict = dataclasses.replace(trained_run.recipe.search, no_repeat_ngram=1, max_run=1, max_length=2)
    model = Predictor([trained], trained_run.source, trained_run.target, strict)
    assert attention_of(model, TEXT, "on on on may").target_tokens == ["on", "on", "on", "may", "<eos>"]


def test_several_models_show_the_first(trained_run, trained, predictor):
    second = Seq2Seq(trained_run.recipe.model, trained_run.source.size, trained_run.target.size)
    both = Predictor([trained, second], trained_run.source, trained_run.target, predictor.spec)
    np.testing.assert_allclose(
        attention_of(both, TEXT, TARGET).weights, attention_of(predictor, TEXT, TARGET).weights, rtol=1e-5
    )


@pytest.mark.parametrize("pooling, text", [(2, "May"), (4, "3 Ma"), (4, "on 3 May"), (4, "to")])
def test_pooled_positions_are_named_by_the_tokens_they_cover(trained_run, pooling, text):
    found = attention_of(pooling_model(trained_run, pooling), text, TARGET)
    tokens = tokens_of(trained_run.source.features, text)
    assert (found.source_tokens, found.stride) == (tokens, pooling)
    covered = [tokens[begin : begin + pooling] for begin in range(0, len(tokens), pooling)]
    assert found.source_labels == [" ".join(name.replace(" ", "␣") for name in names) for names in covered]
    assert found.weights.shape == (4, len(found.source_labels))
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("family, stride", [("pyramid", 2), ("conformer", 1), ("convolution", 2)])
@pytest.mark.parametrize("text", ["abcd", "dcba bcd", "a"])
def test_every_position_of_an_encoder_has_a_label(family, stride, text):
    model = live(family, beam=2, max_length=12)
    found = attention_of(model, text, "dab")
    tokens = [*text, "<eos>"]
    assert (found.source_tokens, found.stride) == (tokens, stride)
    assert found.source_labels == labels_of(tokens, stride)
    assert found.weights.shape == (4, len(found.source_labels)) == (4, -(-len(found.source_tokens) // stride))
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)
    # The picture has a column for each.
    assert attention_text(found.weights, found.source_labels, found.target_tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = attention_of(model, text)
    assert own.weights.shape == (len(own.target_tokens), len(own.source_labels))


def test_attention_to_a_recording_has_numbered_positions():
    model = live("las")
    found = reference_attention(model, recordings()[0], "dab")
    assert found.target_tokens == [*"dab", "<eos>"]
    assert found.source_labels == [str(position) for position in range(found.weights.shape[1])]
    assert len(found.source_labels) > 10
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)


def test_attention_from_a_reference_is_that_of_the_given_target(predictor):
    found, expected = reference_attention(predictor, TEXT, TARGET), attention_of(predictor, TEXT, TARGET)
    assert (found.source_tokens, found.target_tokens) == (expected.source_tokens, expected.target_tokens)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)


def test_a_decoder_without_attention_looks_everywhere_alike_and_has_nothing_to_show(trained_run):
    encoder = RecurrentEncoderSpec(layers=1, units=4)
    spec = ModelSpec(width=8, encoder=encoder, decoder=RecurrentDecoderSpec(layers=1, units=8, attention="none"))
    model = untrained(trained_run, spec)
    inputs = model.source.inputs(tf.constant([TEXT])).inputs
    weights = model.decoding.attention(inputs, decoder_input(model.target(tf.constant([TARGET]))))
    np.testing.assert_allclose(weights, 1 / inputs["source"].shape[1], rtol=1e-5)
    with pytest.raises(UserError, match="needs source text and a decoder that attends to it"):
        attention_of(model, TEXT, TARGET)


def test_one_position_on_each_side_gives_no_warning(trained_run):
    model = pooling_model(trained_run, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attention_of(model, "a", "on")
    assert found.source_labels == ["a <eos>"] and found.weights.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    "text, target, reason", [("", None, "text is empty"), (" ", "on", "text is empty"), ("a", " ", "target is empty")]
)
def test_an_empty_text_or_target_is_told(predictor, text, target, reason):
    with pytest.raises(UserError, match=reason):
        attention_of(predictor, text, target)


# ---- vectors --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(trained):
    """Each side's embedding matrix."""
    return {side: np.asarray(getattr(trained, f"{side}_embedding").embeddings) for side in ("source", "target")}


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_first_tokens_have_the_vectors_of_the_table(trained_run, tables, side):
    features = {"source": trained_run.source.features, "target": trained_run.target}[side]
    tokens = features.vocabulary.tokens
    words, vectors = word_vectors(trained_run, side, None, 7)
    assert words == list(tokens[4:11]) and not set(words) & set(SPECIAL_TOKENS)
    np.testing.assert_array_equal(vectors, tables[side][4:11])
    everything, _ = word_vectors(trained_run, side, None, 10**6)
    assert everything == list(tokens[4:])


def test_words_have_their_vectors_in_the_order_asked_for(trained_run, tables):
    index = trained_run.target.vocabulary.tokens.index
    words, vectors = word_vectors(trained_run, "target", ["third", "may"], 1)
    assert words == ["third", "may"]
    np.testing.assert_array_equal(vectors, tables["target"][[index("third"), index("may")]])


def test_a_word_in_pieces_has_the_mean_of_those_that_are_known(trained_run, tables):
    index = trained_run.source.features.vocabulary.tokens.index
    words, vectors = word_vectors(trained_run, "source", ["May", "o☃n"], 1)
    table = tables["source"]
    assert words == ["May", "o☃n"]
    np.testing.assert_allclose(vectors[0], table[[index("M"), index("a"), index("y")]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(vectors[1], table[[index("o"), index("n")]].mean(axis=0), rtol=1e-6)


def test_other_weights_give_other_vectors(trained_run, tables):
    _, earlier = word_vectors(trained_run, "target", None, 5, trained_run.checkpoint_file(6))
    assert np.abs(earlier - tables["target"][4:9]).max() > 1e-4


@pytest.mark.parametrize(
    "words, reason", [(["may", "☃"], "'☃': not in the target vocabulary"), ([], "no word is given")]
)
def test_a_word_without_a_vector_is_told(trained_run, words, reason):
    with pytest.raises(UserError, match=reason):
        word_vectors(trained_run, "target", words, 5)
