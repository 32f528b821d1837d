"""Imported models beside their originals: random models of Hugging Face in several shapes, imported and compared.

    python -m venv hf && hf/bin/pip install torch==2.13.0 transformers sentencepiece safetensors protobuf
    python benchmarks/foreign_models.py --reference hf/bin/python --source test.zh --target test.en

The Python of --reference makes the models, with random weights, from tokenizers that are trained on the two files. Each
is imported, which compares logits, ids of texts, and greedy and beam outputs with transformers. Speech models are
asked about random recordings. --kind takes one architecture.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sentencepiece

from tfseq2seq.features.byte_level import LETTERS
from tfseq2seq.files import iterate_lines
from tfseq2seq.interop.architectures import import_model
from tfseq2seq.interop.proof import prove
from tfseq2seq.interop.speech_proof import prove_recordings

Sides = list[list[str]]
Shape = dict[str, Any]
# Width, layers of encoder and decoder, heads, inner width, activation, and sizes of the vocabularies.
SHAPES: tuple[Shape, ...] = (
    {"width": 64, "encoder": 2, "decoder": 2, "heads": 4, "inner": 128, "activation": "gelu", "sizes": (1501, 403)},
    {"width": 48, "encoder": 1, "decoder": 3, "heads": 3, "inner": 100, "activation": "relu", "sizes": (1703, 811)},
    {"width": 96, "encoder": 3, "decoder": 1, "heads": 8, "inner": 257, "activation": "silu", "sizes": (1999, 1000)},
)
_TEXTS = 50
_MAKER = """
import json, sys
import torch, transformers
settings = json.load(sys.stdin)
torch.manual_seed(1)
folder = settings["folder"]
if settings["lines"]:
    from tokenizers import ByteLevelBPETokenizer
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(settings["lines"], vocab_size=settings["size"], special_tokens=special)
    tokenizer.save_model(folder)
count = 0
if settings["tokenizer"]:
    kind = getattr(transformers, settings["tokenizer"])
    tokenizer = kind.from_pretrained(folder, **settings["languages"])
    tokenizer.save_pretrained(folder)
    count = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    if settings["languages"]:
        settings["config"]["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(settings["forced"])
config = settings["config"]
config["vocab_size"] = max(config["vocab_size"], count)
model = getattr(transformers, settings["model"])(getattr(transformers, settings["configuration"])(**config))
if hasattr(model, "final_logits_bias"):
    model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape) * 0.3)
for name, parameter in model.named_parameters():
    # Other norms and biases than those of a new model, and larger tables, so that outputs differ.
    if parameter.ndim == 1:
        parameter.data += torch.randn(parameter.shape) * 0.1
    elif "relative_attention_bias" in name:
        parameter.data.copy_(torch.randn(parameter.shape))
# Random models hardly ever end an output: these do so more often.
table = model.get_output_embeddings().weight.data
end = model.config.eos_token_id
more = 3.0 * table.std() * table.shape[1] ** 0.5
norm = getattr(getattr(getattr(model, "model", model), "decoder", None), "layer_norm", None)
if hasattr(model, "final_logits_bias"):
    model.final_logits_bias[0, end] += more
elif norm is not None and table[end].any():
    norm.bias.data += more * table[end] / (table[end] @ table[end])
for name, value in settings["generation"].items():
    setattr(model.generation_config, name, value)
model.save_pretrained(folder)
"""


def make(folder: Path, python: str, **settings: Any) -> None:
    """Makes a model with random weights and saves it with its tokenizer."""
    given = {"folder": str(folder), "lines": [], "tokenizer": "", "languages": {}, "forced": "", "generation": {}}
    content = json.dumps({**given, **settings})
    done = subprocess.run([python, "-c", _MAKER], input=content, text=True, check=False, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def pieces(lines: list[str], size: int, path: Path, **options: Any) -> list[str]:
    """Trains a SentencePiece model, and returns its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    path.write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [processor.IdToPiece(index) for index in range(processor.GetPieceSize())]


def common(shape: Shape, size: int, **settings: Any) -> Shape:
    """The configuration that Marian, BART and M2M-100 share."""
    return {
        "vocab_size": size,
        "d_model": shape["width"],
        "encoder_layers": shape["encoder"],
        "decoder_layers": shape["decoder"],
        "encoder_attention_heads": shape["heads"],
        "decoder_attention_heads": shape["heads"],
        "encoder_ffn_dim": shape["inner"],
        "decoder_ffn_dim": shape["inner"],
        "activation_function": shape["activation"],
        "max_position_embeddings": 128,
        "init_std": 0.08,
        **settings,
    }


def marian(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    ids = {"</s>": 0, "<unk>": 1}
    for lines, size, name in zip(sides, shape["sizes"], ("source.spm", "target.spm"), strict=True):
        for token in pieces(lines, size, folder / name):
            if token != "<s>":
                ids.setdefault(token, len(ids))
    ids["<pad>"] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "x", "target_lang": "y"}))
    config = common(
        shape,
        len(ids),
        decoder_vocab_size=len(ids),
        pad_token_id=ids["<pad>"],
        decoder_start_token_id=ids["<pad>"],
        eos_token_id=0,
        forced_eos_token_id=0,
        bad_words_ids=[[ids["<pad>"]]],
        scale_embedding=True,
    )
    make(folder, python, model="MarianMTModel", configuration="MarianConfig", config=config)


def bart(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    config = common(shape, sum(shape["sizes"]) + 3, scale_embedding=shape["heads"] == 3)
    make(
        folder,
        python,
        model="BartForConditionalGeneration",
        configuration="BartConfig",
        config=config,
        lines=[*sides[0], *sides[1]],
        size=sum(shape["sizes"]),
        tokenizer="BartTokenizer",
    )


def mbart(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    size = len(pieces([*sides[0], *sides[1]], shape["sizes"][0], folder / "sentencepiece.bpe.model"))
    _multilingual(folder, python, "MBart", "MBart50Tokenizer", common(shape, size + 60, scale_embedding=True), "en_XX")


def m2m_100(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    found = pieces([*sides[0], *sides[1]], shape["sizes"][0], folder / "sentencepiece.bpe.model", model_type="bpe")
    ids = {token: index for index, token in enumerate(("<s>", "<pad>", "</s>", "<unk>", *found[3:]))}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    config = common(shape, len(ids) + 109, scale_embedding=True)
    _multilingual(folder, python, "M2M100", "M2M100Tokenizer", config, "__en__", "zh", "en")


def nllb(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    size = len(pieces([*sides[0], *sides[1]], shape["sizes"][0], folder / "sentencepiece.bpe.model", model_type="bpe"))
    config, tokens = common(shape, size + 12, scale_embedding=True), {"extra_special_tokens": ["eng_Latn", "zho_Hans"]}
    _multilingual(folder, python, "M2M100", "NllbTokenizer", config, "eng_Latn", "zho_Hans", "eng_Latn", **tokens)


def _multilingual(
    folder: Path,
    python: str,
    name: str,
    tokenizer: str,
    config: Shape,
    forced: str,
    source: str = "zh_CN",
    target: str = "en_XX",
    **others: Any,
) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer}))
    make(
        folder,
        python,
        model=f"{name}ForConditionalGeneration",
        configuration=f"{name}Config",
        config={**config, "decoder_start_token_id": 2},
        tokenizer=tokenizer,
        languages={"src_lang": source, "tgt_lang": target, **others},
        forced=forced,
    )


def t5(folder: Path, python: str, shape: Shape, sides: Sides, name: str = "T5") -> None:
    options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "pad_piece": "<pad>"}
    size = len(pieces([*sides[0], *sides[1]], shape["sizes"][0], folder / "spiece.model", **options))
    gated = name == "MT5" or shape["heads"] == 3
    config = {
        "vocab_size": size + 103,
        "d_model": shape["width"],
        "d_kv": shape["width"] // shape["heads"] + (4 if gated else 0),
        "d_ff": shape["inner"],
        "num_layers": shape["encoder"],
        # transformers cannot generate with more layers in the decoder.
        "num_decoder_layers": min(shape["encoder"], shape["decoder"]),
        "num_heads": shape["heads"],
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "relative_attention_num_buckets": 8 if shape["heads"] == 8 else 32,
        "relative_attention_max_distance": 20 if shape["heads"] == 8 else 128,
        "decoder_start_token_id": 0,
        "initializer_factor": 0.7,
    }
    make(
        folder,
        python,
        model=f"{name}ForConditionalGeneration",
        configuration=f"{name}Config",
        config=config,
        tokenizer="T5Tokenizer",
        generation={"bad_words_ids": [[0]]},
    )


def mt5(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    t5(folder, python, shape, sides, "MT5")


def whisper(folder: Path, python: str, shape: Shape, sides: Sides) -> None:
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>"]
    special.append("<|notimestamps|>")
    ids = {token: index for index, token in enumerate([*LETTERS.values(), *special])}
    tokenizer = {
        "model": {"type": "BPE", "vocab": {token: ids[token] for token in LETTERS.values()}, "merges": []},
        "added_tokens": [{"id": ids[token], "content": token, "special": True} for token in special],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    seconds = shape["encoder"]
    positions = {"max_source_positions": 50 * seconds, "max_target_positions": 100, "num_mel_bins": 80}
    tokens = {"pad_token_id": ids[special[0]], "bos_token_id": ids[special[0]], "eos_token_id": ids[special[0]]}
    config = {
        **common(shape, len(ids) + 50 * seconds + 1, activation_function="gelu"),
        **positions,
        **tokens,
        "decoder_start_token_id": ids[special[1]],
    }
    make(
        folder,
        python,
        model="WhisperForConditionalGeneration",
        configuration="WhisperConfig",
        config=config,
        generation={"is_multilingual": True},
    )


KINDS: dict[str, Callable[[Path, str, Shape, Sides], None]] = {
    one.__name__: one for one in (marian, bart, mbart, m2m_100, nllb, t5, mt5, whisper)
}


def main(python: str, source: str, target: str, kinds: list[str]) -> None:
    sides = [[line.decode("utf-8") for line in iterate_lines(path)] for path in (source, target)]
    for kind in kinds:
        for number, shape in enumerate(SHAPES, start=1):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "model"
                folder.mkdir()
                KINDS[kind](folder, python, shape, sides)
                run = import_model(folder, Path(name) / "run", log=print)
                found = (
                    prove(run, folder, python, sides[0][:_TEXTS])
                    if run.source.features is not None
                    else prove_recordings(run, folder, python, [])
                )
                print(f"{kind}, shape {number}: {found}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", required=True, help="a Python with torch and transformers")
    parser.add_argument("--source", required=True, help="file of source texts")
    parser.add_argument("--target", required=True, help="file of target texts")
    parser.add_argument("--kind", choices=KINDS, action="append", help="an architecture; by default all")
    given = parser.parse_args()
    main(given.reference, given.source, given.target, given.kind or list(KINDS))
