"""Models train where TensorFlow cannot be imported at all."""

import importlib.util
import subprocess
import sys

import pytest

SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_text"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import keras
import numpy as np
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import ModelSpec, NoSourceSpec, TextSpec
from tfseq2seq.training.losses import NegativeLogLikelihood, TokenAccuracy, TokenCrossEntropy

assert keras.backend.backend() == "jax"
transformer = dict(kind="transformer", layers=1, heads=2, ffn=16, positions="rotary")
recurrent = dict(kind="recurrent", layers=2, units=8)
recipes = [
    (TextSpec(), dict(encoder=transformer, decoder=transformer)),
    (
        TextSpec(),
        dict(
            encoder=recurrent,
            decoder=dict(recurrent, attention="location", coverage=True),
            scheduled_sampling=dict(schedule="constant"),
        ),
    ),
    (NoSourceSpec(), dict(decoder=dict(recurrent, attention="none"))),
    (TextSpec(scheme="words"), dict(encoder=transformer, decoder=dict(transformer, copy=True))),
]
random = np.random.default_rng(0)
source = random.integers(4, 12, (8, 5)).astype("int32")
target = np.concatenate([np.full((8, 1), 2), source], 1).astype("int32")
labels = np.concatenate([source, np.full((8, 1), 3)], 1).astype("int32")
for kind, values in recipes:
    keras.utils.set_random_seed(0)
    model = Seq2Seq(from_dict(ModelSpec, dict(values, width=8)), 12, 12, kind)
    metrics = [NegativeLogLikelihood(), TokenAccuracy()]
    loss = TokenCrossEntropy(0.1, "copy_ids" in model.input)
    model.compile(keras.optimizers.Adam(0.02), loss, weighted_metrics=metrics)
    weights = np.full(labels.shape, 1 / labels.size, "float32")
    # The first word of each source is one that the target vocabulary lacks.
    own = np.concatenate([np.full((8, 1), 12, "int32"), source[:, 1:]], 1)
    given = dict(source=source, target=target, copy_ids=own)
    inputs = {name: value for name, value in given.items() if name in model.input}
    wanted = np.concatenate([own, labels[:, -1:]], 1) if "copy_ids" in inputs else labels
    losses = model.fit(inputs, wanted, sample_weight=weights, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0], losses
assert "tensorflow" not in sys.modules
print("trained")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_training_on_jax_without_tensorflow():
    environment = {"KERAS_BACKEND": "jax", "PATH": "", "JAX_PLATFORMS": "cpu", "HOME": "/tmp"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("trained")
