"""T5 and mT5 of Hugging Face: as runs they give what an independent computation of them gives."""

import dataclasses
import json
import re

import numpy as np
import pytest
import sentencepiece
from reference_models import FFN, HEADS, SOURCE, TARGET, WIDTH, drawn, in_place_of_transformers, pieces_of, write_json
from safetensors.numpy import load_file, save_file

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import ExportOptions, formats
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.interop import proof
from tfseq2seq.interop.architectures import import_model
from tfseq2seq.interop.proof import prove
from tfseq2seq.spec import EOS

HEAD, BUCKETS, DISTANCE = 6, 8, 20
EXTRA = 3
LAYERS = {"encoder": 2, "decoder": 1}


def make(path, kind, own_output=False, byte_fallback=False, **changed):
    """A model with random weights; returns the number of its pieces."""
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "pad_piece": "<pad>"}
    options = {"byte_fallback": True, "vocab_size": 300} if byte_fallback else {}
    pieces = pieces_of([*SOURCE, *TARGET], path / "spiece.model", **special, **options)
    size, gated = len(pieces) + EXTRA + 2, kind == "mt5"
    config = {
        "model_type": kind,
        "is_encoder_decoder": True,
        "vocab_size": size,
        "d_model": WIDTH,
        "d_kv": HEAD,
        "d_ff": FFN,
        "num_layers": LAYERS["encoder"],
        "num_decoder_layers": LAYERS["decoder"],
        "num_heads": HEADS,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "relative_attention_num_buckets": BUCKETS,
        "relative_attention_max_distance": DISTANCE,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    write_json(path / "config.json", {**config, **changed})
    write_json(path / "tokenizer_config.json", {"extra_ids": EXTRA})
    draw = drawn()
    tensors = {"shared.weight": draw(size, WIDTH)}
    if own_output:
        tensors["lm_head.weight"] = draw(size, WIDTH)
    for side, count in LAYERS.items():
        attentions = ["SelfAttention", "EncDecAttention"][: 1 + (side == "decoder")]
        table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        tensors[table] = draw(BUCKETS, HEADS)
        for name in (f"{side}.block.{index}.layer" for index in range(count)):
            for place, attention in enumerate(attentions):
                for part in "qkv":
                    tensors[f"{name}.{place}.{attention}.{part}.weight"] = draw(HEADS * HEAD, WIDTH)
                tensors[f"{name}.{place}.{attention}.o.weight"] = draw(WIDTH, HEADS * HEAD)
            place = len(attentions)
            for part in ("wi_0", "wi_1") if gated else ("wi",):
                tensors[f"{name}.{place}.DenseReluDense.{part}.weight"] = draw(FFN, WIDTH)
            tensors[f"{name}.{place}.DenseReluDense.wo.weight"] = draw(WIDTH, FFN)
            tensors |= {f"{name}.{index}.layer_norm.weight": 1 + draw(WIDTH) for index in range(place + 1)}
        tensors[f"{side}.final_layer_norm.weight"] = 1 + draw(WIDTH)
    save_file(tensors, path / "model.safetensors")
    return len(pieces)


class T5:
    """The computation, in float64."""

    def __init__(self, path):
        self.weights = {name: value.astype("float64") for name, value in load_file(path / "model.safetensors").items()}
        config = json.loads((path / "config.json").read_text())
        self.scaled = config["model_type"] == "t5" and config.get("tie_word_embeddings", True)

    def norm(self, name, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * self.weights[f"{name}.weight"]

    @staticmethod
    def bucket(distance, causal):
        count, offset = BUCKETS, 0
        if not causal:
            count //= 2
            offset = count if distance > 0 else 0
        distance = abs(distance) if not causal else max(-distance, 0)
        exact = count // 2
        if distance < exact:
            return offset + distance
        far = exact + int(np.log(distance / exact) / np.log(DISTANCE / exact) * (count - exact))
        return offset + min(far, count - 1)

    def bias(self, side, count):
        table = self.weights[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        causal = side == "decoder"
        buckets = [[self.bucket(key - query, causal) for key in range(count)] for query in range(count)]
        mask = np.where(np.tri(count, dtype=bool) | (not causal), 0.0, -np.inf)
        return table[np.array(buckets)].transpose(2, 0, 1) + mask

    def attend(self, name, x, memory, bias):
        q, k, v = (each @ self.weights[f"{name}.{part}.weight"].T for part, each in zip("qkv", (x, memory, memory)))
        heads = []
        for head in range(HEADS):
            own = slice(head * HEAD, (head + 1) * HEAD)
            scores = q[:, own] @ k[:, own].T + bias[head]
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, own])
        return np.concatenate(heads, axis=1) @ self.weights[f"{name}.o.weight"].T

    def feed_forward(self, name, x):
        weights = {part: self.weights.get(f"{name}.{part}.weight") for part in ("wi", "wi_0", "wi_1", "wo")}
        if weights["wi"] is not None:
            return np.maximum(x @ weights["wi"].T, 0) @ weights["wo"].T
        inner = x @ weights["wi_0"].T
        gelu = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        return gelu * (x @ weights["wi_1"].T) @ weights["wo"].T

    def stack(self, side, ids, memory=None):
        x, bias = self.weights["shared.weight"][ids], self.bias(side, len(ids))
        for name in (f"{side}.block.{index}.layer" for index in range(LAYERS[side])):
            normed = self.norm(f"{name}.0.layer_norm", x)
            x = x + self.attend(f"{name}.0.SelfAttention", normed, normed, bias)
            if memory is not None:
                x = x + self.attend(
                    f"{name}.1.EncDecAttention", self.norm(f"{name}.1.layer_norm", x), memory, np.zeros(HEADS)
                )
            last = 1 if memory is None else 2
            x = x + self.feed_forward(f"{name}.{last}.DenseReluDense", self.norm(f"{name}.{last}.layer_norm", x))
        return self.norm(f"{side}.final_layer_norm", x)

    def logits(self, source, target):
        hidden = self.stack("decoder", target, self.stack("encoder", source))
        output = self.weights.get("lm_head.weight", self.weights["shared.weight"])
        return hidden * (WIDTH**-0.5 if self.scaled else 1.0) @ output.T


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("t5", {}),
        ("t5", {"own_output": True, "tie_word_embeddings": False}),
        ("t5", {"tie_word_embeddings": False, "num_decoder_layers": None, "num_layers": 1}),
        ("mt5", {"own_output": True}),
        ("mt5", {"byte_fallback": True}),
    ],
    ids=str,
)
def test_a_run_gives_the_logits_ids_and_outputs_of_the_model(kind, options, tmp_path, monkeypatch):
    monkeypatch.setitem(LAYERS, "encoder", options.get("num_layers", 2))
    count = make(tmp_path, kind, **options)
    model = T5(tmp_path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    run = import_model(tmp_path, tmp_path / "run")
    size = json.loads((tmp_path / "config.json").read_text())["vocab_size"]
    answer = in_place_of_transformers(
        model.logits, lambda text: [*processor.encode(text), 1], 0, 1, [0, *range(count + EXTRA, size)]
    )
    monkeypatch.setattr(proof, "_reference", answer)
    # The last text has characters that no piece has: they are unknown, or bytes.
    found = prove(run, tmp_path, "python", ["ein haus am see", "", "ein 房子 ü"])
    assert found.difference < 6e-5 and (found.same_ids, found.texts) == (3, 3)
    assert found.greedy == found.inputs and found.passed
    assert run.recipe.source.reserved == tuple(f"<extra_id_{index}>" for index in range(EXTRA))
    table = json.loads((run.folder / proof.TABLE).read_text())["source"]
    # The last sentinel follows the pieces.
    assert table[run.source.features.reserved_id(f"<extra_id_{EXTRA - 1}>")] == count


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj must be one of relu, gated-gelu, got 'gated-silu'"),
        ({"relative_attention_max_distance": 3}, "relative_distance: must be above half of position_buckets (4)"),
        ({"d_kv": 5}, "SelfAttention.q.weight must have the shape [10, 16], got [12, 16]"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder must be true"),
    ],
)
def test_what_cannot_be_represented_is_refused(changed, message, tmp_path):
    make(tmp_path, "t5", **changed)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        import_model(tmp_path, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["savedmodel", "tflite", "ctranslate2"])
def test_every_format_gives_the_texts_of_an_imported_run(name, tmp_path, one_signature):
    if name == "ctranslate2":
        pytest.importorskip("ctranslate2")
    make(tmp_path, "mt5")
    run = import_model(tmp_path, tmp_path / "run")
    search = dataclasses.replace(run.recipe.search, beam=2, stop="full", max_length=12)
    model = Predictor.of_runs([run], search=search)
    # Outputs come to an end: engines differ in how they rank those that are cut off.
    bias = model.models[0].output_layer.bias
    bias.assign(np.where(np.arange(bias.shape[0]) == EOS, 6.0, bias))
    folder = formats()[name].write(model, str(tmp_path / "exported"), ExportOptions())
    (verdict,) = verify(folder, model, [*SOURCE, ""], batches=[1])
    assert verdict.passed and verdict.same == len(SOURCE) + 1
