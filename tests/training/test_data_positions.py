"""Training data from a saved position: the batches are those of the stream never left, for texts and recordings."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.data.pair_shards import parallel_lines, write_pair_shards
from tfseq2seq.data.shards import write_shards
from tfseq2seq.data.synthetic.morse import write_morse
from tfseq2seq.errors import UserError
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import Run
from tfseq2seq.sources import source_class
from tfseq2seq.spec import Recipe
from tfseq2seq.training.batches import build_batches
from tfseq2seq.training.fit import learn_features, train
from tfseq2seq.training.objectives import build_objective

SPEECH = {
    "name": "morse",
    "source": {"kind": "audio", "sample_rate": 8000, "bins": 16, "normalization": "none"},
    "target": {"scheme": "characters"},
    "model": {
        "width": 16,
        "encoder": {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3},
        "decoder": {"kind": "ctc"},
    },
}
TRAINING = {"steps": 12, "evaluate_every": 6, "schedule": {"name": "constant"}, "tensorboard": False}


class Positions:
    """What batches need of a model: the number of encoder positions of so many samples."""

    positions = staticmethod(lambda samples: samples // 320)


@pytest.fixture(scope="module")
def corpora(generated, tmp_path_factory):
    """The data settings of texts and recordings in each kind of file, each of several segments where it can be."""
    folder = tmp_path_factory.mktemp("corpora")
    texts = {side: str(generated[f"train.{side}"]) for side in ("source", "target")}
    write_pair_shards(parallel_lines(*texts.values()), folder / "texts", 40)
    morse = write_morse(folder / "morse", train=24, validation=6, test=1)["morse.tsv"]
    write_shards(read_manifest(morse, "train"), folder / "recordings", 8000, shard_seconds=20)
    manifest = {"manifest": str(morse), "split": "train"}
    text, speech = {"batch_tokens": 512, "holdout": 40}, {"batch_seconds": 30.0, "holdout": 6}
    parts = {"cache": False, "shuffle_pairs": 120}, {"cache": False, "shuffle_pairs": 6}
    (folder / "dialogues").write_text("".join(f"a {i} __eou__ b {i} c __eou__ d\n" for i in range(200)))
    dialogues = {"train": {"dialogues": str(folder / "dialogues")}, **text, "history": 1}
    return {
        "dialogues": dialogues,
        "dialogues in parts": {**dialogues, **parts[0]},
        "lines": {"train": texts, **text},
        "lines in parts": {"train": texts, **text, **parts[0]},
        "shards": {"train": {"records": str(folder / "texts")}, **text, "shuffle_pairs": 120},
        "manifest": {"train": manifest, **speech},
        "manifest in parts": {"train": manifest, **speech, **parts[1]},
        "recordings": {"train": {"records": str(folder / "recordings")}, **speech},
        "recordings in parts": {"train": {"records": str(folder / "recordings")}, **speech, **parts[1]},
    }


@pytest.fixture(scope="module")
def opened(corpora, small_recipe):
    """Opens the batches of a kind of corpus, and tells what was logged."""

    def open_batches(kind, accumulate):
        values = SPEECH if "batch_seconds" in corpora[kind] else to_dict(small_recipe)
        if "dialogues" in kind:
            values = {**values, "source": {"kind": "dialogue", "scheme": "words"}}
        training = {**TRAINING, "optimizer": {"accumulate": accumulate}}
        recipe = from_dict(Recipe, {**values, "data": corpora[kind], "training": training})
        found = source_class(recipe.source).open_corpora(recipe)
        run = Run("unused", recipe, *learn_features(recipe, found))
        logged = []
        objective = build_objective(recipe.model, recipe.training)
        return build_batches(found, run, Positions, objective, logged.append), logged

    return open_batches


def drawn(dataset, count):
    return [tf.nest.flatten(batch) for batch in dataset.take(count).as_numpy_iterator()]


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in itertools.chain.from_iterable(map(zip, found, expected)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "kind",
    [
        *("lines", "lines in parts", "shards", "dialogues", "dialogues in parts"),
        *("manifest", "manifest in parts", "recordings", "recordings in parts"),
    ],
)
def test_batches_from_a_position_are_those_of_a_stream_never_left(opened, kind):
    batches, logged = opened(kind, 3)
    counts = (0, 3, 9) if "manifest" in kind or "recordings" in kind else (0, 18, 33, 54)
    # There are few and short dialogues, in few batches.
    counts = (0, 3, 9, 15) if "dialogues" in kind else counts
    expected = drawn(batches.dataset(), counts[-1] + 3)
    places = [json.loads(json.dumps(batches.position(count))) for count in counts]
    assert len({place["epoch"] for place in places}) > 1
    assert ("segments" in logged[0]) == ("parts" in kind or kind == "shards")
    assert any(place["segment"] for place in places) == ("segments" in logged[0])
    # Another process has its own objects.
    again, _ = opened(kind, 3)
    for count, place in zip(counts, places):
        assert_same(drawn(again.dataset(place), 3), expected[count : count + 3])
    with pytest.raises(ValueError, match="between updates"):
        again.position(1)


def test_every_kind_of_file_gives_the_same_examples(opened):
    def epoch(kind):
        batches, _ = opened(kind, 1)
        found = []
        for count, (inputs, labels, _) in enumerate(batches.dataset().as_numpy_iterator()):
            if batches.position(count)["epoch"]:
                break
            labels = labels if isinstance(labels, np.ndarray) else next(iter(labels.values()))
            pairs = zip(inputs["source"], labels)
            found += [(source[source != 0].tobytes(), label[label != 0].tobytes()) for source, label in pairs]
        return sorted(found)

    for kinds in (("lines", "lines in parts"), ("manifest", "manifest in parts")):
        first, second = map(epoch, kinds)
        assert first == second and len(first) in (360, 18)


# ---- training -------------------------------------------------------------------------------------------------------


def sharded(small_recipe, corpora, **training):
    data = {**corpora["shards"], "holdout": 40}
    values = {**to_dict(small_recipe), "data": data}
    values["training"] |= {"optimizer": {"accumulate": 2, "learning_rate": 0.01}, **training}
    return from_dict(Recipe, values)


@pytest.mark.slow
def test_a_run_on_shards_ends_as_one_never_stopped(small_recipe, corpora, tmp_path):
    logged = []
    whole = train(sharded(small_recipe, corpora), tmp_path / "whole", log=logged.append)
    assert any(line.startswith("training: 360 examples, read in ") for line in logged)
    train(sharded(small_recipe, corpora, steps=6), tmp_path / "half")
    resumed = train(sharded(small_recipe, corpora), tmp_path / "half", resume=True)
    for one, other in zip(resumed.load_model().get_weights(), whole.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_shard_that_is_damaged_during_training_ends_it_with_its_name(small_recipe, corpora, tmp_path):
    folder = tmp_path / "shards"
    texts = corpora["lines"]["train"]
    write_pair_shards(parallel_lines(texts["source"], texts["target"]), folder, 40)
    changed = {**corpora, "shards": {**corpora["shards"], "train": {"records": str(folder)}}}
    recipe = sharded(small_recipe, changed, steps=60, evaluate_every=2)

    def damaging(line):
        # The first segment is read, and the training begins.
        if line.startswith("model:"):
            for path in sorted(folder.glob("*.gz")):
                path.write_bytes(path.read_bytes()[:-200] + bytes(200))

    with pytest.raises(UserError, match=r"shards/0000\d.tfrecord.gz: damaged .*after record \d+") as caught:
        train(recipe, tmp_path / "run", log=damaging)
    assert "\n" not in str(caught.value)
    run = Run.open(tmp_path / "run")
    assert run.progress()["step"] >= 2 and run.checkpoint_file(run.progress()["step"]).exists()
