"""CTranslate2: Transformers in the format of the engine for fast inference on CPUs.

    saved_models/<name>_ctranslate2/
        model.bin, config.json, *_vocabulary.json    what CTranslate2 itself reads
        tfseq2seq.json                               schemes and normalization of text, search settings, and these as
                                                     "options" of `ctranslate2.Translator.translate_batch`
        source.txt, target.txt                       or .model of SentencePiece

`CTranslate2Model` in `runtime/ctranslate2_model.py` asks it, without TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from keras import ops

from tfseq2seq import __version__
from tfseq2seq.errors import UserError
from tfseq2seq.features.vocabulary import save_vocabulary
from tfseq2seq.files import folder_aside
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.layers.positions import sinusoids
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.recipe import to_dict
from tfseq2seq.runtime.ctranslate2_model import CONFIG, load_ctranslate2, search_options
from tfseq2seq.search.shortlist import write_shortlist
from tfseq2seq.spec import BOS, EOS, SPECIAL_TOKENS, UNK, SearchSpec, TransformerDecoderSpec, TransformerEncoderSpec

Quantization = Literal["float32", "float16", "int16", "int8"]

# Rows of sinusoids: the engine computes others than ours where it is given none.
_MOST_POSITIONS = 4096
# Where it looks for a vocabulary map.
_SHORTLIST = "vmap.txt"
# Encoders and decoders that it has together, over source text.
_ARCHITECTURES = {(TransformerEncoderSpec, TransformerDecoderSpec)}
# What its search does as ours.
_SEARCH = ("beam", "n_best", "length_penalty", "alpha", "min_length", "max_length", "no_repeat_ngram", "shortlist")
# What the client checks before it asks the engine.
_OURS = ("ctc_weight", "max_input")


def export_ctranslate2(
    model: Predictor,
    folder: str | Path,
    quantization: Quantization = "float32",
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Writes a folder with the model, its vocabularies and what tells how to use them.

    The folder is written under another name and renamed: no reader ever meets half of it.

    Args:
        model: what to export, a text Transformer; its search settings become part of it.
        folder: to write.
        quantization: of the weights; products are computed in the same type where the processor can.
        check: called with the folder before it takes its name; what it raises keeps it from doing so.

    Returns:
        The folder.

    Raises:
        UserError: the folder exists, or CTranslate2 has no such model or search.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: exists already; name another folder, or delete it")
    spec = transformer_spec(model)
    spec.validate()
    source = model.source.features
    assert source is not None
    spec.optimize(quantization=None if quantization == "float32" else quantization)
    config = {
        "package": f"tfseq2seq {__version__}",
        "quantization": quantization,
        **{name: value for name, value in model.source.config().items() if name != "inputs"},
        "target": to_dict(model.target.spec),
        "search": to_dict(model.spec),
        "options": search_options(to_dict(model.spec), model.target.spec.begin_tokens),
    }
    with folder_aside(folder) as aside:
        spec.save(str(aside))
        if model.shortlist is not None:
            tokens = source.vocabulary.tokens, model.target.vocabulary.tokens
            write_shortlist(model.shortlist.translations(), aside / _SHORTLIST, *tokens)
        (aside / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
        save_vocabulary(source.vocabulary, aside / "source.txt")
        save_vocabulary(model.target.vocabulary, aside / "target.txt")
        if check is not None:
            check(aside)
    return folder


def transformer_spec(model: Predictor) -> Any:
    """The model as a `ctranslate2.specs.TransformerSpec` with all its weights.

    Raises:
        UserError: CTranslate2 is not installed, or has no such model or search.
    """
    load_ctranslate2()
    from ctranslate2 import specs

    encoder, decoder = _checked(model)
    network: Seq2Seq = model.models[0]
    spec = specs.TransformerSpec(
        specs.TransformerEncoderSpec(encoder.layers, encoder.heads, **_kinds(encoder, specs)),
        specs.TransformerDecoderSpec(decoder.layers, decoder.heads, **_kinds(decoder, specs)),
    )
    _fill_side(spec.encoder, network.encoder, encoder.positions, network.source_embedding)
    _fill_side(spec.decoder, network.decoder, decoder.positions, network.target_embedding)
    columns = network.output_layer.columns()
    spec.decoder.projection.weight = _array(columns["matrix"]).T
    if "bias" in columns:
        spec.decoder.projection.bias = _array(columns["bias"])
    spec.config.layer_norm_epsilon = encoder.norm_epsilon
    for name, index in (("unk_token", UNK), ("bos_token", BOS), ("eos_token", EOS), ("decoder_start_token", BOS)):
        setattr(spec.config, name, SPECIAL_TOKENS[index])
    spec.register_source_vocabulary(list(model.source.features.vocabulary.tokens))  # type: ignore[union-attr]
    spec.register_target_vocabulary(list(model.target.vocabulary.tokens))
    return spec


def _checked(model: Predictor) -> tuple[TransformerEncoderSpec, TransformerDecoderSpec]:
    """Encoder and decoder of a model and search that CTranslate2 has."""
    if len(model.models) > 1:
        raise UserError(f"{len(model.models)} models: an ensemble does not go into a CTranslate2 folder; give one run")
    spec = model.models[0].spec
    encoder, decoder = spec.encoder, spec.decoder
    if (type(encoder), type(decoder)) not in _ARCHITECTURES or not model.source.size:
        raise UserError(
            f"CTranslate2 takes Transformers over source text, and the model has source {model.source.spec.kind}, "
            f"encoder {encoder.kind} and decoder {decoder.kind}; export a SavedModel or a TFLite file"
        )
    if encoder.attention_window:
        raise UserError(
            "model.encoder.attention_window: CTranslate2 attends to all positions, got "
            f"{encoder.attention_window}; export a SavedModel or a TFLite file"
        )
    if decoder.copies:
        raise UserError(
            "model.decoder.copy: CTranslate2 does not copy from the source, got true; export a SavedModel or a TFLite "
            "file"
        )
    for side, part in (("encoder", encoder), ("decoder", decoder)):
        if part.kv_heads not in (0, part.heads):
            raise UserError(f"model.{side}.kv_heads: CTranslate2 has as many key heads as heads in such a model")
    if encoder.norm_epsilon != decoder.norm_epsilon:
        raise UserError(
            f"model.decoder.norm_epsilon: CTranslate2 has one for both sides, {encoder.norm_epsilon}, got "
            f"{decoder.norm_epsilon}"
        )
    defaults = SearchSpec()
    for name in vars(defaults):
        if name not in (*_SEARCH, *_OURS) and getattr(model.spec, name) != getattr(defaults, name):
            raise UserError(f"search.{name}: CTranslate2's search has no such setting; leave it out for this export")
    if model.spec.length_penalty == "gnmt" and model.spec.alpha:
        raise UserError(
            "search.length_penalty: CTranslate2 divides by length^alpha; set it to average or none for this export"
        )
    return encoder, decoder


def _kinds(spec: Any, specs: Any) -> dict[str, Any]:
    activations = {"relu": "RELU", "gelu": "GELU", "silu": "SWISH", "swiglu": "SWISH", "geglu": "GELUTanh"}
    found: dict[str, Any] = {
        "pre_norm": spec.norm == "pre",
        "activation": getattr(specs.Activation, activations[spec.activation]),
        "ffn_glu": spec.activation in ("swiglu", "geglu"),
        "rms_norm": spec.norm_kind == "rms",
        "relative_position": spec.positions == "relative",
        "relative_attention_bias": spec.positions == "bucketed",
        "layernorm_embedding": spec.embedding_norm,
    }
    if spec.head_width:
        found["head_dim"] = spec.head_width
    if spec.positions == "rotary":
        # 0: all of a head's columns, each turned with the one half a head further.
        found |= {"rotary_dim": 0, "rotary_interleave": False}
    return found


def _fill_side(side: Any, stack: Any, positions: str, table: Any) -> None:
    """Encoder or decoder: embeddings, positions, blocks and the norm at the end."""
    embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
    embeddings.weight = _array(table.embeddings)
    side.scale_embeddings = stack.embedding.scaled
    if positions == "learned":
        side.position_encodings.encodings = _array(stack.embedding.table)
    elif positions == "sinusoidal":
        side.position_encodings.encodings = _array(sinusoids(np.arange(_MOST_POSITIONS), stack.width))
    elif positions == "none":
        side.position_encodings.encodings = np.zeros((_MOST_POSITIONS, stack.width), "float32")
    if stack.embedding.norm is not None:
        _fill_norm(side.layernorm_embedding, stack.embedding.norm)
    for layer, block in zip(side.layer, stack.blocks, strict=True):
        _fill_attention(layer.self_attention, block.self_attention, block.self_norm, ["query_key_value_dense"])
        if positions == "relative":
            layer.self_attention.relative_position_keys = _array(block.self_attention.relative_keys)
            layer.self_attention.relative_position_values = _array(block.self_attention.relative_values)
        elif positions == "bucketed":
            layer.self_attention.relative_attention_bias = _array(stack.position_bias.table)
            layer.self_attention.relative_attention_max_distance = np.int32(stack.position_bias.distance)
        if block.cross_attention is not None:
            _fill_attention(
                layer.attention, block.cross_attention, block.cross_attention_norm, ["query_dense", "key_value_dense"]
            )
        feed = block.feed_forward
        _fill_norm(layer.ffn.layer_norm, block.feed_forward_norm)
        _fill_dense(layer.ffn.linear_0, feed.inner_dense)
        if feed.gate is not None:
            _fill_dense(layer.ffn.linear_0_noact, feed.gate)
        _fill_dense(layer.ffn.linear_1, feed.outer_dense)
    if stack.norm is not None:
        _fill_norm(side.layer_norm, stack.norm)


def _fill_attention(spec: Any, attention: Any, norm: Any, projections: list[str]) -> None:
    _fill_norm(spec.layer_norm, norm)
    for linear, name in zip(spec.linear, [*projections, "output_dense"], strict=True):
        _fill_dense(linear, getattr(attention, name))


def _fill_dense(spec: Any, dense: Any) -> None:
    spec.weight, spec.bias = _array(dense.kernel).T, _array(dense.bias)


def _fill_norm(spec: Any, norm: Any) -> None:
    if hasattr(norm, "gamma"):
        spec.gamma, spec.beta = _array(norm.gamma), _array(norm.beta)
    else:
        spec.gamma = _array(norm.scale)


def _array(values: Any) -> np.ndarray:
    return np.ascontiguousarray(ops.convert_to_numpy(ops.cast(values, "float32")))
