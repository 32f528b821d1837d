"""Text normalized as a `TextSpec` asks, in graph: Unicode form, case, space at the ends."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tfseq2seq.features.bert_text import words_in_graph
from tfseq2seq.spec import TextSpec

# `tf.strings.lower` follows the locale: Turkish has a dotless i, and Lithuanian keeps dots under accents. These capital
# letters are the ones that differ, so they are replaced first, by what they become without a locale.
_DIFFER_BY_LOCALE = {
    "\u0130": "i\u0307",
    "\u012e": "\u012f",
    "\u00cc": "\u00ec",
    "\u00cd": "\u00ed",
    "\u0128": "\u0129",
}
# Capital letters of Unicode 14, which the tables of TensorFlow lack and those of Python have.
_NEWER = {
    chr(capital): chr(capital + distance)
    for first, last, distance in (
        (0x2C2F, 0x2C2F, 0x30),
        *((code, code, 1) for code in (0xA7C0, 0xA7D0, 0xA7D6, 0xA7D8)),
        *((first, last, 0x27) for first, last in ((0x10570, 0x1057A), (0x1057C, 0x1058A), (0x1058C, 0x10592))),
        (0x10594, 0x10595, 0x27),
    )
    for capital in range(first, last + 1)
}


def compose(text: Any) -> tf.Tensor:
    """Returns strings in Unicode's form NFC, in which letters have their accents and jamo are syllables."""
    import tensorflow_text

    return tensorflow_text.normalize_utf8(text, "NFC")


def changed_lines(lines: Iterable[bytes], spec: TextSpec) -> tuple[int, list[tuple[str, str]]]:
    """Returns how many lines lose characters to the form of Unicode that `spec` asks for, and three of them.

    Canonically equal texts count as equal, so nfc and nfd change no line. nfkc and nfkd replace characters: "，" by ","
    and "½" by "1⁄2".

    Returns:
        The number of lines, and up to three pairs of a line and what it becomes.
    """
    count, shown = 0, list[tuple[str, str]]()
    if spec.normalization not in ("nfkc", "nfkd"):
        return count, shown
    for line in lines:
        text = line.decode("utf-8")
        if text.isascii():
            continue
        composed, found = (unicodedata.normalize(form, text) for form in ("NFC", "NFKC"))
        if composed != found:
            count += 1
            if len(shown) < 3:
                shown.append((composed, found))
    return count, shown


def normalize(text: Any, spec: TextSpec) -> tf.Tensor:
    """Strings normalized as a `TextSpec` says; see `features.text.TextFeatures`."""
    if spec.normalization != "none":
        import tensorflow_text

        text = tensorflow_text.normalize_utf8(text, spec.normalization.upper())
    if spec.lowercase:
        # A sigma at the end of a word is no letter of its own to BERT.
        text = lower(tf.strings.regex_replace(text, "\u03a3", "\u03c3") if spec.pretokenization == "bert" else text)
    if spec.pretokenization == "bert":
        return words_in_graph(text, spec.lowercase)
    # A byte order mark is no text; line files begin with one now and then. Space is more than ASCII's.
    return tf.strings.regex_replace(text, r"^[\s\v\p{Z}\x{FEFF}]+|[\s\v\p{Z}]+$", "")


def lower(text: Any) -> tf.Tensor:
    """Strings [...] in lower case, as Python's `str.lower`. The locale of the process makes no difference."""
    # I and J are ASCII, where `lower` without an encoding knows no locale.
    text = _replaced(tf.strings.lower(text), _DIFFER_BY_LOCALE)
    known = tf.reduce_all(tf.strings.regex_full_match(text, f"[^{''.join(_NEWER)}]*"))
    text = tf.cond(known, lambda: text, lambda: _replaced(text, _NEWER))
    # A string ends at its first NUL for `lower` with an encoding, so it gets the parts between them. The NUL comes back
    # as a tensor, because as an attribute it would be lost.
    shape = tf.shape(text)
    parts = tf.strings.split(tf.reshape(text, [-1]), "\0")
    lowered = tf.strings.join([tf.strings.lower(parts.flat_values, encoding="utf-8"), tf.constant("\0")])
    joined = tf.strings.reduce_join(parts.with_flat_values(lowered), axis=1)
    ends = tf.strings.length(joined) - 1
    return tf.reshape(tf.strings.substr(joined, tf.zeros_like(ends), ends), shape)


def _replaced(text: tf.Tensor, pairs: dict[str, str]) -> tf.Tensor:
    for old, new in pairs.items():
        text = tf.strings.regex_replace(text, old, new)
    return text
