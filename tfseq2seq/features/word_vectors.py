"""Word vectors trained elsewhere: the text formats of word2vec and GloVe.

A word2vec file starts with a line "count width", a GloVe file does not. After that both have one word in a line,
followed by its numbers, with one space between them.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfseq2seq.errors import UserError
from tfseq2seq.files import written_aside

# sentencepiece writes a space as this character, so that the word "the" is the piece "▁the".
_WORD_START = "▁"
_HEADER = re.compile(rb"\d+ (\d+)")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_vectors(path: str | os.PathLike[str], wanted: Collection[str] | None = None) -> dict[str, NDArray[np.float32]]:
    """The vectors of a word2vec or GloVe text file, in UTF-8, gzipped if its name ends in `.gz`.

    Words may contain spaces: the last D fields of a line are its numbers. A field before them that is a number as well
    is taken for one number too many, not for the end of a word. Of a word that is there twice the first vector counts.

    Args:
        path: the file.
        wanted: keep these words alone, and the others are not even held in memory or checked to be numbers. With a
            sentencepiece piece such as "▁the" the word "the" is kept too, as `embedding_matrix` falls back to it.

    Returns:
        float32 `[D]` by word, in the order of the file.

    Raises:
        UserError: the file cannot be read or is empty, or a line is not UTF-8, has another number of numbers than the
            header or first line, or has something else in their place. The message gives the file and the line.
    """
    path = Path(path)
    kept = None if wanted is None else {*wanted, *(_word(piece) for piece in wanted)}
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
            if word not in vectors and (kept is None or word in kept):
                vectors[word] = _parsed(numbers)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        words += 1
    if not words:
        raise UserError(f"{path} has no vectors in it")
    return vectors


def embedding_matrix(
    vocabulary: Sequence[str],
    vectors: Mapping[str, NDArray[np.float32]],
    width: int,
    seed: int,
    deviation: float,
) -> tuple[NDArray[np.float32], int]:
    """Starting values for an embedding: the known vectors, and normal noise for the rest of the vocabulary.

    A sentencepiece piece such as "▁the" that is not in `vectors` takes the vector of the word "the". The noise in a row
    depends on the seed and the row alone, not on which other words are known.

    Args:
        vocabulary: V words or pieces in the order of their ids, padding first.
        vectors: `[width]` by word, as `read_vectors` returns them.
        width: that of the embedding.
        seed: of the noise.
        deviation: standard deviation of the noise.

    Returns:
        float32 `[V, width]`, row 0 zeros, and how many of the other rows are known vectors.

    Raises:
        UserError: the vectors have another width.
    """
    for word, vector in vectors.items():
        if vector.shape != (width,):
            raise UserError(
                f"the vector of {word!r} has {vector.size} numbers, but the embedding is {width} wide: take vectors of "
                "that width, or make the model as wide as the vectors"
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

    Nine digits are written, which bring every float32 back exactly.

    Args:
        path: the file. Missing folders are made.
        vocabulary: V words or pieces.
        matrix: float `[V, D]`.

    Raises:
        ValueError: shapes that do not fit, or numbers which are not finite.
        UserError: a word that would not be read back as it is, or the file cannot be written.
    """
    path = Path(path)
    matrix = np.asarray(matrix, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) != len(vocabulary) or not matrix.size:
        raise ValueError(f"a matrix of shape {matrix.shape} does not fit the vocabulary, shape ({len(vocabulary)},)")
    if not np.isfinite(matrix).all():
        raise ValueError("the matrix is not all finite numbers")
    words = [_encoded(word) for word in vocabulary]

    line = b"%s" + b" %.9g" * matrix.shape[1] + b"\n"
    with written_aside(path) as aside, _opened(aside, "wb", path.suffix == ".gz") as file:
        file.write(b"%d %d\n" % matrix.shape)
        file.writelines(line % (word, *row.tolist()) for word, row in zip(words, matrix))


def _word(piece: str) -> str:
    """The word that a sentencepiece piece starts with; any other piece, and the bare space, is its own."""
    return piece.removeprefix(_WORD_START) or piece


def _opened(path: Path, mode: Literal["rb", "wb"], gzipped: bool) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, mode) if gzipped else open(path, mode)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers and lines which are not empty, without the spaces that word2vec writes at their ends.

    Bytes, because text would be split at every character Unicode counts as a line break, and GloVe has words of those.
    """
    try:
        with _opened(path, "rb", path.suffix == ".gz") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line := line.rstrip(b" \r\n"):
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _header_width(header: re.Match[bytes]) -> int:
    width = int(header[1])
    if not width:
        raise ValueError("the header says that vectors have no numbers")
    return width


def _first_width(line: bytes) -> int:
    """How many numbers the first line of a file without header has: as many as it ends with, after a word."""
    first, *rest = line.split(b" ")
    width = next((count for count, field in enumerate(reversed(rest)) if not _NUMBER.fullmatch(field)), len(rest))
    before = rest[: len(rest) - width]
    # The word may go on after the first space, but not over numbers: then the field after them is a spoilt one.
    if any(map(_NUMBER.fullmatch, before)):
        raise ValueError(f"{_shown(before[-1])} is not a number")
    if not width:
        raise ValueError(f"a word and its numbers are expected, with spaces between them, after {_shown(first)}")
    return width


def _split(line: bytes, width: int) -> tuple[bytes, bytes]:
    """The word and the numbers of a line."""
    surplus = line.count(b" ") - width
    if surplus < 0:
        raise ValueError(f"{surplus + width} numbers, where {width} are expected")
    parts = line.split(b" ", surplus + 1)[: surplus + 1]
    if surplus and _NUMBER.fullmatch(parts[-1]):
        raise ValueError(f"more than the {width} numbers expected")
    word = b" ".join(parts)
    return word, line[len(word) + 1 :]


def _decoded(word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{word!r} is not UTF-8 ({error.reason})") from error


def _encoded(word: str) -> bytes:
    """`word` in UTF-8, if `read_vectors` would read it back as it is."""
    try:
        raw = word.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the word {word!r} cannot be written as UTF-8 ({error.reason})") from error
    if b"\n" in raw or (b" " in raw and _NUMBER.fullmatch(raw.rpartition(b" ")[2])):
        raise UserError(f"the word {word!r} would break a line or pass for a number in a word2vec text file")
    return raw


def _parsed(numbers: bytes) -> NDArray[np.float32]:
    """float32 `[D]`."""
    fields = numbers.split(b" ")
    try:
        # By way of float64: numpy warns of a number too large for the type it parses to.
        vector = np.array(fields, dtype=np.float64)
    except ValueError:
        wrong = next((field for field in fields if not _NUMBER.fullmatch(field)), numbers)
        raise ValueError(f"{_shown(wrong)} is not a number") from None
    finite = np.abs(vector) <= np.finfo(np.float32).max
    if not finite.all():
        raise ValueError(f"{_shown(fields[int(finite.argmin())])} is not a finite float32 number")
    return vector.astype(np.float32)


def _shown(field: bytes) -> str:
    return repr(field.decode(errors="replace"))
