"""Predictors: ensembles of speech models, and prefixes of outputs; what a decoder family cannot do is told."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import LETTERS, inputs_of, live, network, predictor, shared_network

from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.generator import Generator
from tfseq2seq.runtime.outputs import cut_warnings, length_limit
from tfseq2seq.spec import PAD

pytestmark = pytest.mark.usefixtures("forked_clients")

# Of models with both outputs an ensemble goes by attention alone.
ATTENTIVE = {"las": {}, "joint": {"ctc_weight": 0.0}}
PLAIN = {"length_penalty": "none", "max_length": 6}


@pytest.fixture(scope="module")
def pair():
    """A function of a family to two models with different weights, built once."""
    second = {}

    def of(family):
        if family not in second:
            second[family] = network(family, seed=3)
        return [shared_network(family), second[family]]

    return of


def generated(model, family):
    return Generator(model, 2, 1).generate(inputs_of(family))


# ---- ensembles of speech models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ATTENTIVE)
def test_a_speech_ensemble_averages_the_probabilities_of_its_models(family, pair):
    models, search = pair(family), {**PLAIN, **ATTENTIVE[family], "beam": 2}
    both = predictor(models, family, **search)
    texts = ["ab", "dcba", "a"]
    logs = []
    for model in models:
        inputs, labels = both.source.inputs(*both.pack(inputs_of(family))).inputs, LETTERS(tf.constant(texts))
        shifted = np.pad(labels.numpy(), ((0, 0), (1, 0)), constant_values=2)[:, :-1]
        outputs = model({**inputs, "target": tf.constant(shifted)}, training=False)
        logits = outputs["attention"] if family == "joint" else outputs
        logs.append(tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=2).numpy())
    each = np.where(labels.numpy() != 0, np.log(np.mean(np.exp(logs), axis=0)), 0.0)
    found, _ = Generator(both).log_probabilities(inputs_of(family), texts)
    np.testing.assert_allclose(found, each.sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize("family", ATTENTIVE)
def test_a_speech_ensemble_searches_by_what_it_scores(family, pair):
    search = {**PLAIN, **ATTENTIVE[family], "beam": 3, "n_best": 2}
    both = predictor(pair(family), family, **search)
    outputs, alone = generated(both, family), generated(live(family, **search), family)
    assert [output.scores for output in outputs] != [output.scores for output in alone]
    given = both.source.inputs(*both.pack(inputs_of(family)))
    found = both.search(given)
    for rank in range(2):
        totals, counts = both.decoding.log_probabilities(given.inputs, found.ids[:, rank])
        np.testing.assert_allclose(totals, found.log_probs[:, rank], atol=1e-3)
        np.testing.assert_array_equal(counts, found.lengths[:, rank])
        np.testing.assert_allclose(totals, [output.log_probs[rank] for output in outputs], atol=1e-3)


@pytest.mark.parametrize("family", ATTENTIVE)
def test_an_ensemble_of_a_speech_model_with_itself_answers_as_the_model(family):
    search = {**PLAIN, **ATTENTIVE[family], "beam": 2}
    one = generated(live(family, **search), family)
    twice = generated(predictor([shared_network(family)] * 2, family, **search), family)
    assert [output.texts for output in twice] == [output.texts for output in one]
    for found, expected in zip(twice, one, strict=True):
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.slow
def test_a_speech_ensemble_is_exported_as_a_saved_model_alone(pair, tmp_path, one_signature):
    both = predictor(pair("las"), "las", **PLAIN, beam=2)
    names = [endpoint.name for endpoint in endpoints(both)]
    assert names == ["serving_default", "transcribe", "transcribe_wav", "n_best", "score"]
    (verdict,) = verify(export_saved_model(both, tmp_path / "both"), both, inputs_of("las"), batches=[2])
    assert verdict.passed and verdict.same == len(inputs_of("las"))
    with pytest.raises(UserError, match="2 models: an ensemble does not go into a TFLite file; give one run"):
        export_tflite(both, tmp_path / "lite")


@pytest.mark.parametrize("family, kind", [("conformer ctc", "ctc"), ("transducer", "transducer")])
def test_an_ensemble_of_models_that_do_not_write_token_by_token_is_refused(family, kind):
    with pytest.raises(UserError) as refused:
        predictor([shared_network(family)] * 2, family)
    assert str(refused.value) == (
        f"2 models: an ensemble needs decoders that write token by token, and the decoder is {kind}; give one run"
    )


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_an_ensemble_that_ranks_by_ctc_too_is_refused(weight):
    with pytest.raises(UserError, match=r"^2 models: an ensemble .*CTC outputs; set search\.ctc_weight to 0$"):
        predictor([shared_network("joint")] * 2, "joint", ctc_weight=weight)


# ---- prefixes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["las", "joint"])
def test_transcripts_begin_with_their_prefix(family):
    model = live(family, **PLAIN, beam=2)
    outputs = Generator(model, 2, 1).generate(inputs_of(family), prefixes=["ab", "", "dcb"])
    for output, prefix in zip(outputs, ["ab", "", "dcb"], strict=True):
        assert output.texts[0].startswith(prefix)
    # Without a prefix it is the output that comes by itself.
    assert outputs[1].texts == generated(model, family)[1].texts


@pytest.mark.parametrize(
    "family, search", [("conformer ctc", {}), ("transducer", {}), ("joint", {"ctc_weight": 1.0})], ids=str
)
@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_is_refused_where_the_search_does_not_write_token_by_token(family, search, beam):
    generator = Generator(live(family, beam=beam, max_length=8, **search), 2, 1)
    with pytest.raises(UserError, match="--prefix: needs a decoder that writes token by token; this search has none"):
        generator.generate(inputs_of(family), prefixes=["a"] * len(inputs_of(family)))


# ---- outputs that may be cut off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gru", "las", "joint", "conformer ctc", "transducer", "lstm language model"])
@pytest.mark.parametrize("sample", [False, True])
def test_an_output_that_is_as_long_as_the_search_allows_may_be_cut(family, sample):
    if sample and family in ("conformer ctc", "transducer"):
        pytest.skip("it does not write token by token")
    search = {"beam": 1, "ctc_weight": 0.0, **({"sample": True} if sample else {})}
    whole, short = live(family, **search, max_length=40), live(family, **search, max_length=3)
    packed = whole.pack(inputs_of(family))
    given = whole.source.inputs(*packed)
    lengths = np.count_nonzero(whole.search(given).ids[:, 0] != PAD, axis=1)
    for model, limit in ((whole, 40), (short, 3)):
        cut = model.texts(*packed)["cut"].numpy()[:, 0]
        assert cut.tolist() == ((lengths >= limit) & ~given.empty.numpy()).tolist()
    assert any(cut)


def test_an_output_that_is_as_long_as_its_source_allows_may_be_cut():
    search = {"beam": 1, "max_length": 40}
    whole, short = live("gru", **search), live("gru", **search, max_ratio=0.01)
    found = whole.search(whole.source.inputs(*whole.pack(inputs_of("gru"))))
    lengths = np.count_nonzero(found.ids[:, 0] != PAD, axis=1)
    empty = whole.source.inputs(*whole.pack(inputs_of("gru"))).empty.numpy()
    cut = [output.cut for output in generated(short, "gru")]
    assert cut == ((lengths >= 11) & ~empty).tolist()


def test_the_number_of_outputs_that_may_be_cut_is_told():
    assert cut_warnings([False, False], length_limit(16, 0.0), "raise it") == []
    assert cut_warnings([], length_limit(16, 0.0), "raise it") == []
    assert cut_warnings([True, False] * 600, length_limit(16, 1.5), "raise it", "windows") == [
        "600 of 1,200 windows reached search.max_length=16 or search.max_ratio=1.5 and may be cut; raise it"
    ]


# ---- long inputs ----------------------------------------------------------------------------------------------------


def test_a_generator_refuses_what_is_longer_than_the_model_answers():
    generator = Generator(live("gru", max_input=6, **PLAIN), 2, 1)
    assert len(generator.generate(["abcda"])) == 1, "with <eos> it has six tokens"
    with pytest.raises(UserError, match=r"^input 2: .*7 tokens with <eos>, at most 6 are answered"):
        generator.generate(["ab", "abcdab"])
    with pytest.raises(UserError, match=r"^input 1: "):
        generator.log_probabilities(["abcdab"], ["ab"])
    long = "ab" * generator.model.max_scored
    with pytest.raises(UserError, match=r"^target 1: .*search.max_length"):
        generator.log_probabilities(["ab"], [long])
    with pytest.raises(UserError, match=r"^prefix 1: "):
        generator.generate(["ab"], prefixes=[long])


def test_batches_of_long_inputs_are_smaller(monkeypatch):
    generator = Generator(live("gru", max_input=5000, **PLAIN), 64, 1)
    sizes = []

    def counted(texts, seeds):
        sizes.append(len(texts))
        found = {name: tf.zeros([len(texts), 1]) for name in ("score", "log_prob")}
        return {"text": tf.fill([len(texts), 1], ""), "cut": tf.zeros([len(texts), 1], "bool"), **found}

    monkeypatch.setattr(generator, "_texts", counted)
    generator.generate(["a" * 1000] * 150 + ["a" * 2048] * 20 + ["a" * 4096] * 5)
    assert sizes == [4, 4, 16, 16, 64, 64, 7], "the longest input of each batch tells its size"
