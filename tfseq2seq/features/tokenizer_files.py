"""Tokenizers of byte-level BPE in the files of Hugging Face: tokenizer.json, or vocab.json and merges.txt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.files import parse_object, read_file
from tfseq2seq.spec import TextSpec

_LARGEST_FILE = 1 << 26
_JSON, _VOCABULARY, _MERGES = "tokenizer.json", "vocab.json", "merges.txt"
# What else BPE can do in tokenizer.json, and the values with which it does not.
_OFF: Mapping[str, tuple[Any, ...]] = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}


@dataclass(frozen=True)
class ByteLevelFiles:
    """What the files of a tokenizer have.

    Attributes:
        tokens: by id, with special ones.
        special: those that text never gives, of tokenizer.json.
        merges: pairs of tokens, one on each line.
    """

    tokens: tuple[str, ...]
    special: frozenset[str]
    merges: bytes


def read_byte_level(path: Path, spec: TextSpec) -> ByteLevelFiles:
    """Reads a tokenizer.

    Args:
        path: tokenizer.json, or a folder with it or with vocab.json and merges.txt.
        spec: the settings, which must be those of the tokenizer.

    Raises:
        UserError: a file is missing, too large or damaged, or the tokenizer does what `spec` does not.
    """
    file = path / _JSON if path.is_dir() else path
    if file.name == _VOCABULARY or (path.is_dir() and not file.exists()):
        folder = path if path.is_dir() else path.parent
        if missing := [name for name in (_VOCABULARY, _MERGES) if not (folder / name).is_file()]:
            raise UserError(f"{folder}: must have {_JSON}, or {_VOCABULARY} and {_MERGES}, and lacks {missing[0]}")
        vocabulary = _read_json(folder / _VOCABULARY)
        _check("normalization", spec.normalization, "none", str(folder))
        tokens = _by_id(vocabulary, str(folder / _VOCABULARY))
        return ByteLevelFiles(tokens, frozenset(), _read(folder / _MERGES))
    content = _read_json(file)
    model, name = _group(content, "model", file), str(file)
    if model.get("type", "BPE") != "BPE":
        raise UserError(f"{name}: model.type must be BPE for scheme byte_bpe, got {model.get('type')!r}")
    for key, values in _OFF.items():
        if model.get(key) not in values:
            raise UserError(f"{name}: model.{key} must be off, got {model[key]!r}; it cannot be represented")
    _check_steps(content, spec, file)
    added = content.get("added_tokens") or []
    try:
        special = {one["content"]: int(one["id"]) for one in added}
        merges = "\n".join(one if isinstance(one, str) else " ".join(one) for one in model["merges"])
        ids = {**model["vocab"], **special}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{name}: damaged: {type(error).__name__} {error}") from None
    # A vocabulary of bytes alone has a file of merges too, which is never empty.
    return ByteLevelFiles(_by_id(ids, name), frozenset(special), merges.encode("utf-8") or b"\n")


def _check_steps(content: Mapping[str, Any], spec: TextSpec, file: Path) -> None:
    """Checks what is done to text before it is split to bytes."""
    splitting = _group(content, "pre_tokenizer", file)
    if splitting.get("type") != "ByteLevel" or not splitting.get("use_regex", True):
        raise UserError(
            f"{file}: pre_tokenizer must be ByteLevel with use_regex, as that of GPT-2, got {splitting.get('type')!r}"
        )
    _check("prefix_space", spec.prefix_space, bool(splitting.get("add_prefix_space", False)), str(file))
    normalizer = content.get("normalizer") or {}
    wanted = str(normalizer.get("type", "none")).lower() if isinstance(normalizer, dict) else ""
    if wanted not in ("none", "nfc", "nfd", "nfkc", "nfkd"):
        raise UserError(f"{file}: normalizer must be none or one of Unicode's forms, got {normalizer.get('type')!r}")
    _check("normalization", spec.normalization, wanted, str(file))


def _check(name: str, found: Any, wanted: Any, file: str) -> None:
    if found != wanted:
        raise UserError(f"{name}: must be {json.dumps(wanted)}, as in {file}, got {json.dumps(found)}")


def _group(content: Any, name: str, file: Path) -> dict[str, Any]:
    group = content.get(name)
    if not isinstance(group, dict):
        raise UserError(f"{file}: must have keys and values under {name!r}, got {json.dumps(group)[:40]}")
    return group


def _read(file: Path) -> bytes:
    try:
        return read_file(file, _LARGEST_FILE)
    except OSError as error:
        raise UserError(f"{file}: the vocabulary cannot be read: {error.strerror}") from None


def _read_json(file: Path) -> dict[str, Any]:
    return parse_object(_read(file), file)


def _by_id(ids: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The tokens in the order of their ids, which must be all numbers from 0 on."""
    tokens: dict[int, str] = {}
    for token, index in ids.items():
        if type(index) is not int or index < 0:
            raise UserError(f"{name}: the id of {token!r} must be a whole number from 0 on, got {index!r}")
        if index in tokens:
            raise UserError(f"{name}: {tokens[index]!r} and {token!r} have the same id {index}")
        tokens[index] = token
    for place, index in enumerate(sorted(tokens)):
        if place != index:
            raise UserError(f"{name}: no token has the id {place}, and {tokens[index]!r} has {index}")
    return tuple(tokens[index] for index in range(len(tokens)))
