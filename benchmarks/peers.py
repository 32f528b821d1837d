"""Measures PyTorch and Hugging Face models of the same sizes on the same batches as `benchmarks/text.py`.

    pip install torch==2.13.0 transformers==5.23.0          # in a separate environment
    python benchmarks/text.py --save batches.npz
    python benchmarks/peers.py batches.npz [--model tiny small lstm]

It prints the target tokens per second of training, without padding: the median of five stretches after a first update.
The models are `nn.Transformer` with tied embeddings, Marian, and for "lstm" an LSTM with attention and input feeding.
It also prints the sentences per second of Marian's `generate`, greedy and with beam 4, with exactly 16 tokens per
output: the median of three passes.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

PAD, BOS, EOS = 0, 2, 3
FORCED = 16
STRETCHES = 5
# layers, width, inner width; four heads
SIZES = {"tiny": (4, 128, 256), "small": (3, 256, 1024)}


class Transformer(nn.Module):
    """Pre-norm encoder-decoder with sinusoidal positions and one embedding table for everything."""

    def __init__(self, size: int, layers: int, width: int, inner: int):
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.body = nn.Transformer(width, 4, layers, layers, inner, 0.1, batch_first=True, norm_first=True)
        self.dropout = nn.Dropout(0.1)
        angles = torch.arange(512)[:, None] * torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=1))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.embedding(ids) * self.width**0.5 + self.positions[: ids.shape[1]])

    def forward(self, source: torch.Tensor, begun: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(begun.shape[1])
        padding = torch.zeros(source.shape).masked_fill(source == PAD, float("-inf"))
        hidden = self.body(
            self.embed(source),
            self.embed(begun),
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return hidden @ self.embedding.weight.T


class Recurrent(nn.Module):
    """Two bidirectional LSTM layers of 128 units, and two LSTM layers of 256 units with Luong's general attention."""

    def __init__(self, size: int, width: int = 256):
        super().__init__()
        self.source, self.target = nn.Embedding(size, width), nn.Embedding(size, width)
        for table in (self.source, self.target):
            nn.init.normal_(table.weight, std=width**-0.5)
        self.encoder = nn.LSTM(width, 128, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.cells = nn.ModuleList([nn.LSTMCell(2 * width, 256), nn.LSTMCell(256, 256)])
        self.bridge = nn.Linear(256, 4 * 256)
        self.keys = nn.Linear(256, 256, bias=False)
        self.combine = nn.Linear(512, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, source: torch.Tensor, begun: torch.Tensor) -> torch.Tensor:
        lengths = (source != PAD).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.source(source)), lengths, batch_first=True, enforce_sorted=False
        )
        memory, (last, _) = self.encoder(packed)
        memory, _ = nn.utils.rnn.pad_packed_sequence(memory, batch_first=True, total_length=source.shape[1])
        keys, bias = self.keys(memory), torch.zeros(source.shape).masked_fill(source == PAD, -1e9)
        first = torch.tanh(self.bridge(torch.cat([last[-2], last[-1]], dim=1))).chunk(4, dim=1)
        states = [(first[0], first[1]), (first[2], first[3])]
        embedded, hidden, outputs = self.dropout(self.target(begun)), torch.zeros(len(source), 256), []
        for step in range(begun.shape[1]):
            states[0] = self.cells[0](torch.cat([embedded[:, step], hidden], dim=1), states[0])
            states[1] = self.cells[1](self.dropout(states[0][0]), states[1])
            top = states[1][0]
            weights = torch.softmax(torch.bmm(keys, top[:, :, None])[:, :, 0] + bias, dim=1)
            context = torch.bmm(weights[:, None], memory)[:, 0]
            hidden = torch.tanh(self.combine(torch.cat([top, context], dim=1)))
            outputs.append(hidden)
        return self.dropout(torch.stack(outputs, dim=1)) @ self.target.weight.T


def marian(size: int, layers: int, width: int, inner: int) -> MarianMTModel:
    """Marian of the same sizes."""
    return MarianMTModel(
        MarianConfig(
            vocab_size=size,
            decoder_vocab_size=size,
            d_model=width,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=inner,
            decoder_ffn_dim=inner,
            activation_function="relu",
            dropout=0.1,
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
            max_position_embeddings=512,
            scale_embedding=True,
            init_std=width**-0.5,
        )
    )


def begun(target: torch.Tensor) -> torch.Tensor:
    """The decoder input: the target shifted by one position, with <bos> first."""
    moved = torch.cat([torch.full((len(target), 1), BOS), target[:, :-1]], dim=1)
    return moved.masked_fill(moved == EOS, PAD)


def train(model: nn.Module, logits: Callable, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Target tokens per second without padding, the median of the stretches."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.1)

    def update(source: torch.Tensor, target: torch.Tensor) -> int:
        optimizer.zero_grad()
        loss(logits(source, begun(target)).flatten(0, 1), target.flatten()).backward()
        optimizer.step()
        return int((target != PAD).sum())

    update(*batches[0])
    rates, steps = [], (len(batches) - 1) // STRETCHES
    for stretch in range(STRETCHES):
        start = time.perf_counter()
        tokens = sum(update(*batch) for batch in batches[1 + stretch * steps : 1 + (stretch + 1) * steps])
        rates.append(tokens / (time.perf_counter() - start))
    return statistics.median(rates)


def generate(model: MarianMTModel, chunks: list[torch.Tensor], beam: int) -> float:
    """Sentences per second, the median of three passes."""
    model.eval()
    passes = []
    for turn in range(4):
        start = time.perf_counter()
        with torch.inference_mode():
            for chunk in chunks[:1] if turn == 0 else chunks:
                model.generate(
                    input_ids=chunk,
                    attention_mask=(chunk != PAD).long(),
                    num_beams=beam,
                    min_new_tokens=FORCED,
                    max_new_tokens=FORCED,
                    do_sample=False,
                )
        passes.append(sum(len(chunk) for chunk in chunks) / (time.perf_counter() - start))
    return statistics.median(passes[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("batches", help="file that benchmarks/text.py --save wrote")
    parser.add_argument("--model", nargs="+", choices=[*SIZES, "lstm"], default=[*SIZES, "lstm"], help="models")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    with np.load(arguments.batches) as saved:
        count = sum(name.startswith("source_") for name in saved.files)
        batches = [
            (torch.tensor(saved[f"source_{i}"]).long(), torch.tensor(saved[f"target_{i}"]).long()) for i in range(count)
        ]
        size = int(saved["size"])
        indices = range(sum(name.startswith("chunk_") for name in saved.files))
        chunks = [torch.tensor(saved[f"chunk_{i}"]).long() for i in indices]
    for name in arguments.model:
        if name == "lstm":
            model = Recurrent(size)
            print(f"lstm: PyTorch training {train(model, model, batches):,.0f} tok/s", flush=True)
            continue
        model = Transformer(size, *SIZES[name])
        print(f"{name}: PyTorch training {train(model, model, batches):,.0f} tok/s", flush=True)
        model = marian(size, *SIZES[name])

        def logits(source: torch.Tensor, begun: torch.Tensor, model: MarianMTModel = model) -> torch.Tensor:
            return model(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=begun).logits

        print(f"{name}: Marian training {train(model, logits, batches):,.0f} tok/s", flush=True)
        for beam in (1, 4):
            print(f"{name}: Marian beam {beam}: {generate(model, chunks, beam):.0f} sentences/s", flush=True)


if __name__ == "__main__":
    main()
