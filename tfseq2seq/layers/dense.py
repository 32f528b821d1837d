"""Dense layers over sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


class SequenceDense(keras.layers.Dense):
    """`keras.layers.Dense` for inputs [B, T, D] or of higher rank, computed as one matrix product over all rows.

    The results are those of `Dense`. On TensorFlow `Dense` calls `tf.tensordot`, which adds ten operations on shapes to
    each product. In a decoding step with few rows they take more time than the product.

    Args:
        units: the width of the output.
        parts: the widths of several projections that the matrix has side by side, such as those of queries, keys and
            values. With `enable_lora` each of them has an A [D, rank] of its own, as in separate layers (Hu et al.
            2022). They are side by side in `lora_kernel_a` [D, parts * rank]. Empty for a single projection.
    """

    def __init__(self, units: int, parts: Sequence[int] = (), **kwargs: Any):
        super().__init__(units, **kwargs)
        self.parts = tuple(parts)

    @property
    def kernel(self) -> Any:
        """The matrix [D, units], with the product of the adapters if there are any."""
        if not self.lora_enabled or len(self.parts) < 2:
            return super().kernel
        product = self.adapter_product(self.lora_kernel_a, self.lora_kernel_b)
        return ops.cast(ops.add(self._kernel, self.lora_alpha / self.lora_rank * product), self.compute_dtype)

    def adapter_product(self, a: Any, b: Any) -> Any:
        """Returns the product [D, units] of adapters A [D, parts * rank] and B [rank, units]."""
        if len(self.parts) < 2:
            return ops.matmul(a, b)
        ends = [sum(self.parts[: index + 1]) for index in range(len(self.parts) - 1)]
        pairs = zip(ops.split(a, len(self.parts), axis=1), ops.split(b, ends, axis=1), strict=True)
        return ops.concatenate([ops.matmul(*pair) for pair in pairs], axis=1)

    def add_weight(self, shape: Any = None, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """As in Keras, but the A of adapters is as wide as all parts need it."""
        # `enable_lora` of Keras does all the rest as it must be done here.
        if name == "lora_kernel_a" and self.parts:
            shape = (shape[0], len(self.parts) * shape[1])
        return super().add_weight(shape, *args, name=name, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if len(inputs.shape) < 3:
            return super().call(inputs, training=training)
        leading = ops.shape(inputs)[1:-1]
        rows = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training=training)
        return ops.reshape(rows, (-1, *leading, self.units))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": self.parts}


def side_by_side(initializer: str, widths: Sequence[int]) -> Callable[..., Any]:
    """Returns an initializer of a matrix that consists of several matrices side by side.

    Args:
        initializer: the name of the initializer. It draws each of the matrices separately.
        widths: the widths of the matrices.
    """

    def draw(shape: Any, dtype: Any = None) -> Any:
        parts = [keras.initializers.get(initializer)((*shape[:-1], width), dtype) for width in widths]
        return ops.concatenate(parts, axis=-1)

    return draw
