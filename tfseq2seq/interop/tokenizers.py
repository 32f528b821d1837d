"""The ids that tokenizers in folders of Hugging Face give their tokens, and vocabularies of byte-level BPE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.features.byte_level import byte_ids, parse_merges
from tfseq2seq.features.tokenizer_files import ByteLevelFiles
from tfseq2seq.features.vocabulary import Vocabulary
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.sentencepiece_models import Rebuilt, pieces_of, written_tokens
from tfseq2seq.spec import SPECIAL_TOKENS

_TOKENIZER, _VOCABULARY, _ADDED = "tokenizer.json", "vocab.json", "added_tokens.json"
_CONFIG, _SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
# The first ids of models of fairseq, whose SentencePiece models begin with <unk>, <s> and </s>.
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")


def token_ids(folder: ModelFolder, model: str = "", languages: Sequence[str] = ()) -> dict[str, int]:
    """The id of each token of a tokenizer, with the special ones.

    They are in tokenizer.json, or else in vocab.json, or else those of fairseq for the pieces of a SentencePiece model.
    Special tokens that have no id there follow in the order of the files of the tokenizer.

    Args:
        folder: of the model.
        model: the file of the SentencePiece model, if there is one.
        languages: the special tokens of a tokenizer whose files have none.

    Raises:
        UserError: a file is missing or damaged, or two tokens have the same id.
    """
    name = _TOKENIZER
    if folder.has(_TOKENIZER):
        found = _from_tokenizer(folder)
    elif model and not folder.has(_VOCABULARY):
        name = model
        ordinary = pieces_of(folder.content(model), str(folder.path(model)))[3:]
        found = {token: index for index, token in enumerate((*_FAIRSEQ, *ordinary))}
    else:
        name = _VOCABULARY
        found = folder.json(_VOCABULARY)
    found |= _added(folder)
    if not all(type(index) is int and index >= 0 for index in found.values()):
        raise UserError(f"{folder.path(name)}: ids must be whole numbers from 0 on")
    for token in special_tokens(folder) or languages:
        found.setdefault(token, max(found.values(), default=-1) + 1)
    if len(set(found.values())) < len(found):
        raise UserError(f"{folder.path(name)}: two tokens have the same id")
    return found


def special_tokens(folder: ModelFolder) -> list[str]:
    """The special tokens that a tokenizer has beside those for the begin, the end, padding and so on, in order.

    Raises:
        UserError: a file is damaged.
    """
    found: list[str] = []
    for name in (_SPECIAL, _CONFIG):
        if folder.has(name):
            content = folder.json(name)
            for key in ("additional_special_tokens", "extra_special_tokens"):
                listed = content.get(key)
                found += map(_content, listed if isinstance(listed, list) else [])
    return list(dict.fromkeys(found))


def added_special_tokens(folder: ModelFolder, ids: Mapping[str, int], languages: Sequence[str] = ()) -> list[str]:
    """All tokens that are special for a tokenizer, in the order of their ids; `languages` as for `token_ids`.

    Raises:
        UserError: a file is damaged.
    """
    found = {*(special_tokens(folder) or languages), *_added(folder)}
    if folder.has(_TOKENIZER):
        found |= {
            str(one.get("content")) for one in _dictionaries(folder, _TOKENIZER, "added_tokens") if one.get("special")
        }
    return sorted((token for token in found if token in ids), key=ids.__getitem__)


def byte_level(files: ByteLevelFiles, special: Sequence[str], reserved: Sequence[str], name: str) -> Rebuilt:
    """Gives the tokens of byte-level BPE the ids that this package needs.

    Args:
        files: the tokens by id, and the merges.
        special: the tokens for padding, for unknown ones, which there are none of, the begin and the end of a text.
            They may be the same.
        reserved: tokens that become reserved ones.
        name: of the folder, for messages.

    Raises:
        UserError: the vocabulary lacks a token.
    """
    ids = {token: index for index, token in enumerate(files.tokens)}
    if missing := [token for token in (*special, *reserved) if token not in ids]:
        raise UserError(f"{name}: the vocabulary must have {missing[0]!r}, and lacks it")
    leading = {*special, *reserved}
    ordinary = [token for token in files.tokens if token not in leading]
    if taken := [token for token in ordinary if token in SPECIAL_TOKENS]:
        raise UserError(f"{name}: the token {taken[0]!r} cannot be represented beside that of this package")
    tokens = (*SPECIAL_TOKENS, *reserved, *ordinary)
    byte_ids(tokens, name)
    parse_merges(files.merges, tokens, f"{name}: merges")
    foreign = [ids[token] for token in (*special, *reserved, *ordinary)]
    return Rebuilt(Vocabulary(tokens, merges=files.merges), "byte_bpe", foreign, written_tokens(foreign))


def _from_tokenizer(folder: ModelFolder) -> dict[str, Any]:
    """The ids in tokenizer.json."""
    content = folder.json(_TOKENIZER)
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        found = dict(vocabulary)
    elif isinstance(vocabulary, list):
        # Of unigrams: tokens with their scores.
        found = {str(one[0]): index for index, one in enumerate(vocabulary) if isinstance(one, list) and one}
    else:
        raise UserError(f"{folder.path(_TOKENIZER)}: must have the tokens under 'model' and 'vocab'")
    for one in _dictionaries(folder, _TOKENIZER, "added_tokens"):
        found[str(one.get("content"))] = one.get("id")
    return found


def _added(folder: ModelFolder) -> dict[str, Any]:
    """The ids of tokens that were added to a tokenizer."""
    found: dict[str, Any] = folder.json(_ADDED) if folder.has(_ADDED) else {}
    if folder.has(_CONFIG):
        decoder = folder.json(_CONFIG).get("added_tokens_decoder")
        for index, token in (decoder if isinstance(decoder, dict) else {}).items():
            if not index.isdecimal():
                raise UserError(f"{folder.path(_CONFIG)}: added_tokens_decoder must have ids, got {index!r}")
            found[_content(token)] = int(index)
    return found


def _dictionaries(folder: ModelFolder, name: str, key: str) -> Iterable[dict[str, Any]]:
    found = folder.json(name).get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{folder.path(name)}: {key} must be a list of keys and values, got {json.dumps(found)[:40]}")
    return found


def _content(token: Any) -> str:
    """The text of a token that is given as such or with its options."""
    return str(token.get("content")) if isinstance(token, dict) else str(token)
