"""Whisper of Hugging Face and of CTranslate2: as runs they give what the other toolkits compute."""

import json
import re
import shutil

import numpy as np
import pytest
from reference_models import FFN, HEADS, WIDTH, Reference, drawn, gelu, layer, norm_tensors, write_json
from safetensors.numpy import save_file

from tfseq2seq.cli import main
from tfseq2seq.errors import UserError
from tfseq2seq.features.byte_level import LETTERS
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.interop import speech_proof
from tfseq2seq.interop.architectures import import_model
from tfseq2seq.interop.ctranslate2_folder import CTranslate2Folder
from tfseq2seq.interop.speech_proof import prove_recordings
from tfseq2seq.run import Run

BINS, FRAMES, LONGEST = 8, 50, 24
MERGES = [("Ġ", "a"), ("e", "r"), ("h", "a")]
ORDINARY = [*LETTERS.values(), *map("".join, MERGES)]
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
TOKENS = [*ORDINARY, *SPECIAL, "<|notimestamps|>", "<|0.00|>", "<|0.02|>"]
IDS = {token: index for index, token in enumerate(TOKENS)}
SUPPRESSED, AT_BEGIN = [IDS["("], IDS["<|startoftranscript|>"]], [IDS["Ġ"], IDS["<|endoftext|>"]]


def tokenizer():
    """tokenizer.json, without the tokens for times."""
    special = [*SPECIAL, "<|notimestamps|>"]
    return {
        "model": {
            "type": "BPE",
            "vocab": {token: IDS[token] for token in ORDINARY},
            "merges": [" ".join(pair) for pair in MERGES],
        },
        "added_tokens": [{"id": IDS[token], "content": token, "special": True} for token in special],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }


def make(path, **changed):
    """A folder of Hugging Face with random weights; returns its tensors."""
    config = {
        "model_type": "whisper",
        "vocab_size": len(TOKENS),
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN,
        "activation_function": "gelu",
        "num_mel_bins": BINS,
        "max_source_positions": FRAMES,
        "max_target_positions": LONGEST,
    }
    generation = {
        "is_multilingual": True,
        "suppress_tokens": SUPPRESSED,
        "begin_suppress_tokens": AT_BEGIN,
        "alignment_heads": [[0, 1], [1, 0]],
        "num_beams": 2,
    }
    write_json(path / "config.json", {**config, **changed})
    write_json(path / "generation_config.json", generation)
    write_json(path / "tokenizer.json", tokenizer())
    draw = drawn(2)
    tensors = {
        "model.decoder.embed_tokens.weight": draw(len(TOKENS), WIDTH),
        "model.encoder.conv1.weight": draw(WIDTH, BINS, 3),
        "model.encoder.conv1.bias": draw(WIDTH),
        "model.encoder.conv2.weight": draw(WIDTH, WIDTH, 3),
        "model.encoder.conv2.bias": draw(WIDTH),
        "model.encoder.embed_positions.weight": draw(FRAMES, WIDTH),
        "model.decoder.embed_positions.weight": draw(LONGEST, WIDTH),
        **layer("model.encoder.layers.0", ["self_attn"], draw, ["k_proj"]),
        **norm_tensors("model.encoder.layer_norm", draw),
        **norm_tensors("model.decoder.layer_norm", draw),
    }
    for index in range(2):
        tensors |= layer(f"model.decoder.layers.{index}", ["self_attn", "encoder_attn"], draw, ["k_proj"])
    save_file(tensors, path / "model.safetensors")
    return tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper")
    make(path)
    return path


@pytest.fixture(scope="module")
def run(folder):
    return import_model(folder, folder / "run", log=lambda line: None)


class WhisperReference(Reference):
    """The computation, in float64, from features [W, F]."""

    def __init__(self, folder):
        super().__init__(folder, True, gelu, 1.0, None)
        self.table = "model.decoder.embed_tokens.weight"
        self.positions = lambda side, count: self.weights[f"model.{side}.embed_positions.weight"][:count]

    def convolution(self, name, x, stride):
        padded = np.pad(x, ((0, 0), (1, 1)))
        kernel = self.weights[f"{name}.weight"]
        columns = [np.einsum("oik,ik->o", kernel, padded[:, at : at + 3]) for at in range(0, x.shape[1], stride)]
        return gelu(np.stack(columns, axis=1) + self.weights[f"{name}.bias"][:, np.newaxis])

    def logits(self, features, target):
        x = self.convolution("model.encoder.conv2", self.convolution("model.encoder.conv1", features, 1), 2).T
        memory = self.stack("encoder", x + self.positions("encoder", len(x)))
        return self.stack("decoder", self.embed("decoder", target), memory) @ self.weights[self.table].T


def answers(run, folder):
    """In place of the process in which transformers runs the model."""
    model, own = WhisperReference(folder), run.load_model()

    def answer(python, request, samples):
        found = speech_proof._Answers([], [], [])
        for one in samples:
            features = speech_proof._padded_features(own, one)[0].astype("float64")
            written, rows = [], []
            end = IDS["<|endoftext|>"]
            while len(written) < request["max_length"] and end not in written:
                rows.append(model.logits(features, [*request["prompt"], *written])[-1])
                allowed = rows[-1].copy()
                allowed[request["never"]] = -np.inf
                if not written:
                    allowed[request["first"]] = -np.inf
                written.append(int(allowed.argmax()))
            found.logits.append(np.stack(rows))
            found.greedy.append(written)
            found.beam.append(written)
        return found

    return answer


def recordings():
    draw = np.random.default_rng(5)
    return [draw.normal(0, 0.1, size).astype("float32") for size in (4000, 16000, 20000)]


def test_a_run_gives_the_logits_and_outputs_of_the_model(folder, run, monkeypatch):
    monkeypatch.setattr(speech_proof, "_OUTPUT", LONGEST - 4)
    monkeypatch.setattr(speech_proof, "_of_transformers", answers(run, folder))
    # Recordings longer than the model reads are cut for the comparison.
    found = prove_recordings(run, folder, "python", recordings())
    assert found.difference < 2e-5 and found.inputs == 7
    assert found.greedy == 7 and found.passed


def test_logits_that_are_not_finite_are_no_proof(folder, run, monkeypatch):
    def spoiled(python, request, samples):
        found = answers(run, folder)(python, request, samples)
        found.logits[1][0, 5] = np.nan
        return found

    monkeypatch.setattr(speech_proof, "_OUTPUT", LONGEST - 4)
    monkeypatch.setattr(speech_proof, "_of_transformers", spoiled)
    assert not prove_recordings(run, folder, "python", []).passed


def test_the_recipe_has_the_settings_of_the_model(run):
    source, target, search = run.recipe.source, run.recipe.target, run.recipe.search
    assert (source.pad_seconds, source.input_layer, source.convention, source.bins) == (1, "conv1d", "whisper", BINS)
    assert target.begin == "<|en|> <|transcribe|> <|notimestamps|>"
    assert (search.max_input, search.max_length, search.beam) == (1, LONGEST - 1, 2)
    # The token that a decoder begins with is never written anyway.
    assert search.suppress_tokens == ("(", "<bos>") and search.begin_suppress_tokens == ("Ġ", "<eos>")
    assert "<|0.02|>" in target.reserved
    assert run.recipe.model.decoder.aligned == ((0, 1), (1, 0))


def test_outputs_have_no_special_tokens_and_long_recordings_are_refused(run):
    generator = Generator(Predictor.of_runs([run]))
    for output in generator.generate(recordings()[:2]):
        assert "<|" not in output.texts[0] and "(" not in output.texts[0]
    with pytest.raises(UserError, match="too long: 1.2 s, at most 1 s are answered"):
        generator.generate(recordings()[2:])


def write_ctranslate2(path, tensors, quantization=None):
    """The same model in the format of CTranslate2."""
    specs = pytest.importorskip("ctranslate2").specs
    spec = specs.WhisperSpec(1, HEADS, 2, HEADS)

    def fill(target, name, norm=False):
        first, second = ("gamma", "beta") if norm else ("weight", "bias")
        setattr(target, first, tensors[f"{name}.weight"])
        setattr(target, second, tensors[f"{name}.bias"])

    def packed(target, names):
        target.weight = np.concatenate([tensors[f"{name}.weight"] for name in names])
        zeros = np.zeros(WIDTH, "float32")
        target.bias = np.concatenate([tensors.get(f"{name}.bias", zeros) for name in names])

    for side, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        stack.position_encodings.encodings = tensors[f"model.{side}.embed_positions.weight"]
        fill(stack.layer_norm, f"model.{side}.layer_norm", True)
        for index, part in enumerate(stack.layer):
            name = f"model.{side}.layers.{index}"
            packed(part.self_attention.linear[0], [f"{name}.self_attn.{one}_proj" for one in "qkv"])
            fill(part.self_attention.linear[1], f"{name}.self_attn.out_proj")
            fill(part.self_attention.layer_norm, f"{name}.self_attn_layer_norm", True)
            if side == "decoder":
                fill(part.attention.linear[0], f"{name}.encoder_attn.q_proj")
                packed(part.attention.linear[1], [f"{name}.encoder_attn.{one}_proj" for one in "kv"])
                fill(part.attention.linear[2], f"{name}.encoder_attn.out_proj")
                fill(part.attention.layer_norm, f"{name}.encoder_attn_layer_norm", True)
            fill(part.ffn.linear_0, f"{name}.fc1")
            fill(part.ffn.linear_1, f"{name}.fc2")
            fill(part.ffn.layer_norm, f"{name}.final_layer_norm", True)
    for name in ("conv1", "conv2"):
        fill(getattr(spec.encoder, name), f"model.encoder.{name}")
    spec.decoder.embeddings.weight = tensors["model.decoder.embed_tokens.weight"]
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    spec.register_vocabulary(TOKENS)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = SUPPRESSED, AT_BEGIN
    spec.config.lang_ids = [IDS["<|en|>"], IDS["<|de|>"]]
    spec.validate()
    spec.optimize(quantization=quantization)
    path.mkdir()
    spec.save(str(path))
    write_json(path / "tokenizer.json", tokenizer())


@pytest.mark.parametrize("quantization", [None, "float16", "int8"])
def test_a_model_of_ctranslate2_gives_a_run_that_answers_as_it_does(quantization, tmp_path, run, monkeypatch):
    source, folder = tmp_path / "hugging_face", tmp_path / "model"
    source.mkdir()
    write_ctranslate2(folder, make(source), quantization)
    found = import_model(folder, tmp_path / "run", log=lambda line: None)
    # Models of English alone are known by their size.
    assert found.recipe.target.begin == "<|notimestamps|>"
    assert found.recipe.search.suppress_tokens == run.recipe.search.suppress_tokens
    if quantization is None:
        weights = [one.load_model().get_weights() for one in (found, run)]
        assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))
    if quantization != "int8":
        # Products of 8 bits are another computation.
        monkeypatch.setattr(speech_proof, "_OUTPUT", LONGEST - 4)
        proof = prove_recordings(found, folder, None, recordings())
        assert proof.difference < 1e-3 and proof.passed and proof.greedy == proof.inputs
    else:
        weights = [one.load_model().encoder.blocks[0].feed_forward.inner_dense.kernel for one in (found, run)]
        np.testing.assert_allclose(*weights, atol=0.02)


def test_commands_import_and_compare_with_ctranslate2(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speech_proof, "_OUTPUT", LONGEST - 4)
    (tmp_path / "hugging_face").mkdir()
    write_ctranslate2(tmp_path / "model", make(tmp_path / "hugging_face"))
    main(["import", str(tmp_path / "model"), "--run", str(tmp_path / "run")])
    written = capsys.readouterr()
    assert written.out == f"{tmp_path}/run\n" and "by greedy search" in written.err
    main(["verify", "--run", str(tmp_path / "run"), "--against", str(tmp_path / "model")])
    assert capsys.readouterr().out.endswith(": proved\n")
    assert Run.open(tmp_path / "run").recipe.source.kind == "audio"


def cut(path):
    content = (path / "model.bin").read_bytes()
    (path / "model.bin").write_bytes(content[: len(content) // 2])


def renamed(path):
    content = (path / "model.bin").read_bytes()
    (path / "model.bin").write_bytes(content.replace(b"WhisperSpec", b"UnknownSpec"))


def without(name):
    return lambda path: (path / name).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "model.bin: damaged, or no model of CTranslate2"),
        (lambda path: (path / "model.bin").write_bytes(b""), "model.bin: cannot be read"),
        (lambda path: (path / "model.bin").write_bytes(b"\x09\0\0\0"), "must have the version 5 or 6, got 9"),
        (renamed, "the architecture must be one of WhisperSpec, got 'UnknownSpec'"),
        (without("tokenizer.json"), "must have tokenizer.json, or vocab.json and merges.txt"),
        (without("config.json"), "must have config.json, and lacks it"),
        (without("vocabulary.json"), "must have vocabulary.json or vocabulary.txt, and lacks both"),
        (lambda path: write_json(path / "vocabulary.json", ["a"]), "the vocabulary must have"),
        (lambda path: write_json(path / "config.json", {"suppress_ids": "x"}), "must be a list of ids, got 'x'"),
        (lambda path: write_json(path / "config.json", {"alignment_heads": [[2]]}), "must be a list of pairs"),
        (lambda path: write_json(path / "config.json", {"alignment_heads": [[2, 0]]}), "must be a block below 2"),
    ],
)
def test_a_damaged_folder_of_ctranslate2_is_refused_in_one_line(change, message, tmp_path):
    (tmp_path / "hugging_face").mkdir()
    write_ctranslate2(tmp_path / "model", make(tmp_path / "hugging_face"))
    change(tmp_path / "model")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        import_model(tmp_path / "model", tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale_embedding": True}, "scale_embedding must be false"),
        ({"max_source_positions": 51}, "max_source_positions must be those of whole seconds, got 51"),
        ({"num_mel_bins": 9}, "conv1.weight must have the shape [16, 9, 3], got [16, 8, 3]"),
    ],
)
def test_what_cannot_be_represented_is_refused(changed, message, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("run"))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    write_json(tmp_path / "model" / "config.json", {**config, **changed})
    with pytest.raises(UserError, match=re.escape(message)):
        import_model(tmp_path / "model", tmp_path / "run")


def test_a_tensor_is_read_in_16_bits_and_by_both_of_its_names(tmp_path):
    (tmp_path / "hugging_face").mkdir()
    tensors = make(tmp_path / "hugging_face")
    write_ctranslate2(tmp_path / "model", tensors, "float16")
    opened, name = CTranslate2Folder(tmp_path / "model"), "model.decoder.embed_tokens.weight"
    np.testing.assert_allclose(opened.tensor(name, tensors[name].shape), tensors[name], rtol=0.01)
    assert "decoder/projection/weight" not in opened.unused()
