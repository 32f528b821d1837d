"""What Marian, BART, mBART, M2M-100 and NLLB have in common in Hugging Face: settings, and the names of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.interop.encoder_decoder_weights import fill_stack
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.sentencepiece_models import Rebuilt
from tfseq2seq.recipe import from_dict
from tfseq2seq.sources.text import TextSource
from tfseq2seq.spec import Recipe, TextSpec

_ACTIVATIONS = {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu"}
# What no output has, in nats. Float16 has numbers as large.
NEVER = -1e4
# The longest texts of further training, in tokens with <eos>.
_LONGEST = 512
# How long outputs may become where neither the model nor how it generates has a limit.
_MOST_WRITTEN = 512


def stack_values(folder: ModelFolder, side: str, **others: Any) -> dict[str, Any]:
    """The recipe of an encoder or decoder, as keys and values.

    Args:
        folder: of the model.
        side: "encoder" or "decoder".
        others: settings of the recipe that an architecture determines.

    Raises:
        UserError: a setting of the model is missing, or cannot be represented.
    """
    positions = {} if "max_positions" in others else {"max_positions": folder.setting("max_position_embeddings", int)}
    return {
        "kind": "transformer",
        "layers": folder.setting(f"{side}_layers", int),
        "heads": folder.setting(f"{side}_attention_heads", int),
        "ffn": folder.setting(f"{side}_ffn_dim", int),
        "norm_epsilon": 1e-5,
        "activation": activation_of(folder, "activation_function", _ACTIVATIONS),
        "embedding_scale": folder.setting("scale_embedding", bool, False),
        "positions": "learned",
        **positions,
        "dropout": folder.setting("dropout", float, 0.1),
        **others,
    }


def activation_of(folder: ModelFolder, name: str, known: Mapping[str, str]) -> str:
    """The activation of a recipe for that of a model.

    Raises:
        UserError: it cannot be represented.
    """
    activation = folder.setting(name, str)
    if activation not in known:
        raise UserError(f"{folder.path('config.json')}: {name} must be one of {', '.join(known)}, got {activation!r}")
    return known[activation]


def text_values(rebuilt: Rebuilt, reserved: Sequence[str], begin: str = "") -> dict[str, Any]:
    """The recipe of the text of one side, as keys and values."""
    return {
        "scheme": rebuilt.scheme,
        "vocabulary_size": len(rebuilt.vocabulary.tokens),
        # The model of SentencePiece normalizes, and byte-level BPE writes every byte.
        "normalization": "none",
        "reserved": list(reserved),
        "begin": begin,
        # Byte-level BPE is not learned. The run has the vocabulary.
        **({"vocabulary": "imported"} if rebuilt.scheme == "byte_bpe" else {}),
    }


def search_values(folder: ModelFolder, positions: int) -> dict[str, Any]:
    """The recipe of the search, as keys and values: that by which the model generates.

    Args:
        folder: of the model.
        positions: of the model, at most so many tokens; 0 for any number.
    """
    most = positions or _MOST_WRITTEN
    longest = folder.search_setting("max_length", int, most)
    beam = folder.search_setting("num_beams", int, 1)
    full = beam == 1 or folder.generation.get("early_stopping") is True
    return {
        "beam": beam,
        # Theirs counts the token that the decoder begins with.
        "max_length": max(2, min(longest - 1, most)),
        "min_length": max(0, folder.search_setting("min_length", int, 0) - 1),
        "no_repeat_ngram": folder.search_setting("no_repeat_ngram_size", int, 0),
        "length_penalty": "average",
        "alpha": max(0.0, folder.search_setting("length_penalty", float, 1.0)),
        "stop": "full" if full else "exact",
        "max_input": positions,
    }


def recipe_of(folder: ModelFolder, positions: int, **sections: Any) -> Recipe:
    """The recipe of an imported model.

    Args:
        folder: of the model, which gives the run its name.
        positions: of the model; 0 for any number.
        sections: source, target, model, and settings of their own for search.
    """
    longest = min(positions or _LONGEST, _LONGEST)
    return from_dict(
        Recipe,
        {
            "name": folder.folder.resolve().name,
            "data": {"max_source_length": longest, "max_target_length": longest},
            **sections,
            "search": {**search_values(folder, positions), **sections.get("search", {})},
        },
    )


def imported_text_model(
    recipe: Recipe, source: Rebuilt, target: Rebuilt, fill: Any, told: Sequence[str] = ()
) -> Imported:
    """What an architecture over source text makes of a folder; see `Imported`."""
    text = recipe.source
    assert isinstance(text, TextSpec)
    reader, writer = TextFeatures(text, source.vocabulary), TextFeatures(recipe.target, target.vocabulary)
    foreign = {"source": source.foreign, "target": target.foreign, "written": target.written}
    return Imported(recipe, TextSource(text, reader), writer, fill, foreign, told)


def fill_tables(
    folder: ModelFolder, model: Any, source: Rebuilt, target: Rebuilt, shape: tuple[int, int], name: str
) -> None:
    """Sets the embeddings of both sides to rows of one matrix, and the bias of the output layer.

    Args:
        folder: of the model.
        model: to fill.
        source, target: the vocabularies.
        shape: of the matrix.
        name: of the matrix.
    """
    fill_embeddings(folder, name, shape, ((model.source_embedding, source), (model.target_embedding, target)))
    bias = np.zeros(shape[0], "float32")
    if folder.has_tensor("final_logits_bias"):
        bias = folder.tensor("final_logits_bias", (1, shape[0]))[0]
    model.output_layer.bias.assign(np.where(target.written, bias[list(target.foreign)], NEVER))


def fill_embeddings(
    folder: ModelFolder, name: str, shape: tuple[int, int], tables: Sequence[tuple[Any, Rebuilt]], factor: float = 1.0
) -> None:
    """Sets embeddings to rows of one matrix, of which a part at a time is in memory.

    Args:
        folder: of the model.
        name, shape: of the matrix.
        tables: embeddings with their vocabularies.
        factor: of the rows.
    """
    import tensorflow as tf

    # Both sides may have one table.
    by_table = {id(embedding): (embedding, np.array(rebuilt.foreign)) for embedding, rebuilt in tables}
    for first, block in folder.blocks(name, shape):
        for embedding, foreign in by_table.values():
            places = np.flatnonzero((foreign >= first) & (foreign < first + len(block)))
            rows = block[foreign[places] - first] * np.float32(factor)
            embedding.embeddings.value.scatter_update(tf.IndexedSlices(rows, places))


def fill_model(
    folder: ModelFolder,
    model: Any,
    source: Rebuilt,
    target: Rebuilt,
    shape: tuple[int, int],
    skipped: int,
    computed: Any = None,
) -> None:
    """Sets all weights of a model.

    Args:
        folder: of the model.
        model: to fill.
        source, target: the vocabularies.
        shape: of the matrix of embeddings.
        skipped: the number of first rows of the stored positions that no position has.
        computed: of the number of positions and the width, the positions of a model that does not store them.

    Raises:
        UserError: a tensor is missing, has another shape, or has no place in the model.
    """
    fill_tables(folder, model, source, target, shape, "model.shared.weight")
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        name, table = f"model.{side}.embed_positions.weight", stack.embedding.table
        count, width = table.shape
        if folder.has_tensor(name) or computed is None:
            table.assign(folder.tensor(name, (count + skipped, width))[skipped:])
        else:
            table.assign(computed(count, width))
        fill_stack(folder, side, stack)
    # Copies of what was read.
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        if folder.has_tensor(name):
            folder.tensor(name, shape)
    check_all_used(folder)


def check_all_used(folder: ModelFolder) -> None:
    """Checks that every tensor of a folder was read.

    Raises:
        UserError: one has no place in the model.
    """
    if left := folder.unused():
        kind = folder.setting("model_type", str)
        raise UserError(f"{folder.folder}: the tensor {left[0]} has no place in a model of type {kind}")


def check_ids(folder: ModelFolder, foreign: Sequence[int], size: int) -> None:
    """Checks that the embeddings of a model have a row for each id of its tokenizer.

    Raises:
        UserError: they lack one.
    """
    if (largest := max(foreign)) >= size:
        raise UserError(
            f"{folder.path('config.json')}: vocab_size must be above {largest}, the largest id of a token, got {size}"
        )


def special_token(folder: ModelFolder, ids: Mapping[str, int], name: str, default: Any = None) -> str:
    """The token of an id of config.json or generation_config.json, such as that of "eos".

    Raises:
        UserError: the id is missing, or no token has it.
    """
    setting = f"{name}_token_id"
    index = folder.search_setting(setting, int, default)
    for token, other in ids.items():
        if other == index:
            return token
    raise UserError(f"{folder.path('config.json')}: {setting} must be the id of a token, got {index}")
