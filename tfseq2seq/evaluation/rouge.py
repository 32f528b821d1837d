"""A tokenizer for ROUGE that supports all scripts, and n-grams of its tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# Scripts without spaces. ROUGE counts each of their characters as a token, as usual in Chinese and Japanese
# summarization. Hangul is not included because Korean is written with spaces.
_SINGLE = (
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark and zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana phonetic extensions
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9D),  # half-width Katakana
    (0x20000, 0x3FFFF),  # Han, supplementary planes
)


class ScriptTokenizer:
    """Splits text into lower-cased words, and Han and kana into single characters.

    A word is a maximal sequence of letters, digits and combining marks. All other characters are separators. On ASCII
    text the tokens are those of rouge-score's own tokenizer (without its stemmer), which ignores all non-ASCII letters.
    Text is normalized to NFC first, so that different encodings of an accented letter are equal. rouge-score accepts
    any object with this `tokenize` method.
    """

    def tokenize(self, text: str) -> list[str]:
        """Returns the tokens of `text` in order."""
        # Inserting spaces and splitting once is several times faster than collecting sequences of characters.
        return "".join(map(_spaced, unicodedata.normalize("NFC", text.lower()))).split()


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Returns the n-grams of tokens in order; none where there are fewer than n tokens."""
    return list(zip(*(tokens[begin:] for begin in range(n)), strict=False))


@lru_cache(maxsize=65536)
def _spaced(character: str) -> str:
    """Returns a character of a word unchanged, a single-character token between spaces, and a separator as a space."""
    if unicodedata.category(character)[0] not in "LNM":
        return " "
    code = ord(character)
    return f" {character} " if any(first <= code <= last for first, last in _SINGLE) else character
