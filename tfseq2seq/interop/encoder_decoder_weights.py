"""The names of weights that Marian, BART and their kin have in Hugging Face, and the layers of a Transformer here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfseq2seq.interop.model_folder import ModelFolder

# In a layer of the encoder or decoder, under the name of an attention: the parts of a packed projection.
_SELF = ("self_attn", "self_attention", (("query_key_value_dense", ("q_proj", "k_proj", "v_proj")),))
_CROSS = (
    "encoder_attn",
    "cross_attention",
    (("query_dense", ("q_proj",)), ("key_value_dense", ("k_proj", "v_proj"))),
)
# Norms of a layer.
_NORMS = {
    "self_attn_layer_norm": "self_norm",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "final_layer_norm": "feed_forward_norm",
}


def fill_stack(folder: ModelFolder, side: str, stack: Any, without_bias: Sequence[str] = ()) -> None:
    """Sets the blocks and norms of an encoder or decoder.

    Args:
        folder: of the other model.
        side: "encoder" or "decoder".
        stack: of this package.
        without_bias: the projections that may have no bias in the other model.

    Raises:
        UserError: a tensor is missing or has another shape.
    """
    for index, block in enumerate(stack.blocks):
        name = f"model.{side}.layers.{index}"
        for theirs, ours, projections in (_SELF, _CROSS):
            attention = getattr(block, ours)
            if attention is None:
                continue
            for packed, parts in projections:
                names = [f"{name}.{theirs}.{part}" for part in parts]
                fill_dense(folder, names, getattr(attention, packed), without_bias)
            fill_dense(folder, [f"{name}.{theirs}.out_proj"], attention.output_dense)
        fill_dense(folder, [f"{name}.fc1"], block.feed_forward.inner_dense)
        fill_dense(folder, [f"{name}.fc2"], block.feed_forward.outer_dense)
        for norm, attribute in _NORMS.items():
            if getattr(block, attribute) is not None:
                fill_norm(folder, f"{name}.{norm}", getattr(block, attribute))
    if stack.norm is not None:
        fill_norm(folder, f"model.{side}.layer_norm", stack.norm)
    if stack.embedding.norm is not None:
        fill_norm(folder, f"model.{side}.layernorm_embedding", stack.embedding.norm)


def fill_dense(folder: ModelFolder, names: list[str], dense: Any, without_bias: Sequence[str] = ()) -> None:
    """Sets a dense layer to those of the other model, side by side. These have matrices [out, in].

    A bias that may be missing is zero then; see `fill_stack`.
    """
    inner, outer = dense.kernel.shape
    shape = outer // len(names), inner
    dense.kernel.assign(np.concatenate([folder.tensor(f"{name}.weight", shape).T for name in names], axis=1))
    biases = []
    for name in names:
        missing = name.rpartition(".")[2] in without_bias and not folder.has_tensor(f"{name}.bias")
        biases.append(np.zeros(shape[0], "float32") if missing else folder.tensor(f"{name}.bias", shape[:1]))
    dense.bias.assign(np.concatenate(biases))


def fill_norm(folder: ModelFolder, name: str, norm: Any) -> None:
    """Sets a layer normalization."""
    norm.gamma.assign(folder.tensor(f"{name}.weight", norm.gamma.shape))
    norm.beta.assign(folder.tensor(f"{name}.bias", norm.beta.shape))
