"""T5 (Raffel et al. 2020), its version 1.1 and mT5 (Xue et al. 2021) in folders of Hugging Face.

The Transformer has norms by the root mean square before its sublayers, buckets of distances as positions, and no
biases. Scores of attention are not divided by the square root of the width of a head: here the queries have the factor.
The first version scales what the output layer reads, which has the matrix of the embeddings. In this package embeddings
are scaled instead, and their matrix is that of the other model divided by the factor.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfseq2seq.interop.encoder_decoder import (
    NEVER,
    activation_of,
    check_all_used,
    check_ids,
    fill_embeddings,
    imported_text_model,
    recipe_of,
    special_token,
    text_values,
)
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.sentencepiece_models import Rebuilt, pieces_of, rebuild
from tfseq2seq.interop.tokenizers import token_ids

_MODEL = "spiece.model"
_SENTINEL = re.compile(r"<extra_id_(\d+)>")
_ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu"}
# Of a block: our attention, and the parts of its packed projections.
_Parts = tuple[str, tuple[tuple[str, str], ...]]
_SELF: _Parts = ("self_attention", (("query_key_value_dense", "qkv"),))
_CROSS: _Parts = ("cross_attention", (("query_dense", "q"), ("key_value_dense", "kv")))


def imported(folder: ModelFolder) -> Imported:
    """Reads a model.

    Raises:
        UserError: a file is missing or damaged, or a setting cannot be represented.
    """
    folder.require(is_encoder_decoder=True)
    ids = _ids(folder)
    token = functools.partial(special_token, folder, ids)
    padding, end = token("pad", 0), token("eos", 1)
    special = padding, "<unk>", token("decoder_start", 0), end
    reserved = sorted((one for one in ids if _SENTINEL.fullmatch(one)), key=lambda one: int(one[10:-1]))
    rebuilt = rebuild(folder.content(_MODEL), ids, special, reserved, str(folder.path(_MODEL)))
    size, width = folder.setting("vocab_size", int), folder.setting("d_model", int)
    check_ids(folder, rebuilt.foreign, size)
    tied, scaled = not folder.has_tensor("lm_head.weight"), _scales_output(folder)
    text = text_values(rebuilt, reserved)
    recipe = recipe_of(
        folder,
        0,
        source=text,
        target=text,
        share_vocabulary=True,
        model={
            "width": width,
            "share_embeddings": True,
            "encoder": _stack_values(folder, "num_layers", tied and scaled),
            "decoder": _stack_values(folder, "num_decoder_layers", tied and scaled),
            "tie_output": tied,
            "output_bias": tied,
        },
    )

    def fill(model: Any) -> None:
        _fill(folder, model, rebuilt, (size, width), tied, width**-0.5 if scaled else 1.0)

    return imported_text_model(recipe, rebuilt, rebuilt, fill)


def _ids(folder: ModelFolder) -> dict[str, int]:
    """The id of each token: those of the pieces, behind which the sentinels stand in falling order."""
    if folder.has("tokenizer.json"):
        return token_ids(folder)
    pieces = pieces_of(folder.content(_MODEL), str(folder.path(_MODEL)))
    found = {piece: index for index, piece in enumerate(pieces)}
    config = folder.json("tokenizer_config.json") if folder.has("tokenizer_config.json") else {}
    extra = config.get("extra_ids", 100)
    count = extra if type(extra) is int else 100
    for index in range(count):
        found.setdefault(f"<extra_id_{index}>", len(pieces) + count - 1 - index)
    return {token: index for token, index in found.items() if index < folder.setting("vocab_size", int)}


def _scales_output(folder: ModelFolder) -> bool:
    """Whether what the output layer reads is scaled: in the first version alone, whose output layer is tied."""
    if folder.setting("model_type", str) != "t5":
        return False
    return bool(folder.setting("scale_decoder_outputs", bool, folder.setting("tie_word_embeddings", bool, True)))


def _stack_values(folder: ModelFolder, layers: str, scaled: bool) -> dict[str, Any]:
    """The recipe of an encoder or decoder, as keys and values."""
    # The decoder has as many layers as the encoder unless the config says otherwise.
    default = folder.setting("num_layers", int)
    count = folder.setting(layers, int, default) if folder.config.get(layers) is not None else default
    return {
        "kind": "transformer",
        "layers": count,
        "heads": folder.setting("num_heads", int),
        "head_width": folder.setting("d_kv", int),
        "ffn": folder.setting("d_ff", int),
        "norm": "pre",
        "norm_kind": "rms",
        "norm_epsilon": folder.setting("layer_norm_epsilon", float, 1e-6),
        "activation": activation_of(folder, "feed_forward_proj", _ACTIVATIONS),
        "embedding_scale": scaled,
        "positions": "bucketed",
        "position_buckets": folder.setting("relative_attention_num_buckets", int, 32),
        "relative_distance": folder.setting("relative_attention_max_distance", int, 128),
        "dropout": folder.setting("dropout_rate", float, 0.1),
    }


def _fill(folder: ModelFolder, model: Any, rebuilt: Rebuilt, shape: tuple[int, int], tied: bool, factor: float) -> None:
    tables = ((model.source_embedding, rebuilt),)
    fill_embeddings(folder, "shared.weight", shape, tables, factor if tied else 1.0)
    model.output_layer.bias.assign(np.where(rebuilt.written, np.float32(0), np.float32(NEVER)))
    if not tied:
        output = folder.tensor("lm_head.weight", shape)
        model.output_layer.kernel.assign(output[list(rebuilt.foreign)].T * np.float32(factor))
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        bias = stack.position_bias.table
        bias.assign(folder.tensor(f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", bias.shape))
        for index, block in enumerate(stack.blocks):
            _fill_block(folder, f"{side}.block.{index}.layer", block)
        stack.norm.scale.assign(folder.tensor(f"{side}.final_layer_norm.weight", stack.norm.scale.shape))
        if folder.has_tensor(copy := f"{side}.embed_tokens.weight"):
            folder.tensor(copy, shape)
    check_all_used(folder)


def _fill_block(folder: ModelFolder, name: str, block: Any) -> None:
    norms, theirs = [block.self_norm], [("SelfAttention", _SELF)]
    if block.cross_attention is not None:
        norms.append(block.cross_attention_norm)
        theirs.append(("EncDecAttention", _CROSS))
    norms.append(block.feed_forward_norm)
    for place, norm in enumerate(norms):
        norm.scale.assign(folder.tensor(f"{name}.{place}.layer_norm.weight", norm.scale.shape))
    for place, (attention_name, (ours, projections)) in enumerate(theirs):
        attention = getattr(block, ours)
        for dense, parts in projections:
            names = [f"{name}.{place}.{attention_name}.{part}" for part in parts]
            factors = [attention.head_width**0.5 if part == "q" else 1.0 for part in parts]
            _fill_dense(folder, names, getattr(attention, dense), factors)
        _fill_dense(folder, [f"{name}.{place}.{attention_name}.o"], attention.output_dense)
    feed, inner = block.feed_forward, f"{name}.{len(norms) - 1}.DenseReluDense"
    if feed.gate is None:
        _fill_dense(folder, [f"{inner}.wi"], feed.inner_dense)
    else:
        _fill_dense(folder, [f"{inner}.wi_0"], feed.inner_dense)
        _fill_dense(folder, [f"{inner}.wi_1"], feed.gate)
    _fill_dense(folder, [f"{inner}.wo"], feed.outer_dense)


def _fill_dense(folder: ModelFolder, names: Sequence[str], dense: Any, factors: Sequence[float] = (1.0,)) -> None:
    """Sets a dense layer to those of the other model, side by side, each with a factor. The bias stays zero."""
    inner, outer = dense.kernel.shape
    shape = outer // len(names), inner
    parts = [folder.tensor(f"{name}.weight", shape).T * np.float32(factor) for name, factor in zip(names, factors)]
    dense.kernel.assign(np.concatenate(parts, axis=1))
