"""BART, mBART-50, M2M-100 and NLLB of Hugging Face: as runs they give what independent computations of them give."""

import json
import re
import shutil

import numpy as np
import pytest
import sentencepiece
from reference_models import (
    FFN,
    HEADS,
    SOURCE,
    TARGET,
    WIDTH,
    Reference,
    drawn,
    gelu,
    in_place_of_transformers,
    layer,
    norm_tensors,
    pieces_of,
    silu,
    write_json,
)
from safetensors.numpy import load_file, save_file

from tfseq2seq.errors import UserError
from tfseq2seq.features.byte_level import LETTERS, PlainByteLevel
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.interop import proof
from tfseq2seq.interop.architectures import import_model
from tfseq2seq.interop.proof import prove

POSITIONS = 40
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
LANGUAGES = ["de_DE", "en_XX"]
MERGES = [("e", "r"), ("Ġ", "a"), ("h", "a"), ("ha", "u"), ("i", "s"), ("Ġa", "m")]
KINDS = ("bart", "mbart", "m2m_100")


def byte_tokenizer(path):
    """Writes vocab.json and merges.txt, and returns the ids of tokens and a function from text to ids."""
    tokens = [*SPECIAL, *LETTERS.values(), *map("".join, MERGES), "<mask>"]
    ids = {token: index for index, token in enumerate(tokens)}
    write_json(path / "vocab.json", ids)
    merges = "".join(f"{left} {right}\n" for left, right in MERGES)
    (path / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    split = PlainByteLevel(tokens, merges.encode("utf-8"))
    return ids, lambda text: [0, *split.encode(text), 2] if text else []


def sentencepiece_tokenizer(path, kind):
    """As `byte_tokenizer`, with the tokens for two languages."""
    model = path / "sentencepiece.bpe.model"
    pieces = pieces_of([*SOURCE, *TARGET], model, model_type="unigram" if kind == "mbart" else "bpe")
    languages = LANGUAGES if kind == "mbart" else [f"__{name[:2]}__" for name in LANGUAGES]
    ids = {token: index for index, token in enumerate([*SPECIAL, *pieces[3:]])}
    config = {"src_lang": LANGUAGES[0] if kind == "mbart" else "de"}
    if kind == "mbart":
        ids |= {token: len(ids) + index for index, token in enumerate([*languages, "<mask>"])}
        added = {str(ids[token]): {"content": token, "special": True} for token in [*languages, "<mask>"]}
        config |= {"tokenizer_class": "MBart50Tokenizer", "added_tokens_decoder": added}
    else:
        write_json(path / "vocab.json", ids)
        write_json(path / "special_tokens_map.json", {"additional_special_tokens": languages})
        ids |= {token: len(ids) + index for index, token in enumerate(languages)}
    write_json(path / "tokenizer_config.json", config)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    begin = ids[languages[0]]

    def ids_of(text):
        found = [ids.get(piece, 3) for piece in processor.encode(text, out_type=str)]
        return [begin, *found, 2] if found else []

    return ids, ids_of


def make(path, kind, **changed):
    """A model with random weights: a function from text to ids, the id that is forced, and ids that are not written."""
    ids, ids_of = byte_tokenizer(path) if kind == "bart" else sentencepiece_tokenizer(path, kind)
    size = len(ids) + 3
    forced = {"bart": 0, "mbart": ids.get("en_XX"), "m2m_100": ids.get("__en__")}[kind]
    config = {
        "model_type": kind,
        "is_encoder_decoder": True,
        "scale_embedding": kind != "bart",
        "vocab_size": size,
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN,
        "activation_function": {"bart": "gelu", "mbart": "silu", "m2m_100": "relu"}[kind],
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
    }
    write_json(path / "config.json", {**config, **changed})
    write_json(path / "generation_config.json", {"forced_bos_token_id": forced, "num_beams": 2, "early_stopping": True})
    draw = drawn()
    tensors = {"model.shared.weight": draw(size, WIDTH)}
    for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        for index in range(config[f"{side}_layers"]):
            tensors |= layer(f"model.{side}.layers.{index}", attentions, draw)
        if kind != "bart":
            tensors |= norm_tensors(f"model.{side}.layer_norm", draw)
        if kind != "m2m_100":
            tensors |= norm_tensors(f"model.{side}.layernorm_embedding", draw)
            tensors[f"model.{side}.embed_positions.weight"] = draw(POSITIONS + 2, WIDTH)
    if kind != "m2m_100":
        tensors["final_logits_bias"] = draw(1, size)
    save_file(tensors, path / "model.safetensors")
    # Rows that no token has are never written.
    return ids_of, forced, [1, *range(len(ids), size)]


def positions_of(kind, weights):
    def stored(side, count):
        return weights[f"model.{side}.embed_positions.weight"][2 : 2 + count]

    def computed(side, count):
        rates = np.exp(-np.log(10000.0) * np.arange(WIDTH // 2) / (WIDTH // 2 - 1))
        angles = np.arange(2, 2 + count)[:, np.newaxis] * rates
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    return computed if kind == "m2m_100" else stored


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """The kind of a model, its folder, its run, and what stands in for transformers."""
    kind, path = request.param, tmp_path_factory.mktemp(request.param)
    ids_of, forced, never = make(path, kind)
    activation = {"bart": gelu, "mbart": silu, "m2m_100": lambda x: np.maximum(x, 0)}[kind]
    scale = 1.0 if kind == "bart" else np.sqrt(WIDTH)
    reference = Reference(path, kind != "bart", activation, scale, None, kind != "m2m_100")
    reference.positions = positions_of(kind, reference.weights)
    run = import_model(path, path / "run", log=lambda line: None)
    return kind, path, run, in_place_of_transformers(reference.logits, ids_of, 2, 2, never, forced)


def test_a_run_gives_the_logits_ids_and_outputs_of_the_model(model, monkeypatch):
    kind, path, run, answer = model
    monkeypatch.setattr(proof, "_reference", answer)
    found = prove(run, path, "python", ["ein haus am see", "das boot", "is er"])
    assert found.difference < 2e-5 and (found.same_ids, found.texts) == (3, 3)
    assert found.greedy == found.inputs and found.passed


def test_the_run_begins_texts_as_the_model_does(model):
    kind, _, run, _ = model
    source, target = run.recipe.source, run.recipe.target
    begins = {"bart": ("<s>", "<s>"), "mbart": ("de_DE", "en_XX"), "m2m_100": ("__de__", "__en__")}[kind]
    assert (source.begin, target.begin) == begins
    assert (run.recipe.search.beam, run.recipe.search.stop) == (2, "full")
    outputs = Generator(Predictor.of_runs([run])).generate(["ein haus am see"])
    assert not any(token in outputs[0].texts[0] for token in begins)


def test_languages_that_no_file_lists_are_those_of_m2m_100(tmp_path):
    make(tmp_path, "m2m_100", vocab_size=200)
    (tmp_path / "special_tokens_map.json").unlink()
    tensors = load_file(tmp_path / "model.safetensors")
    shared = tensors["model.shared.weight"]
    tensors["model.shared.weight"] = np.pad(shared, ((0, 200 - len(shared)), (0, 0)))
    save_file(tensors, tmp_path / "model.safetensors")
    run = import_model(tmp_path, tmp_path / "run", log=lambda line: None)
    assert run.recipe.source.reserved[1:3] == ("__af__", "__am__") and run.recipe.source.begin == "__de__"
    assert len(run.recipe.source.reserved) == 101


def test_languages_that_must_be_chosen_are_told(tmp_path):
    make(tmp_path, "m2m_100")
    (tmp_path / "generation_config.json").unlink()
    write_json(tmp_path / "tokenizer_config.json", {})
    told = []
    run = import_model(tmp_path, tmp_path / "run", log=told.append)
    assert run.recipe.target.begin == ""
    assert told == [
        f"set {side}.begin to the language of the {side}, one of __de__, __en__, ..." for side in ("source", "target")
    ]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bart", {"normalize_before": True}, "normalize_before must be false, which alone can be represented"),
        ("mbart", {"tie_word_embeddings": False}, "tie_word_embeddings must be true"),
        ("bart", {"vocab_size": 20}, "vocab_size must be above 266, the largest id of a token, got 20"),
        ("m2m_100", {"vocab_size": 20}, "the largest id of a token, got 20"),
        ("bart", {"eos_token_id": 9999}, "eos_token_id must be the id of a token, got 9999"),
        ("m2m_100", {"encoder_layers": 2}, "must have the tensor model.encoder.layers.1.self_attn.q_proj.weight"),
        ("bart", {"encoder_layers": 0}, "encoder.layers: must be at least 1"),
    ],
)
def test_what_cannot_be_represented_is_refused(kind, change, message, tmp_path):
    make(tmp_path, kind, **change)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        import_model(tmp_path, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "file", "content", "message"),
    [
        ("bart", "merges.txt", "a\n", "merges, line 1: must have two tokens"),
        ("bart", "vocab.json", json.dumps({"<s>": 0}), "must have '<unk>', and lacks it"),
        ("bart", "vocab.json", json.dumps({"<s>": 0, "a": 0}), "two tokens have the same id"),
        ("m2m_100", "vocab.json", json.dumps({"<s>": 0, "a": "x"}), "ids must be whole numbers from 0 on"),
        ("bart", "tokenizer.json", json.dumps({"model": []}), "must have the tokens under 'model' and 'vocab'"),
        ("bart", "added_tokens.json", json.dumps({"<x>": [1]}), "ids must be whole numbers from 0 on"),
        (
            "mbart",
            "tokenizer_config.json",
            json.dumps({"tokenizer_class": "MBartTokenizer"}),
            "must be MBart50Tokenizer",
        ),
        ("m2m_100", "tokenizer_config.json", json.dumps({"legacy_behaviour": True}), "legacy_behaviour must be false"),
        ("m2m_100", "sentencepiece.bpe.model", "x", "not a SentencePiece model"),
    ],
)
def test_a_damaged_tokenizer_is_refused(kind, file, content, message, tmp_path):
    make(tmp_path, kind)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        import_model(tmp_path, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_ids_of_a_tokenizer_file_are_those_of_the_other_files(tmp_path):
    make(tmp_path, "bart")
    other = tmp_path / "other"
    shutil.copytree(tmp_path, other, ignore=shutil.ignore_patterns("other"))
    ids = json.loads((other / "vocab.json").read_text())
    content = {
        "model": {"type": "BPE", "vocab": ids, "merges": [list(pair) for pair in MERGES]},
        "added_tokens": [{"id": ids[token], "content": token, "special": True} for token in [*SPECIAL, "<mask>"]],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }
    write_json(other / "tokenizer.json", content)
    for name in ("vocab.json", "merges.txt"):
        (other / name).unlink()
    runs = [import_model(folder, folder / "run", log=lambda line: None) for folder in (tmp_path, other)]
    assert runs[0].target.vocabulary.tokens == runs[1].target.vocabulary.tokens
