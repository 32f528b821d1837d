"""Marian models of Hugging Face: as runs they give what an independent computation of the model gives."""

import dataclasses
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
    in_place_of_transformers,
    layer,
    pieces_of,
    silu,
)
from safetensors.numpy import load_file, save_file

from tfseq2seq.cli import main
from tfseq2seq.errors import UserError
from tfseq2seq.interop import proof
from tfseq2seq.interop.architectures import import_model
from tfseq2seq.interop.hugging_face import HuggingFaceFolder
from tfseq2seq.interop.proof import TABLE, prove
from tfseq2seq.run import Run
from tfseq2seq.spec import BOS

POSITIONS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("marian")
    make(path)
    return path


def make(path):
    """A model of one and two layers with random weights."""
    tokens = {"</s>": 0, "<unk>": 1}
    own, other = pieces_of(SOURCE, path / "source.spm"), pieces_of(TARGET, path / "target.spm")
    # One piece of the source is not in the list, as some are not in real ones.
    for token in (*own[:-1], *other, ">>eng<<"):
        if token not in ("<s>", own[-1]):
            tokens.setdefault(token, len(tokens))
    tokens["<pad>"] = len(tokens)
    (path / "vocab.json").write_text(json.dumps(tokens))
    config = {
        "model_type": "marian",
        "is_encoder_decoder": True,
        "scale_embedding": True,
        "vocab_size": len(tokens),
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN,
        "activation_function": "swish",
        "max_position_embeddings": POSITIONS,
        "pad_token_id": tokens["<pad>"],
        "eos_token_id": 0,
        "decoder_start_token_id": tokens["<pad>"],
        "num_beams": 3,
        "max_length": 21,
    }
    (path / "config.json").write_text(json.dumps(config))
    draw = drawn()
    tensors = {"model.shared.weight": draw(len(tokens), WIDTH), "final_logits_bias": draw(1, len(tokens))}
    tensors |= layer("model.encoder.layers.0", ["self_attn"], draw)
    for index in range(2):
        tensors |= layer(f"model.decoder.layers.{index}", ["self_attn", "encoder_attn"], draw)
    save_file(tensors, path / "model.safetensors")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return import_model(folder, tmp_path_factory.mktemp("runs") / "run", log=lambda line: None)


def reference(folder):
    """In place of the process in which transformers runs the model."""
    tokens = json.loads((folder / "vocab.json").read_text())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pad = tokens["<pad>"]

    def positions(side, count):
        places, columns = np.arange(count)[:, np.newaxis], np.arange(WIDTH // 2)
        angles = places / 10000 ** (2 * columns / WIDTH)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def ids_of(text):
        return [*(tokens.get(piece, 1) for piece in processor.encode(text, out_type=str)), 0]

    model = Reference(folder, False, silu, np.sqrt(WIDTH), positions)
    return in_place_of_transformers(model.logits, ids_of, pad, 0, [pad])


def test_a_run_gives_the_logits_ids_and_outputs_of_the_model(folder, run, monkeypatch):
    monkeypatch.setattr(proof, "_reference", reference(folder))
    # With a word that no piece has, and one of the piece that the list of ids lacks.
    found = prove(run, folder, "python", [*SOURCE, "  das  zimme ", ""])
    assert found.difference < 2e-5 and (found.inputs, found.same_ids, found.texts) == (14, 6, 6)
    assert found.greedy == 14 and found.passed and "proved" in str(found)


def test_the_recipe_has_the_settings_of_the_model(folder, run):
    recipe = run.recipe
    assert (recipe.model.encoder.layers, recipe.model.decoder.layers) == (1, 2)
    assert recipe.source.reserved == (">>eng<<",) and recipe.source.scheme == "unigram"
    assert (recipe.search.beam, recipe.search.max_length, recipe.search.alpha) == (3, 20, 1.0)
    table = json.loads((run.folder / TABLE).read_text())
    assert not table["written"][BOS] and len(table["source"]) == run.source.size


def test_a_changed_weight_is_no_proof(folder, run, tmp_path, monkeypatch):
    shutil.copytree(run.folder, tmp_path / "run")
    changed = Run.open(tmp_path / "run")
    model = changed.load_model()
    model.output_layer.bias.assign_add(np.full(changed.target.size, 1e-3))
    model.save_weights(changed.weights_file())
    monkeypatch.setattr(proof, "_reference", reference(folder))
    found = prove(changed, folder)
    assert not found.passed and "NOT the same model" in str(found)


def test_logits_that_are_not_finite_are_no_proof(folder, run, monkeypatch):
    def spoiled(python, request):
        found, logits = reference(folder)(python, request)
        logits[3][2, 5] = np.nan
        return found, logits

    monkeypatch.setattr(proof, "_reference", spoiled)
    assert not prove(run, folder).passed


def test_commands_import_and_compare(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proof, "_reference", reference(folder))
    (tmp_path / "lines").write_text("ein haus\n")
    options = ["--reference", "python", "--input", str(tmp_path / "lines")]
    main(["import", str(folder), "--run", str(tmp_path / "run"), *options])
    written = capsys.readouterr()
    assert written.out == f"{tmp_path}/run\n" and "ids of 1 of 1 texts equal" in written.err
    assert "set source.begin to the language that is to be written, one of >>eng<<" in written.err
    main(["verify", "--run", str(tmp_path / "run"), "--against", str(folder), *options])
    assert capsys.readouterr().out.endswith(": proved\n")
    main(["generate", "--run", str(tmp_path / "run"), "--input", str(tmp_path / "lines")])
    assert capsys.readouterr().out.count("\n") == 1


def test_what_is_not_the_same_is_not_written(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proof, "TOLERANCE", 0.0)
    monkeypatch.setattr(proof, "_reference", reference(folder))
    with pytest.raises(SystemExit) as stopped:
        main(["import", str(folder), "--run", str(tmp_path / "run"), "--reference", "python"])
    assert stopped.value.code == 1 and not list(tmp_path.iterdir())
    assert "the imported model differs from its original; nothing is written" in capsys.readouterr().err


def changed_config(**values):
    def change(path):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, **values}))

    return change


def changed_tensors(change):
    def apply(path):
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")

    return apply


def with_index(path):
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))


def pickled(path):
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def cut(path):
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


FC1 = "model.encoder.layers.0.fc1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_config(model_type="marion"), "got 'marion'; did you mean marian?"),
        (changed_config(scale_embedding=False), "scale_embedding must be true, which alone can be represented"),
        (changed_config(activation_function="mish"), "activation_function must be one of swish, silu, relu, gelu"),
        (changed_config(d_model="16"), "d_model must be of kind int, got '16'"),
        (changed_config(encoder_layers=None), "encoder_layers must be of kind int, got None"),
        (changed_config(num_beams="x"), "num_beams must be of kind int, got 'x'"),
        (changed_config(length_penalty=[1]), "length_penalty must be of kind float, got [1]"),
        (
            lambda path: (path / "vocab.json").write_text('{"</s>": 0, "<unk>": "x"}'),
            "must have ids from 0 on",
        ),
        (changed_config(vocab_size=3), "must have ids from 0 on, at most 3 (vocab_size)"),
        (changed_tensors(lambda t: t.pop(FC1)), f"must have the tensor {FC1}, and lacks it"),
        (
            changed_tensors(lambda t: t.update({FC1: t[FC1].T.copy()})),
            f"the tensor {FC1} must have the shape [24, 16], got [16, 24]",
        ),
        (
            changed_tensors(lambda t: t.update(extra=np.zeros(1))),
            "the tensor extra has no place in a model of type marian",
        ),
        (pickled, "pickled weights can run any code and are not read"),
        (cut, "model.safetensors: damaged"),
        (with_index, "must name files in the folder, got '../../secret.safetensors'"),
        (lambda path: (path / "target.spm").write_bytes(b"no"), "target.spm: not a SentencePiece model"),
        (lambda path: (path / "vocab.json").write_text("[]"), "vocab.json: must have keys and values, got []"),
        (lambda path: (path / "config.json").write_text("{"), "config.json: must be JSON, and is not"),
        (lambda path: (path / "source.spm").unlink(), "must have source.spm, and lacks it"),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused_in_one_line(folder, tmp_path, change, message):
    shutil.copytree(folder, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        import_model(tmp_path / "model", tmp_path / "run")
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_in_several_files_and_in_half_precision_are_read(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    tensors = {name: value.astype("float16") for name, value in load_file(folder / "model.safetensors").items()}
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    for index, (name, value) in enumerate(sorted(tensors.items())):
        parts[list(parts)[index % 2]][name] = value
    for name, part in parts.items():
        save_file(part, tmp_path / "model" / name)
    places = {name: file for file, part in parts.items() for name in part}
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    opened = HuggingFaceFolder(tmp_path / "model")
    found = opened.tensor(FC1, (FFN, WIDTH))
    assert found.dtype == "float32" and np.array_equal(found, tensors[FC1].astype("float32"))
    del places[FC1]
    index.write_text(json.dumps({"weight_map": {**places, "none": "a.safetensors"}}))
    with pytest.raises(UserError, match=r"a.safetensors must have the tensor none, and lacks it"):
        HuggingFaceFolder(tmp_path / "model")


def test_options_that_do_not_go_together_are_refused(folder, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tfseq2seq.interop.proof.has_transformers", lambda: False)
    (tmp_path / "lines").write_text("a\n")
    for arguments, message in (
        (["verify", "--run", str(run.folder)], "verify: needs either MODEL or --against, got neither"),
        (["verify", "x", "--run", str(run.folder), "--against", "y"], "got both"),
        (["verify", "x", "--run", str(run.folder), "--reference", "y"], "--reference: needs --against"),
        (["verify", "--run", str(run.folder), "--against", str(folder)], "--reference: must name a Python that has"),
        (
            ["verify", "--run", str(run.folder), "--against", str(folder), "--reference", "y", "--drop", "1"],
            "--drop: cannot be combined with --against",
        ),
        (["import", str(folder), "--run", str(tmp_path / "r"), "--input", str(tmp_path / "lines")], "--input: needs"),
        (["import", str(folder), "--run", str(run.folder)], "exists already; name another folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2 and message in capsys.readouterr().err


def test_a_run_that_was_not_imported_is_told(trained_run):
    with pytest.raises(UserError, match="was not imported, as it has no foreign_ids.json"):
        prove(trained_run, "folder")
    assert dataclasses.is_dataclass(trained_run.recipe)
