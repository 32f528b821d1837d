"""Words for ROUGE in any script."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Scripts written without spaces whose characters ROUGE counts one by one, as the Chinese and Japanese summarization
# literature does. Hangul is not here: Korean writes spaces.
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

    A word is a longest run of letters, digits and combining marks; everything else separates. On ASCII text these are
    the tokens of rouge-score's own tokenizer (without its stemmer), which drops every other letter. Text is brought to
    NFC first, so that two spellings of the same accented letter are equal. rouge-score takes any object with this
    `tokenize` method.
    """

    def tokenize(self, text: str) -> list[str]:
        """The tokens of `text`, in order."""
        # Spacing characters out and splitting once is several times faster than collecting runs of characters.
        return "".join(map(_spaced, unicodedata.normalize("NFC", text.lower()))).split()


@lru_cache(maxsize=65536)
def _spaced(character: str) -> str:
    """`character` as it is inside a word, between spaces if it is a token of its own, or a space if it separates."""
    if unicodedata.category(character)[0] not in "LNM":
        return " "
    code = ord(character)
    return f" {character} " if any(first <= code <= last for first, last in _SINGLE) else character
