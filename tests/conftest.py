"""Shared fixtures: one small run trained once for all tests that need a trained model."""

import contextlib
import ctypes
import gc
import os
import resource
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
import tensorflow as tf
from execution import functions
from tensorflow.python.framework import ops as framework

from tfseq2seq.data.synthetic.text_normalization import write_generated
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import Recipe

# Tests trace hundreds of small graphs, which they call a few times. What TensorFlow and Keras do for each operation of
# a graph, and for each graph, costs more here than all computation:
# - graphs are not optimized before they run. Processes that tests start and the TFLite converter still do that;
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# - errors keep their whole traceback, so that no call prepares to shorten it.
keras.config.disable_traceback_filtering()
tf.debugging.disable_traceback_filtering()
# What is imported stays: collections of garbage need not look through it again. Much of what a graph holds stays until
# the end of a module, so that frequent collections find little.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 10, 10)

# Folders and files whose tests trace or train models throughout: `make test-fast` leaves them out. Others that are slow
# have the marker themselves.
_SLOW_FOLDERS = {"export", "inference", "models", "training"}
_SLOW_FILES = {
    *("test_cli.py", "test_cli_answering.py", "test_cli_fusion.py", "test_cli_language_models.py"),
    *("test_cli_limits.py", "test_cli_sharding.py", "test_cli_speech.py", "test_extension.py"),
    *("test_hostile_input.py", "test_search_oracle.py", "test_serve_command.py", "test_rest.py"),
    "test_resampling.py",
}
_FAST_FILES = {"test_distribution.py", "test_few_shapes.py", "test_losses.py", "test_schedules.py"}


def pytest_collection_modifyitems(items):
    for item in items:
        name, folder = item.path.name, item.path.parent.name
        if name in _SLOW_FILES or (folder in _SLOW_FOLDERS and name not in _FAST_FILES):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def freed_graphs(request):
    """Frees the graphs of the functions that the tests of a module traced, and what the module caches.

    TensorFlow registers the gradient of each traced `custom_gradient` for good, and a gradient holds its graph, with
    hundreds of megabytes after some trainings.
    """
    yield
    for value in vars(request.module).values():
        if hasattr(value, "cache_clear") and value.__module__ == request.module.__name__:
            value.cache_clear()
    registry = framework.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()
    # Of the C library by GNU, which otherwise keeps what was freed for this process.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def eagerly():
    """Lets a test search and train without graphs, which take seconds to build and then run for a few short inputs.

    That graphs compute the same is tested as well: of search in every family with the predictor and its exports, of
    training where runs are trained.
    """
    with functions(eager=True):
        yield


@pytest.fixture
def in_graphs():
    """For a test that uses graphs, as users do, in a module whose other tests run eagerly."""
    with functions(eager=False):
        yield


@pytest.fixture
def forked_clients(monkeypatch):
    """Lets `verify` ask exported models in processes that need not import TensorFlow: another has done it for them."""
    from fresh_processes import run_command

    monkeypatch.setattr("tfseq2seq.export.verify.subprocess", types.SimpleNamespace(run=run_command))


@pytest.fixture
def one_signature(monkeypatch):
    """Lets SavedModels have one signature only: the default one, or that of a name it is called with.

    The graphs of the others take most of the time of an export. Their answers have tests of their own.
    """

    def only(name):
        def graphs(model):
            from tfseq2seq.export.signatures import endpoints

            return {endpoint.name: endpoint.graph for endpoint in endpoints(model) if endpoint.name == name}

        monkeypatch.setattr("tfseq2seq.export.saved_model.signature_graphs", graphs)

    only("serving_default")
    return only


@pytest.fixture
def largest_file():
    """A context in which files cannot become larger than a number of bytes, as on a full disk."""

    @contextlib.contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """Paths of a small generated corpus by name: train.source, train.target, validation.source, ..."""
    return write_generated(tmp_path_factory.mktemp("generated"), train=400, validation=40, test=40)


@pytest.fixture(scope="session")
def small_recipe(generated):
    """A recipe that trains in seconds."""
    transformer = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 32, "dropout": 0.1}
    return from_dict(
        Recipe,
        {
            "name": "small",
            "data": {
                "train": {"source": str(generated["train.source"]), "target": str(generated["train.target"])},
                "validation": {
                    "source": str(generated["validation.source"]),
                    "target": str(generated["validation.target"]),
                },
                "batch_tokens": 512,
            },
            "source": {"scheme": "characters"},
            "target": {"scheme": "words"},
            "model": {"width": 16, "encoder": transformer, "decoder": transformer},
            "training": {
                "steps": 12,
                "evaluate_every": 6,
                "optimizer": {"learning_rate": 0.01},
                "schedule": {"name": "constant"},
                "tensorboard": False,
            },
            "search": {"beam": 2, "n_best": 2, "max_length": 16},
        },
    )


@pytest.fixture(scope="session")
def trained_run(small_recipe, tmp_path_factory):
    """A finished run of `small_recipe`; tests must not change it."""
    from tfseq2seq.training.fit import train

    # Whichever test asks first, the run is the same.
    with functions(eager=False):
        return train(small_recipe, tmp_path_factory.mktemp("runs") / "small")
