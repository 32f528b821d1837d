"""Marian's translation models (OPUS-MT) in folders of Hugging Face (Junczys-Dowmunt et al. 2018).

The Transformer has norms after its sublayers, sines and cosines in two halves as positions, and a bias of the logits.
Source and target have a SentencePiece model each and one list of ids. The decoder begins with the token for padding.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.interop.encoder_decoder import fill_model, imported_text_model, recipe_of, stack_values, text_values
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.sentencepiece_models import rebuild

_VOCABULARY, _SOURCE, _TARGET = "vocab.json", "source.spm", "target.spm"
_LANGUAGE = re.compile(r">>.+<<")


def imported(folder: ModelFolder) -> Imported:
    """Reads a model.

    Raises:
        UserError: a file is missing or damaged, or a setting cannot be represented.
    """
    folder.require(
        is_encoder_decoder=True, scale_embedding=True, share_encoder_decoder_embeddings=True, tie_word_embeddings=True
    )
    ids = folder.json(_VOCABULARY)
    size, width = folder.setting("vocab_size", int), folder.setting("d_model", int)
    whole = all(type(index) is int for index in ids.values())
    if not whole or sorted(ids.values()) != list(range(len(ids))) or len(ids) > size:
        raise UserError(f"{folder.path(_VOCABULARY)}: must have ids from 0 on, at most {size} (vocab_size)")
    places = {index: token for token, index in ids.items()}
    named = {name: folder.setting(f"{name}_token_id", int) for name in ("pad", "eos", "decoder_start")}
    if missing := [name for name, index in named.items() if index not in places]:
        raise UserError(f"{folder.path('config.json')}: {missing[0]}_token_id must be an id of {_VOCABULARY}")
    special = (places[named["pad"]], "<unk>", places[named["decoder_start"]], places[named["eos"]])
    reserved = sorted((token for token in ids if _LANGUAGE.fullmatch(token)), key=ids.__getitem__)
    source, target = (
        rebuild(folder.content(name), ids, special, reserved, str(folder.path(name))) for name in (_SOURCE, _TARGET)
    )
    recipe = recipe_of(
        folder,
        folder.setting("max_position_embeddings", int),
        source=text_values(source, reserved),
        target=text_values(target, reserved),
        model={
            "width": width,
            "encoder": stack_values(folder, "encoder", norm="post"),
            "decoder": stack_values(folder, "decoder", norm="post"),
            "output_bias": True,
        },
    )

    def fill(model: Any) -> None:
        fill_model(folder, model, source, target, (size, width), 0, _sinusoids)

    told = []
    if reserved:
        told.append(f"set source.begin to the language that is to be written, one of {', '.join(reserved[:8])}")
    return imported_text_model(recipe, source, target, fill, told)


def _sinusoids(count: int, width: int) -> np.ndarray:
    """Position vectors [count, width]: sines, and then cosines."""
    half = (width + 1) // 2
    angles = np.arange(count)[:, np.newaxis] / 10000.0 ** (2 * np.arange(half) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)[:, : width - half]], axis=1).astype("float32")
