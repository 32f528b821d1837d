"""Normalization of outputs and references before they are scored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_BRACKETS = re.compile(r"[<\[(][^>\])]*[>\])]")


def _basic(text: str) -> str:
    """Lower case, without text in brackets, punctuation and symbols, as Whisper's scores (Radford et al. 2022)."""
    text = unicodedata.normalize("NFKC", _BRACKETS.sub("", text.lower()))
    kept = (" " if unicodedata.category(letter)[0] in "MSP" else letter for letter in text)
    return " ".join("".join(kept).split())


NORMALIZATIONS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "basic": _basic,
}
