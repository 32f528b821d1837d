"""Text features in plain Python give what those in graph give."""

import json

import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary, save_vocabulary
from tfseq2seq.recipe import to_dict
from tfseq2seq.runtime.plain_text import PlainText, load_side
from tfseq2seq.spec import TextSpec

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "The new words of a newer world: ##hash and #tag",
    "你和谁住在一起？ 日本語 한국어",
    "ﬁne Straße ÀÉÎ e\u0301 ΣΑΣ İstanbul",
    "1 + 1 = 2, <pad> and <unk>!",
] * 4
ODD = [
    *CORPUS[:5],
    "",
    "   ",
    "\u3000\ufeff x\u00a0",
    "\ufeffbegins with a mark",
    "tab\tand\nline\u2028and\vmore",
    "🙂 👩‍👩‍👧 é\u0301",
    "unknown ж words ##new ## # ##",
    "newwords newnew thethe",
    "<bos> <eos> ▁ under▁score",
    "ＦＵＬＬ ｗｉｄｔｈ ½ ™",
    "x" * 300,
    "ΟΔΟΣ ΟΔΟΣ.",
    "TITLE \0 INDEX",
    "\0",
    "ΑΣ\0ΑΣ a\0b\0\0",
    "Ì Í Ĩ Į I\u0307 J\u0301",
]


@pytest.mark.parametrize("normalization", ["none", "nfc", "nfkc", "nfd"])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("scheme", ["unigram", "bpe", "wordpiece", "words", "characters", "bytes"])
def test_ids_and_text_equal_those_in_graph(scheme, lowercase, normalization):
    options = {"compose": normalization == "nfd", "join": "none" if scheme == "words" and lowercase else "space"}
    spec = TextSpec(scheme=scheme, vocabulary_size=150, lowercase=lowercase, normalization=normalization, **options)
    vocabulary = learn_vocabulary([text.encode() for text in CORPUS], spec)
    graph, plain = TextFeatures(spec, vocabulary), PlainText(spec, vocabulary)
    expected = [[*ids, 3] for ids in graph.tokenize(tf.constant(ODD)).to_list()]
    found = [plain.encode(text) for text in ODD]
    for text, one, other in zip(ODD, found, expected):
        assert one == other, text
    for ids in found:
        assert plain.decode(ids) == graph.detokenize(tf.constant([ids]))[0].numpy().decode()
    broken = [4, 200 % graph.size, 5, 0, 1, 2, 3, graph.size - 1]
    assert plain.decode(broken) == graph.detokenize(tf.constant([broken]))[0].numpy().decode()


# One of them is a word of the text.
RESERVED = ("<2de>", "<sep>", "new")
SPELLED = ["<2de> <sep>", "a<sep>b new news", "<sep><sep>", "new", "<2de", "##new x<2de>"]


@pytest.mark.parametrize("begin", ["", "<sep>"])
@pytest.mark.parametrize("scheme", ["unigram", "bpe", "wordpiece", "words", "characters", "bytes"])
def test_reserved_tokens_equal_those_in_graph(tmp_path, scheme, begin):
    spec = TextSpec(scheme=scheme, vocabulary_size=150, reserved=RESERVED, begin=begin)
    graph = TextFeatures(spec, learn_vocabulary([*CORPUS, *SPELLED], spec))
    save_vocabulary(graph.vocabulary, tmp_path / "source.txt")
    # As exported models keep it: settings in a JSON file, the vocabulary beside it.
    plain = load_side(tmp_path, "source", json.loads(json.dumps({"source": to_dict(spec)})))
    assert (plain.spec, plain.vocabulary) == (spec, graph.vocabulary)
    assert [plain.reserved_id(token) for token in RESERVED] == [graph.reserved_id(token) for token in RESERVED]
    expected = graph.ids(tf.constant(ODD + SPELLED)).to_list()
    for text, ids in zip(ODD + SPELLED, expected):
        found = plain.encode(text)
        assert found == ids, text
        assert found[0] == (5 if begin and text.strip("\u3000 ") else found[0])
        assert {4, 5, 6}.isdisjoint(found[1:] if begin else found), text
        shown = [4, *found[:-1], 5, 6, 3]
        assert plain.decode(shown) == graph.detokenize(tf.constant([shown]))[0].numpy().decode() == plain.decode(found)
    assert plain.encode(" ") == [3]


def test_unknown_reserved_token_names_the_nearest():
    spec = TextSpec(scheme="words", reserved=RESERVED)
    with pytest.raises(UserError, match="got '<spe>'; did you mean '<sep>'"):
        PlainText(spec, learn_vocabulary(CORPUS, spec)).reserved_id("<spe>")


def test_settings_of_an_earlier_version_load(tmp_path):
    spec = TextSpec(scheme="words")
    save_vocabulary(learn_vocabulary(CORPUS, spec), tmp_path / "source.txt")
    settings = {key: value for key, value in to_dict(spec).items() if key not in ("reserved", "begin")}
    assert load_side(tmp_path, "source", {"source": settings}).spec == spec
