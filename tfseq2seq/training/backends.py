"""Training on other Keras backends than TensorFlow: what differs, and what is not possible there.

The data pipeline, checkpoints and runs are the same, so a run that was trained on JAX is generated from and exported by
a process with the TensorFlow backend.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras

from tfseq2seq.errors import UserError
from tfseq2seq.spec import Recipe

_BETWEEN = "it changes the model between updates"


def on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def check_backend(recipe: Recipe) -> None:
    """Checks that the Keras backend can train a recipe.

    Raises:
        UserError: it cannot; the message has the setting to change.
    """
    backend = keras.backend.backend()
    if on_tensorflow():
        return
    if backend != "jax":
        raise UserError(f"KERAS_BACKEND: must be tensorflow or jax to train, got {backend}")
    training, model = recipe.training, recipe.model
    # Callbacks change some of these between updates, whose state JAX keeps to itself.
    rules: list[tuple[str, Any, bool, str, str]] = [
        ("training.monitor", training.monitor, training.monitor == "loss", "loss", "the search needs TensorFlow"),
        (
            "training.strategy",
            training.strategy,
            training.strategy != "workers",
            "one or mirrored",
            "it is TensorFlow's",
        ),
        ("training.pruning.sparsity", training.pruning.sparsity, not training.pruning.sparsity, "0", _BETWEEN),
        ("training.schedule.name", training.schedule.name, training.schedule.name != "plateau", "another", _BETWEEN),
    ]
    sampling, guidance = model.scheduled_sampling.schedule, model.guided_attention.steps
    rules += [
        ("model.scheduled_sampling.schedule", sampling, sampling in ("none", "constant"), "none or constant", _BETWEEN),
        ("model.guided_attention.steps", guidance, not guidance, "0", _BETWEEN),
    ]
    for key, value, holds, expected, reason in rules:
        if not holds:
            raise UserError(f"{key}: must be {expected} with KERAS_BACKEND=jax ({reason}), got {value}")


def compiles_shapes(recipe: Recipe) -> bool:
    """Returns whether an update is compiled for each shape of a batch, so that batches should have few shapes."""
    shapes = recipe.data.shapes
    return shapes == "few" or (shapes == "auto" and (recipe.training.jit or not on_tensorflow()))


def use_devices(count: int) -> int:
    """Makes JAX divide batches among devices, with `keras.distribution.DataParallel`. Returns how many they are.

    Args:
        count: the number of devices; 0 for all accelerators.

    Raises:
        UserError: there are fewer devices.
    """
    if count:
        import jax

        # Logical devices of the CPU, for a try-out. JAX makes them only before it computes anything.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)
    devices = keras.distribution.list_devices()
    if len(devices) < max(count, 2):
        raise UserError(
            f"training.devices: must be at most {len(devices)}, the number of devices that JAX finds, got {count}"
        )
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices[: count or None]))
    return count or len(devices)
