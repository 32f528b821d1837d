"""The check of layers finds each kind of fault in a layer that is right but for it."""

import keras
import numpy as np
import pytest
from check_layer import Padding, check_layer
from keras import ops

LENGTHS = (4, 2, 0)
INPUTS = {
    "inputs": np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32"),
    "mask": np.arange(4) < np.asarray(LENGTHS)[:, None],
}


class Right(keras.layers.Layer):
    """A dense layer over real positions."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.dense = self.part()

    def part(self):
        return keras.layers.Dense(self.width, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.dense.build((None, None, 5))

    def call(self, inputs, mask):
        return self.dense(inputs) * ops.cast(mask, self.compute_dtype)[:, :, None]

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class WithoutConfig(Right):
    def __init__(self, width, scale=2.0, **kwargs):
        super().__init__(width, **kwargs)


class WithoutPolicy(Right):
    def part(self):
        return keras.layers.Dense(self.width)


class In32Bits(Right):
    def call(self, inputs, mask):
        return ops.cast(super().call(inputs, mask), "float32")


class OverPadding(Right):
    def call(self, inputs, mask):
        return super().call(inputs - ops.mean(inputs, axis=1, keepdims=True), mask)


class OverTheBatch(Right):
    def call(self, inputs, mask):
        real = inputs * ops.cast(mask, inputs.dtype)[:, :, None]
        return super().call(inputs - ops.mean(real, axis=0, keepdims=True), mask)


class OverNothing(Right):
    def call(self, inputs, mask):
        counts = ops.sum(ops.cast(mask, self.compute_dtype), axis=1)[:, None, None]
        return super().call(inputs, mask) / counts


def check(cls, **options):
    padding = Padding(LENGTHS, {"inputs": 1, "mask": 1}, {"output": 1})
    check_layer(cls, {"width": 3}, INPUTS, **{"weights": 2, "numbers": 18, "paddings": [padding], **options})


def test_a_right_layer_passes():
    check(Right)


@pytest.mark.parametrize(
    "cls, message",
    [
        (WithoutConfig, "the config lacks .'scale'"),
        (WithoutPolicy, "computes in float32 under mixed_bfloat16"),
        (In32Bits, "output is float32 under mixed_bfloat16, not bfloat16"),
        (OverPadding, "output differs: more padding"),
        (OverTheBatch, "output differs: row 0 alone"),
        (OverNothing, "output is not finite"),
    ],
)
def test_a_fault_is_found(cls, message):
    with pytest.raises(AssertionError, match=message):
        check(cls)


@pytest.mark.parametrize("options", [{"weights": 3}, {"numbers": 17}, {"non_trainable": 1}])
def test_other_weights_than_expected_are_found(options):
    with pytest.raises(AssertionError):
        check(Right, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"paddings": []}, "give paddings, or the reason"),
        ({"without": {"batch": ""}}, "takes a reason"),
        ({"without": {"bacth": "a slip of the pen"}}, "takes a reason"),
    ],
)
def test_a_check_is_left_out_for_a_reason_only(options, message):
    with pytest.raises(AssertionError, match=message):
        check(Right, **options)
