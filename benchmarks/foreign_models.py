"""Imported models beside their originals: random models of Hugging Face in several shapes, imported and compared.

    python -m venv hf && hf/bin/pip install torch==2.13.0 transformers sentencepiece safetensors
    python benchmarks/foreign_models.py --reference hf/bin/python --source test.zh --target test.en

The Python of --reference makes the models, with random weights, from SentencePiece models that are trained on the two
files. Each is imported, which compares logits, ids of texts, and greedy and beam outputs with transformers.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sentencepiece

from tfseq2seq.files import iterate_lines
from tfseq2seq.interop.architectures import import_model
from tfseq2seq.interop.proof import prove

Shape = tuple[int, int, int, int, int, str, int, int]
# Width, layers of encoder and decoder, heads, inner width, activation, and sizes of the vocabularies.
SHAPES: tuple[Shape, ...] = (
    (64, 2, 2, 4, 128, "swish", 1501, 403),
    (48, 1, 3, 3, 100, "relu", 1703, 811),
    (96, 3, 1, 8, 257, "gelu", 1999, 1000),
)
_TEXTS = 50
_MAKER = """
import json, sys
import torch
from transformers import MarianConfig, MarianMTModel
settings = json.load(sys.stdin)
torch.manual_seed(settings.pop("seed"))
folder = settings.pop("folder")
model = MarianMTModel(MarianConfig(**settings))
model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape) * 0.3)
model.save_pretrained(folder)
"""


def pieces(lines: list[str], size: int, path: Path) -> list[str]:
    """Trains a SentencePiece model, and returns its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, vocab_size=size, hard_vocab_limit=False, minloglevel=2
    )
    path.write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [processor.IdToPiece(index) for index in range(processor.GetPieceSize())]


def make_marian(folder: Path, python: str, shape: Shape, sides: list[list[str]]) -> None:
    """Makes a model with random weights and its tokenizer."""
    width, encoder, decoder, heads, inner, activation, *sizes = shape
    ids = {"</s>": 0, "<unk>": 1}
    for lines, size, name in zip(sides, sizes, ("source.spm", "target.spm"), strict=True):
        for token in pieces(lines, size, folder / name):
            if token != "<s>":
                ids.setdefault(token, len(ids))
    ids["<pad>"] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "x", "target_lang": "y"}))
    settings = {
        "folder": str(folder),
        "seed": 1,
        "vocab_size": len(ids),
        "decoder_vocab_size": len(ids),
        "d_model": width,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": inner,
        "decoder_ffn_dim": inner,
        "activation_function": activation,
        "max_position_embeddings": 128,
        "pad_token_id": ids["<pad>"],
        "decoder_start_token_id": ids["<pad>"],
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "bad_words_ids": [[ids["<pad>"]]],
        "scale_embedding": True,
        "init_std": 0.08,
    }
    subprocess.run([python, "-c", _MAKER], input=json.dumps(settings), text=True, check=True, capture_output=True)


def main(python: str, source: str, target: str) -> None:
    sides = [[line.decode("utf-8") for line in iterate_lines(path)] for path in (source, target)]
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "model"
            folder.mkdir()
            make_marian(folder, python, shape, sides)
            run = import_model(folder, Path(name) / "run", log=print)
            print(f"marian {shape}: {prove(run, folder, python, sides[0][:_TEXTS])}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", required=True, help="a Python with torch and transformers")
    parser.add_argument("--source", required=True, help="file of source texts")
    parser.add_argument("--target", required=True, help="file of target texts")
    given = parser.parse_args()
    main(given.reference, given.source, given.target)
