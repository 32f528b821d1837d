"""Text normalized as a `TextSpec` asks, in graph: Unicode form, case, space at the ends."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfseq2seq.spec import TextSpec


def compose(text: Any) -> tf.Tensor:
    """Returns strings in Unicode's form NFC, in which letters have their accents and jamo are syllables."""
    import tensorflow_text

    return tensorflow_text.normalize_utf8(text, "NFC")


def normalize(text: Any, spec: TextSpec) -> tf.Tensor:
    """Strings normalized as a `TextSpec` says; see `features.text.TextFeatures`."""
    if spec.normalization != "none":
        import tensorflow_text

        text = tensorflow_text.normalize_utf8(text, spec.normalization.upper())
    if spec.lowercase:
        text = tf.strings.lower(text, encoding="utf-8")
    # A byte order mark is no text; line files begin with one now and then. Space is more than ASCII's.
    return tf.strings.regex_replace(text, r"^[\s\v\p{Z}\x{FEFF}]+|[\s\v\p{Z}]+$", "")
