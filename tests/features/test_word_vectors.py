import gzip
import re
import tracemalloc

import numpy as np
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.features.word_vectors import embedding_matrix, read_vectors, write_vectors

PLAIN = "the 0.25 -1 3e-2\n猫 1 2 3\n"


def file_of(folder, text, name="vectors.txt"):
    path = folder / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def equal(vectors, expected):
    assert list(vectors) == list(expected)
    for word, numbers in expected.items():
        assert vectors[word].dtype == np.float32
        np.testing.assert_array_equal(vectors[word], np.float32(numbers))
    return True


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
@pytest.mark.parametrize("header", ["", "2 3\n"])
def test_reads_both_formats(tmp_path, header, name):
    path = file_of(tmp_path, header + PLAIN, name)
    assert equal(read_vectors(path), {"the": [0.25, -1, 0.03], "猫": [1, 2, 3]})
    assert equal(read_vectors(str(path), {"猫", "absent"}), {"猫": [1, 2, 3]})


def test_line_ends_byte_order_mark_and_blank_lines(tmp_path):
    # The word2vec program ends every line with a space.
    path = file_of(tmp_path, "\ufeff2 2\r\n\r\na 1 2 \r\nb 3 4 \r\n\r\n")
    assert equal(read_vectors(path), {"a": [1, 2], "b": [3, 4]})


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_words_with_spaces_and_unicode_line_breaks(tmp_path, header):
    # All of these are in GloVe's files: spaces inside a word, and what Python's splitlines takes for a line break.
    path = file_of(tmp_path, header + ". . . 1 2\nat name@domain.com 3 4\n\x85 5 6\na\u2028b\xa0c 7 8\n")
    expected = {". . .": [1, 2], "at name@domain.com": [3, 4], "\x85": [5, 6], "a\u2028b\xa0c": [7, 8]}
    assert equal(read_vectors(path), expected)


def test_first_of_a_repeated_word_counts(tmp_path):
    assert equal(read_vectors(file_of(tmp_path, "a 1 2\na 3 4\n")), {"a": [1, 2]})


def test_numbers_may_be_words(tmp_path):
    assert equal(read_vectors(file_of(tmp_path, "1.5 1 2\n7 3 4\n")), {"1.5": [1, 2], "7": [3, 4]})


def test_only_wanted_words_take_memory(tmp_path):
    path = file_of(tmp_path, "".join(f"w{n} " + "0.5 " * 50 + "\n" for n in range(5000)))
    tracemalloc.start()
    try:
        vectors = read_vectors(path, ["w7", "w4999"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(vectors) == ["w7", "w4999"]
    assert peak < 5000 * 50 * 4 / 4


def test_wanted_pieces_keep_their_words(tmp_path):
    path = file_of(tmp_path, "the 1 2\n▁cat 3 4\ncat 5 6\n▁ 7 8\ndog 9 9\n")
    assert list(read_vectors(path, ["▁the", "▁cat", "▁"])) == ["the", "▁cat", "cat", "▁"]


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("a 1 2 3\nb 1 2\n", 2, "expected 3 numbers, got 2"),
        ("a 1 2 3\nb 1 2 3 4\n", 2, "expected 3 numbers, got more"),
        ("2 3\na 1 2 3 4\n", 2, "expected 3 numbers, got more"),
        ("2 3\n\na 1 2\n", 3, "expected 3 numbers, got 2"),
        ("a 1 2\nb\n", 2, "expected 2 numbers, got 0"),
        ("a 1 2 3\nb 1 x 3\n", 2, "expected a number, got 'x'"),
        ("a 1 x 3\nb 1 2 3\n", 1, "expected a number, got 'x'"),
        ("a 1 2 x\n", 1, "expected a number, got 'x'"),
        ("1 3\na 1 2 二\n", 2, "expected a number, got '二'"),
        ("1 2\na 1 nan\n", 2, "expected a finite float32 number, got 'nan'"),
        ("1 2\na 1e39 1\n", 2, "expected a finite float32 number, got '1e39'"),
        ("only words here\n", 1, "expected a word and its numbers"),
        ("word\n", 1, "expected a word and its numbers"),
        ("5 0\na\n", 1, "the header must have a width of at least 1, got 0"),
        (b"a 1 2\n\xff\xfe 1 2\n", 2, "not UTF-8"),
        (b"a 1 2\nb 1 \xff\n", 2, "expected a number, got"),
    ],
)
def test_spoilt_lines_are_named(tmp_path, text, line, message):
    path = file_of(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(f"{path}, line {line}: ") + f".*{re.escape(message)}"):
        read_vectors(path)


@pytest.mark.parametrize("text", ["", "\n\n", "0 3\n"])
def test_an_empty_file_is_told(tmp_path, text):
    with pytest.raises(UserError, match="must have at least one vector, found no vectors"):
        read_vectors(file_of(tmp_path, text))


def test_an_unreadable_file_is_told(tmp_path):
    with pytest.raises(UserError, match=r"absent\.txt: cannot be read \(No such file"):
        read_vectors(tmp_path / "absent.txt")
    plain = tmp_path / "plain.gz"
    plain.write_text(PLAIN)
    with pytest.raises(UserError, match=r"plain\.gz: cannot be read \(Not a gzipped file"):
        read_vectors(plain)
    short = tmp_path / "short.gz"
    short.write_bytes(gzip.compress(PLAIN.encode())[:-12])
    with pytest.raises(UserError, match=r"short\.gz: cannot be read"):
        read_vectors(short)


def test_an_embedding_matrix_has_the_vectors_of_known_words():
    vocabulary = ["<pad>", "<unk>", "▁the", "▁cat", "ing", "▁", "猫"]
    vectors = {"the": [1, 1], "▁cat": [2, 2], "cat": [3, 3], "▁ing": [4, 4], "": [5, 5], "猫": [6, 6], "<pad>": [7, 7]}
    vectors = {word: np.float32(numbers) for word, numbers in vectors.items()}
    matrix, found = embedding_matrix(vocabulary, vectors, width=2, seed=1, deviation=0.1)
    assert matrix.dtype == np.float32 and matrix.shape == (7, 2)
    assert found == 3
    np.testing.assert_array_equal(matrix[[0, 2, 3, 6]], [[0, 0], [1, 1], [2, 2], [6, 6]])
    # Neither a piece inside a word nor a bare space is a word.
    noise, none = embedding_matrix(vocabulary, {}, width=2, seed=1, deviation=0.1)
    assert none == 0
    np.testing.assert_array_equal(matrix[[1, 4, 5]], noise[[1, 4, 5]])


def test_noise_is_normal_and_seeded():
    vocabulary = [str(number) for number in range(2001)]
    matrix, _ = embedding_matrix(vocabulary, {}, width=50, seed=3, deviation=0.02)
    assert abs(matrix[1:].mean()) < 5e-4
    assert abs(matrix[1:].std() - 0.02) < 5e-4
    assert not matrix[0].any()
    np.testing.assert_array_equal(matrix, embedding_matrix(vocabulary, {}, width=50, seed=3, deviation=0.02)[0])
    assert (matrix[1:] != embedding_matrix(vocabulary, {}, width=50, seed=4, deviation=0.02)[0][1:]).any(axis=1).all()


def test_width_mismatch_names_both():
    with pytest.raises(UserError, match=r"width of the embedding, 512, got 300 numbers"):
        embedding_matrix(["<pad>", "a"], {"b": np.zeros(300, np.float32)}, width=512, seed=0, deviation=1.0)


@pytest.mark.parametrize("name", ["new/vectors.txt", "vectors.txt.gz"])
def test_written_vectors_are_read_back_exactly(tmp_path, name):
    vocabulary = ["<pad>", "▁the", "猫", "New York", " ", "", "\x85", "12"]
    matrix = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    matrix[0] = 0
    path = tmp_path / name
    write_vectors(path, vocabulary, matrix)
    with (gzip.open if name.endswith(".gz") else open)(path, "rb") as file:
        assert file.readline() == b"8 5\n"
    assert equal(read_vectors(path), dict(zip(vocabulary, matrix)))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("word", ["a\nb", "iPhone 5", "\ud800"])
def test_words_that_cannot_be_written(tmp_path, word):
    path = file_of(tmp_path, "before")
    with pytest.raises(UserError, match="the word"):
        write_vectors(path, [word], np.zeros((1, 2)))
    assert path.read_text() == "before"


def test_matrices_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"\[2, D\] of the vocabulary, got \(3, 2\)"):
        write_vectors(tmp_path / "v.txt", ["a", "b"], np.zeros((3, 2)))
    with pytest.raises(ValueError, match="finite"):
        write_vectors(tmp_path / "v.txt", ["a"], [[np.nan, 1.0]])
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written(tmp_path):
    file_of(tmp_path, "a file", "file")
    with pytest.raises(UserError, match="cannot be written"):
        write_vectors(tmp_path / "file" / "v.txt", ["a"], np.zeros((1, 2)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_vectors(tmp_path / "folder", ["a"], np.zeros((1, 2)))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
