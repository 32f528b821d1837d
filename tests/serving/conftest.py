"""A SavedModel of small functions with every kind of input and output, and a client of a server over it."""

import contextlib

import pytest
import tensorflow as tf
from starlette.testclient import TestClient

from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app


class Small(tf.Module):
    """Signatures that need no training; `mark` tells two versions apart."""

    def __init__(self, mark):
        super().__init__()
        self.mark = mark

    def signatures(self):
        text = tf.TensorSpec([None], tf.string, name="text")
        number = tf.TensorSpec([None], tf.float32, name="x")
        audio = [
            tf.TensorSpec([None, None], tf.float32, name="audio"),
            tf.TensorSpec([None], tf.int32, name="length"),
        ]
        functions = {
            "serving_default": (self.upper, [text]),
            "n_best": (self.n_best, [text]),
            "lone": (lambda x: {"y": x + 0.1}, [tf.TensorSpec([None, 3], tf.float32, name="x")]),
            "audio": (self.heard, audio),
            "raw": (lambda raw: {"same": raw, "same_bytes": raw}, [tf.TensorSpec([None], tf.string, name="raw")]),
            "kinds": (
                lambda small, wide, flag: {"small": small, "wide": wide, "flag": flag},
                [
                    tf.TensorSpec([None], tf.int8, name="small"),
                    tf.TensorSpec([None], tf.float64, name="wide"),
                    tf.TensorSpec([None], tf.bool, name="flag"),
                ],
            ),
            "mean": (lambda x: {"mean": tf.reduce_mean(x)}, [number]),
            # As wide as the longest row, as what an encoder gives is.
            "wide": (lambda text: {"bytes": tf.strings.bytes_split(text).to_tensor()}, [text]),
            "distinct": (lambda x: {"distinct": tf.unique(x).y}, [number]),
            "positive": (self.positive, [number]),
            "warned": (lambda text: {"text": text, "warning": tf.where(text == "", "nothing", "")}, [text]),
            "limited": (self.limited, [text]),
            "slow": (self.slow, [tf.TensorSpec([None], tf.int32, name="steps")]),
        }
        return {
            name: tf.function(function, input_signature=signature).get_concrete_function()
            for name, (function, signature) in functions.items()
        }

    def upper(self, text):
        return {
            "text": tf.strings.join([self.mark, tf.strings.upper(text)]),
            "score": tf.cast(tf.strings.length(text), tf.float32),
        }

    def n_best(self, text):
        return {
            "text": tf.stack([text, tf.strings.upper(text)], axis=1),
            "score": tf.tile([[-0.1, -2.0]], [tf.shape(text)[0], 1]),
        }

    @staticmethod
    def limited(text):
        long = tf.strings.length(text) > 5
        error = tf.where(long, "too long: more than 5 letters", tf.where(text == "", "silence", ""))
        return {"text": tf.where(long, "", text), "error": error}

    @staticmethod
    def heard(audio, length):
        return {"total": tf.reduce_sum(tf.where(tf.sequence_mask(length, tf.shape(audio)[1]), audio, 0.0), axis=1)}

    @staticmethod
    def positive(x):
        with tf.control_dependencies([tf.debugging.assert_positive(x, message="only positive numbers")]):
            return {"root": tf.sqrt(x)}

    @staticmethod
    def slow(steps):
        count = tf.while_loop(lambda i: i < tf.reduce_max(steps), lambda i: (i + 1,), [tf.constant(0)])[0]
        return {"steps": steps + 0 * count}


def save(folder, mark=""):
    """Writes a version aside and renames it, as `tfseq2seq export` does."""
    module = Small(mark)
    aside = folder.with_name(f".partial-{folder.name}")
    tf.saved_model.save(module, str(aside), signatures=module.signatures())
    aside.rename(folder)
    return folder


@pytest.fixture(scope="session")
def small_version(tmp_path_factory):
    """Folder of the one version of the model `small`; tests must not change it."""
    return save(tmp_path_factory.mktemp("served") / "small" / "3")


@pytest.fixture
def save_small():
    return save


@pytest.fixture
def serving():
    """Makes clients of servers in this process: `serving(folder, load=..., **settings)`."""
    with contextlib.ExitStack() as stack:

        def start(folder, keep=0, load=None, **settings):
            repository = Repository(folder, keep, **({"load": load} if load else {}))
            repository.refresh()
            settings = {"workers": 1, "wait": 0.0, "poll_seconds": 0.0, **settings}
            return stack.enter_context(TestClient(create_app(repository, Settings(**settings))))

        yield start
