"""Text while it is written: pieces are the whole text, and each one stays as it is."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import inputs_of, live, louder, network, predictor

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import Vocabulary, learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.inference.text_stream import TextStream
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.recipe import from_dict
from tfseq2seq.search.stop_strings import open_pattern
from tfseq2seq.spec import PAD, SPECIAL_TOKENS, ModelSpec, SearchSpec, TextSpec

pytestmark = pytest.mark.usefixtures("eagerly")

SEARCHES = {
    "greedy": {"beam": 1, "max_length": 20},
    "drawn": {"sample": True, "seed": 3, "max_length": 20},
    "stopped": {"beam": 1, "max_length": 20, "stop_strings": ("ad", "bc")},
    "constrained": {"sample": True, "max_length": 24, "no_repeat_ngram": 2, "repetition_penalty": 1.2},
}
LANGUAGE = ["transformer language model", "lstm language model"]


@pytest.mark.parametrize(
    ("family", "search"),
    [
        (LANGUAGE[1], "greedy"),
        (LANGUAGE[1], "stopped"),
        (LANGUAGE[0], "constrained"),
        ("gru", "drawn"),
        ("las", "greedy"),
    ],
)
def test_pieces_are_the_whole_text_and_worth_the_same(family, search):
    model = live(family, **SEARCHES[search])
    inputs = inputs_of(family)[:2]
    whole = Generator(model, 3, 1).generate(inputs)
    stream = TextStream(model)
    counts = []
    for number, (value, expected) in enumerate(zip(inputs, whole, strict=True)):
        pieces = list(stream.pieces(value, number))
        assert "".join(piece.text for piece in pieces) == expected.texts[0]
        assert [piece.output is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        output = pieces[-1].output
        assert output.texts == expected.texts and output.cut == expected.cut
        np.testing.assert_allclose(output.log_probs, expected.log_probs, atol=1e-3)
        np.testing.assert_allclose(output.scores, expected.scores, atol=1e-3)
        counts.append(len(pieces))
    assert max(counts) > 1


def test_a_model_that_copies_is_streamed_too():
    parts = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}
    keras.utils.set_random_seed(5)
    spec = from_dict(ModelSpec, {"width": 16, "encoder": parts, "decoder": {**parts, "copy": True}})
    text = TextSpec(scheme="bytes")
    features = TextFeatures(text, learn_vocabulary([b""], text))
    network = louder(Seq2Seq(spec, features.size, features.size, text), 2)
    model = TextToText([network], features, features, SearchSpec(beam=1, max_length=8))
    (expected,) = Generator(model, 1, 1).generate(["dcab"])
    pieces = list(TextStream(model).pieces("dcab"))
    assert "".join(piece.text for piece in pieces) == expected.texts[0] != ""


def bytes_of(text):
    """Ids of text for each byte, which the features of bytes give."""
    return [byte + 4 for byte in text.encode()]


def settled(features, ids, cut="", prompt=0):
    return features.settled(tf.constant([ids]), tf.constant([prompt]), cut).numpy()[0].decode()


def test_a_chinese_character_is_held_until_all_its_bytes_are_there():
    spec = TextSpec(scheme="bytes")
    features = TextFeatures(spec, learn_vocabulary([b""], spec))
    ids = bytes_of("a你𠀀b")
    shown = [settled(features, ids[:size]) for size in range(1, len(ids) + 1)]
    assert shown == ["a", "a", "a", "a你", "a你", "a你", "a你", "a你𠀀", "a你𠀀b"]
    # Bytes that become no character stay back until one follows, and are replaced as in the whole text.
    ids = [4 + 0xE4, 4 + 0xBD, *bytes_of("x")]
    whole = features.detokenize(tf.constant([ids])).numpy()[0].decode()
    assert [settled(features, ids[:size]) for size in (1, 2, 3)] == ["", "", whole]


def test_the_begin_of_a_stop_string_is_held():
    spec = TextSpec(scheme="characters")
    features = TextFeatures(spec, learn_vocabulary(["abcd。".encode()], spec))
    pattern = open_pattern(["bcd", "。"])
    ids = features.ids(tf.constant(["abcabcd"]), end=False).to_list()[0]
    shown = [settled(features, ids[:size], pattern) for size in range(1, 8)]
    assert shown == ["a", "a", "a", "abca", "abca", "abca", "abca"]
    # In the prompt nothing is held, and nothing is cut.
    assert settled(features, ids, pattern, prompt=7) == "abcabcd"


def test_a_letter_is_held_while_marks_may_compose_with_it():
    spec = TextSpec(scheme="characters", normalization="nfd", compose=True)
    letters = "e\u0301n\u1112\u1161\u11ab"
    features = TextFeatures(spec, Vocabulary((*SPECIAL_TOKENS, *letters)))
    ids = [features.vocabulary.tokens.index(letter) for letter in letters]
    shown = [settled(features, ids[:size]) for size in range(1, 7)]
    assert shown == ["", "", "é", "én", "én", "én"]
    whole = features.detokenize(tf.constant([ids])).numpy()[0].decode()
    assert whole == "én한"


@pytest.mark.parametrize("scheme", ["words", "wordpiece", "unigram", "characters", "bytes"])
def test_what_is_settled_stays_in_every_scheme(scheme):
    lines = ["the cat sat on the mat", "你好 世界 hello", "ein Käse, bitte"] * 5
    spec = TextSpec(scheme=scheme, vocabulary_size=90)
    features = TextFeatures(spec, learn_vocabulary(lines, spec))
    random = np.random.default_rng(2)
    ids = random.integers(1, features.size, size=(20, 12)).astype("int32")
    ids[ids == 2] = PAD
    whole = features.detokenize(ids).numpy()
    for size in range(13):
        some = features.settled(tf.constant(ids[:, :size])).numpy()
        for part, text in zip(some, whole):
            assert text.startswith(part)
            # No more than one character is held back for long.
            assert len(text) - len(part) < 200


def test_what_is_decided_as_a_whole_is_not_streamed_and_the_reason_is_told(tmp_path):
    family = LANGUAGE[0]
    rules = tmp_path / "rules.tsv"
    rules.write_text("a\tb\n")
    refused = {
        "search.beam 4: a beam decides": {},
        "search.n_best 2: must be 1": {"sample": True, "n_best": 2},
        "search.stop exact: must be full": {"beam": 1, "stop": "exact"},
        "search.rules: may rewrite": {"beam": 1, "rules": SearchSpec().rules.__class__(patterns=str(rules))},
    }
    for message, search in refused.items():
        with pytest.raises(UserError, match=message):
            TextStream(live(family, **search))
    with pytest.raises(UserError, match="2 models: an ensemble"):
        TextStream(predictor([network(family), network(family, seed=5)], family, beam=1))
    with pytest.raises(UserError, match="of the kind ctc reads sources position by position"):
        TextStream(live("conformer ctc", beam=1))
