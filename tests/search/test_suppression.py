"""Suppressed tokens: no output has them, and the others share their probability."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import LETTERS, TEXTS, live

from tfseq2seq.errors import UserError
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import EOS, PAD, SearchSpec

FAMILY = "gru"
PLAIN = {"length_penalty": "none", "min_length": 5, "max_length": 12}


def predictor(**search):
    model = live(FAMILY, **PLAIN)
    return TextToText(model.models, model.source.features, model.target, SearchSpec(**PLAIN, **search))


def written(model):
    """The ids of the best output for each text."""
    return model.search(model.source.inputs(tf.constant(TEXTS))).ids.numpy()[:, 0]


def token(letter):
    return LETTERS.vocabulary.tokens.index(letter)


@pytest.mark.parametrize("beam", [1, 3])
def test_no_output_has_a_suppressed_token(beam):
    plain = written(predictor(beam=beam))
    common = max("abcd", key=lambda letter: (plain == token(letter)).sum())
    assert (plain == token(common)).any()
    found = written(predictor(beam=beam, suppress_tokens=(common,)))
    assert not (found == token(common)).any() and (found > EOS).any()


def test_the_other_tokens_share_the_probability():
    model = predictor(beam=2, suppress_tokens=("a", "<unk>"))
    given = model.source.inputs(tf.constant(TEXTS[:1]))
    found = model.search(given)
    ids = found.ids.numpy()[0, 0]
    labels = ids[ids != PAD]
    inputs = {**given.inputs, "target": tf.constant([[2, *labels[:-1]]])}
    logits = model.models[0](inputs).numpy()[0].astype("float64")
    logits[:, [token("a"), 1]] = -np.inf
    expected = sum(row[label] - np.log(np.exp(row).sum()) for row, label in zip(logits, labels))
    np.testing.assert_allclose(found.log_probs.numpy()[0, 0], expected, atol=1e-4)


@pytest.mark.parametrize("search", [{"beam": 1}, {"beam": 3}, {"sample": True, "temperature": 2.0}])
def test_tokens_suppressed_at_the_begin_may_follow_later(search):
    outputs = [written(predictor(begin_suppress_tokens=tuple(letters), **search)) for letters in ("ab", "cd")]
    letters = [[LETTERS.vocabulary.tokens[row[0]] for row in output] for output in outputs]
    assert not set(letters[0]) & set("ab") and not set(letters[1]) & set("cd")
    assert any(
        np.isin(output[:, 1:], [token(one) for one in pair]).any() for output, pair in zip(outputs, ("ab", "cd"))
    )


def test_an_output_need_not_end_at_once():
    model = live("sinusoidal", beam=1, max_length=12)
    assert (written(model)[:, 0] == EOS).any()
    search = SearchSpec(beam=1, max_length=12, begin_suppress_tokens=("<eos>",))
    assert (written(TextToText(model.models, model.source.features, model.target, search))[:, 0] != EOS).all()


def test_a_prompt_may_have_suppressed_tokens():
    model = predictor(beam=2, suppress_tokens=("a",), begin_suppress_tokens=("b",))
    texts = [output.texts[0] for output in Generator(model).generate(["abcd", "dcba bcd"], prefixes=["aab", "ba"])]
    for text, prompt in zip(texts, ("aab", "ba")):
        assert text.startswith(prompt) and "a" not in text[len(prompt) :] and not text[len(prompt) :].startswith("b")


def test_a_token_that_the_vocabulary_lacks_is_refused():
    with pytest.raises(
        UserError, match=r"^search.suppress_tokens\[1\]: must be a token of the target vocabulary, got 'x'"
    ):
        predictor(suppress_tokens=("a", "x"))
    with pytest.raises(UserError, match="^shortlist: must be empty with suppress_tokens"):
        from_dict(SearchSpec, {"suppress_tokens": ["a"], "shortlist": "file"})
