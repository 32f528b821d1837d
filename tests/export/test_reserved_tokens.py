"""Reserved tokens and begin tokens: live and in every export format the texts are the same, and none shows a token."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import louder

from tfseq2seq.export.formats import ExportOptions, formats
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import BOS, EOS, PAD, UNK, ModelSpec, SearchSpec, TextSpec

pytestmark = pytest.mark.usefixtures("forked_clients")

LINES = ["a cat sat on a mat", "the dog ate my hat", "no man is an island", "to be or not to be"]
# Some spell a reserved token, which is text then.
INPUTS = [*LINES, "", "a <2de> cat", "<sep>"]
RESERVED = ["<2de>", "<2fr>", "<sep>"]
BLOCK = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16, "positions": "rotary"}


def features(begin):
    spec = TextSpec(scheme="unigram", vocabulary_size=40, reserved=tuple(RESERVED), begin=begin)
    return TextFeatures(spec, learn_vocabulary([*LINES, "<>2defrsp"], spec))


@pytest.fixture(scope="module")
def model():
    """A predictor whose outputs hold reserved tokens, and some of which begin with one, as those of trained ones do."""
    source, target = features("<2de>"), features("<2fr>")
    keras.utils.set_random_seed(8)
    values = {"width": 8, "encoder": BLOCK, "decoder": BLOCK, "tie_output": False}
    network = louder(build_model(from_dict(ModelSpec, values), source.spec, source.size, target.size), 2.5)
    bias = np.zeros(target.size)
    bias[[PAD, UNK, BOS]], bias[EOS] = -30.0, 1.5
    bias[[target.spec.reserved_id(token) for token in RESERVED]] = [0.5, 2.5, 0.5]
    network.output_layer.bias.assign(bias)
    return TextToText([network], source, target, SearchSpec(beam=3, length_penalty="average", max_length=40))


@pytest.fixture(scope="module")
def live(model):
    return Generator(model).generate(INPUTS)


def test_sources_begin_with_their_token_and_empty_ones_do_not(model):
    ids = model.source.inputs(tf.constant(INPUTS)).inputs["source"].numpy()
    begin = model.source.spec.reserved_id("<2de>")
    assert [int(row[0]) for row in ids] == [EOS if text == "" else begin for text in INPUTS]
    assert (ids == begin).sum() == len(INPUTS) - 1
    assert [row.tolist() for row in model.source.features_of(INPUTS)] == [row[row != PAD].tolist() for row in ids]


def test_targets_begin_with_theirs_when_they_are_scored(model):
    labels = model.target(tf.constant(["to be", ""])).numpy()
    assert labels[0, 0] == model.target.spec.reserved_id("<2fr>") and labels[1, 0] == EOS
    totals, counts = Generator(model).log_probabilities(["a cat", "a cat"], ["to be", ""])
    # The begin token is given, and does not count.
    assert counts.tolist() == [(labels[0] != PAD).sum() - 1, 1] and np.isfinite(totals).all()


def test_outputs_begin_with_the_begin_token_of_the_target_at_no_cost(model, live):
    found = model.search(model.source.inputs(tf.constant(INPUTS)))
    ids, begin = found.ids.numpy()[:, 0], model.target.spec.reserved_id("<2fr>")
    assert (ids[:, 0] == begin).all()
    # The score of an output is the log-probability of what follows the begin token.
    for index in (0, 1, 5):
        given = {
            name: value[index : index + 1] for name, value in model.source.inputs(tf.constant(INPUTS)).inputs.items()
        }
        total, count = model.decoding.log_probabilities(given, ids[index : index + 1][:, ids[index] != PAD])
        np.testing.assert_allclose(total, found.log_probs.numpy()[index, :1], atol=1e-4)
        assert int(count[0]) == (ids[index] != PAD).sum() - 1


def test_prefixes_follow_the_begin_token(model):
    generator = Generator(model)
    outputs = generator.generate(["a cat", "a cat", "no man"], prefixes=["to be", "", "the"])
    assert outputs[0].texts[0].startswith("to be") and outputs[2].texts[0].startswith("the")
    assert outputs[1] == generator.generate(["a cat"])[0]


def test_a_greedy_stream_begins_with_the_token_too(model):
    greedy = TextToText(model.models, model.source.features, model.target, SearchSpec(beam=1, max_length=12))
    begin = model.target.spec.reserved_id("<2fr>")
    writer, given = greedy.decoding.token_writer(), greedy.given(tf.constant(INPUTS[:2]))
    state = writer.start(given)
    for _ in range(12):
        state = writer.advance(state)
    written, found = writer.written(state), greedy.search(given)
    assert (written.ids.numpy()[:, 0] == begin).all()
    np.testing.assert_allclose(written.log_probs, found.log_probs[:, 0], atol=1e-4)


def test_outputs_hold_reserved_tokens_and_texts_do_not_show_them(model, live):
    found = model.search(model.source.inputs(tf.constant(INPUTS))).ids.numpy()
    reserved = [model.target.spec.reserved_id(token) for token in RESERVED]
    assert np.isin(found[:, 0, 0], reserved).any() and np.isin(found[:, 0, 1:], reserved).any()
    assert len({output.texts[0] for output in live}) > 2
    assert not any(token in text for output in live for text in output.texts for token in RESERVED)
    assert live[INPUTS.index("")].texts == [""]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options",
    [("savedmodel", {}), ("tflite", {}), ("tflite", {"strings": True}), ("ctranslate2", {})],
    ids=["savedmodel", "tflite", "tflite strings", "ctranslate2"],
)
def test_every_format_gives_the_texts_of_the_live_model(name, options, model, live, tmp_path, one_signature):
    if name == "ctranslate2":
        pytest.importorskip("ctranslate2")
    folder = formats()[name].write(model, str(tmp_path / "model"), ExportOptions(**options))
    # In a process of its own.
    (verdict,) = verify(folder, model, INPUTS, batches=[1 if options else 3])
    assert list(verdict.texts) == [output.texts[0] for output in live]
    assert verdict.passed and verdict.same == len(INPUTS)
    if name == "savedmodel":
        return
    # And by the runtime of this package, which tokenizes in plain Python.
    opened = formats()[name].open(str(folder), 3, 1)
    assert [output.texts for output in opened.generate(INPUTS)] == [output.texts for output in live]
