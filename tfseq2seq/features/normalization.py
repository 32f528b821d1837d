"""Text normalized as a `TextSpec` asks, in graph: Unicode form, case, space at the ends."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

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


def normalize(text: Any, spec: TextSpec) -> tf.Tensor:
    """Strings normalized as a `TextSpec` says; see `features.text.TextFeatures`."""
    if spec.normalization != "none":
        import tensorflow_text

        text = tensorflow_text.normalize_utf8(text, spec.normalization.upper())
    if spec.lowercase:
        text = lower(text)
    # A byte order mark is no text; line files begin with one now and then. Space is more than ASCII's.
    return tf.strings.regex_replace(text, r"^[\s\v\p{Z}\x{FEFF}]+|[\s\v\p{Z}]+$", "")


def lower(text: Any) -> tf.Tensor:
    """Strings [...] in lower case. The locale of the process makes no difference, as for Python's `str.lower`."""
    # I and J are ASCII, where `lower` without an encoding knows no locale.
    text = tf.strings.lower(text)
    for capital, small in _DIFFER_BY_LOCALE.items():
        text = tf.strings.regex_replace(text, capital, small)
    # A string ends at its first NUL for `lower` with an encoding, so it gets the parts between them. The NUL comes back
    # as a tensor, because as an attribute it would be lost.
    shape = tf.shape(text)
    parts = tf.strings.split(tf.reshape(text, [-1]), "\0")
    lowered = tf.strings.join([tf.strings.lower(parts.flat_values, encoding="utf-8"), tf.constant("\0")])
    joined = tf.strings.reduce_join(parts.with_flat_values(lowered), axis=1)
    ends = tf.strings.length(joined) - 1
    return tf.reshape(tf.strings.substr(joined, tf.zeros_like(ends), ends), shape)
