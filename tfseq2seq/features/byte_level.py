"""Byte-level BPE (Radford et al. 2019) in plain Python: text to pieces of bytes that were merged by rank.

Text is first split to words: runs of letters, of digits and of other characters, each with the space before it, the
English endings such as 's, and what else there is of white space. The bytes of a word are then joined, pair by pair:
the pair that comes first in the list of merges is merged wherever it is in the word, until no pair is in the list.

Tokens are written with a visible character for each byte, such as "Ġhouse" for the bytes of " house".
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence

from tfseq2seq.errors import UserError

# The bytes that are written as the character of their number. Others have the characters from 256 on, in order.
_VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_HIDDEN = tuple(byte for byte in range(256) if byte not in set(_VISIBLE))
LETTERS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + place) for place, byte in enumerate(_HIDDEN)}
_BYTES = {letter: byte for byte, letter in LETTERS.items()}
# Kinds of characters. Letters and digits are those of Unicode's general categories L and N.
_OTHER, SPACE, _LETTER, _DIGIT = range(4)
# White space beside that of category Z.
_SPACES = "\t\n\v\f\r\u0085"
ENDINGS = ("re", "ve", "ll", "s", "t", "m", "d")


def is_spelled(token: str) -> bool:
    """Whether each character of a token stands for a byte."""
    return _BYTES.keys() >= set(token)


def spelled(token: str) -> bytes:
    """The bytes that a token is written for.

    Raises:
        KeyError: a character of the token stands for no byte.
    """
    return bytes(_BYTES[letter] for letter in token)


def parse_merges(content: bytes, tokens: Sequence[str], name: str) -> list[tuple[int, int, int]]:
    """Reads a list of merges, a pair of tokens with a space between them on each line, by falling priority.

    Args:
        content: the lines; the first one can be a comment.
        tokens: the vocabulary.
        name: of the file, for messages.

    Returns:
        The ids of the two tokens of each pair, and of what they are merged to.

    Raises:
        UserError: a line is no pair, or has or makes a token that the vocabulary lacks, or is there twice.
    """
    ids = {token: index for index, token in enumerate(tokens)}
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{name}: not UTF-8; merges have two tokens a line") from None
    found: dict[tuple[int, int], int] = {}
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise UserError(f"{name}, line {number}: must have two tokens with a space between them, got {line[:60]!r}")
        for token in (*pair, "".join(pair)):
            if token not in ids:
                raise UserError(f"{name}, line {number}: {token!r} is not in the vocabulary")
        key = ids[pair[0]], ids[pair[1]]
        if key in found:
            raise UserError(f"{name}, line {number}: the pair {line!r} is there twice")
        found[key] = ids["".join(pair)]
    return [(*pair, merged) for pair, merged in found.items()]


def byte_ids(tokens: Sequence[str], name: str) -> list[int]:
    """The id of the token of each of the 256 bytes.

    Raises:
        UserError: the vocabulary lacks one.
    """
    ids = {token: index for index, token in enumerate(tokens)}
    for byte, letter in LETTERS.items():
        if letter not in ids:
            raise UserError(f"{name}: must have a token for each byte, and lacks {letter!r} (0x{byte:02X})")
    return [ids[LETTERS[byte]] for byte in range(256)]


class PlainByteLevel:
    """Text to ids in plain Python.

    Args:
        tokens: the vocabulary.
        merges: from a file, as `parse_merges` reads it.
    """

    def __init__(self, tokens: Sequence[str], merges: bytes):
        self._bytes = byte_ids(tokens, "vocabulary")
        found = parse_merges(merges, tokens, "merges")
        self._ranks = {(left, right): (rank, merged) for rank, (left, right, merged) in enumerate(found)}
        self._of_word = functools.lru_cache(1 << 14)(self._merged)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return [piece for word in split_words(text) for piece in self._of_word(word)]

    def _merged(self, word: str) -> tuple[int, ...]:
        ids = [self._bytes[byte] for byte in word.encode("utf-8")]
        while len(ids) > 1:
            pairs = [pair for pair in zip(ids, ids[1:]) if pair in self._ranks]
            if not pairs:
                break
            best = min(pairs, key=lambda pair: self._ranks[pair][0])
            joined, index = [], 0
            while index < len(ids):
                if tuple(ids[index : index + 2]) == best:
                    joined.append(self._ranks[best][1])
                    index += 2
                else:
                    joined.append(ids[index])
                    index += 1
            ids = joined
        return tuple(ids)


def split_words(text: str) -> list[str]:
    """The words of a text, which together are the text."""
    kinds = [kind_of(letter) for letter in text]
    words: list[str] = []
    begin = 0
    while begin < len(text):
        end = _word_end(text, kinds, begin)
        words.append(text[begin:end])
        begin = end
    return words


def _word_end(text: str, kinds: list[int], begin: int) -> int:
    if text[begin] == "'":
        for ending in ENDINGS:
            if text.startswith(ending, begin + 1):
                return begin + 1 + len(ending)
    # One space goes with what follows.
    first = begin + (text[begin] == " ")
    if first < len(text) and kinds[first] != SPACE:
        return _run_end(kinds, first)
    end = _run_end(kinds, begin)
    # The last white space before another character is a word of its own, or goes with it.
    return end - 1 if end < len(text) and end - begin > 1 else end


def _run_end(kinds: list[int], begin: int) -> int:
    end = begin + 1
    while end < len(kinds) and kinds[end] == kinds[begin]:
        end += 1
    return end


@functools.lru_cache(1 << 14)
def kind_of(letter: str) -> int:
    """Whether a character is a letter, a digit, white space or something else, as a number."""
    category = unicodedata.category(letter)[0]
    if category in "LN":
        return _LETTER if category == "L" else _DIGIT
    return SPACE if category == "Z" or letter in _SPACES else _OTHER
