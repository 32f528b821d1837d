"""Byte-level BPE: the ids of the library `tokenizers`, in graph, in plain Python and from files."""

import json
import random
import re
import unicodedata

import pytest
import tensorflow as tf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tfseq2seq.errors import UserError
from tfseq2seq.features.byte_level import LETTERS
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import load_vocabulary, save_vocabulary, vocabulary_file
from tfseq2seq.runtime.plain_text import PlainText
from tfseq2seq.spec import EOS, SPECIAL_TOKENS, SpecError, TextSpec

CORPUS = [
    "It's a house, isn't it?  The houses we've seen",
    "今天天气很好。今天很好",
    "aaaa aaaaa 1234 12345",
    "Ünïcödé naïve",
] * 3
# No letters that later versions of Unicode than Python's have.
ASSIGNED = [chr(code) for code in range(0x20000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
PIECES = [
    *(" ", "  ", "\n", "\t \n", "   ", "\u3000", "\u00a0 ", " \u2028", "\x1c", "\x85 ", "\r\n"),
    *("'s", "'re", "'", "''s", "'ll've", "don't", "I'M", " 's", "!'s", "'d'", "'ss", "\n't"),
    *("aaa", "aaaa", "123 4", "²½", "😀👨\u200d👩", "e\u0301", "ะเอ", "العربية", "\x00\x01", "Ġ", "<|endoftext|>"),
    *CORPUS,
]


def tokenizer(add_prefix_space=False, special=("<|endoftext|>",)):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    made.decoder = decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, special_tokens=list(special), **options))
    return made


def spec_of(path, **settings):
    return TextSpec(**{"scheme": "byte_bpe", "vocabulary": str(path), "normalization": "none", **settings})


def opened(made, path, **settings):
    made.save(str(path))
    spec = spec_of(path, **settings)
    return spec, load_vocabulary(path, spec)


def texts(count):
    draw = random.Random(1)

    def piece():
        if draw.random() < 0.7:
            return draw.choice(PIECES)
        return "".join(draw.choice(ASSIGNED) for _ in range(draw.randint(1, 8)))

    # Text has no white space at either end.
    features_strip = " \t\n\v\f\r\ufeff"
    made = ("".join(piece() for _ in range(draw.randint(0, 8))) for _ in range(count))
    return [text for text in made if text == text.strip() == text.strip(features_strip)]


@pytest.mark.parametrize("prefix_space", [False, True])
def test_ids_and_texts_are_those_of_the_library(tmp_path, prefix_space):
    made = tokenizer(prefix_space)
    spec, vocabulary = opened(made, tmp_path / "tokenizer.json", prefix_space=prefix_space)
    features, plain = TextFeatures(spec, vocabulary), PlainText(spec, vocabulary)
    # In our text, a special token is spelled.
    content = {**json.loads(made.to_str()), "added_tokens": []}
    bare = Tokenizer.from_str(json.dumps(content))
    given = texts(3000)
    assert len(given) > 1500
    expected = [[vocabulary.tokens.index(token) for token in bare.encode(text).tokens] for text in given]
    assert features.tokenize(tf.constant(given)).to_list() == expected
    assert [plain.encode(text) for text in given] == [[*ids, EOS] for ids in expected]
    # A NUL is kept, and U+FFFD stands for nothing else here.
    ids = features(tf.constant(given))
    assert [text.decode("utf-8") for text in features.detokenize(ids).numpy()] == given
    assert [plain.decode(row) for row in expected] == given


def test_ids_of_no_text_at_all_are_empty(tmp_path):
    features = TextFeatures(*opened(tokenizer(), tmp_path / "tokenizer.json"))
    assert features.tokenize(tf.constant(["", ""])).to_list() == [[], []]
    assert features.tokenize(tf.constant([], tf.string)).to_list() == []


def test_special_tokens_come_first_and_text_never_gives_them(tmp_path):
    spec, vocabulary = opened(tokenizer(), tmp_path / "tokenizer.json", reserved=("<|endoftext|>",))
    assert vocabulary.tokens[:5] == (*SPECIAL_TOKENS, "<|endoftext|>") and len(set(vocabulary.tokens)) > 5 + 256
    features = TextFeatures(spec, vocabulary)
    assert min(features.tokenize(tf.constant(["<|endoftext|> <pad>"])).flat_values) >= spec.first_ordinary_id


def test_a_vocabulary_is_the_same_from_all_files(tmp_path):
    made = tokenizer(special=())
    spec, vocabulary = opened(made, tmp_path / "tokenizer.json")
    content = json.loads(made.to_str())["model"]
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    lines = (" ".join(pair) if isinstance(pair, list) else pair for pair in content["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{line}\n" for line in lines))
    assert load_vocabulary(folder, spec_of(folder)).tokens == vocabulary.tokens
    assert load_vocabulary(tmp_path, spec_of(tmp_path)) == vocabulary
    save_vocabulary(vocabulary, tmp_path / "source.txt")
    assert load_vocabulary(vocabulary_file(tmp_path, "source", spec), spec) == vocabulary
    features = TextFeatures(spec, vocabulary)
    assert TextFeatures.from_config(features.get_config()).vocabulary == vocabulary


def test_a_vocabulary_without_merges_has_a_token_for_each_byte(tmp_path):
    made = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in LETTERS.items()}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spec, vocabulary = opened(made, tmp_path / "tokenizer.json")
    save_vocabulary(vocabulary, tmp_path / "source.txt")
    again = load_vocabulary(vocabulary_file(tmp_path, "source", spec), spec)
    features = TextFeatures(spec, again)
    ids = features.ids(["hé", ""])
    assert ids.row_lengths().numpy().tolist() == [4, 1] and features.detokenize(ids.to_tensor())[0] == "hé".encode()


def damaged(change):
    content = json.loads(tokenizer().to_str())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON, and is not"),
        ("[1]", "must have keys and values, got [1]"),
        ("{}", "must have keys and values under 'model', got null"),
        (damaged(lambda c: c["model"].update(type="Unigram")), "model.type must be BPE for scheme byte_bpe"),
        (damaged(lambda c: c["model"].update(ignore_merges=True)), "model.ignore_merges must be off, got True"),
        (damaged(lambda c: c["pre_tokenizer"].update(type="Whitespace")), "pre_tokenizer must be ByteLevel"),
        (damaged(lambda c: c["pre_tokenizer"].update(add_prefix_space=True)), "prefix_space: must be true, as in"),
        (damaged(lambda c: c.update(normalizer={"type": "NFC"})), 'normalization: must be "nfc", as in'),
        (damaged(lambda c: c.update(normalizer={"type": "Lowercase"})), "normalizer must be none or one of Unicode's"),
        (damaged(lambda c: c["model"]["merges"].append(["h", "☃"])), "'☃' is not in the vocabulary"),
        (damaged(lambda c: c["model"]["merges"].append(c["model"]["merges"][0])), "is there twice"),
        (damaged(lambda c: c["model"]["merges"].append("a b c")), "must have two tokens with a space between them"),
        (damaged(lambda c: c["model"]["vocab"].update({"zq": 0})), "have the same id 0"),
        (damaged(lambda c: c["model"]["vocab"].update({"zq": 9999})), "no token has the id"),
        (damaged(lambda c: c["model"]["vocab"].update({"zq": "x"})), "must be a whole number from 0 on, got 'x'"),
        (damaged(lambda c: c["model"].pop("vocab")), "damaged: KeyError 'vocab'"),
    ],
)
def test_a_damaged_or_foreign_tokenizer_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_vocabulary(path, spec_of(path))
    assert "\n" not in str(caught.value)


def test_missing_files_and_bytes_are_told(tmp_path):
    with pytest.raises(
        UserError, match=r"must have tokenizer.json, or vocab.json and merges.txt, and lacks vocab.json"
    ):
        load_vocabulary(tmp_path, spec_of(tmp_path))
    save_vocabulary(opened(tokenizer(), tmp_path / "tokenizer.json")[1], tmp_path / "source.txt")
    (tmp_path / "source.merges").unlink()
    with pytest.raises(UserError, match=r"source.merges: the vocabulary cannot be read"):
        load_vocabulary(tmp_path / "source.txt", spec_of("x"))
    (tmp_path / "vocab.json").write_text(
        json.dumps({letter: index for index, letter in enumerate(list(LETTERS.values())[1:])})
    )
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(UserError, match=r"must have a token for each byte, and lacks '!' \(0x21\)"):
        load_vocabulary(tmp_path / "vocab.json", spec_of("x"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "byte_bpe"}, "vocabulary: must be set for scheme byte_bpe, which is not learned"),
        ({"prefix_space": True}, "prefix_space: must be false unless scheme is byte_bpe, got true for unigram"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        TextSpec(**settings)


def test_a_normalizer_is_that_of_the_settings(tmp_path):
    made = tokenizer()
    made.normalizer = normalizers.NFKC()
    spec, vocabulary = opened(made, tmp_path / "tokenizer.json", normalization="nfkc")
    (ids,) = TextFeatures(spec, vocabulary).tokenize(tf.constant(["Ａ１ ﬁ"])).to_list()
    assert [vocabulary.tokens[index] for index in ids] == made.encode("Ａ１ ﬁ").tokens


def test_an_exported_graph_has_the_tokenizer(tmp_path):
    features = TextFeatures(*opened(tokenizer(), tmp_path / "tokenizer.json"))
    module = tf.Module()
    module.features = features
    signature = [tf.TensorSpec([None], tf.string)]
    module.read = tf.function(lambda text: features.detokenize(features(text)), input_signature=signature)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert loaded.read(tf.constant(["It's a house", ""])).numpy().tolist() == [b"It's a house", b""]
