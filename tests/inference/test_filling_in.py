"""A language model fills in what is between a prompt and a suffix, live and exported."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import LETTERS, live, network, predictor

from tfseq2seq.errors import UserError
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.spec import TextSpec

pytestmark = pytest.mark.usefixtures("eagerly")

FAMILY = "lstm language model"
TAGGED = TextSpec(scheme="characters", reserved=("<pre>", "<suf>", "<mid>"))
FEATURES = TextFeatures(TAGGED, learn_vocabulary([b"abcd abcd"], TAGGED))
PROMPTS, SUFFIXES = ["ab", "", "dcb a"], ["d", "cc b", ""]


@pytest.fixture(scope="module")
def models():
    return [network(FAMILY, FEATURES)]


def test_outputs_are_prompt_middle_and_suffix_and_worth_what_is_written(models):
    model = predictor(models, FAMILY, FEATURES, beam=1, length_penalty="none", max_length=24)
    outputs = Generator(model, 2, 1).generate(PROMPTS, suffixes=SUFFIXES)
    middles = []
    for prompt, suffix, output in zip(PROMPTS, SUFFIXES, outputs):
        text = output.texts[0]
        assert text.startswith(prompt) and text.endswith(suffix) and len(text) >= len(prompt + suffix)
        middles.append(text[len(prompt) : len(text) - len(suffix)])
    assert any(middles)
    # What the decoder reads is the order of training, with the log-probability of all its tokens.
    row = ["<pre>", *PROMPTS[0], "<suf>", *SUFFIXES[0], "<mid>", *middles[0]]
    ids = [FEATURES.vocabulary.tokens.index(token) for token in row] + [3]
    total, _ = model.decoding.log_probabilities(model.source.inputs(tf.constant([""])).inputs, tf.constant([ids]))
    np.testing.assert_allclose(outputs[0].log_probs[0], total[0], atol=1e-3)


def test_a_stop_string_ends_the_middle(models):
    search = {"beam": 1, "max_length": 24}
    whole = Generator(predictor(models, FAMILY, FEATURES, **search)).generate(PROMPTS, suffixes=SUFFIXES)[0].texts[0]
    middle = whole[len(PROMPTS[0]) : -len(SUFFIXES[0])]
    stop = middle[1:3]
    model = predictor(models, FAMILY, FEATURES, **search, stop_strings=(stop,))
    output = Generator(model).generate(PROMPTS[:1], suffixes=SUFFIXES[:1])[0]
    assert len(stop) == 2 and output.texts == [PROMPTS[0] + middle[: middle.index(stop)] + SUFFIXES[0]]


def test_an_exported_model_fills_in_as_the_live_one(models):
    model = predictor(models, FAMILY, FEATURES, beam=2, max_length=24, max_input=12)
    functions = {endpoint.name: endpoint for endpoint in endpoints(model)}
    # A suffix that is too long alone, and one that is so with its prompt.
    given = {"text": [*PROMPTS[:2], "a", "abcd"], "suffix": [*SUFFIXES[:2], "a" * 13, "abcde"]}
    found = functions["fill_in"].function(*(tf.constant(given[name]) for name in ("text", "suffix")))
    expected = [output.texts[0] for output in Generator(model).generate(PROMPTS[:2], suffixes=SUFFIXES[:2])]
    assert [text.decode() for text in found["text"].numpy()] == [*expected, "", ""]
    errors = [message.decode() for message in found["error"].numpy()]
    assert errors[:2] == ["", ""] and errors[2].startswith("too long: ")
    assert errors[3] == "too long: 13 tokens with <eos>, at most 12 are answered (search.max_input); its prompt counts"
    assert model.suffix_faults(given["text"], given["suffix"]) == [*enumerate(errors)][2:]
    assert "fill_in" not in {endpoint.name for endpoint in endpoints(live(FAMILY, beam=2))}


def test_what_cannot_be_filled_in_is_told(models):
    model = predictor(models, FAMILY, FEATURES, max_input=9)
    assert model.suffix_faults(["ab", "ab"], ["cd", "abcd"])[0][0] == 1
    assert model.suffix_faults(["ab"], ["abc"]) == []
    with pytest.raises(UserError, match="^--suffix: needs a language model .*<pre>, <suf>, <mid>"):
        live(FAMILY).suffix_faults(["a"], ["b"])
    with pytest.raises(UserError, match="^--suffix: needs a language model"):
        Generator(live(FAMILY)).generate(["a"], suffixes=["b"])
    # Text that spells a tag is text.
    assert LETTERS.size + 3 == FEATURES.size
    ids = FEATURES.ids(tf.constant(["<mid>"])).to_list()[0]
    assert not {4, 5, 6} & set(ids)
