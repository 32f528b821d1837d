"""Text to ids and back in every scheme, against Python's own Unicode functions and the sentencepiece library."""

import dataclasses
import functools
import io
import json
import os
import random
import subprocess
import sys
import unicodedata

import keras
import pytest
import sentencepiece
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.references import unwritten_warnings
from tfseq2seq.features.normalization import changed_lines, lower
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary, load_vocabulary
from tfseq2seq.sources import Corpora
from tfseq2seq.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, TextSpec
from tfseq2seq.training.fit import _tell_of_normalization

SCHEMES = ["unigram", "bpe", "wordpiece", "words", "characters", "bytes"]
EXACT = ["unigram", "bpe", "characters", "bytes"]
TEXTS = [
    "the cat sat",
    "the  cat   sat",
    "  the cat ",
    "\U0001f600 \u6211\u559c\u6b22\u8bfb\u4e66",
    "\U0001f468\u200d\U0001f469",
    "na\u00efve cafe\u0301",
    "e\u0331 \u0915\u094d\u0937\u093f",  # the underlined e has no composed form
    "##the ## foo##bar #",
    "\u6211" * 200,
]
LEARNED_FROM = [
    "the cat  sat on the mat",
    "pads, beans and a < b > c; #1 ## foo##bar ###x ##the",
    "<pad> <unk> <bos> <eos> a<eos>b",
    "\u6211\u559c\u6b22\u8bfb\u4e66 \U0001f600 \U0001f468\u200d\U0001f469",
    "na\u00efve caf\u00e9 e\u0331 \u0915\u094d\u0937\u093f",
    "the kept under_line the cats \u0431\u0430\u043d\u043a",
    *TEXTS,
] * 12
KNOWN = sorted(set("".join(LEARNED_FROM)))

# One of them is a word of the text.
RESERVED = ("<2de>", "<sep>", "cat", "[a,b]")
SPELLED = ["<2de>", "<sep>", "a<sep>b", "the cat", "cats cat", "<2de> <sep><sep> x", "[a,b]", "<2d", "<sep", "cat<eos>"]


@functools.cache
def features(scheme, **settings):
    spec = TextSpec(scheme=scheme, **{"vocabulary_size": 400, **settings})
    return TextFeatures(spec, learn_vocabulary(LEARNED_FROM, spec))


@functools.cache
def reserving(scheme, begin=""):
    """Features with reserved tokens, learned from text that spells them and has their characters elsewhere too."""
    spec = TextSpec(scheme=scheme, vocabulary_size=400, reserved=RESERVED, begin=begin)
    return TextFeatures(spec, learn_vocabulary([*LEARNED_FROM, *SPELLED * 3, "[ 2 d , e ] c a t s"], spec))


def tokens_of(layer, text):
    return layer.tokenize([text]).to_list()[0]


def back(layer, text):
    return layer.detokenize(layer.tokenize([text]).to_tensor(PAD))[0].numpy().decode()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_special_tokens_have_the_first_ids(scheme):
    layer = features(scheme)
    assert layer.vocabulary.tokens[:4] == SPECIAL_TOKENS
    assert layer.size == len(layer.vocabulary.tokens)
    assert layer(tf.constant(["the cat", ""])).numpy()[1].tolist()[:2] == [EOS, PAD]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_from_ids(scheme, text):
    normal = unicodedata.normalize("NFC", text).strip(" ")
    layer = features(scheme)
    assert layer.normalize([text]).numpy()[0].decode() == normal
    assert back(layer, text) == (normal if scheme in EXACT else " ".join(normal.split()))


KOREAN = ["한국어 발음", "발음을 한글로", "값을 읽다", "caf\u00e9 e\u0331"] * 5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_learned_by_jamo_is_written_in_syllables(scheme):
    spec = TextSpec(scheme=scheme, vocabulary_size=300, normalization="nfd", compose=True)
    layer = TextFeatures(spec, learn_vocabulary(KOREAN, spec))
    if scheme == "characters":
        assert len(tokens_of(layer, "한")) == 3
    for text in KOREAN[:4]:
        assert back(layer, text) == text
    apart = TextFeatures(dataclasses.replace(spec, compose=False), layer.vocabulary)
    assert back(apart, KOREAN[0]) == unicodedata.normalize("NFD", KOREAN[0])


def test_words_of_chinese_are_written_without_spaces():
    spec = TextSpec(scheme="words", join="none")
    layer = TextFeatures(spec, learn_vocabulary(["会议 晚上 八点 开始"], spec))
    assert back(layer, "会议 八点 ☃ 开始") == "会议八点<unk>开始"


def test_full_width_punctuation_stays_unless_it_is_asked_away():
    text = "你好，世界！½ kʲ"
    for normalization, expected in (("nfc", text), ("nfkc", "你好,世界!1⁄2 kj")):
        spec = TextSpec(scheme="characters", normalization=normalization)
        assert back(TextFeatures(spec, learn_vocabulary([text], spec)), text) == expected


@pytest.mark.parametrize("normalization", ["nfkc", "nfkd"])
def test_lines_that_lose_characters_are_counted(normalization):
    lines = [line.encode() for line in ("plain", "你好，", "½ kʲ", "cafe\u0301 한국어", "ﬁne", "ＡＢ")]
    count, shown = changed_lines(lines, TextSpec(normalization=normalization))
    assert (count, shown) == (4, [("你好，", "你好,"), ("½ kʲ", "1⁄2 kj"), ("ﬁne", "fine")])
    for lossless in ("none", "nfc", "nfd"):
        assert changed_lines(lines, TextSpec(normalization=lossless)) == (0, [])


def test_a_corpus_that_loses_characters_is_told_before_training():
    logged = []
    corpora = Corpora(None, None, lambda side: ["你好，".encode(), b"plain"])
    _tell_of_normalization("target", TextSpec(normalization="nfkc"), corpora, logged.append)
    assert logged == [
        "target: normalization nfkc replaces characters in 1 lines, which the model then never sees or writes "
        "('你好，' becomes '你好,'); set target.normalization=nfc to keep them"
    ]


def test_references_that_a_model_never_writes_are_told():
    spec = TextSpec(scheme="characters", normalization="nfkc")
    layer = TextFeatures(spec, learn_vocabulary(["你好，世界"], spec))
    (warning,) = unwritten_warnings([["你好，", "世界", None]], layer)
    assert warning.startswith("1 references have characters that the model never writes, such as '，' (1); its ")
    assert unwritten_warnings([["你好,", ""]], layer) == []
    jamo = TextSpec(scheme="characters", normalization="nfd", compose=True)
    composed = TextFeatures(jamo, learn_vocabulary(KOREAN, jamo))
    assert unwritten_warnings([[KOREAN[0]]], composed) == []
    assert unwritten_warnings([["☃"]], features("bytes")) == []


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "words"])
def test_there_and_back_with_any_known_characters(scheme):
    draw = random.Random(1)
    texts = ["".join(draw.choices(KNOWN + [" "] * 9, k=draw.randint(0, 30))) for _ in range(300)]
    layer = features(scheme, normalization="none")
    ids = layer(tf.constant(texts)).numpy()
    found = [text.decode() for text in layer.detokenize(ids).numpy()]
    assert found == [text.strip(" ") if scheme in EXACT else " ".join(text.split()) for text in texts]
    assert UNK not in ids


@pytest.mark.parametrize("scheme", ["unigram", "bpe"])
def test_ids_equal_the_sentencepiece_library(scheme):
    layer = features(scheme)
    library = sentencepiece.SentencePieceProcessor(model_proto=layer.vocabulary.model)
    texts = [
        *LEARNED_FROM[:6],
        " the\u00a0 cats\u3000sat ",
        "\uff41 \ufb01ne zebra",
        "\u6211\U0001f600",
        "\u2581the",
        "",
    ]
    normal = [unicodedata.normalize("NFC", text).strip(" ") for text in texts]
    assert layer.tokenize(texts).to_list() == library.encode(normal)


def test_wordpiece_takes_the_longest_known_piece():
    layer = features("wordpiece")
    ids = {token: index for index, token in enumerate(layer.vocabulary.tokens) if index >= len(SPECIAL_TOKENS)}

    def pieces(word):
        found, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            ends = [end for end in range(len(word), start, -1) if mark + word[start:end] in ids]
            # A word may begin with "##", but a piece that does goes inside words only.
            ends = [end for end in ends if start or not word[:end].startswith("##")]
            if not ends:
                return [UNK]
            found.append(ids[mark + word[start : ends[0]]])
            start = ends[0]
        return found

    for text in [*LEARNED_FROM[:16], "cathem seat unbelonked ###the ##x <pad> caf\u00e9s \u6211\u6211", "zebra"]:
        words = unicodedata.normalize("NFKC", text).split()
        assert tokens_of(layer, text) == [piece for word in words for piece in pieces(word)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_gives_eos_alone(scheme):
    texts = [
        "",
        " ",
        "   ",
        "\t",
        "\n",
        "\r\n",
        " \x0b\x0c ",
        "\u00a0",
        "\u3000 \u2003",
        "\u2028\u2029",
        "\ufeff",
        "\ufeff ",
    ]
    for normalization in ("none", "nfc", "nfkc"):
        layer = features(scheme, normalization=normalization)
        assert layer(tf.constant(texts)).numpy().tolist() == [[EOS]] * len(texts)
        assert layer.detokenize(layer(tf.constant(texts))).numpy().tolist() == [b""] * len(texts)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "text",
    ["<pad>", "<unk>", "<bos>", "<eos>", "a<eos>b", "the <pad> cat", "##<eos>", "<eos><eos> <bos>", "<pad", "<s></s>"],
)
def test_text_cannot_spell_a_special_token(scheme, text):
    layer = features(scheme)
    ids = layer(tf.constant([text, f"{text} {text} the cat sat on it"])).numpy()
    assert ids[0, : ids[0].tolist().index(EOS)].min() > 0, "text of nothing but padding"
    for row in ids.tolist():
        assert set(row[: row.index(EOS)]).isdisjoint({PAD, BOS, EOS})
        assert set(row[row.index(EOS) + 1 :]) <= {PAD}
        assert row.count(EOS) == 1
    if scheme == "words":
        assert tokens_of(layer, "the <pad>") == [layer.vocabulary.tokens.index("the"), UNK]
    elif "/" not in text:
        # Every character is known: it is told apart from an unknown one, too.
        assert UNK not in ids
        assert back(layer, text) == text


@pytest.mark.parametrize("scheme", ["unigram", "bpe"])
def test_the_mark_of_a_space_is_a_space(scheme):
    layer = features(scheme)
    assert tokens_of(layer, "the\u2581cat") == tokens_of(layer, "the cat")
    assert set(tokens_of(layer, "\u2581\u2581<eos>\u2581")).isdisjoint({PAD, UNK, BOS, EOS})


@pytest.mark.parametrize(
    ("scheme", "text", "expected"),
    [
        ("unigram", "the \u03a9 cat\u03a9", "the <unk> cat<unk>"),
        ("bpe", "the \u03a9 cat\u03a9", "the <unk> cat<unk>"),
        ("wordpiece", "the \u03a9 cat\u03a9", "the <unk> <unk>"),
        ("words", "the \u03a9 cat\u03a9", "the <unk> <unk>"),
        ("characters", "the \u03a9 cat\u03a9", "the <unk> cat<unk>"),
        ("bytes", "the \u03a9 cat\u03a9", "the \u03a9 cat\u03a9"),
    ],
)
def test_unknown_characters_become_unk(scheme, text, expected):
    layer = features(scheme)
    assert tokens_of(layer, text).count(UNK) == expected.count("<unk>")
    assert back(layer, text) == expected


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("none", "e\u0301 \ufb01 \uff21\u00a0\u2460 \u212b"),
        ("nfc", "\u00e9 \ufb01 \uff21\u00a0\u2460 \u00c5"),
        ("nfkc", "\u00e9 fi A 1 \u00c5"),
    ],
)
@pytest.mark.parametrize("lowercase", [False, True])
def test_text_is_normalized_as_the_spec_says(normalization, expected, lowercase):
    layer = features("bytes", normalization=normalization, lowercase=lowercase)
    text = "\ufeff e\u0301 \ufb01 \uff21\u00a0\u2460 \u212b\u00a0"
    assert back(layer, text) == (expected.lower() if lowercase else expected)


LOWER = """
import sys
UNICODE_16 = {0x1c89, 0xa7cb, 0xa7cc, 0xa7da, 0xa7dc, *range(0x10d50, 0x10d66)}
import tensorflow as tf
from tfseq2seq.features.normalization import lower
from tfseq2seq.features.rules import Rules
# Python 3.14 has letters of Unicode 16.
letters = [chr(code) for code in range(0x1e944) if not 0xd800 <= code < 0xe000 and code not in UNICODE_16]
accented = [letter + mark for letter in "IJ\u012e\u00cc" for mark in "\u0300\u0301\u0303\u0307"]
texts = [*letters, *accented, "\u0130I ISTANBUL"]
found = [text.decode() for text in lower(tf.constant(texts)).numpy()]
wrong = [text for text, one in zip(texts, found) if one != text.lower()]
spelled = Rules(lexicon=[("istanbul", "Istanbul")])(tf.constant(["ISTANBUL"]))[0].numpy()
sys.exit(f"wrong: {wrong}, {spelled}" if wrong or spelled != b"Istanbul" else 0)
"""


@pytest.mark.parametrize("locale", ["tr_TR.UTF-8", pytest.param("lt_LT.UTF-8", marks=pytest.mark.slow)])
def test_lower_case_does_not_depend_on_the_locale(locale):
    # The locale need not be installed: the library that TensorFlow uses reads its name from the environment.
    done = subprocess.run(
        [sys.executable, "-c", LOWER], env={**os.environ, "LC_ALL": locale}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_lower_case_keeps_the_shape_and_what_is_behind_a_nul():
    def lowered(text):
        return [lowered(one) for one in text] if isinstance(text, list) else text.lower().encode()

    for text in ("AB\0CD", [], ["A\0", "\0B", "\0", "", "\0\0C\0"], [["A"], ["\u0391\u03a3\0\u03a3"]]):
        found = lower(tf.constant(text, tf.string)).numpy()
        assert (found if isinstance(found, bytes) else found.tolist()) == lowered(text)


def test_lowercase_knows_more_than_ascii():
    layer = features("characters", lowercase=True)
    assert tokens_of(layer, "CAF\u00c9 \u0411\u0410\u041d\u041a") == tokens_of(
        layer, "caf\u00e9 \u0431\u0430\u043d\u043a"
    )
    assert UNK not in tokens_of(layer, "CAF\u00c9 \u0411\u0410\u041d\u041a")
    assert UNK in tokens_of(features("characters"), "CAF\u00c9")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("normalization", ["none", "nfkc"])
def test_broken_input_is_text_all_the_same(scheme, normalization):
    # A server has many clients; one broken string must not fail the others' requests.
    layer = features(scheme, normalization=normalization)
    ids = layer(tf.constant([b"the \xff\xe6 cat", b"the cat"]))
    layer.detokenize(ids)[0].numpy().decode("utf-8")
    assert layer.detokenize(ids).numpy()[1] == b"the cat"


def test_generated_bytes_that_are_no_text_become_the_replacement_character():
    layer = features("bytes")
    ids = [
        [byte + 4 for byte in row]
        for row in (b"a\xff\xffb", "\u6211".encode()[:2] + b"  ", b"\xed\xa0\x80a", b"a\0\x01b")
    ]
    texts = [text.decode("utf-8") for text in layer.detokenize(tf.constant(ids)).numpy()]
    assert texts[0] == "a\ufffd\ufffdb"
    assert texts[1].strip("\ufffd") == "  "
    assert texts[2].strip("\ufffd") == "a"
    assert texts[3] == "a\0\x01b"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_special_ids_give_no_text_at_any_rank(scheme):
    layer = features(scheme)
    (ids,) = layer(tf.constant(["the cat"])).numpy().tolist()
    rows = tf.constant([[[BOS, *ids, PAD]], [[PAD, *ids, EOS]], [[BOS, PAD, EOS, PAD] + [EOS] * (len(ids) - 2)]])
    assert layer.detokenize(rows).numpy().tolist() == [[b"the cat"], [b"the cat"], [b""]]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_layer_comes_back_from_its_config(scheme):
    layer = features(scheme)
    copy = TextFeatures.from_config(json.loads(json.dumps(layer.get_config())))
    assert copy.spec == layer.spec
    assert copy.vocabulary == layer.vocabulary
    texts = tf.constant([*LEARNED_FROM[:6], "\u03a9"])
    ids = layer(texts)
    assert copy(texts).numpy().tolist() == ids.numpy().tolist()
    assert copy.detokenize(ids).numpy().tolist() == layer.detokenize(ids).numpy().tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_ids_in_a_graph_in_a_pipeline_and_in_any_batch(scheme):
    layer = features(scheme)
    texts = ["the cat  sat", "", "\u6211\u559c\u6b22 \u03a9", "na\u00efve <pad> ##the"]
    eager = layer(tf.constant(texts)).numpy().tolist()
    assert layer(tf.constant(texts)).numpy().tolist() == eager

    traced = tf.function(layer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    assert traced(tf.constant(texts)).numpy().tolist() == eager
    assert traced(tf.constant([], tf.string)).shape[0] == 0
    assert layer(tf.constant([], tf.string)).shape[0] == 0

    rows = [row[: row.index(EOS) + 1] for row in eager]
    single = tf.data.Dataset.from_tensor_slices(texts).batch(1).map(layer)
    assert [row.tolist()[0] for row in single.as_numpy_iterator()] == rows
    many = tf.data.Dataset.from_tensor_slices(texts).batch(3).map(lambda batch: layer.detokenize(layer(batch)))
    assert [text for batch in many.as_numpy_iterator() for text in batch] == layer.detokenize(eager).numpy().tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_seeding_the_program_leaves_the_layer_alive(scheme):
    layer = features(scheme)
    compiled = tf.function(layer)
    text = tf.constant(["the cat", ""])
    before = layer(text).numpy().tolist()
    assert compiled(text).numpy().tolist() == before
    keras.utils.set_random_seed(1)  # drops TensorFlow's kernels and what they own
    try:
        assert layer(text).numpy().tolist() == before
        assert compiled(text).numpy().tolist() == before
    finally:
        tf.random.set_seed(None)


def test_model_that_spells_unknown_characters_in_bytes(tmp_path):
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat <0x41> sat"] * 20),
        model_writer=written,
        model_type="bpe",
        vocab_size=290,
        byte_fallback=True,
        pad_id=PAD,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "foreign.model"
    path.write_bytes(written.getvalue())
    spec = TextSpec(scheme="bpe")
    layer = TextFeatures(spec, load_vocabulary(path, spec))
    assert back(layer, "the \u6211 cat") == "the \u6211 cat"


# ---- reserved tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reserved_tokens_have_the_ids_after_the_special_ones(scheme):
    layer = reserving(scheme)
    assert layer.vocabulary.tokens[:8] == (*SPECIAL_TOKENS, *RESERVED)
    assert [layer.reserved_id(token) for token in RESERVED] == [4, 5, 6, 7]
    assert layer.size == len(set(layer.vocabulary.tokens))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_cannot_spell_a_reserved_token(scheme):
    layer = reserving(scheme)
    rows = layer.tokenize(SPELLED).to_list()
    assert all(row for row in rows)
    assert {index for row in rows for index in row}.isdisjoint({PAD, BOS, EOS, 4, 5, 6, 7})
    if scheme == "words":
        assert tokens_of(layer, "the cat <sep>") == [layer.vocabulary.tokens.index("the"), UNK, UNK]
        return
    for text, row in zip(SPELLED, rows):
        assert UNK not in row and back(layer, text) == text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_rest_of_the_text_is_tokenized_as_without_reserved_tokens(scheme):
    layer = reserving(scheme)
    for text in TEXTS[3:]:
        normal = unicodedata.normalize("NFKC", text).strip(" ")
        assert back(layer, text) == (normal if scheme in EXACT else " ".join(normal.split()))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reserved_ids_give_no_text(scheme):
    layer = reserving(scheme)
    ids = tokens_of(layer, "the mat sat")
    text = layer.detokenize(tf.constant([[4, 5, BOS, *ids, 6, EOS, 7, PAD], [7, 6, 5, 4, *[PAD] * (len(ids) + 3)]]))
    assert text.numpy().tolist() == [b"the mat sat", b""]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_begin_token_comes_first_and_once(scheme):
    plain, layer = reserving(scheme), reserving(scheme, begin="<sep>")
    texts = ["the mat", "", "<sep>", "  ", "the cats sat"]
    rows = [[5, *ids] if ids else [] for ids in plain.tokenize(texts).to_list()]
    assert layer.tokenize(texts).to_list() == plain.tokenize(texts).to_list()
    assert layer.ids(texts, end=False).to_list() == rows
    assert layer.ids(texts).to_list() == [[*ids, EOS] for ids in rows]
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    for ids in (layer(tf.constant(texts)), traced(tf.constant(texts))):
        assert [[index for index in row if index != PAD] for row in ids.numpy().tolist()] == [[*r, EOS] for r in rows]
        # As callers tell that a text is empty.
        assert (ids[:, :1] == EOS).numpy()[:, 0].tolist() == [False, True, False, True, False]
        assert layer.detokenize(ids).numpy().tolist() == plain.detokenize(plain(tf.constant(texts))).numpy().tolist()
    assert traced(tf.constant([], tf.string)).shape == layer(tf.constant([], tf.string)).shape == (0, 1)
    assert plain.ids(texts).to_list() == [[*ids, EOS] for ids in plain.tokenize(texts).to_list()]


def test_the_other_side_of_a_shared_vocabulary_begins_with_another_token():
    both = reserving("bpe", begin="<2de>")
    other, none = both.with_begin("<sep>"), both.with_begin("")
    assert both.with_begin("<2de>") is both and other.vocabulary is both.vocabulary
    rows = [layer(tf.constant(["the mat"])).numpy()[0].tolist() for layer in (both, other, none)]
    assert [row[0] for row in rows[:2]] == [4, 5]
    assert rows[0][1:] == rows[1][1:] == rows[2]
    with pytest.raises(UserError, match="begin: must be one of the tokens in reserved, got '<spe>'; did you mean"):
        both.with_begin("<spe>")


def test_unknown_reserved_token_names_the_nearest():
    with pytest.raises(UserError, match="got '<2d>'; did you mean '<2de>'"):
        reserving("words").reserved_id("<2d>")
    with pytest.raises(UserError, match="got '<eos>'; reserved is empty"):
        features("words").reserved_id("<eos>")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_config_round_trip_with_reserved_tokens(scheme):
    layer = reserving(scheme, begin="<2de>")
    copy = TextFeatures.from_config(json.loads(json.dumps(layer.get_config())))
    assert copy.spec == layer.spec and copy.vocabulary == layer.vocabulary
    assert copy(tf.constant(SPELLED)).numpy().tolist() == layer(tf.constant(SPELLED)).numpy().tolist()


def test_config_of_an_earlier_version_loads():
    layer = features("words")
    config = json.loads(json.dumps(layer.get_config()))
    del config["spec"]["reserved"], config["spec"]["begin"]
    assert TextFeatures.from_config(config).spec == layer.spec
