"""M2M-100 (Fan et al. 2021) and NLLB (NLLB Team 2022) in folders of Hugging Face.

The Transformer has norms before its sublayers, and sines and cosines in two halves as positions, which begin at 2.
Tokens for languages are those of mBART-50.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfseq2seq.interop.bart import with_languages
from tfseq2seq.interop.encoder_decoder import (
    check_ids,
    fill_model,
    imported_text_model,
    recipe_of,
    special_token,
    stack_values,
)
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.tokenizers import token_ids

_MODEL = "sentencepiece.bpe.model"
_FIRST = 2
# The languages of M2M-100 in the order of their ids, behind the vocabulary. Not all folders list them.
# fmt: off
_LANGUAGES = (
    "af", "am", "ar", "ast", "az", "ba", "be", "bg", "bn", "br", "bs", "ca", "ceb", "cs", "cy", "da", "de", "el",
    "en", "es", "et", "fa", "ff", "fi", "fr", "fy", "ga", "gd", "gl", "gu", "ha", "he", "hi", "hr", "ht", "hu",
    "hy", "id", "ig", "ilo", "is", "it", "ja", "jv", "ka", "kk", "km", "kn", "ko", "lb", "lg", "ln", "lo", "lt",
    "lv", "mg", "mk", "ml", "mn", "mr", "ms", "my", "ne", "nl", "no", "ns", "oc", "or", "pa", "pl", "ps", "pt",
    "ro", "ru", "sd", "si", "sk", "sl", "so", "sq", "sr", "ss", "su", "sv", "sw", "ta", "th", "tl", "tn", "tr",
    "uk", "ur", "uz", "vi", "wo", "xh", "yi", "yo", "zh", "zu",
)
# fmt: on


def imported(folder: ModelFolder) -> Imported:
    """Reads a model.

    Raises:
        UserError: a file is missing or damaged, or a setting cannot be represented.
    """
    folder.require(is_encoder_decoder=True, tie_word_embeddings=True)
    languages = () if folder.has("tokenizer.json") else tuple(f"__{name}__" for name in _LANGUAGES)
    ids = token_ids(folder, _MODEL, languages)
    names = (("pad", 1), ("decoder_start", 2), ("eos", 2))
    padding, begin, end = (special_token(folder, ids, name, default) for name, default in names)
    rebuilt, (source, target), told = with_languages(folder, ids, (padding, "<unk>", begin, end), languages)
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
            "encoder": stack_values(folder, "encoder", norm="pre"),
            "decoder": stack_values(folder, "decoder", norm="pre"),
            "output_bias": True,
        },
    )

    def fill(model: Any) -> None:
        fill_model(folder, model, rebuilt, rebuilt, (size, width), 0, _sinusoids)

    return imported_text_model(recipe, rebuilt, rebuilt, fill, told)


def _sinusoids(count: int, width: int) -> np.ndarray:
    """Vectors [count, width] of the positions from 2 on: sines, and then cosines."""
    half = width // 2
    rates = np.exp(np.arange(half) * -(np.log(10000.0) / (half - 1)))
    angles = np.arange(_FIRST, _FIRST + count)[:, np.newaxis] * rates
    padding = np.zeros((count, width % 2))
    return np.concatenate([np.sin(angles), np.cos(angles), padding], axis=1).astype("float32")
