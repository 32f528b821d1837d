"""A SavedModel answers as the live model does, in a process that does not import this package."""

import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf
from fresh_processes import run_client

from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.verify import same_score, verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor, TextToText
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.spec import ModelSpec, RecurrentDecoderSpec, RecurrentEncoderSpec, SearchSpec, TextSpec


@pytest.fixture(scope="module")
def predictor(trained_run):
    return Predictor.of_runs([trained_run])


@pytest.fixture(scope="module")
def generator(predictor):
    return Generator(predictor)


@pytest.fixture(scope="module")
def live(generator, texts):
    return generator.generate(texts)


@pytest.fixture(scope="module")
def texts(generated):
    return [*generated["test.source"].read_text(encoding="utf-8").split("\n")[:30], "", "   ", "\u20ac\u4f60\U0001f600"]


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    return export_saved_model(predictor, tmp_path_factory.mktemp("saved") / "small")


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 64])
def test_a_fresh_process_answers_as_the_live_model(exported, texts, live, batch, ask_saved_model):
    found = ask_saved_model(exported, texts, batch, "serving_default", "n_best")
    best = found["serving_default"]
    assert [row[0] for row in best["text"]] == [output.texts[0] for output in live]
    np.testing.assert_allclose([row[0] for row in best["score"]], [output.scores[0] for output in live], atol=1e-4)
    assert found["n_best"]["text"] == [output.texts for output in live]


def test_no_strings_at_all_get_no_answers(exported, signatures):
    answers = signatures(exported)["serving_default"](text=tf.constant([], tf.string))
    assert {name: found.shape for name, found in answers.items()} == dict.fromkeys(
        ("text", "score", "warning", "error"), (0,)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("forked_clients")
def test_verify_passes_the_export_of_this_model_only(predictor, exported, texts):
    texts = texts[-8:]
    same = verify(exported, predictor, texts, batches=(1, 64))
    assert [(verdict.batch, verdict.count, verdict.same) for verdict in same] == [(1, 8, 8), (64, 8, 8)]
    assert all(verdict.passed and verdict.peak_bytes > 1e7 and verdict.speed > 0 for verdict in same)
    model = Seq2Seq(predictor.models[0].spec, predictor.source.size, predictor.target.size)
    weights = predictor.models[0].get_weights()
    weights[-1] = weights[-1] * 1.1
    model.set_weights(weights)
    changed = Predictor([model], predictor.source, predictor.target, predictor.spec)
    (verdict,) = verify(exported, changed, texts, batches=[64])
    assert not verdict.passed and "NOT EQUAL" in str(verdict)


@pytest.mark.parametrize(
    ("own", "other", "same"),
    [
        (-2.0, -2.0009, True),
        (-2.0, -2.002, False),
        (-300.0, -300.002, True),
        (-300.0, -300.004, False),
        (0.0, np.nan, False),
    ],
)
def test_scores_may_differ_by_the_tolerance_and_large_ones_in_proportion(own, other, same):
    assert same_score(own, other, 1e-3) == same


@pytest.mark.slow
@pytest.mark.usefixtures("forked_clients")
def test_verify_says_what_is_missing_or_broken(predictor, tmp_path):
    with pytest.raises(UserError, match="holds no exported model"):
        verify(tmp_path, predictor, ["a"])
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UserError, match="nothing to ask"):
        verify(tmp_path, predictor, [])
    with pytest.raises(UserError, match="cannot be run: "):
        verify(tmp_path, predictor, ["a"])


def test_an_empty_string_gives_an_empty_string(live):
    assert live[30].texts == ["", ""] and live[31].texts == ["", ""] and live[30].scores == [0.0, 0.0]


@pytest.mark.slow
def test_recurrent_models_and_sentencepiece_answer_as_live_too(tmp_path, ask_saved_model, one_signature):
    text = ["a small cat sat", "the cat ran to the hat", "a hat sat on a cat", "the small rat ran"] * 5
    spec = TextSpec(scheme="bpe", vocabulary_size=40)
    features = TextFeatures(spec, learn_vocabulary(text, spec))
    decoder = RecurrentDecoderSpec(layers=1, units=8, attention="additive", attention_units=8)
    model = Seq2Seq(
        ModelSpec(width=8, encoder=RecurrentEncoderSpec(layers=1, units=8), decoder=decoder),
        features.size,
        features.size,
    )
    predictor = TextToText([model, model], features, features, SearchSpec(beam=3, max_length=12))
    folder = export_saved_model(predictor, tmp_path / "model")
    found = ask_saved_model(folder, text[:4], 4, "serving_default")["serving_default"]
    assert [row[0] for row in found["text"]] == [output.texts[0] for output in Generator(predictor).generate(text[:4])]


def test_versions_count_up_and_are_never_replaced(predictor, tmp_path, small_graph):
    folders = [export_saved_model(predictor, tmp_path / "model") for _ in range(2)]
    assert [folder.name for folder in folders] == ["1", "2"]
    with pytest.raises(UserError, match="exists already"):
        export_saved_model(predictor, tmp_path / "model", version=2)
    with pytest.raises(UserError, match="is a file"):
        export_saved_model(predictor, folders[0] / "saved_model.pb")


def test_a_failed_export_leaves_nothing(predictor, tmp_path, monkeypatch, small_graph):
    def fail(*arguments, **options):
        (tmp_path / "model").mkdir(exist_ok=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(UserError, match="No space left"):
        export_saved_model(predictor, tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())


def test_generation_keeps_order_whatever_the_batch(generator, texts, live, monkeypatch):
    for size in (1, 7):
        monkeypatch.setattr(generator, "batch_size", size)
        assert [output.texts for output in generator.generate(texts[:9])] == [output.texts for output in live[:9]]


def test_batches_side_by_side_answer_as_one_after_the_other(generator, texts, monkeypatch):
    monkeypatch.setattr(generator, "batch_size", 3)
    found = []
    for workers in (1, 4):
        monkeypatch.setattr(generator, "workers", workers)
        found.append((generator.generate(texts), *generator.log_probabilities(texts, texts)))
    alone, beside = found
    assert beside[0] == alone[0]
    for one, other in zip(beside[1:], alone[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_an_error_in_one_batch_ends_them_all(predictor, texts, monkeypatch):
    generator, calls = Generator(predictor, batch_size=1, workers=2), []

    def fail_first(batch, seeds):
        calls.append(batch)
        if len(calls) == 1:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        time.sleep(0.05)
        numbers = {name: tf.constant([[0.0]]) for name in ("score", "log_prob")}
        return {"text": tf.constant([["x"]]), "cut": tf.constant([[False]]), **numbers}

    monkeypatch.setattr(generator, "_texts", fail_first)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="out of memory"):
        generator.generate(texts)
    assert len(calls) < len(texts)


@pytest.mark.slow
def test_cores_are_shared_by_programs_that_only_generate(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import tensorflow as tf
from tfseq2seq.inference.generator import cores, share_cores

share_cores(1)
assert tf.config.threading.get_intra_op_parallelism_threads() == cores()
share_cores(10 * cores(), workers=cores())
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
tf.constant(1) + 1
share_cores(1)  # too late, and harmless
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
""")
    done = run_client(script)
    assert done.returncode == 0, done.stderr


def test_scores_are_those_of_teacher_forcing(generator, texts, live):
    outputs = live[:20]
    found, _ = generator.log_probabilities(texts[:20], [output.texts[0] for output in outputs])
    # An output that holds <unk> or does not tokenize back to the same ids is another sequence.
    same = [i for i, output in enumerate(outputs) if "<unk>" not in output.texts[0]]
    assert same
    np.testing.assert_allclose(found[same], [outputs[i].log_probs[0] for i in same], atol=1e-3)


def test_prefixes_are_kept(generator, texts, live):
    outputs = generator.generate(texts[:5], prefixes=["the", "", "the", "at", ""])
    assert outputs[0].texts[0].startswith("the") and outputs[3].texts[0].startswith("at")
    assert outputs[1].texts == live[1].texts


def test_a_saved_model_draws_as_live(trained_run, texts, tmp_path, one_signature):
    search = dataclasses.replace(trained_run.recipe.search, sample=True, n_best=3, beam=1, seed=4)
    predictor = Predictor.of_runs([trained_run], search=search)
    first, again = (Generator(predictor, size).generate(texts[:4]) for size in (4, 3))
    assert first == again and len(first[0].texts) == 3
    one_signature("n_best")
    loaded = tf.saved_model.load(str(export_saved_model(predictor, tmp_path / "drawn")))
    found = loaded.signatures["n_best"](text=tf.constant(texts[:4]))["text"].numpy()
    np.testing.assert_array_equal(found, predictor.texts(tf.constant(texts[:4]))["text"])
