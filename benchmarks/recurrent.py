"""Compares the time of a training step of bidirectional recurrent layers with Keras's own layers of the same weights.

    python benchmarks/recurrent.py

A batch has 20 sequences of 60 to 110 positions, and each direction has 128 units. The times are medians of 15
alternating calls. The script checks that both give the same outputs and gradients.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from tfseq2seq.layers.recurrent import LAYERS

BATCH, LENGTH, UNITS, CALLS = 20, 110, 128, 15
KERAS = {"simple": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def training_step(layer, inputs, mask):
    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask)
            loss = tf.reduce_mean(outputs**2)
        return [outputs, *tape.gradient(loss, [inputs, *layer.trainable_weights])]

    return step


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    random = np.random.default_rng(0)
    mask = tf.sequence_mask([LENGTH, *random.integers(60, LENGTH, BATCH - 1)], LENGTH)
    print("| cell | input | Keras, ms | here, ms | ratio |\n|---|---|---|---|---|")
    for width in (96, 512):
        inputs = tf.constant(random.normal(size=(BATCH, LENGTH, width)).astype("float32"))
        for cell in LAYERS:
            layers = [
                keras.layers.Bidirectional(kinds[cell](UNITS, return_sequences=True)) for kinds in (KERAS, LAYERS)
            ]
            for layer in layers:
                layer.build(inputs.shape)
            layers[1].set_weights(layers[0].get_weights())
            steps = [training_step(layer, inputs, mask) for layer in layers]
            for one, other in zip(*(step() for step in steps), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)
            seconds: list[list[float]] = [[], []]
            for _ in range(CALLS):
                for step, taken in zip(steps, seconds, strict=True):
                    began = time.perf_counter()
                    step()[-1].numpy()
                    taken.append(time.perf_counter() - began)
            usual, ours = (1000 * float(np.median(taken)) for taken in seconds)
            print(f"| {cell} | {width} | {usual:.0f} | {ours:.0f} | {usual / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
