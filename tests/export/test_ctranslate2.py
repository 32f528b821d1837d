"""CTranslate2: Transformers of every kind answer there as live, in a process that has neither TensorFlow nor this."""

import functools

import keras
import numpy as np
import pytest
from small_models import LETTERS, TEXT, TEXTS, live, louder

from tfseq2seq.errors import UserError
from tfseq2seq.export.verify import _texts, verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import BOS, EOS, PAD, ModelSpec, SearchSpec, TextSpec

pytest.importorskip("ctranslate2")
from tfseq2seq.export.ctranslate2 import export_ctranslate2, transformer_spec  # noqa: E402
from tfseq2seq.runtime.ctranslate2_model import CTranslate2Model  # noqa: E402

pytestmark = pytest.mark.usefixtures("eagerly")

KINDS = {
    "sinusoidal": {},
    "learned, after": {"positions": "learned", "norm": "post", "activation": "gelu"},
    "rotary": {"positions": "rotary", "activation": "swiglu"},
    "relative": {"positions": "relative", "relative_distance": 3},
    "none": {"positions": "none"},
    "t5": {
        "positions": "bucketed",
        "position_buckets": 8,
        "relative_distance": 12,
        "norm_kind": "rms",
        "activation": "geglu",
        "head_width": 6,
        "embedding_scale": False,
    },
    "normed": {"norm": "post", "embedding_norm": True, "norm_epsilon": 1e-3, "activation": "silu"},
}


@functools.cache
def network(kind, tied=False):
    """A model that tests must not change."""
    block = {"kind": "transformer", "layers": 2, "heads": 2, "ffn": 16, **KINDS[kind]}
    spec = from_dict(ModelSpec, {"width": 8, "encoder": block, "decoder": block, "tie_output": tied})
    keras.utils.set_random_seed(3)
    model = louder(build_model(spec, TEXT, LETTERS.size, LETTERS.size))
    if not tied:
        # As in a trained model: what never comes has next to no probability, and outputs come to an end.
        bias = np.zeros(LETTERS.size)
        bias[[PAD, BOS]], bias[EOS] = -30.0, 2.5
        model.output_layer.bias.assign(bias)
    return model


def transformer(kind, tied=False, model=None, **search):
    spec = SearchSpec(**{"length_penalty": "average", "max_length": 60, **search})
    return TextToText([model or network(kind, tied)], LETTERS, LETTERS, spec)


def new_network(kind):
    """A model that a test may change."""
    return network.__wrapped__(kind)


SEARCHES = [(kind, {"beam": 3, "n_best": 2}) for kind in KINDS]
# Greedy search is one and the same for every kind of block: these two differ in each option.
SEARCHES += [(kind, {"beam": 1}) for kind in ("learned, after", "rotary")]


@pytest.mark.parametrize("kind, search", SEARCHES, ids=[f"{kind}-beam {search['beam']}" for kind, search in SEARCHES])
def test_every_transformer_answers_as_live(kind, search, tmp_path):
    model = transformer(kind, **search)
    expected = Generator(model, 2, 1).generate(TEXTS)
    found = CTranslate2Model(export_ctranslate2(model, tmp_path / "model"), batch_size=2).generate(TEXTS)
    for one, other in zip(found, expected, strict=True):
        assert one.texts[0] == other.texts[0] and one.cut == other.cut
        if len(one.texts[0]) == model.spec.max_length - 1:
            # Cut off: no <eos> there, and one in ours; but what it says of itself fits together.
            assert one.log_probs[0] == pytest.approx(one.scores[0] * len(one.texts[0]) ** 0.6, rel=1e-5)
            continue
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
    (verdict,) = verify(quantized, model, TEXTS, batches=[3])
    assert verdict.passed and verdict.most_drop == 0.1


def test_verify_is_not_taken_in_by_what_a_quantized_model_says_of_itself(tmp_path):
    changed = new_network("rotary")
    changed.set_weights([3 * weight for weight in changed.get_weights()])
    model, other = transformer("rotary", beam=2), transformer("rotary", model=changed, beam=2)
    (verdict,) = verify(export_ctranslate2(other, tmp_path / "other", "int8"), model, TEXTS, batches=[3])
    # Surer of what it says, and what it says is something else.
    assert verdict.same < verdict.count and verdict.drop > 0.1 and not verdict.passed
    assert "NOT CLOSE ENOUGH" in str(verdict)


def test_outputs_that_are_cut_off_are_compared_by_their_texts(tmp_path):
    changed = new_network("rotary")
    model, bias = transformer("rotary", model=changed, beam=1, max_length=4), changed.output_layer.bias
    bias.assign(np.where(np.arange(LETTERS.size) == EOS, -30.0, bias))
    folder = export_ctranslate2(model, tmp_path / "model")
    outputs = zip(CTranslate2Model(folder).generate(TEXTS), Generator(model).generate(TEXTS))
    assert any(abs(one.scores[0] - other.scores[0]) > 0.01 for one, other in outputs), "nothing is cut off"
    (verdict,) = verify(folder, model, TEXTS, batches=[2])
    assert verdict.passed and verdict.same == len(TEXTS)


def test_a_folder_of_another_vocabulary_or_kind_is_told(tmp_path):
    folder = export_ctranslate2(transformer("rotary", beam=2), tmp_path / "model")
    with pytest.raises(UserError, match="takes ids, and the run's model audio and length: it was exported from"):
        verify(folder, live("conformer ctc"), [np.ones(800, "float32")])
    spec = TextSpec(scheme="characters")
    fewer = TextFeatures(spec, learn_vocabulary([b"ab"], spec))
    model = transformer("rotary", beam=2)
    with pytest.raises(UserError, match="says .*, which the run's target vocabulary has not: it is of another run"):
        _texts(folder, TextToText(model.models, LETTERS, fewer, SearchSpec()), ["a"], [[LETTERS.vocabulary.tokens[-1]]])
    with pytest.raises(UserError, match="says 99, which"):
        _texts(folder, model, ["a"], [[5, 99]])


def test_what_ctranslate2_has_not_is_told(tmp_path):
    with pytest.raises(UserError, match="takes Transformers over source text, .*encoder recurrent and decoder rec"):
        export_ctranslate2(live("gru"), tmp_path / "model")
    with pytest.raises(UserError, match="takes Transformers over .*source audio, encoder conformer and decoder ctc"):
        export_ctranslate2(live("conformer ctc"), tmp_path / "model")
    for beam in (1, 3):
        with pytest.raises(UserError, match="search.length_penalty: CTranslate2 divides by length"):
            export_ctranslate2(transformer("rotary", length_penalty="gnmt", beam=beam), tmp_path / "model")
    with pytest.raises(UserError, match="search.max_run: CTranslate2's search has no such setting"):
        export_ctranslate2(transformer("rotary", max_run=2), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_ctranslate2(transformer("rotary"), tmp_path / "model")
    with pytest.raises(UserError, match="not a complete export: .*tfseq2seq.json"):
        CTranslate2Model(tmp_path / "model")
