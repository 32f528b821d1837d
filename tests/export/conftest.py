"""Exports of small models, each written once for all tests, and a client in a process of its own."""

import functools
import json

import pytest
import tensorflow as tf
from fresh_processes import run_client
from small_models import live

from tfseq2seq.export.formats import ExportOptions, formats

CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
texts = json.load(sys.stdin)
found = {name: {"text": [], "score": []} for name in sys.argv[3:]}
for name, lists in found.items():
    for begin in range(0, len(texts), int(sys.argv[2])):
        answers = model.signatures[name](text=tf.constant(texts[begin : begin + int(sys.argv[2])]))
        rows = len(answers["text"])
        lists["text"] += [[text.decode() for text in row] for row in answers["text"].numpy().reshape(rows, -1)]
        lists["score"] += answers["score"].numpy().reshape(rows, -1).tolist()
assert not any(name.startswith("tfseq2seq") for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """A function of format, family and search settings to the live model and the folder of its export; tests must not
    change the folder."""
    made = {}

    def exported(kind, family, **search):
        key = (kind, family, *sorted(search.items()))
        if key not in made:
            model, folder = live(family, **search), tmp_path_factory.mktemp("exports") / "model"
            made[key] = model, formats()[kind].write(model, str(folder), ExportOptions())
        return made[key]

    return exported


class Small(tf.Module):
    """A graph that is written at once, and weights that fill a file."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.ones([10_000]))
        self.ask = tf.function(lambda x: x + self.weights[0], input_signature=[tf.TensorSpec([None])])


@pytest.fixture
def small_graph(monkeypatch):
    """Lets `export_saved_model` write a small graph instead of that of a model, where a test is about the files."""
    small = Small()
    monkeypatch.setattr("tfseq2seq.export.saved_model.Served", lambda _: small)
    graphs = {"serving_default": small.ask.get_concrete_function()}
    monkeypatch.setattr("tfseq2seq.export.saved_model.signature_graphs", lambda _: graphs)
    monkeypatch.setattr("tfseq2seq.export.saved_model.warmup_requests", lambda *_: [b"asked"])


@pytest.fixture(scope="module")
def signatures():
    """A function of the folder of a SavedModel to its signatures; loading it takes a while."""
    return functools.cache(lambda folder: tf.saved_model.load(str(folder)).signatures)


@pytest.fixture(scope="session")
def ask_saved_model(tmp_path_factory):
    """A function of folder, texts, batch size and names of signatures to the lists of texts and scores that a client
    gets from each signature, who does not import this package."""

    client = tmp_path_factory.mktemp("client") / "client.py"
    client.write_text(CLIENT)

    def ask(folder, texts, batch, *signatures):
        done = run_client(client, folder, batch, *signatures, given=json.dumps(texts))
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.strip().split("\n")[-1])

    return ask
