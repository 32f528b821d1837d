"""Whether TensorFlow builds graphs of functions."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def functions(eager):
    """While it lasts, functions run operation by operation, or as graphs."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
