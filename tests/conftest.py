"""Shared fixtures: one small run trained once for all tests that need a trained model."""

import contextlib
import gc
import os
import resource

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
from tensorflow.python.framework import ops as framework

from tfseq2seq.data.synthetic.text_normalization import write_generated
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import Recipe

# What is imported stays: collections of garbage need not look through it again.
gc.collect()
gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def freed_graphs():
    """Frees the graphs of the functions that the tests of a module traced.

    TensorFlow registers the gradient of each traced `custom_gradient` for good, and a gradient holds its graph, with
    hundreds of megabytes after some trainings.
    """
    yield
    registry = framework.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()


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

    return train(small_recipe, tmp_path_factory.mktemp("runs") / "small")
