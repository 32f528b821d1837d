"""What TensorBoard shows of a training, and that showing it changes nothing."""

import dataclasses
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from small_models import LETTERS, shared_network

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.sources import NoSource
from tfseq2seq.spec import NoSourceSpec, Recipe, SearchSpec, WatchSpec
from tfseq2seq.training import watching
from tfseq2seq.training.fit import train
from tfseq2seq.training.watching import ShownExamples, TargetLengths


def events(folder):
    """(step, tag, value) of all that is written to a folder of TensorBoard."""
    found = []
    for path in sorted(folder.glob("events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found += [(event.step, value.tag, value.tensor) for value in event.summary.value]
    return found


@pytest.fixture(scope="module")
def watched(small_recipe, tmp_path_factory):
    """Runs of the same recipe with TensorBoard and without."""
    folder = tmp_path_factory.mktemp("watched")
    watch = WatchSpec(share=1.0, pictures=1, texts=3)
    training = dataclasses.replace(small_recipe.training, tensorboard=True, watch=watch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of matplotlib's own imports
        shown = train(dataclasses.replace(small_recipe, training=training), folder / "shown")
    return shown, train(small_recipe, folder / "plain")


@pytest.mark.slow
def test_tensorboard_shows_lengths_texts_and_attention(watched, small_recipe):
    shown, _ = watched
    found = events(shown.folder / "logs" / "examples")
    first = [(tag, value) for step, tag, value in found if step == 6]
    assert [tag for tag, _ in first] == ["target length in tokens", "validation examples", "attention 1"]
    buckets = tf.make_ndarray(first[0][1])
    with open(small_recipe.data.train.target) as file:
        longest = max(len(line.split()) for line in file) + 1
    assert buckets[0, 0] >= 2 and buckets[-1, 1] <= longest and buckets[:, 2].sum() >= 6 * 8
    (table,) = tf.make_ndarray(first[1][1]).flatten()
    with open(small_recipe.data.validation.source) as file:
        expected = [" ".join(next(file).split()) for _ in range(3)]
    heading, _, *rows = table.decode().splitlines()
    assert heading == "| source | reference | output |"
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == expected
    width, height, png = first[2][1].string_val
    assert int(width) > 100 and int(height) > 100 and tf.io.decode_png(png).shape == [int(height), int(width), 3]
    assert {path.name for path in (shown.folder / "logs").iterdir()} == {"train", "validation", "examples"}


@pytest.mark.slow
def test_what_is_shown_changes_nothing_in_the_training(watched):
    def logged(run):
        times = ("seconds", "tokens_per_second")
        return [{name: value for name, value in row.items() if name not in times} for row in run.metrics()]

    assert logged(watched[0]) == logged(watched[1])
    states = [np.load(run.checkpoints / "resume.npz") for run in watched]
    assert states[0].files == states[1].files
    for name in states[0].files:
        if name.startswith(("model_", "optimizer_")):
            np.testing.assert_array_equal(states[0][name], states[1][name])


def test_lengths_are_those_of_the_batches_of_the_training():
    lengths = TargetLengths()
    ids = [[[5, 3, 0], [5, 6, 3]], [[3, 0, 0], [5, 3, 0]], [[7, 7, 7], [7, 7, 7]]]
    batches = tf.data.Dataset.from_tensor_slices(np.array(ids)).map(lambda one: (one, {"a": one, "b": one}, one))
    drawn = iter(lengths.tapped(batches))
    _, labels, _ = next(drawn)
    np.testing.assert_array_equal(labels["a"], ids[0])
    np.testing.assert_array_equal(labels["b"], ids[0])
    assert len(list(drawn)) == 2
    assert lengths.take().tolist() == [1, 2, 2, 3, 3, 3]
    assert lengths.take().tolist() == []
    next(iter(lengths.tapped(batches.take(1))))
    assert lengths.take().tolist() == [2, 3]


def test_a_language_model_continues_the_beginning_of_each_text():
    texts = ["abcd abcd abcd", "dcbadcba", "ab", "a " * 2000, "abcabc", "bcd"]
    run = SimpleNamespace(
        recipe=SimpleNamespace(training=SimpleNamespace(watch=WatchSpec(texts=4)), search=SearchSpec(max_length=9)),
        source=NoSource(NoSourceSpec()),
        target=LETTERS,
    )
    run.source.with_target(LETTERS)
    corpora = SimpleNamespace(validation=tf.data.Dataset.from_tensor_slices({"target": texts}))
    found = watching._choose_examples(corpora, run, shared_network("lstm language model"))
    # What the model does not take is left out.
    assert found.references == ["abcd abcd abcd", "dcbadcba", "ab", "abcabc"]
    assert found.sources == ["abcd", "dc", "", "ab"]


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def shown_examples(monkeypatch, tmp_path):
    """A callback without a model, whose writing takes 3 s, and the clock that it reads."""
    clock = Clock()
    monkeypatch.setattr(watching, "time", clock)
    run = SimpleNamespace(
        folder=tmp_path, recipe=SimpleNamespace(training=SimpleNamespace(watch=WatchSpec(share=0.5, pictures=2)))
    )
    attending = SimpleNamespace(decoding=SimpleNamespace(has_attention=True), signature=[], texts=None)
    predictor = SimpleNamespace(log_probabilities=None, **vars(attending), source=SimpleNamespace(takes_strings=True))
    examples = watching.Examples(predictor, ["a"], ["b"])
    callback = ShownExamples(run, SimpleNamespace(step=0), examples, TargetLengths())
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(use_ema=False)))

    def outputs(sources):
        clock.now += 3.0
        return [SimpleNamespace(texts=["a|b\nc"])]

    callback.generator = SimpleNamespace(generate=outputs)
    return callback, clock


def test_writing_takes_its_share_of_the_time_of_evaluations(shown_examples, monkeypatch):
    callback, clock = shown_examples
    monkeypatch.setattr(callback, "pictures", 0)
    for step in range(1, 11):
        callback.position.step = step
        callback.on_test_begin()
        clock.now += 2.0
        callback.on_epoch_end(0)
    # 3 s may follow on 6 s of evaluations.
    found = events(callback.folder)
    assert [step for step, *_ in found] == [1, 3, 6, 9]
    assert tf.make_ndarray(found[0][2]).item().decode().splitlines()[-1] == r"| a | b | a\|b c |"


def test_pictures_that_cannot_be_drawn_are_told_once(shown_examples, monkeypatch, capsys):
    callback, _ = shown_examples

    def refused(*_):
        raise UserError("plots need [matplotlib]")

    monkeypatch.setattr(watching, "attention_image", refused)
    monkeypatch.setattr(
        watching, "reference_attention", lambda *_: SimpleNamespace(weights=0, source_labels=0, target_tokens=0)
    )
    for _ in range(2):
        callback.on_test_begin()
        callback.writing = 0.0
        callback.on_epoch_end(0)
    assert capsys.readouterr().err == "no pictures of attention in TensorBoard: plots need [matplotlib]\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"watch": {"texts": 1}}, "training.watch: must have its defaults unless training.tensorboard is true"),
        ({"watch": {"share": 1.5}}, "training.watch.share: must be at most 1, got 1.5"),
    ],
)
def test_a_setting_without_effect_is_refused(small_recipe, changes, message):
    values = json.loads(json.dumps(to_dict(small_recipe)))
    values["training"].update(changes)
    with pytest.raises(UserError) as caught:
        from_dict(Recipe, values)
    assert message in str(caught.value)


def test_pictures_need_a_decoder_with_attention(small_recipe):
    values = json.loads(json.dumps(to_dict(small_recipe)))
    values["training"].update(tensorboard=True, watch={"pictures": 1})
    values["model"]["decoder"] = {"kind": "recurrent", "attention": "none", "input_feeding": False}
    with pytest.raises(UserError, match="training.watch.pictures: needs a decoder that attends to the source"):
        from_dict(Recipe, values)
