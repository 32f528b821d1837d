"""Text features in plain Python give what those in graph give."""

import pytest
import tensorflow as tf

from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.runtime.plain_text import PlainText
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
]


@pytest.mark.parametrize("normalization", ["none", "nfc", "nfkc"])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("scheme", ["unigram", "bpe", "wordpiece", "words", "characters", "bytes"])
def test_ids_and_text_equal_those_in_graph(scheme, lowercase, normalization):
    spec = TextSpec(scheme=scheme, vocabulary_size=120, lowercase=lowercase, normalization=normalization)
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
