"""What Keras lacks for distribution strategies. No other module imports keras.src.

Four faults of Keras 3.15 and 3.16 are mended here:

- `fit` reduces a distributed batch with `strategy.reduce` to build the model from it, and draws that batch from the
  data. It fails with several workers (keras-team/keras#20585) and where the lengths of the replicas differ. The model
  is built from a batch of this process instead.
- With several workers the logs are reduced over workers a second time, which fails for scalars. They are equal in all
  workers, because TensorFlow sums the variables of metrics when it reads them.
- Gradients are clipped, and their loss scale is checked, before the sum over replicas. Here they are summed first.
- All replicas draw the same random numbers, so that dropout has the same masks for the rows of each of them. Here each
  replica has seeds of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import keras.src.backend.tensorflow.trainer as keras_trainer
import tensorflow as tf

# How far the seeds of two replicas are apart. Keras draws the first seeds of layers below 10^9.
_REPLICA_SEEDS = 1_000_003_000


@contextlib.contextmanager
def distributed_fit(model: keras.Model, batch: Any) -> Iterator[None]:
    """Makes `model.fit` and `model.evaluate` right under the strategy of the model inside of the context.

    Args:
        model: the compiled model.
        batch: inputs, labels and sample weights for a replica of this process, to build losses and metrics from.
    """
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=batch)
    reduces = keras_trainer._collective_all_reduce_multi_worker
    next_seed = keras.random.SeedGenerator.next
    model._maybe_symbolic_build = lambda iterator=None, data_batch=None: None
    keras.random.SeedGenerator.next = _seed_of_replica(next_seed)
    keras_trainer._collective_all_reduce_multi_worker = lambda strategy: False
    try:
        yield
    finally:
        del model._maybe_symbolic_build
        keras.random.SeedGenerator.next = next_seed
        keras_trainer._collective_all_reduce_multi_worker = reduces


def _seed_of_replica(next_seed: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function as `SeedGenerator.next`, whose seeds differ in each replica."""

    def seed_of_replica(generator: Any, ordered: bool = True) -> Any:
        seed, context = next_seed(generator, ordered), tf.distribute.get_replica_context()
        if context is None:
            return seed
        # A seed is two numbers. The second one counts what was drawn.
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([replica * tf.constant(_REPLICA_SEEDS, seed.dtype), tf.zeros([], seed.dtype)])

    return seed_of_replica


def sum_gradients_first(optimizer: Any) -> None:
    """Makes an optimizer sum the gradients over replicas before anything else is done with them.

    Args:
        optimizer: the optimizer of a compiled model, with its loss scale if it has one.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    apply = optimizer.apply

    def apply_sum(gradients: Sequence[Any], variables: Any = None) -> None:
        context = tf.distribute.get_replica_context()
        present = [gradient for gradient in gradients if gradient is not None]
        summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
        apply([None if gradient is None else next(summed) for gradient in gradients], variables)

    optimizer.apply = apply_sum
    inner._all_reduce_sum_gradients = list
    if inner.gradient_accumulation_steps:
        _accumulate_across_replicas(inner)


def _accumulate_across_replicas(optimizer: Any) -> None:
    """Takes the condition of gradient accumulation out of the replicas.

    Keras asks in each replica whether a batch ends an update. TensorFlow refuses to update variables of all replicas
    under such a condition.
    """
    steps = optimizer.gradient_accumulation_steps
    # The moving average of the weights moves in `update` alone: it needs no condition of its own.
    vars(optimizer).pop("_update_model_variables_moving_average", None)

    def update(gradients: Any, variables: Any) -> None:
        sums = [optimizer._accumulated_gradients[optimizer._get_variable_index(variable)] for variable in variables]
        means = [(gradient + total) / steps for gradient, total in zip(gradients, sums, strict=True)]
        # As in `_backend_apply_gradients`.
        means = optimizer._clip_gradients(means)
        optimizer._apply_weight_decay(variables)
        optimizer._backend_update_step(means, variables, optimizer.learning_rate)
        if optimizer.use_ema:
            optimizer._update_model_variables_moving_average(optimizer._trainable_variables)
        optimizer._backend_reset_gradient_accumulators()

    def keep(gradients: Any, variables: Any) -> None:
        sums = [optimizer._accumulated_gradients[optimizer._get_variable_index(variable)] for variable in variables]
        optimizer._backend_increment_gradient_accumulators(gradients, sums)

    def across(strategy: Any, gradients: Any, variables: Any) -> None:
        def in_each(function: Any) -> Any:
            return lambda: strategy.extended.call_for_each_replica(function, args=(gradients, variables))

        is_update = tf.equal((optimizer._iterations.value + 1) % steps, 0)
        tf.cond(is_update, in_each(update), in_each(keep))

    optimizer._backend_apply_gradients = lambda gradients, variables: tf.distribute.get_replica_context().merge_call(
        across, args=(gradients, variables)
    )
