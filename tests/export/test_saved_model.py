"""The artefact answers as the live model does, in a process that does not import this package."""

import dataclasses
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.verify import same_score, verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.endpoints import TextToText
from tfseq2seq.inference.generator import Generator
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.spec import ModelSpec, RecurrentDecoderSpec, RecurrentEncoderSpec, SearchSpec, TextSpec

CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
texts = json.load(sys.stdin)
found = {"text": [], "score": []}
for begin in range(0, len(texts), int(sys.argv[2])):
    answers = model.signatures[sys.argv[3]](text=tf.constant(texts[begin : begin + int(sys.argv[2])]))
    rows = len(answers["text"])
    found["text"] += [[text.decode() for text in row] for row in answers["text"].numpy().reshape(rows, -1)]
    found["score"] += answers["score"].numpy().reshape(rows, -1).tolist()
assert not any(name.startswith("tfseq2seq") for name in sys.modules)
print(json.dumps(found))
"""


def ask(folder, texts, batch, signature):
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(folder), str(batch), signature],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().split("\n")[-1])


@pytest.fixture(scope="module")
def endpoint(trained_run):
    return TextToText([trained_run.load_model()], trained_run.source, trained_run.target, trained_run.recipe.search)


@pytest.fixture(scope="module")
def texts(generated):
    return [*generated["test.source"].read_text(encoding="utf-8").split("\n")[:30], "", "   ", "\u20ac\u4f60\U0001f600"]


@pytest.fixture(scope="module")
def exported(endpoint, tmp_path_factory):
    return export_saved_model(endpoint, tmp_path_factory.mktemp("saved") / "small")


@pytest.mark.parametrize("batch", [1, 64])
def test_a_fresh_process_answers_as_the_live_model(endpoint, exported, texts, batch):
    live = Generator(endpoint).generate(texts)
    best = ask(exported, texts, batch, "serving_default")
    assert [row[0] for row in best["text"]] == [output.texts[0] for output in live]
    np.testing.assert_allclose([row[0] for row in best["score"]], [output.scores[0] for output in live], atol=1e-4)
    if batch > 1:
        several = ask(exported, texts, batch, "n_best")
        assert several["text"] == [output.texts for output in live]


def test_no_strings_at_all_get_no_answers(exported):
    answers = tf.saved_model.load(str(exported)).signatures["serving_default"](text=tf.constant([], tf.string))
    assert {name: found.shape for name, found in answers.items()} == {"text": (0,), "score": (0,)}


def test_verify_passes_the_artefact_of_this_model_only(endpoint, exported, texts):
    same = verify(exported, endpoint, texts, batches=(1, 64))
    assert [(verdict.batch, verdict.count, verdict.same) for verdict in same] == [(1, 33, 33), (64, 33, 33)]
    assert all(verdict.passed and verdict.peak_bytes > 1e7 and verdict.speed > 0 for verdict in same)
    model = Seq2Seq(endpoint.models[0].spec, endpoint.source.size, endpoint.target.size)
    weights = endpoint.models[0].get_weights()
    weights[-1] = weights[-1] * 1.1
    model.set_weights(weights)
    changed = TextToText([model], endpoint.source, endpoint.target, endpoint.spec)
    (verdict,) = verify(exported, changed, texts, batches=[64])
    assert not verdict.passed and "NOT EQUAL" in str(verdict)


@pytest.mark.parametrize(
    ("live", "other", "same"),
    [
        (-2.0, -2.0009, True),
        (-2.0, -2.002, False),
        (-300.0, -300.002, True),
        (-300.0, -300.004, False),
        (0.0, np.nan, False),
    ],
)
def test_scores_may_differ_by_the_tolerance_and_large_ones_in_proportion(live, other, same):
    assert same_score(live, other, 1e-3) == same


def test_verify_says_what_is_missing_or_broken(endpoint, tmp_path):
    with pytest.raises(UserError, match="holds no artefact"):
        verify(tmp_path, endpoint, ["a"])
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UserError, match="nothing to ask"):
        verify(tmp_path, endpoint, [])
    with pytest.raises(UserError, match="cannot be run: "):
        verify(tmp_path, endpoint, ["a"])


def test_an_empty_string_gives_an_empty_string(endpoint, texts):
    live = Generator(endpoint).generate(texts)
    assert live[30].texts == ["", ""] and live[31].texts == ["", ""] and live[30].scores == [0.0, 0.0]


def test_recurrent_models_and_sentencepiece_too(tmp_path):
    text = ["a small cat sat", "the cat ran to the hat", "a hat sat on a cat", "the small rat ran"] * 5
    spec = TextSpec(scheme="bpe", vocabulary_size=40)
    features = TextFeatures(spec, learn_vocabulary(text, spec))
    decoder = RecurrentDecoderSpec(layers=1, units=8, attention="additive", attention_units=8)
    model = Seq2Seq(
        ModelSpec(width=8, encoder=RecurrentEncoderSpec(layers=1, units=8), decoder=decoder),
        features.size,
        features.size,
    )
    endpoint = TextToText([model, model], features, features, SearchSpec(beam=3, max_length=12))
    folder = export_saved_model(endpoint, tmp_path / "model")
    live = Generator(endpoint).generate(text[:4])
    assert [row[0] for row in ask(folder, text[:4], 4, "serving_default")["text"]] == [o.texts[0] for o in live]


def test_versions_count_up_and_are_never_replaced(endpoint, exported):
    assert exported.name == "1"
    assert export_saved_model(endpoint, exported.parent).name == "2"
    with pytest.raises(UserError, match="exists already"):
        export_saved_model(endpoint, exported.parent, version=2)
    with pytest.raises(UserError, match="is a file"):
        export_saved_model(endpoint, exported / "saved_model.pb")


def test_a_failed_export_leaves_nothing(endpoint, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        (tmp_path / "model").mkdir(exist_ok=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(UserError, match="No space left"):
        export_saved_model(endpoint, tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())


def test_generation_keeps_order_whatever_the_batch(endpoint, texts):
    one, many = Generator(endpoint, batch_size=1), Generator(endpoint, batch_size=7)
    assert [o.texts for o in one.generate(texts[:9])] == [o.texts for o in many.generate(texts[:9])]


def test_batches_side_by_side_answer_as_one_after_the_other(endpoint, texts):
    alone, beside = (Generator(endpoint, batch_size=3, workers=workers) for workers in (1, 4))
    assert beside.generate(texts) == alone.generate(texts)
    for found, expected in zip(beside.log_probabilities(texts, texts), alone.log_probabilities(texts, texts)):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_error_in_one_batch_ends_them_all(endpoint, texts, monkeypatch):
    generator, calls = Generator(endpoint, batch_size=1, workers=2), []

    def fail_first(batch):
        calls.append(batch)
        if len(calls) == 1:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        time.sleep(0.05)
        return {"text": tf.constant([["x"]]), "score": tf.constant([[0.0]]), "log_prob": tf.constant([[0.0]])}

    monkeypatch.setattr(generator, "_texts", fail_first)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="out of memory"):
        generator.generate(texts)
    assert len(calls) < len(texts)


def test_cores_are_shared_by_programs_that_only_generate():
    script = """
import tensorflow as tf
from tfseq2seq.inference.generator import cores, share_cores

share_cores(1)
assert tf.config.threading.get_intra_op_parallelism_threads() == cores()
share_cores(10 * cores(), workers=cores())
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
tf.constant(1) + 1
share_cores(1)  # too late, and harmless
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scores_are_those_of_teacher_forcing(endpoint, texts):
    outputs = Generator(endpoint).generate(texts[:20])
    found, _ = Generator(endpoint).log_probabilities(texts[:20], [output.texts[0] for output in outputs])
    # An output that holds <unk> or does not tokenize back to the same ids is another sequence.
    same = [i for i, output in enumerate(outputs) if "<unk>" not in output.texts[0]]
    assert same
    np.testing.assert_allclose(found[same], [outputs[i].log_probs[0] for i in same], atol=1e-3)


def test_prefixes_are_kept(endpoint, texts):
    outputs = Generator(endpoint).generate(texts[:5], prefixes=["the", "", "the", "at", ""])
    assert outputs[0].texts[0].startswith("the") and outputs[3].texts[0].startswith("at")
    assert outputs[1].texts == Generator(endpoint).generate(texts[1:2])[0].texts


def test_sampling_serves_too(trained_run, texts, tmp_path):
    search = dataclasses.replace(trained_run.recipe.search, sample=True, n_best=3, beam=1, seed=4)
    endpoint = TextToText([trained_run.load_model()], trained_run.source, trained_run.target, search)
    first, again = (Generator(endpoint).generate(texts[:4]) for _ in range(2))
    assert first == again and len(first[0].texts) == 3
    loaded = tf.saved_model.load(str(export_saved_model(endpoint, tmp_path / "drawn")))
    found = loaded.signatures["n_best"](text=tf.constant(texts[:4]))["text"].numpy()
    np.testing.assert_array_equal(found, endpoint.texts(tf.constant(texts[:4]))["text"])
