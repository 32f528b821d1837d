"""Batches from the workers of a tf.data service."""

import collections
import contextlib
import dataclasses
import json
import re
import signal
import socket
import subprocess
import sys

import pytest
import tensorflow as tf
from trainings import changed

from tfseq2seq.data.pair_shards import pair_units, write_pair_shards
from tfseq2seq.data.service import ServiceStream, check_service, start_dispatcher, start_worker
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.recipe import from_dict
from tfseq2seq.sources import Filtering
from tfseq2seq.sources.text import TextSource
from tfseq2seq.spec import DataSpec, Recipe, SpecError, TextSpec
from tfseq2seq.training.fit import train

LINES = [(f"a {'b ' * (index % 5)}{index}".encode(), str(index).encode()) for index in range(300)]
SPEC = from_dict(DataSpec, {"batch_tokens": 40})


@pytest.fixture(scope="module")
def address():
    """A dispatcher with two workers."""
    dispatcher = start_dispatcher(0)
    address = dispatcher.target.split("//")[-1]
    workers = [start_worker(address, 0, "localhost") for _ in range(2)]
    yield address
    for server in (dispatcher, *workers):
        server._stop()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_pair_shards([*LINES, (b"", b"empty"), (b"a " * 200, b"long")], folder, 40, progress=False)


@pytest.fixture(scope="module")
def features():
    spec = TextSpec(scheme="words", vocabulary_size=400)
    return TextFeatures(spec, learn_vocabulary((text for pair in LINES for text in pair), spec))


def stream_of(shards, features, address, told=lambda sentence: None, held=None):
    source = TextSource(features.spec, features)
    filtering = Filtering(features, SPEC, "data.train", None, None, None)
    return ServiceStream(
        pair_units(shards, held or {}),
        lambda examples: source.kept_examples(examples, filtering),
        source.batch(SPEC),
        50,
        address,
        1,
        told,
    )


def targets(batch, features):
    return [text.decode() for text in features.detokenize(batch["target"]).numpy()]


def test_every_pair_is_in_one_batch_of_an_epoch_and_the_rest_is_told(shards, features, address):
    told, seen, epoch = [], collections.Counter(), 0
    stream = stream_of(shards, features, address, told.append, held={0: [3, 4], 2: [0]})
    for count, batch in enumerate(stream.dataset().as_numpy_iterator(), start=1):
        if (epoch := stream.position(count - 1)["epoch"]) == 2:
            break
        assert batch["source"].size <= 40 and batch["source"].shape[0] == batch["target"].shape[0]
        seen.update(targets(batch, features))
    expected = {str(index) for index in range(300)} - {"3", "4", "80"}
    assert epoch == 2 and seen == dict.fromkeys(expected, 2)
    assert told == ["first epoch: 297 of 299 examples; the others are empty or too long"]


def test_a_position_is_the_beginning_of_its_epoch(shards, features, address):
    stream = stream_of(shards, features, address)
    assert stream.position(0) == {"epoch": 0, "segment": 0, "batch": 0}
    batches = iter(stream.dataset({"epoch": 7, "segment": 2, "batch": 5}))
    next(batches)
    assert stream.position(1) == {"epoch": 7, "segment": 0, "batch": 0}
    with pytest.raises(UserError, match="the position in the training data must have"):
        stream.dataset({"epoch": -1})


def test_a_damaged_shard_is_named(shards, features, address, tmp_path):
    copied = [dataclasses.replace(shard, path=tmp_path / shard.path.name) for shard in shards]
    for shard, copy in zip(shards, copied):
        copy.path.write_bytes(shard.path.read_bytes())
    stream = stream_of(copied, features, address)
    with pytest.raises(tf.errors.OpError):
        for count, _ in enumerate(stream.dataset(), start=1):
            if stream.position(count)["epoch"] == 1:
                copied[1].path.write_bytes(copied[1].path.read_bytes()[:50])
            assert count < 500
    assert str(copied[1].path) in str(stream.fault)


def test_a_service_that_does_not_answer_is_told(address):
    with socket.create_server(("localhost", 0)) as other:
        port = other.getsockname()[1]
    with pytest.raises(UserError, match=rf"nothing answers at localhost:{port} .*; start a dispatcher there with"):
        check_service(f"localhost:{port}")
    with pytest.raises(UserError, match=rf"DISPATCHER: nothing answers at localhost:{port}"):
        start_worker(f"localhost:{port}", 0, "localhost")
    lonely = start_dispatcher(0)
    name = lonely.target.split("//")[-1]
    with pytest.raises(UserError, match=f"no worker of {name} answers within 0.5 s; start one with"):
        check_service(name, 0.5)
    with pytest.raises(UserError, match="the dispatcher cannot start at port"):
        start_dispatcher(int(address.rsplit(":", 1)[1]))


@pytest.mark.parametrize(
    ("data", "training", "message"),
    [
        ({"service": "localhost"}, {}, "data.service: must be HOST:PORT, such as localhost:5050, got 'localhost'"),
        ({"service": "localhost:70000"}, {}, "data.service: must be HOST:PORT"),
        ({"train": {"source": "a", "target": "b"}}, {}, "data.service: needs data.train.records"),
        ({}, {"strategy": "workers"}, "data.service: must be empty with training.strategy workers"),
    ],
)
def test_settings_that_no_service_has_are_refused(data, training, message):
    values = {"data": {"service": "h:1", "train": {"records": "x"}, "holdout": 1, **data}, "training": training}
    with pytest.raises((SpecError, UserError), match=re.escape(message)):
        from_dict(Recipe, values)


@contextlib.contextmanager
def command(*arguments):
    """A command that runs until the end of the context; its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tfseq2seq.cli", "data", "service", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.slow
def test_a_training_reads_from_the_commands(small_recipe, generated, tmp_path, capsys):
    pairs = zip(*(generated[f"train.{side}"].read_bytes().splitlines() for side in ("source", "target")))
    write_pair_shards(list(pairs), tmp_path / "shards", 50, progress=False)
    with command("dispatcher", "--port", 0) as line:
        address = line.removeprefix("dispatcher: listens at ")
        with command("worker", address) as told:
            assert told == f"worker: prepares batches for {address}"
            recipe = changed(small_recipe, steps=4, evaluate_every=2)
            corpus = dataclasses.replace(recipe.data.train, source="", target="", records=str(tmp_path / "shards"))
            data = dataclasses.replace(recipe.data, train=corpus, service=address)
            run = train(dataclasses.replace(recipe, data=data), tmp_path / "run")
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert "prepared by the workers of" in capsys.readouterr().out
