"""Measures time and memory of encoders on long inputs, with full attention and with attention in windows.

    python benchmarks/long_input.py

Each row is a process of its own: the encoding of one source of random tokens, and an update. The model has 4 + 4 layers
of width 256. Memory is the most that the process used, less the most that it used with a short source.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES, WINDOWS = (512, 2048, 8192), (0, 128)
VOCABULARY, TARGET = 8000, 64


def peak_gigabytes() -> float:
    """The most memory that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(size: int, window: int) -> str:
    """Time and memory for a source of `size` tokens; a window of 0 is full attention."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfseq2seq.models.seq2seq import Seq2Seq
    from tfseq2seq.spec import ModelSpec, TransformerDecoderSpec, TransformerEncoderSpec
    from tfseq2seq.training.losses import TokenCrossEntropy

    blocks = {"layers": 4, "heads": 4, "ffn": 1024}
    encoder = TransformerEncoderSpec(attention_window=window, global_positions=1 if window else 0, **blocks)
    model = Seq2Seq(ModelSpec(width=256, encoder=encoder, decoder=TransformerDecoderSpec(**blocks)), VOCABULARY, 1000)
    model.compile(keras.optimizers.Adam(), TokenCrossEntropy(), jit_compile=False)
    random = np.random.default_rng(0)
    inputs = {
        "source": random.integers(4, VOCABULARY, (1, size)).astype("int32"),
        "target": random.integers(4, 1000, (1, TARGET)).astype("int32"),
    }
    # The first calls build graphs, with a short source.
    short = {**inputs, "source": inputs["source"][:, :16]}
    encode = tf.function(lambda source: model.encode({"source": source}).values, reduce_retracing=True)
    model.train_on_batch(short, inputs["target"])
    encode(tf.constant(short["source"]))
    before = peak_gigabytes()
    # The first call of a size may build a graph: the second one is timed.
    encode(tf.constant(inputs["source"]))
    begin = time.perf_counter()
    encode(tf.constant(inputs["source"]))
    encoded, encoding = time.perf_counter() - begin, peak_gigabytes() - before
    model.train_on_batch(inputs, inputs["target"])
    begin = time.perf_counter()
    model.train_on_batch(inputs, inputs["target"])
    return (
        f"{encoded:.2f} s, {encoding:.2f} GB | {time.perf_counter() - begin:.2f} s, {peak_gigabytes() - before:.2f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--one", type=int, nargs=2, help="measure one size and one window in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(*arguments.one))
        return
    print("source tokens | window | encoding | update")
    for size in SIZES:
        for window in WINDOWS:
            command = [sys.executable, __file__, "--one", str(size), str(window)]
            done = subprocess.run(command, capture_output=True, text=True)
            found = done.stdout.strip() or f"exit code {done.returncode}"
            print(f"{size:,} | {window or 'all'} | {found}", flush=True)


if __name__ == "__main__":
    main()
