"""Pretrained word vectors: the text formats of word2vec and GloVe.

A word2vec file starts with a header line "count width", a GloVe file has no header. All other lines have a word and its
numbers, separated by single spaces.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfseq2seq.errors import UserError
from tfseq2seq.files import open_file, written_aside

# sentencepiece writes a space as this character, so the word "the" is the piece "▁the".
_WORD_START = "▁"
_HEADER = re.compile(rb"\d+ (\d+)")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_vectors(path: str | os.PathLike[str], wanted: Collection[str] | None = None) -> dict[str, NDArray[np.float32]]:
    """Reads the vectors of a word2vec or GloVe text file, in UTF-8, gzipped if its name ends in `.gz`.

    Words may contain spaces: the last D fields of a line are its numbers. If the field before them is a number too, the
    line counts as having too many numbers. If a word occurs twice, the first vector is used.

    Args:
        path: the file.
        wanted: the words to read. Other words are not kept in memory, and their numbers are not checked. For a
            sentencepiece piece such as "▁the", the word "the" is read too, because `embedding_matrix` falls back to it.

    Returns:
        A dictionary of words to vectors `[D]` float32, in the order of the file.

    Raises:
        UserError: the file cannot be read or has no vectors; or a line is not UTF-8, has a different number of numbers
            than the header or the first line, or has a field that is not a number. The message has the file and the
            line.
    """
    path = Path(path)
    kept_words = None if wanted is None else {*wanted, *(_word(piece) for piece in wanted)}
    vectors: dict[str, NDArray[np.float32]] = {}
    width = words = 0
    for number, line in _lines(path):
        try:
            if not width:
                if header := _HEADER.fullmatch(line):
                    width = _header_width(header)
                    continue
                width = _first_width(line)
            raw_word, numbers = _split(line, width)
            word = _decoded(raw_word)
            if word not in vectors and (kept_words is None or word in kept_words):
                vectors[word] = _parsed(numbers)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        words += 1
    if not words:
        raise UserError(f"{path}: must have at least one vector, found no vectors")
    return vectors


def embedding_matrix(
    vocabulary: Sequence[str],
    vectors: Mapping[str, NDArray[np.float32]],
    width: int,
    seed: int,
    deviation: float,
) -> tuple[NDArray[np.float32], int]:
    """Initializes an embedding with known vectors, and with normal noise for the other words of the vocabulary.

    If a sentencepiece piece such as "▁the" is not in `vectors`, the vector of the word "the" is used. The noise in a
    row depends only on the seed and the row, and not on which other words are known.

    Args:
        vocabulary: V words or pieces in the order of their ids, padding first.
        vectors: a mapping of words to vectors `[width]`, from `read_vectors`.
        width: the width of the embedding.
        seed: the seed of the noise.
        deviation: the standard deviation of the noise.

    Returns:
        The embedding, float32 `[V, width]` with zeros in row 0; and the number of other rows that are known vectors.

    Raises:
        UserError: the vectors have a different width.
    """
    for word, vector in vectors.items():
        if vector.shape != (width,):
            raise UserError(
                f"the vector of {word!r}: must have the width of the embedding, {width}, got {vector.size} numbers; "
                "use vectors of this width, or set the width of the model to that of the vectors"
            )
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((len(vocabulary), width), dtype=np.float32) * np.float32(deviation)
    matrix[:1] = 0.0
    found = 0
    for row, piece in enumerate(vocabulary[1:], 1):
        known = piece if piece in vectors else _word(piece)
        if known in vectors:
            matrix[row] = vectors[known]
            found += 1
    return matrix, found


def write_vectors(path: str | os.PathLike[str], vocabulary: Sequence[str], matrix: ArrayLike) -> None:
    """Writes the rows of an embedding as a word2vec text file, gzipped if its name ends in `.gz`.

    Numbers have nine digits, which represent every float32 exactly.

    Args:
        path: the file. Missing folders are created.
        vocabulary: V words or pieces.
        matrix: float `[V, D]`.

    Raises:
        ValueError: the shapes do not match, or numbers are not finite.
        UserError: a word could not be read again correctly, or the file cannot be written.
    """
    path = Path(path)
    matrix = np.asarray(matrix, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) != len(vocabulary) or not matrix.size:
        raise ValueError(f"matrix: must have the shape [{len(vocabulary)}, D] of the vocabulary, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("matrix: must have only finite numbers")
    words = [_encoded(word) for word in vocabulary]

    line = b"%s" + b" %.9g" * matrix.shape[1] + b"\n"
    with written_aside(path) as aside, _opened(aside, path.suffix == ".gz") as file:
        file.write(b"%d %d\n" % matrix.shape)
        file.writelines(line % (word, *row.tolist()) for word, row in zip(words, matrix))


def _word(piece: str) -> str:
    """Returns the word of a sentencepiece piece without the space. Other pieces and the bare space are unchanged."""
    return piece.removeprefix(_WORD_START) or piece


def _opened(path: Path, gzipped: bool) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "wb") if gzipped else open(path, "wb")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields numbers and content of lines that are not empty, without the spaces that word2vec writes at line ends.

    Lines are bytes. Text would be split at every line break of Unicode, and GloVe has words with such characters.
    """
    try:
        with open_file(path) as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line := line.rstrip(b" \r\n"):
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _header_width(header: re.Match[bytes]) -> int:
    width = int(header[1])
    if not width:
        raise ValueError("the header must have a width of at least 1, got 0")
    return width


def _first_width(line: bytes) -> int:
    """Returns the number of numbers at the end of the first line, after a word, for a file without a header."""
    first_field, *rest = line.split(b" ")
    width = next((count for count, field in enumerate(reversed(rest)) if not _NUMBER.fullmatch(field)), len(rest))
    word_fields = rest[: len(rest) - width]
    # The word may have spaces, but none of its fields may be a number. Otherwise its last field is an invalid number.
    if any(map(_NUMBER.fullmatch, word_fields)):
        raise ValueError(f"expected a number, got {_quoted(word_fields[-1])}")
    if not width:
        raise ValueError(
            f"expected a word and its numbers, separated by spaces, got no numbers after {_quoted(first_field)}"
        )
    return width


def _split(line: bytes, width: int) -> tuple[bytes, bytes]:
    """Splits a line into the word and the numbers."""
    surplus = line.count(b" ") - width
    if surplus < 0:
        raise ValueError(f"expected {width} numbers, got {surplus + width}")
    parts = line.split(b" ", surplus + 1)[: surplus + 1]
    if surplus and _NUMBER.fullmatch(parts[-1]):
        raise ValueError(f"expected {width} numbers, got more")
    word = b" ".join(parts)
    return word, line[len(word) + 1 :]


def _decoded(word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the word {word!r} is not UTF-8 ({error.reason})") from error


def _encoded(word: str) -> bytes:
    """Returns `word` in UTF-8. Raises UserError if `read_vectors` could not read it again correctly."""
    try:
        raw = word.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the word {word!r} cannot be written as UTF-8 ({error.reason})") from error
    if b"\n" in raw or (b" " in raw and _NUMBER.fullmatch(raw.rpartition(b" ")[2])):
        raise UserError(
            f"the word {word!r} cannot be written to a word2vec text file: it has a line break or ends with a number"
        )
    return raw


def _parsed(numbers: bytes) -> NDArray[np.float32]:
    """Parses numbers, and returns float32 `[D]`."""
    fields = numbers.split(b" ")
    try:
        # float64 first: numpy warns if a number is too large for the type to which it is parsed.
        vector = np.array(fields, dtype=np.float64)
    except ValueError:
        wrong = next((field for field in fields if not _NUMBER.fullmatch(field)), numbers)
        raise ValueError(f"expected a number, got {_quoted(wrong)}") from None
    finite = np.abs(vector) <= np.finfo(np.float32).max
    if not finite.all():
        raise ValueError(f"expected a finite float32 number, got {_quoted(fields[int(finite.argmin())])}")
    return vector.astype(np.float32)


def _quoted(field: bytes) -> str:
    return repr(field.decode(errors="replace"))
