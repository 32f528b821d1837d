"""What tests of training share: recipes with other settings, and the comparison of weights."""

import numpy as np

from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import Recipe


def changed(recipe, **training):
    values = to_dict(recipe)
    values["training"] |= training
    return from_dict(Recipe, values)


def weights(run):
    return run.load_model().get_weights()


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
