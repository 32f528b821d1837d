"""Vocabularies: what is learned, what is refused, and that files give back what was saved."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import sentencepiece

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import (
    Vocabulary,
    learn_vocabulary,
    load_vocabulary,
    save_vocabulary,
    unreachable_tokens,
    vocabulary_file,
)
from tfseq2seq.sources.text import learn_features
from tfseq2seq.spec import SPECIAL_TOKENS, UNK, TextSpec

LEARNED = ["unigram", "bpe", "wordpiece", "words", "characters"]
LINES = [
    "the cat sat on the mat",
    "a cat, the cat",
    "\u6211\u559c\u6b22\u8bfb\u4e66 the <pad> <unk>",
    "thee \U0001f600",
]
SPECIAL = "".join(f"{token}\n" for token in SPECIAL_TOKENS).encode()


def spec(scheme, **settings):
    return TextSpec(scheme=scheme, **settings)


def learned(scheme, lines=LINES, **settings):
    return learn_vocabulary(lines, spec(scheme, **settings)).tokens


def fault_of(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- learning -------------------------------------------------------------------------------------------------------


def test_words_come_by_falling_count_then_code_point():
    assert learned("words", ["b a c", "c b", "\u00e4 c"]) == (*SPECIAL_TOKENS, "c", "b", "a", "\u00e4")


def test_characters_come_by_falling_count_then_code_point():
    assert learned("characters", ["ba b", "\u6211b"]) == (*SPECIAL_TOKENS, "b", " ", "a", "\u6211")


def test_bytes_need_no_text():
    tokens = learned("bytes", [])
    assert tokens[4:6] + tokens[-1:] == ("<0x00>", "<0x01>", "<0xFF>")
    assert len(tokens) == 260


@pytest.mark.parametrize("scheme", LEARNED)
def test_text_is_normalized_first(scheme):
    lines = [b"\xef\xbb\xbfCAF\xc3\x89 cafe\xcc\x81 ", "\uff43afe\u0301\u3000caf\u00e9"] * 3
    tokens = learned(scheme, lines, lowercase=True, normalization="nfkc")
    assert set("".join(tokens[4:]).replace("#", "")) <= set("caf\u00e9 \u2581")


def test_min_count_leaves_out_what_is_rare():
    assert learned("words", ["a a b"], min_count=2) == (*SPECIAL_TOKENS, "a")
    assert learned("characters", ["aab"], min_count=2) == (*SPECIAL_TOKENS, "a")
    assert "min_count 3" in fault_of(learn_vocabulary, ["a a b"], spec("words", min_count=3))


@pytest.mark.parametrize("scheme", LEARNED)
@pytest.mark.parametrize("size", [60, 100])
def test_size_is_a_limit(scheme, size):
    text = [
        f"{chr(97 + i % 26)}{chr(97 + i * 7 % 26)}{chr(97 + i // 26)} \u4e00{chr(0x4E00 + i % 9)}" for i in range(300)
    ]
    tokens = learned(scheme, text, vocabulary_size=size)
    if scheme == "unigram":
        assert size / 2 < len(tokens) <= size, "it may find that fewer pieces do"
    else:
        assert len(tokens) == (size if scheme != "characters" else 4 + 26 + 9 + 1)


def test_wordpiece_drops_the_rarest_characters_to_keep_to_its_size():
    rare = {chr(0x4E00 + i) for i in range(100)}
    tokens = learned("wordpiece", ["some words and more words"] * 9 + sorted(rare), vocabulary_size=100)
    assert len(tokens) <= 100
    assert {"w", "##w", "o", "##o", "words"} <= set(tokens)
    assert 10 < len(rare & set(tokens)) < 40


@pytest.mark.parametrize("scheme", ["unigram", "bpe", "wordpiece"])
def test_larger_size_than_the_text_allows_shrinks(scheme):
    tokens = learned(scheme, ["the cat sat on the mat"] * 3, vocabulary_size=8000)
    assert 15 <= len(tokens) < 100
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("scheme", ["unigram", "bpe", "wordpiece"])
def test_size_too_small_for_the_characters(scheme):
    fault = fault_of(learn_vocabulary, ["the cat sat on the mat"] * 3, spec(scheme, vocabulary_size=8))
    assert f"{scheme}, vocabulary_size 8" in fault
    assert "characters" in fault


@pytest.mark.parametrize("scheme", ["unigram", "bpe"])
def test_rare_characters_become_unknown_where_they_are_many(scheme):
    # 200 characters that come 100 times, 50 that come once: together more than the 220 entries.
    common = ["".join(chr(0x4E00 + i) for i in range(200))] * 100
    rare = ["".join(chr(0x7000 + i) for i in range(5))]
    tokens = learned(scheme, common + rare, vocabulary_size=220)
    assert {chr(0x4E00 + i) for i in range(200)} <= set(tokens)
    assert not {chr(0x7000 + i) for i in range(5)} & set(tokens)


def test_wordpiece_knows_more_than_a_thousand_characters():
    lines = [chr(0x4E00 + i) + chr(0x4E01 + i) for i in range(1500)]
    text = spec("wordpiece", vocabulary_size=8000)
    ids = TextFeatures(text, learn_vocabulary(lines, text)).tokenize(lines)
    assert UNK not in ids.flat_values.numpy()


@pytest.mark.parametrize("scheme", LEARNED)
@pytest.mark.parametrize("lines", [[], ["", " ", "\u3000", "\ufeff"]], ids=["none", "blank"])
def test_no_text_is_told(scheme, lines):
    assert fault_of(learn_vocabulary, lines, spec(scheme)) == "there is no text to learn a vocabulary from"


@pytest.mark.parametrize("scheme", LEARNED)
@pytest.mark.parametrize("normalization", ["none", "nfkc"])
def test_all_of_the_text_is_known(scheme, normalization):
    # Space that is not ASCII's must be taken in learning as it is in use.
    lines = ["the\u00a0cat sat\u3000on", "the\u2028mat\u0085x \x1cy", "a\x0bb\x0cc", "cat\u200b \u2003\ufeffon"] * 3
    text = spec(scheme, normalization=normalization)
    ids = TextFeatures(text, learn_vocabulary(lines, text)).tokenize(lines)
    assert UNK not in ids.flat_values.numpy()


@pytest.mark.parametrize("scheme", LEARNED)
def test_text_may_spell_special_tokens(scheme):
    lines = ["<pad> <eos>", "<unk><bos> the", "the < p a > u n k d e o s b", "<eos>"] * 20
    tokens = learned(scheme, lines)
    assert tokens[:4] == SPECIAL_TOKENS
    assert [token for token, count in Counter(tokens).items() if count > 1] == []


@pytest.mark.slow
def test_same_text_gives_the_same_vocabulary_in_another_process():
    # Sets are ordered by a hash that differs from process to process; a vocabulary must not depend on it.
    program = (
        "import json, sys\n"
        "from tfseq2seq.features.vocabulary import learn_vocabulary\n"
        "from tfseq2seq.spec import TextSpec\n"
        "lines, schemes = json.load(sys.stdin)\n"
        "found = {s: learn_vocabulary(lines, TextSpec(scheme=s, vocabulary_size=70)) for s in schemes}\n"
        "print(json.dumps({s: [v.tokens, v.model.hex()] for s, v in found.items()}))\n"
    )
    lines = LINES + [f"{word}{end} {end}{word}" for word in ("read", "writ", "sing") for end in ("ing", "er", "s")]
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([lines, LEARNED]),
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(result.stdout)
    for scheme in LEARNED:
        here = learn_vocabulary(lines, spec(scheme, vocabulary_size=70))
        assert learn_vocabulary(lines, spec(scheme, vocabulary_size=70)) == here
        assert there[scheme] == [list(here.tokens), here.model.hex()], scheme


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [*LEARNED, "bytes"])
def test_saved_vocabulary_loads_as_it_was(tmp_path, scheme):
    text = spec(scheme)
    vocabulary = learn_vocabulary(LINES, text)
    save_vocabulary(vocabulary, tmp_path / "source.txt")
    assert load_vocabulary(vocabulary_file(tmp_path, "source", text), text) == vocabulary


@pytest.mark.parametrize("scheme", LEARNED)
def test_odd_characters_survive_the_file(tmp_path, scheme):
    lines = [
        "a\rb",
        "c\u2028c\u2029\u00a0d",
        "e\x0be\x0cf\x1c\x1d\x1e\x85\0g",
        "h\ufeff\u3000\ti",
        "j\nk\n",
        "\ud7ff\ue000",
    ]
    text = spec(scheme, normalization="none")
    vocabulary = learn_vocabulary(lines, text)
    if scheme == "characters":
        assert set("\r\u2028\u2029\u00a0\x0b\x0c\x1c\x1d\x1e\x85\0\ufeff\u3000\t") <= set(vocabulary.tokens)
    save_vocabulary(vocabulary, tmp_path / "target.txt")
    assert load_vocabulary(vocabulary_file(tmp_path, "target", text), text) == vocabulary


@pytest.mark.parametrize("scheme", ["words", "characters", "wordpiece"])
@pytest.mark.parametrize(
    "content",
    [
        b"a\nb\n",
        b"a\nb",
        SPECIAL + b"a\nb\n",
        b"a\r\nb\r\n",
        "\ufeffa\nb\n".encode(),
        b"\xef\xbb\xbf" + SPECIAL + b"a\nb",
    ],
)
def test_a_token_file_from_elsewhere_is_read(tmp_path, scheme, content):
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    assert load_vocabulary(path, spec(scheme)) == Vocabulary((*SPECIAL_TOKENS, "a", "b"))


@pytest.mark.parametrize(
    ("scheme", "content", "reason"),
    [
        ("words", b"a\nb\na\n", "'a' comes more than once"),
        ("words", b"<unk>\n<pad>\n<bos>\n<eos>\na\n", "come first and in this order"),
        ("words", SPECIAL + b"a\n<pad>\n", "'<pad>' comes more than once"),
        ("words", b"a\nb\nsch\xf6n\n", "line 3: not UTF-8"),
        ("words", b"a\n\nb\n", "line 2: empty"),
        ("words", b"", "line 1: empty"),
        ("words", SPECIAL, "no token"),
        ("bytes", SPECIAL + b"\n".join(b"%d" % i for i in range(256)), "not the vocabulary of bytes"),
        ("bytes", b"a\n", "not the vocabulary of bytes"),
        ("bpe", b"a\nb\n", "not a SentencePiece model"),
        ("unigram", b"", "not a SentencePiece model"),
        ("words", b"Tom\t12\nis\t3\n", r"line 1: must have no white space, got 'Tom\t12'; text never gives this token"),
        ("words", b"ok\nTom is\n", "line 2: must have no white space, got 'Tom is'"),
        ("words", b"Tom\r\nis\na\n", r"line 1: must have no white space, got 'Tom\r'"),
        ("words", SPECIAL + b"a\nb\x0bc\n", r"line 6: must have no white space, got 'b\x0bc'"),
        ("wordpiece", b"a\n##b c\n", "line 2: must have no white space, got '##b c'"),
        ("wordpiece", b"a\nb\0\n", r"line 2: must have no NUL, got 'b\x00'"),
        ("characters", b"a\nbc\n", "line 2: must be a single character, got 'bc'"),
        ("characters", SPECIAL + b"a\r\nb\n", r"line 5: must be a single character, got 'a\r'"),
        ("characters", "e\u0301\n".encode(), "line 1: must be a single character"),
    ],
)
def test_a_faulty_file_is_told(tmp_path, scheme, content, reason):
    path = tmp_path / "vocabulary"
    path.write_bytes(content)
    fault = fault_of(load_vocabulary, path, spec(scheme))
    assert fault.startswith(str(path))
    assert reason in fault


@pytest.mark.parametrize("scheme", ["words", "bpe"])
@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path, scheme, name):
    fault = fault_of(load_vocabulary, tmp_path / name, spec(scheme))
    assert fault.startswith(str(tmp_path / name))
    assert "cannot be read" in fault


@pytest.mark.parametrize("scheme", ["words", "bpe"])
def test_what_is_no_vocabulary_is_not_read(tmp_path, scheme, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        assert f"{path}: must be a regular file, got a" in fault_of(load_vocabulary, path, spec(scheme))
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 27)
    assert "large: must have at most 67,108,864 bytes, got 134,217,728" in fault_of(
        load_vocabulary, tmp_path / "large", spec(scheme)
    )


def test_a_vocabulary_has_a_largest_number_of_tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1_000_001)))
    fault = fault_of(load_vocabulary, path, spec("words"))
    assert fault == f"{path}: must have at most 1,000,000 tokens, got 1,000,001 lines"


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        ({"normalization": "none"}, []),
        ({"normalization": "nfc"}, ["e\u0301"]),
        ({"normalization": "nfkc"}, ["\uff21", "e\u0301"]),
        ({"normalization": "none", "lowercase": True}, ["A", "\uff21", "##B"]),
    ],
)
def test_tokens_that_normalization_changes_are_found(tmp_path, settings, lost):
    path = tmp_path / "tokens"
    path.write_text("a\nA\n\uff21\ne\u0301\n##B\n\u00e9\n##\u0301\n", encoding="utf-8")
    text = spec("wordpiece", **settings)
    assert unreachable_tokens(load_vocabulary(path, text), text) == lost


def test_a_vocabulary_in_capital_letters_is_no_use_in_lower_case(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("A\nB\nc\n")
    text = spec("characters", lowercase=True, vocabulary=str(path))
    message = (
        f"target: {path}: 2 of 3 tokens are never used, as normalization nfc and lowercase change them, such as 'A'"
    )
    assert fault_of(learn_features, "target", text, []) == message
    path.write_text("A\nb\nc\n")
    assert learn_features("target", text, []).size == 7


def test_text_with_a_nul_gives_a_vocabulary_of_every_scheme():
    for scheme in LEARNED:
        text = spec(scheme)
        vocabulary = learn_vocabulary(["TITLE \0 INDEX", "a\0b ab"], text)
        assert TextFeatures(text, vocabulary).size > 4


def test_a_foreign_sentencepiece_model_needs_our_ids(tmp_path):
    common = {"model_type": "bpe", "vocab_size": 30, "minloglevel": 2}
    for name, ids in (("usual", {}), ("ours", {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3})):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat sat on the mat"] * 9), model_prefix=str(tmp_path / name), **common, **ids
        )
    fault = fault_of(load_vocabulary, tmp_path / "usual.model", spec("bpe"))
    assert fault.startswith(str(tmp_path / "usual.model"))
    assert "(-1, 0, 1, 2)" in fault
    assert "--pad_id=0" in fault
    ours = load_vocabulary(tmp_path / "ours.model", spec("bpe"))
    assert ours.tokens[:4] == SPECIAL_TOKENS, "its <s> and </s> go by our names"
    assert len(ours.tokens) == 30


# ---- reserved tokens ------------------------------------------------------------------------------------------------

RESERVED = ("<2de>", "<sep>")
LEADING = (*SPECIAL_TOKENS, *RESERVED)


@pytest.mark.parametrize("scheme", [*LEARNED, "bytes"])
def test_learned_vocabularies_start_with_the_reserved_tokens(scheme):
    tokens = learned(scheme, [*LINES, "<sep> a<sep>b <2de><2de>"] * 9, reserved=RESERVED)
    assert tokens[:6] == LEADING
    assert len(set(tokens)) == len(tokens)
    assert learned(scheme, LINES * 9, reserved=()) == learned(scheme, LINES * 9)


def test_vocabulary_of_bytes_after_reserved_tokens():
    assert learned("bytes", [], reserved=RESERVED) == LEADING + learned("bytes", [])[4:]


@pytest.mark.parametrize("scheme", ["bpe", "wordpiece", "words"])
@pytest.mark.parametrize("reserved", [(), RESERVED, tuple(f"<{i}>" for i in range(20))])
def test_vocabulary_size_counts_reserved_tokens(scheme, reserved):
    text = [f"{chr(97 + i % 26)}{chr(97 + i * 7 % 26)}{chr(97 + i // 26)}" for i in range(300)]
    assert len(learned(scheme, text, vocabulary_size=90, reserved=reserved)) == 90


def test_text_of_nothing_but_reserved_tokens():
    lines = ["<sep> <2de>"] * 9
    for scheme in ("words", "wordpiece"):
        assert "there is no text" in fault_of(learn_vocabulary, lines, spec(scheme, reserved=RESERVED))
    assert set(learned("characters", lines, reserved=RESERVED)[6:]) == set("<sep> <2de>")


@pytest.mark.parametrize("scheme", [*LEARNED, "bytes"])
def test_saved_vocabulary_with_reserved_tokens_loads_as_it_was(tmp_path, scheme):
    text = spec(scheme, reserved=RESERVED)
    vocabulary = learn_vocabulary(LINES, text)
    save_vocabulary(vocabulary, tmp_path / "source.txt")
    assert (tmp_path / "source.txt").read_text(encoding="utf-8").split("\n")[:6] == list(LEADING)
    assert load_vocabulary(vocabulary_file(tmp_path, "source", text), text) == vocabulary


@pytest.mark.parametrize("scheme", [*LEARNED, "bytes"])
@pytest.mark.parametrize("kept", [(), ("<sep>",)])
def test_vocabulary_without_the_reserved_tokens_is_refused(tmp_path, scheme, kept):
    save_vocabulary(learn_vocabulary(LINES, spec(scheme, reserved=kept)), tmp_path / "source.txt")
    text = spec(scheme, reserved=RESERVED)
    path = vocabulary_file(tmp_path, "source", text)
    fault = fault_of(load_vocabulary, path, text)
    found = (tmp_path / "source.txt").read_text(encoding="utf-8").split("\n")[4:6]
    if scheme in ("unigram", "bpe"):
        shown = [f"{token!r}{'' if token in kept else ' (an ordinary piece)'}" for token in found]
        assert fault == (
            f"{path}: pieces 4 to 5 must be the reserved tokens '<2de>', '<sep>' as control symbols, got "
            f"{', '.join(shown)}; train it with --pad_id=0 --unk_id=1 --bos_id=2 --eos_id=3 "
            "--control_symbols=<2de>,<sep>"
        )
    else:
        assert fault == (
            f"{path}: lines 5 to 6 must be the reserved tokens '<2de>', '<sep>', got {found[0]!r}, {found[1]!r}; "
            "set reserved as in the file, or learn the vocabulary anew"
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (SPECIAL + b"<2de>\n", "lines 5 to 6 must be the reserved tokens '<2de>', '<sep>', got '<2de>'; set"),
        (SPECIAL, "must be the reserved tokens '<2de>', '<sep>', got no more lines; set"),
        (SPECIAL + b"<2de>\n<sep>\n", "no token but the special ones"),
        (
            SPECIAL + b"<2de>\n<sep>\na\n<sep>\n",
            "token '<sep>' comes more than once; <pad>, <unk>, <bos>, <eos>, <2de>",
        ),
        (b"a\n<sep>\n", "token '<sep>' comes more than once; <pad>, <unk>, <bos>, <eos>, <2de>, <sep> come first"),
    ],
)
def test_a_faulty_file_with_reserved_tokens_is_told(tmp_path, content, reason):
    path = tmp_path / "vocabulary"
    path.write_bytes(content)
    fault = fault_of(load_vocabulary, path, spec("words", reserved=RESERVED))
    assert fault.startswith(f"{path}: ") and reason in fault


@pytest.mark.parametrize("content", [b"a\nb\n", b"<2de>\n<sep>\na\nb\n", SPECIAL + b"<2de>\n<sep>\na\nb\n"])
def test_token_file_may_leave_out_what_comes_first(tmp_path, content):
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    assert load_vocabulary(path, spec("words", reserved=RESERVED)) == Vocabulary((*LEADING, "a", "b"))


def test_a_foreign_sentencepiece_model_needs_our_reserved_tokens(tmp_path):
    common = {
        "model_type": "bpe",
        "vocab_size": 34,
        "minloglevel": 2,
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": 2,
        "eos_id": 3,
    }
    kinds = {"ours": "control_symbols", "spellable": "user_defined_symbols"}
    for name, kind in kinds.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat sat on the mat"] * 9),
            model_prefix=str(tmp_path / name),
            **common,
            **{kind: list(RESERVED)},
        )
    text = spec("bpe", reserved=RESERVED)
    assert load_vocabulary(tmp_path / "ours.model", text).tokens[:6] == LEADING
    fault = fault_of(load_vocabulary, tmp_path / "spellable.model", text)
    assert "as control symbols, got '<2de>' (an ordinary piece), '<sep>' (an ordinary piece); train it with" in fault
    # Control symbols that the spec does not list give no text either, as in SentencePiece itself.
    layer = TextFeatures(spec("bpe"), load_vocabulary(tmp_path / "ours.model", spec("bpe")))
    assert layer.detokenize([[4, *layer.tokenize(["the cat"])[0].numpy(), 5]]).numpy().tolist() == [b"the cat"]
