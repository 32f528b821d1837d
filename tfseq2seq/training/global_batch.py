"""Global batches: one loss for all batches and devices of an update, and the rows of each replica."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.spec import PAD


def globally_weighted(examples: tf.data.Dataset, count: int = 1) -> tf.data.Dataset:
    """Divides sample weights by their sum over an update of `count` batches.

    Losses sum over examples, so the loss of an update is the mean over its tokens, however the batches are split among
    replicas. Keras divides the gradients that it accumulates by `count`, so weights are multiplied by it.

    Args:
        examples: inputs, labels and sample weights; the weights are numbers of tokens.
        count: the number of batches in an update.
    """
    if count == 1:
        return examples.map(
            lambda inputs, labels, weights: (inputs, labels, _shares(weights, _totals(weights))),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def scaled(inputs: Any, labels: Any, weights: Any) -> tf.data.Dataset:
        group = tf.data.Dataset.zip((inputs, labels, weights))
        zeros = tf.nest.map_structure(lambda _: 0.0, examples.element_spec[2])
        totals = group.map(lambda inputs, labels, weights: _totals(weights)).reduce(
            zeros, lambda total, own: tf.nest.map_structure(tf.add, total, own)
        )
        return group.map(lambda inputs, labels, weights: (inputs, labels, _shares(weights, totals, float(count))))

    return examples.window(count).flat_map(scaled)


def _totals(weights: Any) -> Any:
    return tf.nest.map_structure(tf.reduce_sum, weights)


def _shares(weights: Any, totals: Any, factor: float = 1.0) -> Any:
    return tf.nest.map_structure(lambda own, total: own * (factor / tf.maximum(total, 1.0)), weights, totals)


def padded_rows(example: Any, multiple: int | tf.Tensor) -> Any:
    """Adds rows of weight zero to a batch, so that its number of rows is a multiple of `multiple`.

    The sources of added rows repeat the first row, because a source without a position has no attention. Their targets
    are padding.

    Args:
        example: inputs, labels and sample weights; see `Objective.example`.
    """
    inputs, labels, weights = example
    rows = tf.shape(tf.nest.flatten(labels)[0])[0]
    missing = -rows % multiple

    def repeated(value: tf.Tensor) -> tf.Tensor:
        return tf.concat([value, tf.repeat(value[:1], missing, axis=0)], axis=0)

    def filled(value: tf.Tensor) -> tf.Tensor:
        padding = [[0, missing], *[[0, 0]] * (value.shape.rank - 1)]
        return tf.pad(value, padding, constant_values=tf.constant(PAD, value.dtype))

    inputs = {name: filled(value) if name == "target" else repeated(value) for name, value in inputs.items()}
    return inputs, tf.nest.map_structure(filled, labels), tf.nest.map_structure(filled, weights)


def few_shapes(bounds: Sequence[int], sizes: Sequence[int]) -> Callable[..., Any]:
    """Returns a function that pads a batch to one of few shapes: a compiler is then called for each of them only.

    A batch gets the number of rows of its bucket, and its sources get the length of it. Targets beside a source get the
    next power of two, from 8 on; without a source, the length of the bucket. Rows that are added weigh nothing.

    Args:
        bounds: the greatest length in each bucket, rising.
        sizes: the number of rows of a batch of each bucket.
    """
    powers = [8 << power for power in range(20)]

    def padded(inputs: Any, labels: Any, weights: Any) -> Any:
        target = tf.shape(tf.nest.flatten(labels)[0])[1]
        longest = tf.maximum(target, tf.shape(inputs["source"])[1]) if "source" in inputs else target
        index = tf.minimum(_first(bounds, longest), len(bounds) - 1)
        source_length = tf.gather(list(bounds), index)
        target_length = tf.gather(powers, _first(powers, target)) if "source" in inputs else source_length

        def lengthened(value: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
            if value.shape.rank < 2:
                return value
            padding = [[0, 0], [0, length - tf.shape(value)[1]], *[[0, 0]] * (value.shape.rank - 2)]
            return tf.pad(value, padding, constant_values=tf.constant(PAD, value.dtype))

        def target_sized(structure: Any) -> Any:
            return tf.nest.map_structure(lambda value: lengthened(value, target_length), structure)

        given = {
            name: lengthened(value, target_length if name == "target" else source_length)
            for name, value in inputs.items()
        }
        example = given, target_sized(labels), target_sized(weights)
        return padded_rows(example, tf.gather(list(sizes), index))

    return padded


def _first(bounds: Sequence[int], length: tf.Tensor) -> tf.Tensor:
    """Returns the index of the first bound that is not below a length."""
    return tf.searchsorted(tf.constant(list(bounds)), tf.expand_dims(length, 0))[0]


def replica_rows(examples: tf.data.Dataset, first: int, count: int, replicas: int) -> tf.data.Dataset:
    """Splits each batch evenly among all replicas, and returns the batches of replicas `first` to `first + count - 1`.

    The batches of these replicas follow each other.

    Args:
        examples: inputs, labels and sample weights of global batches.
        first: the index of the first replica.
        count: the number of replicas that this process has.
        replicas: the number of all replicas.
    """

    def parts(*example: Any) -> tf.data.Dataset:
        example = padded_rows(example, replicas)

        def own(value: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[replicas, -1], tf.shape(value)[1:]], axis=0)
            split = tf.reshape(value, shape)[first : first + count]
            split.set_shape([count, None, *value.shape[1:]])
            return split

        return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(own, example))

    return examples.flat_map(parts)
