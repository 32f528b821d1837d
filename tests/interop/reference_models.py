"""Models of Hugging Face with random weights, and what they compute, in float64 and without this package."""

import io
import json

import numpy as np
import sentencepiece
from safetensors.numpy import load_file

WIDTH, HEADS, FFN = 16, 2, 24
SOURCE = ["ein haus am see", "das haus ist alt", "am see ist ein boot", "alt ist das boot"]
TARGET = ["a house at the lake", "the house is old", "there is a boat", "the boat is old"]


def drawn(seed=1):
    """A function that draws tensors of a shape."""
    random = np.random.default_rng(seed)
    return lambda *shape: random.normal(0, 0.4, shape).astype("float32")


def pieces_of(lines, path, **options):
    """Trains a SentencePiece model, writes it, and returns its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=options.pop("vocab_size", 40),
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        minloglevel=2,
        **options,
    )
    path.write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [processor.IdToPiece(index) for index in range(processor.GetPieceSize())]


def norm_tensors(name, draw):
    return {f"{name}.weight": 1 + draw(WIDTH), f"{name}.bias": draw(WIDTH)}


def layer(prefix, attentions, draw, without_bias=()):
    """The tensors of a layer, with the names of Marian, BART and Whisper."""
    found = {}
    for attention in attentions:
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"{prefix}.{attention}.{part}.weight"] = draw(WIDTH, WIDTH)
            if part not in without_bias:
                found[f"{prefix}.{attention}.{part}.bias"] = draw(WIDTH)
    for name, (outer, inner) in {"fc1": (FFN, WIDTH), "fc2": (WIDTH, FFN)}.items():
        found[f"{prefix}.{name}.weight"], found[f"{prefix}.{name}.bias"] = draw(outer, inner), draw(outer)
    for norm in (*(f"{attention}_layer_norm" for attention in attentions), "final_layer_norm"):
        found |= norm_tensors(f"{prefix}.{norm}", draw)
    return found


def gelu(x):
    from scipy.special import erf

    return x * (1 + erf(x / np.sqrt(2))) / 2


def silu(x):
    return x / (1 + np.exp(-x))


class Reference:
    """Marian, BART, mBART, M2M-100 and Whisper.

    Args:
        folder: with model.safetensors.
        pre: whether norms are before sublayers, with one at the end.
        activation: of the feed-forward layers.
        scale: the factor of embeddings.
        positions: a function of a side and a number, the vectors of the first positions.
        embedding_norm: whether embeddings have a norm.
    """

    def __init__(self, folder, pre, activation, scale, positions, embedding_norm=False):
        self.weights = {
            name: value.astype("float64") for name, value in load_file(folder / "model.safetensors").items()
        }
        self.pre, self.activation, self.scale = pre, activation, scale
        self.positions, self.embedding_norm = positions, embedding_norm
        self.table = "model.shared.weight"

    def dense(self, name, inputs):
        return inputs @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def norm(self, name, inputs):
        centered = inputs - inputs.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, name, queries, memory, causal=False):
        size = WIDTH // HEADS
        q, k, v = (self.dense(f"{name}.{part}_proj", each) for part, each in zip("qkv", (queries, memory, memory)))
        heads = []
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            scores = q[:, own] @ k[:, own].T / np.sqrt(size)
            if causal:
                scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, own])
        return self.dense(f"{name}.out_proj", np.concatenate(heads, axis=1))

    def embed(self, side, ids):
        x = self.weights[self.table][ids] * self.scale + self.positions(side, len(ids))
        return self.norm(f"model.{side}.layernorm_embedding", x) if self.embedding_norm else x

    def part(self, norm, x, function):
        return x + function(self.norm(norm, x)) if self.pre else self.norm(norm, x + function(x))

    def feed_forward(self, name, x):
        return self.dense(f"{name}.fc2", self.activation(self.dense(f"{name}.fc1", x)))

    def stack(self, side, x, memory=None):
        count = 1 + max(int(name.split(".")[3]) for name in self.weights if name.startswith(f"model.{side}.layers."))
        for name in (f"model.{side}.layers.{index}" for index in range(count)):
            x = self.part(
                f"{name}.self_attn_layer_norm",
                x,
                lambda y, name=name: self.attend(f"{name}.self_attn", y, y, memory is not None),
            )
            if memory is not None:
                x = self.part(
                    f"{name}.encoder_attn_layer_norm",
                    x,
                    lambda y, name=name: self.attend(f"{name}.encoder_attn", y, memory),
                )
            x = self.part(f"{name}.final_layer_norm", x, lambda y, name=name: self.feed_forward(name, y))
        return self.norm(f"model.{side}.layer_norm", x) if self.pre else x

    def logits(self, source, target):
        memory = self.stack("encoder", self.embed("encoder", source))
        hidden = self.stack("decoder", self.embed("decoder", target), memory)
        return hidden @ self.weights[self.table].T + self.weights.get("final_logits_bias", 0.0)


def in_place_of_transformers(logits_of, ids_of, begin, end, never=(), forced=None):
    """In place of the process in which transformers runs a model: answers requests of `proof`.

    Args:
        logits_of: of the ids of source and target, the logits.
        ids_of: of a text, its ids.
        begin: the id that a decoder begins with.
        end: the id that ends an output.
        never: ids that no output has.
        forced: the id that outputs begin with.
    """

    def greedy(source, length):
        found = [begin]
        while len(found) <= length and (len(found) == 1 or found[-1] != end):
            row = logits_of(source, found)[-1]
            row[list(never)] = -np.inf
            chosen = end if len(found) == length else int(row.argmax())
            found.append(forced if forced is not None and len(found) == 1 else chosen)
        return found

    def answer(python, request):
        assert request["forced"] == forced
        sources = [*request["sources"], *map(ids_of, request["texts"])]
        pairs = zip(request["sources"], request["targets"])
        logits = [logits_of(source, [begin, *target]) for source, target in pairs]
        outputs = [greedy(source, request["max_length"]) for source in sources]
        return {"ids": sources[len(request["sources"]) :], "greedy": outputs, "beam": outputs}, logits

    return answer


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
