"""BART (Lewis et al. 2020) and mBART-50 (Tang et al. 2020) in folders of Hugging Face.

Both have learned positions, and a norm of the embeddings. BART has norms after its sublayers, and byte-level BPE. mBART
has norms before them and one at the end, a SentencePiece model, and tokens for languages: a source begins with that of
its language, and an output with that of the language that is written. The decoder begins with the token for the end.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.features.tokenizer_files import read_byte_level
from tfseq2seq.interop.encoder_decoder import (
    check_ids,
    fill_model,
    imported_text_model,
    recipe_of,
    special_token,
    stack_values,
    text_values,
)
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.sentencepiece_models import Rebuilt, rebuild
from tfseq2seq.interop.tokenizers import added_special_tokens, byte_level, token_ids
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import TextSpec

_BEGIN, _MASK = "<s>", "<mask>"
_MODEL = "sentencepiece.bpe.model"
# Rows before the first position: a position has the row of its number and 2.
_SKIPPED = 2


def bart(folder: ModelFolder) -> Imported:
    """Reads a model of BART.

    Raises:
        UserError: a file is missing or damaged, or a setting cannot be represented.
    """
    folder.require(normalize_before=False, add_final_layer_norm=False, static_position_embeddings=False)
    ids = token_ids(folder)
    special = _special(folder, ids)
    reserved = [token for token in (_BEGIN, _MASK) if token in ids and token not in special]
    spec = from_dict(TextSpec, {"scheme": "byte_bpe", "normalization": "none", "vocabulary": str(folder.folder)})
    files = read_byte_level(folder.folder, spec)
    rebuilt = byte_level(files, special, reserved, str(folder.folder))
    text = text_values(rebuilt, reserved, _BEGIN if _BEGIN in reserved else "")
    return _imported(folder, rebuilt, text, text, "post", [])


def mbart(folder: ModelFolder) -> Imported:
    """Reads a model of mBART-50.

    Raises:
        UserError: a file is missing or damaged, a setting cannot be represented, or the model is mBART-25, whose texts
            end with their languages.
    """
    config = folder.json("tokenizer_config.json")
    if not str(config.get("tokenizer_class")).startswith("MBart50Tokenizer"):
        raise UserError(
            f"{folder.path('tokenizer_config.json')}: tokenizer_class must be MBart50Tokenizer, as texts that end with "
            f"their language cannot be represented, got {config.get('tokenizer_class')!r}"
        )
    folder.require(normalize_before=True, add_final_layer_norm=True, static_position_embeddings=False)
    ids = token_ids(folder, _MODEL)
    rebuilt, texts, told = with_languages(folder, ids, _special(folder, ids))
    return _imported(folder, rebuilt, *texts, "pre", told)


def with_languages(
    folder: ModelFolder, ids: Mapping[str, int], special: tuple[str, ...], languages: Sequence[str] = ()
) -> tuple[Rebuilt, tuple[dict[str, Any], dict[str, Any]], list[str]]:
    """The vocabulary of a model whose texts begin with their languages, and the recipe of source and target.

    Args:
        folder: of the model.
        ids: of all tokens.
        special: the tokens for padding, unknown pieces, the begin and the end.
        languages: as for `token_ids`.

    Returns:
        The vocabulary of both sides, the recipes of their texts, and what a user must be told.

    Raises:
        UserError: the vocabulary is damaged, or texts end with their languages.
    """
    added = (token for token in added_special_tokens(folder, ids, languages) if token not in special)
    reserved = list(dict.fromkeys((*(token for token in (_BEGIN,) if token in ids and token not in special), *added)))
    rebuilt = rebuild(folder.content(_MODEL), ids, special, reserved, str(folder.path(_MODEL)))
    config = folder.json("tokenizer_config.json") if folder.has("tokenizer_config.json") else {}
    if config.get("legacy_behaviour"):
        raise UserError(
            f"{folder.path('tokenizer_config.json')}: legacy_behaviour must be false, as texts that end with their "
            "language cannot be represented, got true"
        )
    forced = folder.generation.get("forced_bos_token_id")
    written = next((token for token in reserved if ids[token] == forced), None)
    chosen = {
        "source": _language(config.get("src_lang"), reserved),
        "target": written or _language(config.get("tgt_lang"), reserved),
    }
    known = [token for token in reserved if token not in (_BEGIN, _MASK)]
    told = known and [
        f"set {side}.begin to the language of the {side}, one of {', '.join(known[:8])}, ..."
        for side, token in chosen.items()
        if not token
    ]
    texts = text_values(rebuilt, reserved, chosen["source"]), text_values(rebuilt, reserved, chosen["target"])
    return rebuilt, texts, told


def _language(name: Any, reserved: list[str]) -> str:
    """The token of a language that a tokenizer is set to; "" if there is none."""
    return next((token for token in (name, f"__{name}__") if token in reserved), "")


def _special(folder: ModelFolder, ids: Mapping[str, int]) -> tuple[str, ...]:
    """The tokens for padding, unknown pieces, the begin of outputs and the end of texts."""
    token = functools.partial(special_token, folder, ids)
    if "<unk>" not in ids:
        raise UserError(f"{folder.folder}: the vocabulary must have '<unk>', and lacks it")
    return token("pad", 1), "<unk>", token("decoder_start", 2), token("eos", 2)


def _imported(
    folder: ModelFolder,
    rebuilt: Rebuilt,
    source: dict[str, Any],
    target: dict[str, Any],
    norm: str,
    told: list[str],
) -> Imported:
    folder.require(is_encoder_decoder=True, tie_word_embeddings=True, normalize_embedding=True, extra_pos_embeddings=2)
    size, width = folder.setting("vocab_size", int), folder.setting("d_model", int)
    check_ids(folder, rebuilt.foreign, size)
    recipe = recipe_of(
        folder,
        folder.setting("max_position_embeddings", int),
        source=source,
        target=target,
        share_vocabulary=True,
        model={
            "width": width,
            "share_embeddings": True,
            "encoder": stack_values(folder, "encoder", norm=norm, embedding_norm=True),
            "decoder": stack_values(folder, "decoder", norm=norm, embedding_norm=True),
            "output_bias": True,
        },
    )

    def fill(model: Any) -> None:
        fill_model(folder, model, rebuilt, rebuilt, (size, width), _SKIPPED)

    return imported_text_model(recipe, rebuilt, rebuilt, fill, told)
