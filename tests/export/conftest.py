"""Exports of small models, each written once for all tests, and a client in a process of its own."""

import json
import subprocess
import sys

import pytest
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


@pytest.fixture(scope="session")
def ask_saved_model():
    """A function of folder, texts, batch size and names of signatures to the lists of texts and scores that a client
    gets from each signature, who does not import this package."""

    def ask(folder, texts, batch, *signatures):
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, str(folder), str(batch), *signatures],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.strip().split("\n")[-1])

    return ask
