"""Marian's translation models (OPUS-MT) in folders of Hugging Face (Junczys-Dowmunt et al. 2018).

The Transformer has norms after its sublayers, sines and cosines in two halves as positions, and a bias of the logits.
Source and target have a SentencePiece model each and one list of ids. The decoder begins with the token for padding.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.interop.encoder_decoder_weights import fill_stack
from tfseq2seq.interop.hugging_face import HuggingFaceFolder
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.sentencepiece_models import Rebuilt, rebuild
from tfseq2seq.recipe import from_dict
from tfseq2seq.sources.text import TextSource
from tfseq2seq.spec import Recipe, TextSpec

_VOCABULARY, _SOURCE, _TARGET = "vocab.json", "source.spm", "target.spm"
_ACTIVATIONS = {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu"}
# What no output has, in nats. Float16 has numbers as large.
_NEVER = -1e4
_LANGUAGE = re.compile(r">>.+<<")


def imported(folder: HuggingFaceFolder) -> Imported:
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
    recipe = from_dict(Recipe, _values(folder, source, target, reserved))

    def fill(model: Any) -> None:
        _fill(folder, model, source, target, (size, width))

    text, told = recipe.source, []
    assert isinstance(text, TextSpec)
    reader, writer = TextFeatures(text, source.vocabulary), TextFeatures(recipe.target, target.vocabulary)
    if reserved:
        told.append(f"set source.begin to the language that is to be written, one of {', '.join(reserved[:8])}")
    foreign = {"source": source.foreign, "target": target.foreign, "written": target.written}
    return Imported(recipe, TextSource(text, reader), writer, fill, foreign, told)


def _values(folder: HuggingFaceFolder, source: Rebuilt, target: Rebuilt, reserved: list[str]) -> dict[str, Any]:
    """The recipe, as keys and values."""
    positions = folder.setting("max_position_embeddings", int)
    activation = folder.setting("activation_function", str)
    if activation not in _ACTIVATIONS:
        raise UserError(
            f"{folder.path('config.json')}: activation_function must be one of {', '.join(_ACTIVATIONS)}, got "
            f"{activation!r}"
        )

    def side(name: str) -> dict[str, Any]:
        return {
            "kind": "transformer",
            "layers": folder.setting(f"{name}_layers", int),
            "heads": folder.setting(f"{name}_attention_heads", int),
            "ffn": folder.setting(f"{name}_ffn_dim", int),
            "norm": "post",
            "norm_epsilon": 1e-5,
            "activation": _ACTIVATIONS[activation],
            "positions": "learned",
            "max_positions": positions,
            "dropout": folder.setting("dropout", float, 0.1),
        }

    def text(rebuilt: Rebuilt) -> dict[str, Any]:
        return {
            "scheme": rebuilt.scheme,
            "vocabulary_size": len(rebuilt.vocabulary.tokens),
            # The model of SentencePiece normalizes.
            "normalization": "none",
            "reserved": reserved,
        }

    longest = folder.search_setting("max_length", int, positions)
    return {
        "name": folder.folder.resolve().name,
        "data": {"max_source_length": min(positions, 512), "max_target_length": min(positions, 512)},
        "source": text(source),
        "target": text(target),
        "model": {
            "width": folder.setting("d_model", int),
            "encoder": side("encoder"),
            "decoder": side("decoder"),
            "output_bias": True,
        },
        "search": {
            "beam": folder.search_setting("num_beams", int, 1),
            # Theirs counts the token that the decoder begins with.
            "max_length": min(longest - 1, positions),
            "length_penalty": "average",
            "alpha": folder.search_setting("length_penalty", float, 1.0),
            "max_input": positions,
        },
    }


def _fill(folder: HuggingFaceFolder, model: Any, source: Rebuilt, target: Rebuilt, shape: tuple[int, int]) -> None:
    shared = folder.tensor("model.shared.weight", shape)
    model.source_embedding.embeddings.assign(shared[list(source.foreign)])
    model.target_embedding.embeddings.assign(shared[list(target.foreign)])
    bias = folder.tensor("final_logits_bias", (1, shape[0]))[0][list(target.foreign)]
    model.output_layer.bias.assign(np.where(target.written, bias, _NEVER))
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        name = f"model.{side}.embed_positions.weight"
        table = stack.embedding.table
        stored = folder.tensor(name, table.shape) if folder.has_tensor(name) else _sinusoids(*table.shape)
        table.assign(stored)
        fill_stack(folder, side, stack)
    # Copies of what was read.
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        if folder.has_tensor(name):
            folder.tensor(name, shape)
    if left := folder.unused():
        raise UserError(f"{folder.folder}: the tensor {left[0]} has no place in a Marian model")


def _sinusoids(count: int, width: int) -> np.ndarray:
    """Position vectors [count, width]: sines, and then cosines."""
    half = (width + 1) // 2
    angles = np.arange(count)[:, np.newaxis] / 10000.0 ** (2 * np.arange(half) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)[:, : width - half]], axis=1).astype("float32")
