"""Language models: live and exported they continue prompts alike, and their scores are those of the texts they give."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from small_models import LANGUAGE_FAMILIES, LETTERS, PROMPTS, live, network, predictor

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.signatures import endpoints, loop_endpoints
from tfseq2seq.export.tflite import convert, export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.spec import PAD, TextSpec

pytestmark = pytest.mark.usefixtures("eagerly", "forked_clients")

# Scores are log-probabilities then.
PLAIN = {"length_penalty": "none", "max_length": 20}
SAMPLING = {"sample": True, "beam": 1, "n_best": 3, "seed": 7}
SEARCHES = {"n-best": {"beam": 3, "n_best": 3}, "greedy": {"beam": 1}, "sampling": SAMPLING}


@pytest.fixture(scope="module", params=LANGUAGE_FAMILIES)
def family(request):
    return request.param


def generated(model):
    return Generator(model, len(PROMPTS), 1).generate(PROMPTS)


@functools.cache
def answers(family, **search):
    """What the live model generates, asked once for all tests."""
    return generated(live(family, **PLAIN, **search))


def assert_continued(model, outputs):
    """Outputs begin with their prompts, go on in some way, and have the log-probabilities of their texts."""
    texts = [text for output in outputs for text in output.texts]
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        assert all(text.startswith(prompt) for text in output.texts)
        assert output.scores == output.log_probs
    assert any(text != prompt for prompt, output in zip(PROMPTS, outputs) for text in output.texts)
    totals, counts = Generator(model).log_probabilities([""] * len(texts), texts)
    assert counts.tolist() == [len(text) + 1 for text in texts]
    np.testing.assert_allclose(totals, [each for output in outputs for each in output.log_probs], atol=1e-4)


def assert_alike(answers, expected):
    """The answers of a signature are the outputs of the live model."""
    assert [[text.decode() for text in row] for row in answers["text"].numpy()] == [output.texts for output in expected]
    np.testing.assert_allclose(answers["score"], [output.scores for output in expected], atol=1e-3)


@pytest.mark.parametrize("search", SEARCHES)
def test_outputs_begin_with_the_prompt_and_are_worth_what_they_say(family, search):
    model, outputs = live(family, **PLAIN, **SEARCHES[search]), answers(family, **SEARCHES[search])
    assert_continued(model, outputs)
    assert {len(output.texts) for output in outputs} == {model.spec.n_best}
    if search != "sampling":
        assert all(output.scores == sorted(output.scores, reverse=True) for output in outputs)
    assert len({output.texts[0][len(prompt) :] for prompt, output in zip(PROMPTS, outputs)}) > 1


def test_an_output_does_not_depend_on_its_neighbors(family):
    generator = Generator(live(family, **PLAIN, **SEARCHES["n-best"]), 1, 1)
    for one, other in zip(answers(family, **SEARCHES["n-best"]), generator.generate(PROMPTS), strict=True):
        assert one.texts == other.texts and one.scores == pytest.approx(other.scores, abs=1e-4)


def test_a_prompt_longer_than_an_output_may_be_comes_whole(family):
    (output,) = Generator(live(family, beam=2, max_length=3)).generate(["abcdabcd"])
    assert output.texts == ["abcdabcd"]


def test_a_prefix_beside_a_prompt_is_refused(family):
    with pytest.raises(UserError, match="--prefix: must be left out, as the inputs of a language model are prompts"):
        Generator(live(family, beam=1)).generate(["ab"], prefixes=["a"])


@pytest.mark.slow
def test_a_saved_model_and_a_tflite_file_continue_as_live(family, export, signatures):
    search = {**PLAIN, **SEARCHES["n-best"]}
    model, served = export("savedmodel", family, **search)
    _, lite = export("tflite", family, **search)
    expected = answers(family, **SEARCHES["n-best"])
    for folder in (served, lite):
        # In a process of its own.
        (verdict,) = verify(folder, model, PROMPTS, batches=[2])
        assert verdict.passed and verdict.same == verdict.count == len(PROMPTS)
        assert list(verdict.texts) == [output.texts[0] for output in expected]
    assert_alike(signatures(served)["n_best"](text=tf.constant(PROMPTS)), expected)
    for one, other in zip(TFLiteModel(lite, batch_size=2).generate(PROMPTS), expected, strict=True):
        assert one.texts == other.texts
        assert one.scores == pytest.approx(other.scores, abs=1e-3)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)


@pytest.mark.slow
def test_a_tflite_file_of_strings_continues_as_live(family, tmp_path):
    lines = ["a cat sat on a mat", "the dog ate my hat", "no man is an island", "to be or not to be"]
    spec = TextSpec(scheme="unigram", vocabulary_size=40, reserved=("<tag>",), begin="<tag>")
    features = TextFeatures(spec, learn_vocabulary(lines, spec))
    model = predictor([network(family, features)], family, features, beam=3, max_length=12)
    prompts = ["a cat", "", "  to be ", "no"]
    expected = Generator(model, 4, 1).generate(prompts)
    for prompt, output in zip(prompts, expected, strict=True):
        assert output.texts[0].startswith(prompt.strip())
    # A file that takes ids has the same graph with reserved tokens as without them, so that one family is enough.
    for strings in (True,) if family == "lstm language model" else (False, True):
        folder = export_tflite(model, tmp_path / f"lite {strings}", strings=strings)
        for one, other in zip(TFLiteModel(folder).generate(prompts), expected, strict=True):
            assert one.texts == other.texts and one.scores == pytest.approx(other.scores, abs=1e-3)
    # The last one again, in a process of its own.
    (verdict,) = verify(folder, model, prompts, batches=[1])
    assert verdict.passed and verdict.same == len(prompts)


def test_a_saved_model_draws_as_live_and_a_tflite_file_is_refused(family, one_signature, tmp_path):
    one_signature("n_best")
    model = live(family, **PLAIN, **SAMPLING)
    folder = export_saved_model(model, tmp_path / "served")
    # Without a seed, every answer is drawn from the stream 0.
    expected = Generator(model, 2, 1).generate(PROMPTS, streams=[0] * len(PROMPTS))
    assert_alike(tf.saved_model.load(str(folder)).signatures["n_best"](text=tf.constant(PROMPTS)), expected)
    with pytest.raises(UserError, match=r"search\.sample: TFLite has no operations to draw from a seed"):
        export_tflite(model, tmp_path / "lite")
    assert not (tmp_path / "lite").exists()


def test_a_client_with_a_loop_of_its_own_gets_the_log_probabilities_of_scoring(family):
    model = live(family, **PLAIN, beam=2)
    functions = {endpoint.name: endpoint.graph for endpoint in endpoints(model)}
    assert set(functions) == {"serving_default", "n_best", "score", "encode", "decode_step"}
    texts = tf.constant(["dcba", "", "ab"])
    labels = LETTERS(texts)
    scored = functions["score"](text=tf.constant(["", "", ""]), target=texts)
    expected, counts = model.log_probabilities(tf.constant(["", "", ""]), texts)
    np.testing.assert_allclose(scored["log_prob"], expected, rtol=1e-5)
    assert scored["tokens"].numpy().tolist() == counts.numpy().tolist() == [5, 1, 3]
    loops = {endpoint.name: endpoint.graph for endpoint in loop_endpoints(model)}
    for encoded, step in (
        (functions["encode"](text=texts), functions["decode_step"]),
        (loops["encode"](ids=labels), loops["decode_step"]),
    ):
        assert encoded["memory"].shape == (3, 0, 0) and encoded["mask"].shape == (3, 0)
        total = step_through(encoded, step, labels)
        np.testing.assert_allclose(total, expected, rtol=1e-5)


def step_through(encoded, step, labels):
    """Sums of log-probabilities [B] of labels [B, T], token by token."""
    fixed, state = ({name: part for name, part in encoded.items() if name.startswith(kind)} for kind in ("fix", "sta"))
    total = np.zeros(len(labels))
    for token, label in zip(tf.unstack(decoder_input(labels), axis=1), tf.unstack(labels, axis=1), strict=True):
        found = step(token=token, **fixed, **state)
        state = {name: part for name, part in found.items() if name != "log_probs"}
        real = label.numpy() != PAD
        total += np.where(real, tf.gather(found["log_probs"], label, batch_dims=1).numpy(), 0.0)
    return total


def test_a_saved_model_has_a_loop_for_clients_too(family, export, signatures):
    model, folder = export("savedmodel", family, **PLAIN, **SEARCHES["n-best"])
    functions = signatures(folder)
    assert set(functions) == {"serving_default", "n_best", "score", "encode", "decode_step"}
    labels = LETTERS(tf.constant(["dab", "cab"]))
    total = step_through(functions["encode"](text=tf.constant(["", ""])), functions["decode_step"], labels)
    expected, _ = model.log_probabilities(tf.constant(["", ""]), tf.constant(["dab", "cab"]))
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_no_prompts_at_all_get_no_answers(family, export, signatures):
    _, folder = export("savedmodel", family, **PLAIN, **SEARCHES["n-best"])
    found = signatures(folder)["serving_default"](text=tf.constant([], tf.string))
    assert {name: answer.shape for name, answer in found.items()} == dict.fromkeys(
        ("text", "score", "warning", "error"), (0,)
    )


def test_a_saved_model_draws_by_the_seed_of_a_row_whatever_its_neighbors(family, one_signature, tmp_path):
    one_signature("seeded")
    model = live(family, **PLAIN, **{**SAMPLING, "n_best": 1})
    seeded = tf.saved_model.load(str(export_saved_model(model, tmp_path / "served"))).signatures["seeded"]

    def texts(prompts, seeds):
        return seeded(text=tf.constant(prompts), seed=tf.constant(seeds))["text"].numpy().tolist()

    together = texts(["a", "a", "dcb", "a"], [1, 2, 3, 1])
    assert together[0] == together[3] and len(set(together)) == 3
    assert texts(["a"], [2]) == together[1:2] and texts(["dcb", "a"], [3, 9])[0] == together[2]


STOPPED = {**PLAIN, "beam": 1, "stop_strings": ("ac", "bb")}


def test_an_output_ends_before_a_stop_string_in_every_format(family, export):
    """The prompt may have one, and a score is that of the tokens up to the stop string and with it."""
    prompts = ["", "bc", "dcba b", "cab  dab"]
    model, folder = export("savedmodel", family, **STOPPED)
    whole = Generator(live(family, **{**STOPPED, "stop_strings": ()})).generate(prompts)
    outputs = Generator(model, 4, 1).generate(prompts)
    stopped = 0
    for prompt, full, output in zip(prompts, whole, outputs):
        rest = full.texts[0][len(prompt) :]
        places = [rest.find(stop) for stop in STOPPED["stop_strings"] if stop in rest]
        end = len(prompt) + min(places, default=len(rest))
        assert output.texts[0] == full.texts[0][:end]
        if places:
            stopped += 1
            with_stop = full.texts[0][: end + 2]
            total, _ = Generator(model).log_probabilities([""] * 2, [with_stop, with_stop + "a"])
            assert output.log_probs[0] > total[0] and not output.cut
    assert stopped >= 2
    served = tf.saved_model.load(str(folder)).signatures["serving_default"](text=tf.constant(prompts))
    assert [text.decode() for text in served["text"].numpy()] == [output.texts[0] for output in outputs]
    np.testing.assert_allclose(served["score"], [output.scores[0] for output in outputs], atol=1e-3)
    _, folder = export("tflite", family, **STOPPED)
    lite = TFLiteModel(folder).generate(prompts)
    assert [one.texts for one in lite] == [one.texts for one in outputs]
    assert [one.cut for one in lite] == [one.cut for one in outputs]


def test_stop_strings_that_are_never_written_are_refused(family):
    with pytest.raises(UserError, match=r"search\.stop_strings\[1\]: the target vocabulary has no 'z'"):
        live(family, stop_strings=("a", "az"))
    with pytest.raises(UserError, match="search.stop_strings: TFLite has no operation that cuts a string"):
        convert(live(family, **STOPPED), "float32", strings=True)


def test_a_language_model_of_other_weights_does_not_pass(export):
    model, folder = export("tflite", "lstm language model", **PLAIN, beam=3, n_best=3)
    other = live("transformer language model", **PLAIN, beam=3, n_best=3)
    assert not verify(folder, other, PROMPTS, batches=[2])[0].passed


def test_an_ensemble_of_language_models_averages_them():
    one, two = (live(family, **PLAIN, beam=3) for family in LANGUAGE_FAMILIES)
    both = type(one)([*one.models, *two.models], one.source, LETTERS, one.spec)
    assert_continued(both, generated(both))
    assert [endpoint.name for endpoint in endpoints(both)] == ["serving_default", "n_best", "score"]


def test_ctranslate2_takes_no_language_model(tmp_path):
    pytest.importorskip("ctranslate2")
    from tfseq2seq.export.ctranslate2 import export_ctranslate2

    model = live("transformer language model", beam=1, length_penalty="none")
    with pytest.raises(UserError, match="takes Transformers over source text, and the model has source none"):
        export_ctranslate2(model, tmp_path / "model")
