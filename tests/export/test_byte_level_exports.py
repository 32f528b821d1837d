"""Exported models whose tokenizer is byte-level BPE answer as the live one."""

import json

import pytest
from small_models import network, predictor
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tfseq2seq.export.ctranslate2 import export_ctranslate2
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import load_vocabulary
from tfseq2seq.spec import TextSpec

TEXTS = ["It's a house", "  两 个字\u3000", "", "naïve 12", "houses"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_clients", "one_signature")
def test_exports_answer_as_the_model(tmp_path):
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(TEXTS, trainer)
    library.save(str(tmp_path / "tokenizer.json"))
    settings = {"scheme": "byte_bpe", "normalization": "none", "prefix_space": True}
    spec = TextSpec(**settings, vocabulary=str(tmp_path / "tokenizer.json"))
    features = TextFeatures(spec, load_vocabulary(tmp_path / "tokenizer.json", spec))
    model = predictor(
        [network("sinusoidal", features)], "sinusoidal", features, beam=2, max_length=12, length_penalty="none"
    )
    exported = {
        "saved": export_saved_model(model, tmp_path / "saved"),
        "lite": export_tflite(model, tmp_path / "lite"),
        "ctranslate2": export_ctranslate2(model, tmp_path / "ctranslate2"),
    }
    # No exported model needs the files that the vocabulary came from.
    (tmp_path / "tokenizer.json").unlink()
    assert json.loads((exported["lite"] / "config.json").read_text())["target"]["scheme"] == "byte_bpe"
    for folder in exported.values():
        for verdict in verify(folder, model, TEXTS, batches=[2]):
            assert verdict.passed, verdict
