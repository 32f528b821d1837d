"""Text as BERT splits it into words (Devlin et al. 2019), in graph and in plain Python.

What comes out are words with single spaces between them. Control characters are removed. Punctuation and Chinese
characters are words of their own. Uncased text loses its accents. A word of more than 100 characters becomes U+FFFD,
which no vocabulary has. The rules are those of Hugging Face's `BertNormalizer` and `BertPreTokenizer`; the tests
compare them on text of many scripts.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

_LONGEST = 100
_UNKNOWN = "\ufffd"
# Of Unicode's blocks of Chinese characters, those that BERT splits.
_HAN = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
# Other white space of ASCII and U+0085 count as control characters.
_SPACES = "\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RANGES = "".join(f"{chr(first)}-{chr(last)}" for first, last in _HAN)
_ASCII_PUNCTUATION = r"!-/:-@\[-`{-~"


def words_in_graph(text: Any, uncased: bool) -> tf.Tensor:
    """Strings [B] to strings [B] of words with single spaces between them."""
    import tensorflow as tf
    import tensorflow_text

    if uncased:
        text = tensorflow_text.normalize_utf8(text, "NFD")
        text = tf.strings.regex_replace(text, r"\p{Mn}", "")
    text = tf.strings.regex_replace(text, f"[{_SPACES}]", " ")
    text = tf.strings.regex_replace(text, r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]", "")
    text = tf.strings.regex_replace(text, rf"([{_ASCII_PUNCTUATION}\p{{P}}{_RANGES}])", r" \1 ")
    text = tf.strings.regex_replace(text, f"[^ ]{{{_LONGEST + 1},}}", _UNKNOWN)
    return tf.strings.regex_replace(tf.strings.regex_replace(text, " +", " "), "^ | $", "")


def words_in_python(text: str, uncased: bool) -> str:
    """As `words_in_graph`, of one text."""
    if uncased:
        text = "".join(letter for letter in unicodedata.normalize("NFD", text) if unicodedata.category(letter) != "Mn")
    text = re.sub(f"[{_SPACES}]", " ", text)
    words = "".join(map(_spaced, text)).split(" ")
    return " ".join(_UNKNOWN if len(word) > _LONGEST else word for word in words if word)


def _spaced(letter: str) -> str:
    """A character of a word as it is, one that is a word of its own between spaces, and nothing for one to remove."""
    category, code = unicodedata.category(letter), ord(letter)
    if category in ("Cc", "Cf", "Co") or letter == _UNKNOWN:
        return ""
    if category.startswith("P") or re.match(f"[{_ASCII_PUNCTUATION}]", letter):
        return f" {letter} "
    return f" {letter} " if any(first <= code <= last for first, last in _HAN) else letter
