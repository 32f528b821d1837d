"""Whisper (Radford et al. 2022) in folders of Hugging Face and of CTranslate2.

The model reads 30 seconds of log-mel features, which two convolutions over time join to half as many positions. Encoder
and decoder are Transformers with norms before their sublayers. Tokens are those of byte-level BPE, and behind them
special ones, for languages, tasks and times. An output begins with the language and the task, where the model has more
than one, and with the token for no times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.tokenizer_files import ByteLevelFiles, read_byte_level
from tfseq2seq.interop.ctranslate2_folder import CTranslate2Folder
from tfseq2seq.interop.encoder_decoder import (
    NEVER,
    check_all_used,
    fill_embeddings,
    recipe_of,
    stack_values,
    text_values,
)
from tfseq2seq.interop.encoder_decoder_weights import fill_stack
from tfseq2seq.interop.imported import Imported
from tfseq2seq.interop.model_folder import ModelFolder
from tfseq2seq.interop.sentencepiece_models import Rebuilt
from tfseq2seq.interop.tokenizers import byte_level, token_ids
from tfseq2seq.recipe import from_dict
from tfseq2seq.sources.audio import AudioSource
from tfseq2seq.spec import AudioSpec, TextSpec

_END, _START, _NO_TIMES = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
_TRANSCRIBE = "<|transcribe|>"
_TOKENIZER = "tokenizer.json"
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
# Seconds between two times that an output can have.
_RESOLUTION = 0.02
_RATE, _HOP, _WINDOW = 16000, 160, 400
_MULTILINGUAL_SIZE = 51865


def whisper(folder: ModelFolder) -> Imported:
    """Reads a model of Hugging Face.

    Raises:
        UserError: a file is missing or damaged, or a setting cannot be represented.
    """
    folder.require(is_encoder_decoder=True, scale_embedding=False, tie_word_embeddings=True)
    if folder.has("preprocessor_config.json"):
        found = folder.json("preprocessor_config.json")
        for name, value in {"sampling_rate": _RATE, "hop_length": _HOP, "n_fft": _WINDOW}.items():
            if found.get(name, value) != value:
                raise UserError(
                    f"{folder.path('preprocessor_config.json')}: {name} must be {value}, got {found[name]!r}"
                )
    ids = token_ids(folder)
    size = folder.setting("vocab_size", int)
    names: dict[int, str] = {index: token for token, index in ids.items()}
    tokens = [names.get(index, "") for index in range(size)]
    suppressed = [_numbers(folder, folder.generation.get(f"{name}suppress_tokens")) for name in ("", "begin_")]
    return _imported(folder, tokens, suppressed, {"beam": folder.search_setting("num_beams", int, 1)})


def whisper_of_ctranslate2(folder: CTranslate2Folder) -> Imported:
    """Reads a model of CTranslate2.

    Raises:
        UserError: a file is missing or damaged.
    """
    config = folder.json("config.json")
    tokens = _vocabulary(folder)
    size, width = folder.shape("decoder/embeddings/weight")
    if len(tokens) != size:
        raise UserError(f"{folder.folder}: the vocabulary must have {size} tokens, got {len(tokens)}")
    heads = {side: folder.number(f"{side}/num_heads") for side in ("encoder", "decoder")}
    folder.config = {
        "model_type": "whisper",
        "vocab_size": size,
        "d_model": width,
        "num_mel_bins": folder.shape("encoder/conv1/weight")[1],
        "max_source_positions": folder.shape("encoder/position_encodings/encodings")[0],
        "max_target_positions": folder.shape("decoder/position_encodings/encodings")[0],
        "activation_function": "gelu",
        "dropout": 0.0,
    }
    for side in ("encoder", "decoder"):
        folder.config[f"{side}_layers"] = folder.count_layers(side)
        folder.config[f"{side}_attention_heads"] = heads[side]
        folder.config[f"{side}_ffn_dim"] = folder.shape(f"{side}/layer_0/ffn/linear_0/bias")[0]
    folder.generation = {"alignment_heads": config.get("alignment_heads")}
    suppressed = [_numbers(folder, config.get(name)) for name in ("suppress_ids", "suppress_ids_begin")]
    # The beam that its users have by default.
    return _imported(folder, tokens, suppressed, {"beam": 5, "stop": "full"})


def _imported(
    folder: ModelFolder, tokens: list[str], suppressed: Sequence[Sequence[int]], search: Mapping[str, Any]
) -> Imported:
    size, width = len(tokens), folder.setting("d_model", int)
    bins, positions = folder.setting("num_mel_bins", int), folder.setting("max_source_positions", int)
    longest = folder.setting("max_target_positions", int)
    seconds = 2 * positions * _HOP / _RATE
    if seconds != int(seconds):
        raise UserError(f"{folder.folder}: max_source_positions must be those of whole seconds, got {positions}")
    rebuilt, reserved = _rebuilt(folder, tokens)
    begin = _begin(folder, size)
    names = dict(zip(rebuilt.foreign, rebuilt.vocabulary.tokens, strict=True))
    names[tokens.index(_END)] = "<eos>"
    never, first = ([names[index] for index in indices if index in names] for indices in suppressed)
    shared = {"norm": "pre", "dropout": folder.setting("dropout", float, 0.0)}
    recipe = recipe_of(
        folder,
        longest,
        data={"max_seconds": float(min(30, int(seconds))), "max_target_length": longest},
        source={
            "kind": "audio",
            "sample_rate": _RATE,
            "convention": "whisper",
            "bins": bins,
            "window": _WINDOW / _RATE,
            "hop": _HOP / _RATE,
            "normalization": "none",
            "subsampling": 2,
            "input_layer": "conv1d",
            "pad_seconds": int(seconds),
        },
        target=text_values(rebuilt, reserved, begin),
        model={
            "width": width,
            # The convolutions have the factor that the scale of embeddings takes off.
            "encoder": stack_values(folder, "encoder", max_positions=positions, embedding_scale=True, **shared),
            "decoder": stack_values(
                folder,
                "decoder",
                max_positions=longest,
                embedding_scale=False,
                alignment_heads=_alignment_heads(folder),
                **shared,
            ),
            "output_bias": True,
        },
        search={
            "max_input": int(seconds),
            "max_length": longest - 1,
            "suppress_tokens": never,
            "begin_suppress_tokens": first,
            **search,
        },
    )
    audio = recipe.source
    assert isinstance(audio, AudioSpec)

    def fill(model: Any) -> None:
        _fill(folder, model, rebuilt, (size, width), bins)

    told = []
    languages = [token for token in reserved if _LANGUAGE.fullmatch(token)]
    if len(begin.split()) > 1:
        told.append(
            f"outputs begin with {begin}; set target.begin for another language, one of "
            f"{', '.join(languages[:8])}, ..., or for <|translate|>"
        )
    foreign = {"target": rebuilt.foreign, "written": rebuilt.written}
    return Imported(recipe, AudioSource(audio), TextFeatures(recipe.target, rebuilt.vocabulary), fill, foreign, told)


def _rebuilt(folder: ModelFolder, tokens: list[str]) -> tuple[Rebuilt, list[str]]:
    """The vocabulary, and the special tokens: those behind the one that ends texts."""
    if missing := [token for token in (_END, _START, _NO_TIMES) if token not in tokens]:
        raise UserError(f"{folder.folder}: the vocabulary must have {missing[0]}, and lacks it")
    times = tokens.index(_NO_TIMES) + 1
    for index, token in enumerate(tokens):
        if not token and index >= times:
            tokens[index] = f"<|{(index - times) * _RESOLUTION:.2f}|>"
        elif not token:
            raise UserError(f"{folder.folder}: the vocabulary must have a token with the id {index}, and lacks it")
    end = tokens.index(_END)
    reserved = [token for token in tokens[end + 1 :] if token != _START]
    path = folder.path(_TOKENIZER) if folder.has(_TOKENIZER) else folder.folder
    spec = from_dict(TextSpec, {"scheme": "byte_bpe", "normalization": "none", "vocabulary": str(path)})
    merges = read_byte_level(path, spec).merges
    files = ByteLevelFiles(tuple(tokens), frozenset(), merges)
    return byte_level(files, (_END, _END, _START, _END), reserved, str(folder.folder)), reserved


def _alignment_heads(folder: ModelFolder) -> list[str]:
    """The heads that words get their times from."""
    pairs = folder.generation.get("alignment_heads") or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise UserError(f"{folder.folder}: alignment_heads must be a list of pairs, got {pairs!r}")
    return [f"{block}.{head}" for block, head in pairs]


def _begin(folder: ModelFolder, size: int) -> str:
    """What an output begins with: English and transcription, where the model has other languages; and no times."""
    # Models of English alone have the tokens of other languages too, and are known by their size.
    several = folder.generation.get("is_multilingual", size >= _MULTILINGUAL_SIZE)
    return " ".join((*(("<|en|>", _TRANSCRIBE) if several else ()), _NO_TIMES))


def _vocabulary(folder: CTranslate2Folder) -> list[str]:
    """The tokens by id."""
    for name in ("vocabulary.json", "vocabulary.txt"):
        if not folder.has(name):
            continue
        if name.endswith("json"):
            found = folder.json_list(name)
        else:
            found = folder.content(name).decode("utf-8").removesuffix("\n").split("\n")
        return [str(token) for token in found]
    raise UserError(f"{folder.folder}: must have vocabulary.json or vocabulary.txt, and lacks both")


def _numbers(folder: ModelFolder, value: Any) -> list[int]:
    """A list of ids; empty where there is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise UserError(f"{folder.folder}: suppressed tokens must be a list of ids, got {value!r}")
    return value


def _fill(folder: ModelFolder, model: Any, rebuilt: Rebuilt, shape: tuple[int, int], bins: int) -> None:
    size, width = shape
    fill_embeddings(folder, "model.decoder.embed_tokens.weight", shape, ((model.target_embedding, rebuilt),))
    model.output_layer.bias.assign(np.where(rebuilt.written, np.float32(0), np.float32(NEVER)))
    inputs = bins
    for index, convolution in enumerate(model.frontend.subsampling.convolutions, start=1):
        name = f"model.encoder.conv{index}"
        # Kernels are [out, in, time] there.
        convolution.kernel.assign(folder.tensor(f"{name}.weight", (width, inputs, 3)).transpose(2, 1, 0))
        convolution.bias.assign(folder.tensor(f"{name}.bias", (width,)))
        inputs = width
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        table = stack.embedding.table
        table.assign(folder.tensor(f"model.{side}.embed_positions.weight", table.shape))
        fill_stack(folder, side, stack, without_bias=("k_proj",))
    if folder.has_tensor("proj_out.weight"):
        folder.tensor("proj_out.weight", shape)
    check_all_used(folder)
