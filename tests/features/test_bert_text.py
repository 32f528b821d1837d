"""Words as BERT finds them, and its pieces of words: in graph, in plain Python, and by Hugging Face's tokenizers."""

import random

import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.bert_text import words_in_graph, words_in_python
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import foreign_ids, load_vocabulary, unicode_form
from tfseq2seq.runtime.plain_text import PlainText
from tfseq2seq.spec import TextSpec

# Of many scripts. Later versions of Unicode differ in their rarest characters.
BLOCKS = [
    *((0x20, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x600, 0x61C)),
    *(
        (0x61E, 0x6FF),
        (0x900, 0x97F),
        (0xE01, 0xE5B),
        (0x1100, 0x11FF),
        (0x1E00, 0x1EFF),
        (0x2000, 0x206F),
        (0x3000, 0x30FF),
    ),
    *((0x4E00, 0x4FFF), (0xAC00, 0xAD00), (0xF900, 0xF920), (0xFF00, 0xFF60), (0x1F600, 0x1F64F), (0x20000, 0x20050)),
    *((0x00, 0x1F), (0xE000, 0xE010), (0xFEFF, 0xFEFF), (0xFFFD, 0xFFFD)),
]
SENTENCES = [
    "ΟΔΥΣΣΕΥΣ Σ",
    "İstanbul'da IŞIK",
    "Straße ÀÉÎ n\u0303",
    "他说：“你好，world！”",
    "한국어 문장",
    "a" * 100 + " " + "b" * 101,
    "don't <eos> $5.00 #tag ##ing",
    "\u200bzero\u200d width\u00ad",
    "",
    " \t\r\n\u00a0\u3000",
    "हिन्दी में",
]


def texts(count=1500):
    draw = random.Random(1)
    letters = [
        "".join(chr(draw.randint(*draw.choice(BLOCKS))) for _ in range(draw.randint(1, 25))) for _ in range(count)
    ]
    # A string ends at its first NUL for some of TensorFlow's operations; line files have none.
    return [text.replace("\0", "") for text in [*SENTENCES, *letters]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A vocabulary with half of the characters of the blocks, as beginnings and inside of words."""
    letters = sorted({chr(code) for first, last in BLOCKS for code in range(first, last + 1)})
    half = [letter for letter in letters if unicode_form(letter, TextSpec()) == letter and not letter.isspace()][::2]
    kept = [letter for letter in half if letter.isprintable() and letter != "\ufffd"]
    pieces = [*kept, *(f"##{letter}" for letter in kept), "the", "##ing", "don", "ab"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    folder = tmp_path_factory.mktemp("bert")
    lines = list(dict.fromkeys([*special, *pieces]))
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize("lowercase", [True, False])
def test_pieces_are_those_of_hugging_face(folder, lowercase):
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)
    spec = TextSpec(scheme="wordpiece", pretokenization="bert", lowercase=lowercase, normalization="none")
    vocabulary = load_vocabulary(folder, spec)
    features, plain = TextFeatures(spec, vocabulary), PlainText(spec, vocabulary)
    foreign = foreign_ids(folder, 0, "model.encoder.preset")
    asked = texts()
    rows = features.tokenize(tf.constant(asked)).to_list()
    assert rows == [plain.encode(text)[:-1] for text in asked]
    found = [[foreign[token] for token in row] for row in rows]
    assert found == [theirs.encode(text, add_special_tokens=False).ids for text in asked]
    known = sum(token > 1 for row in rows for token in row)
    assert known > 0.2 * sum(map(len, rows))


@pytest.mark.parametrize(
    ("text", "uncased", "cased"),
    [
        ("Hello, World!", "hello , world !", "Hello , World !"),
        ("ÀÉÎ", "aei", "ÀÉÎ"),
        ("你好world", "你 好 world", "你 好 world"),
        ("a\u00adb\tc", "ab c", "ab c"),
        ("x" * 101, "\ufffd", "\ufffd"),
    ],
)
def test_words_have_single_spaces_between_them(text, uncased, cased):
    for expected, lower in ((uncased, True), (cased, False)):
        given = text.lower() if lower else text
        assert words_in_python(given, lower) == expected
        assert words_in_graph(tf.constant([given]), lower)[0].numpy().decode() == expected


def test_text_that_spells_a_special_token_is_text(folder):
    # Hugging Face makes [MASK] of it.
    spec = TextSpec(scheme="wordpiece", pretokenization="bert")
    features = TextFeatures(spec, load_vocabulary(folder, spec))
    assert (
        features.tokenize(tf.constant(["[MASK]"])).to_list() == features.tokenize(tf.constant(["[ MASK ]"])).to_list()
    )


def test_bert_needs_pieces_of_words():
    with pytest.raises(UserError, match="pretokenization: must be space unless scheme is wordpiece, got bert"):
        TextSpec(scheme="words", pretokenization="bert")


def test_a_folder_without_a_vocabulary_is_named(tmp_path):
    with pytest.raises(UserError, match=r"must have vocab.txt or assets/tokenizer/vocabulary.txt, and has neither"):
        load_vocabulary(tmp_path, TextSpec(scheme="wordpiece", pretokenization="bert"))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\na\n")
    with pytest.raises(
        UserError, match=r"model.encoder.preset: .* must be the vocabulary of a BERT, and lacks \[SEP\]"
    ):
        foreign_ids(tmp_path, 0, "model.encoder.preset")
