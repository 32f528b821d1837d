"""CTranslate2: Transformers of every kind answer there as live, in a process that has neither TensorFlow nor this."""

import keras
import numpy as np
import pytest
from small_models import LETTERS, TEXT, TEXTS, live, louder

from tfseq2seq.errors import UserError
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.export.generator import Generator
from tfseq2seq.export.verify import verify
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import BOS, EOS, PAD, ModelSpec, SearchSpec

pytest.importorskip("ctranslate2")
from tfseq2seq.export.ctranslate2 import export_ctranslate2, transformer_spec  # noqa: E402
from tfseq2seq.export.ctranslate2_model import CTranslate2Model  # noqa: E402

KINDS = {
    "sinusoidal": {},
    "learned, after": {"positions": "learned", "norm": "post", "activation": "gelu"},
    "rotary": {"positions": "rotary", "activation": "swiglu"},
    "relative": {"positions": "relative", "relative_distance": 3},
    "none": {"positions": "none"},
}


def transformer(kind, tied=False, **search):
    block = {"kind": "transformer", "layers": 2, "heads": 2, "ffn": 16, **KINDS[kind]}
    spec = from_dict(ModelSpec, {"width": 8, "encoder": block, "decoder": block, "tie_output": tied})
    keras.utils.set_random_seed(3)
    model = louder(build_model(spec, TEXT, LETTERS.size, LETTERS.size))
    if not tied:
        # As in a trained model: what never comes has next to no probability, and outputs come to an end.
        bias = np.zeros(LETTERS.size)
        bias[[PAD, BOS]], bias[EOS] = -30.0, 2.5
        model.output_layer.bias.assign(bias)
    return TextToText(
        [model], LETTERS, LETTERS, SearchSpec(**{"length_penalty": "average", "max_length": 60, **search})
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("search", [{"beam": 3, "n_best": 2}, {"beam": 1}], ids=["beam", "greedy"])
def test_every_transformer_answers_as_live(kind, search, tmp_path):
    model = transformer(kind, **search)
    expected = Generator(model, 2, 1).generate(TEXTS)
    found = CTranslate2Model(export_ctranslate2(model, tmp_path / "model"), batch_size=2).generate(TEXTS)
    for one, other in zip(found, expected, strict=True):
        assert one.texts[0] == other.texts[0]
        if len(one.texts[0]) == model.spec.max_length - 1:
            continue  # cut off: no <eos> there, and one in ours
        assert one.scores[0] == pytest.approx(other.scores[0], abs=1e-3)
        assert one.log_probs[0] == pytest.approx(other.log_probs[0], abs=1e-3)


def test_an_embedding_serves_as_output_layer_too():
    model = transformer("rotary", tied=True)
    spec = transformer_spec(model)
    table = model.models[0].target_embedding.embeddings
    for weight in (spec.decoder.projection.weight, spec.decoder.embeddings.weight):
        np.testing.assert_array_equal(weight, table)


def test_a_process_without_this_package_answers_the_same(tmp_path):
    model = transformer("rotary", beam=2)
    (verdict,) = verify(export_ctranslate2(model, tmp_path / "model"), model, TEXTS, batches=[3])
    assert verdict.passed and verdict.same == len(TEXTS)
    quantized = export_ctranslate2(model, tmp_path / "int8", "int8")
    assert (quantized / "model.bin").stat().st_size < (tmp_path / "model" / "model.bin").stat().st_size
    (verdict,) = verify(quantized, model, TEXTS, batches=[3], most_drop=1.0)
    assert verdict.passed and verdict.most_drop == 1.0


def test_what_ctranslate2_has_not_is_told(tmp_path):
    with pytest.raises(UserError, match="no model with encoder recurrent and decoder recurrent"):
        export_ctranslate2(live("gru"), tmp_path / "model")
    with pytest.raises(UserError, match="no model with encoder conformer and decoder ctc"):
        export_ctranslate2(live("conformer ctc"), tmp_path / "model")
    with pytest.raises(UserError, match="search.length_penalty: CTranslate2 divides by length"):
        export_ctranslate2(transformer("rotary", length_penalty="gnmt"), tmp_path / "model")
    with pytest.raises(UserError, match="search.max_run: CTranslate2's search has no such setting"):
        export_ctranslate2(transformer("rotary", max_run=2), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_ctranslate2(transformer("rotary"), tmp_path / "model")
    with pytest.raises(UserError, match="not a whole CTranslate2 export"):
        CTranslate2Model(tmp_path / "model")
