"""Rematerialization (gradient checkpointing, Chen et al. 2016): blocks whose activations are computed twice.

The backward pass computes the activations of a block again, so that only its inputs and outputs stay in memory.
`keras.remat` alone would give wrong gradients: random seeds of Keras are variables that change with each use, so that
dropout would draw other masks the second time. Here a block is a pure function of inputs, weights and seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.freezing import is_left


class Rematerializable:
    """Base class of the blocks that can compute their activations twice. They call `recomputed` in training.

    Attributes:
        rematerialize: whether the block does so.
    """

    rematerialize = False


def recomputed(layer: Any, function: Callable[..., Any], *tensors: Any) -> Any:
    """Returns `function(*tensors)`. Its backward pass computes it again.

    Args:
        layer: the layer whose variables the function uses. It must be built.
        function: a function of floating-point tensors that returns a list of floating-point tensors.
        tensors: what gradients are computed for, beside the weights of the layer. Other tensors that the function uses
            have no gradients.
    """
    weights = [variable for variable in layer.variables if variable.trainable]
    states = [variable for variable in layer.variables if not variable.trainable and not is_left(variable)]
    # Copies, because a variable itself would be read only when it has changed.
    before = [ops.copy(state) for state in states]
    count = len(weights)

    def pure(*given: Any) -> tuple[list[Any], list[Any]]:
        mapping = [*zip(weights, given[:count], strict=True), *zip(states, before, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = function(*given[count:])
        return outputs, [scope.get_current_value(state) for state in states]

    outputs, after = keras.remat(pure)(*(ops.copy(weight) for weight in weights), *tensors)
    for state, value in zip(states, after, strict=True):
        state.assign(value)
    return outputs
