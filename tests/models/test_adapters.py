"""Low-rank adapters: what they compute, how large they are, and what is merged."""

import keras
import numpy as np
import pytest
from small_models import TEXT_FAMILIES, network

from tfseq2seq.errors import UserError
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.models.adapters import adapter_shapes, adapters, add_adapters, merge_adapters
from tfseq2seq.spec import LoraSpec

EVERYWHERE = LoraSpec(rank=2, alpha=6.0, layers=("*",))


def inputs_of(model):
    random = np.random.default_rng(1)
    return {
        name: random.integers(4, 8, (2, 6)).astype("int32")
        for name in ("source", "target")
        if name in {tensor.name for tensor in model.inputs}
    }


def filled(model):
    """Random values for the adapters of a model."""
    random = np.random.default_rng(2)
    for variable in adapters(model).values():
        variable.assign(random.normal(0, 0.2, variable.shape))
    return {name: variable.numpy() for name, variable in adapters(model).items()}


@pytest.mark.parametrize("family", ["sinusoidal", "conformer", "coverage"])
def test_new_adapters_change_nothing_and_merged_ones_compute_as_unmerged_ones(family):
    assert family in TEXT_FAMILIES
    base, adapted = network(family), network(family)
    adapted.set_weights(base.get_weights())
    inputs = inputs_of(base)
    expected = np.asarray(base(inputs, training=False))
    shapes = adapter_shapes(adapted, EVERYWHERE)
    add_adapters(adapted, EVERYWHERE)
    assert {name: tuple(variable.shape) for name, variable in adapters(adapted).items()} == shapes
    np.testing.assert_array_equal(adapted(inputs, training=False), expected)
    merge_adapters(base, filled(adapted), EVERYWHERE)
    unmerged = np.asarray(adapted(inputs, training=False))
    assert np.abs(unmerged - expected).max() > 0.1
    np.testing.assert_allclose(base(inputs, training=False), unmerged, rtol=1e-4, atol=1e-4)


def test_adapters_alone_are_trained():
    model = network("sinusoidal")
    add_adapters(model, LoraSpec(rank=2))
    trained = {id(variable) for variable in model.trainable_variables}
    assert trained == {id(variable) for variable in adapters(model).values()}
    assert all("attention" in name for name in adapters(model))


def test_packed_projections_have_the_adapters_of_separate_ones():
    keras.utils.set_random_seed(1)
    packed, separate = SequenceDense(10, parts=(4, 3, 3)), [keras.layers.Dense(width) for width in (4, 3, 3)]
    inputs = np.random.default_rng(1).normal(size=(2, 5, 6)).astype("float32")
    for layer in (packed, *separate):
        layer.build((None, None, 6))
    packed._kernel.assign(np.concatenate([layer.kernel for layer in separate], axis=1))
    for layer in (packed, *separate):
        layer.enable_lora(2, lora_alpha=4)
        layer.lora_kernel_b.assign(np.random.default_rng(3).normal(size=layer.lora_kernel_b.shape))
    packed.lora_kernel_a.assign(np.concatenate([layer.lora_kernel_a for layer in separate], axis=1))
    packed.lora_kernel_b.assign(np.concatenate([layer.lora_kernel_b for layer in separate], axis=1))
    expected = np.concatenate([layer(inputs) for layer in separate], axis=-1)
    np.testing.assert_allclose(packed(inputs), expected, rtol=1e-5, atol=1e-5)
    sizes = [np.prod(layer.lora_kernel_a.shape) + np.prod(layer.lora_kernel_b.shape) for layer in (packed, *separate)]
    assert sizes[0] == sum(sizes[1:])


def test_patterns_that_match_no_layer_are_refused_with_near_ones():
    with pytest.raises(UserError, match=r"training.lora.layers\[0\]: must match a layer .* 'encodr/\*'; .*encoder/\*"):
        add_adapters(network("sinusoidal"), LoraSpec(rank=2, layers=("encodr/*",)))
    with pytest.raises(UserError, match=r"got '\*attention\*'; did you mean .*(alignment|cells)|there are decoder/"):
        add_adapters(network("gru"), LoraSpec(rank=2))
