"""Measures OpenNMT-tf models of the same sizes on the same batches as `benchmarks/text.py`.

    pip install OpenNMT-tf==2.32.0 "tensorflow==2.13.*"     # in a separate environment, Python 3.11
    python benchmarks/text.py --save batches.npz
    python benchmarks/opennmt_tf.py batches.npz [--model tiny small]

It prints the target tokens per second of training, without padding: the median of five stretches after a first update.
It also prints the sentences per second of greedy search and of beam 4, from ids to tokens, with exactly 16 tokens per
output: the median of three passes.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import opennmt
import tensorflow as tf

PAD, BOS, EOS = 0, 2, 3
FORCED = 16
STRETCHES = 5
# layers, width, inner width; four heads
SIZES = {"tiny": (4, 128, 256), "small": (3, 256, 1024)}


def build(name: str, vocabulary: str, beam: int = 1) -> opennmt.models.Transformer:
    """A Transformer with one embedding table for everything, as those of `benchmarks/peers.py`."""
    layers, width, inner = SIZES[name]
    model = opennmt.models.Transformer(
        opennmt.inputters.WordEmbedder(width),
        opennmt.inputters.WordEmbedder(width),
        num_layers=layers,
        num_units=width,
        num_heads=4,
        ffn_inner_dim=inner,
        attention_dropout=0.0,
        ffn_dropout=0.0,
        share_embeddings=opennmt.models.EmbeddingsSharingLevel.ALL,
    )
    lengths = {"minimum_decoding_length": FORCED, "maximum_decoding_length": FORCED}
    files = {"source_vocabulary": vocabulary, "target_vocabulary": vocabulary}
    model.initialize(files, {"beam_width": beam, "label_smoothing": 0.1, **lengths})
    return model


def train(model: opennmt.models.Transformer, batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Target tokens per second without padding, the median of the stretches."""
    optimizer = tf.keras.optimizers.legacy.Adam(1e-3)
    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids])
    def update(source: tf.Tensor, target: tf.Tensor) -> None:
        begun = tf.pad(target[:, :-1], [[0, 0], [1, 0]], constant_values=BOS)
        features = {"ids": source, "length": tf.math.count_nonzero(source, axis=1, dtype=tf.int32)}
        labels = {
            "ids": tf.where(begun == EOS, PAD, begun),
            "ids_out": target,
            "length": tf.math.count_nonzero(target, axis=1, dtype=tf.int32),
        }
        with tf.GradientTape() as tape:
            outputs, _ = model(features, labels, training=True, step=optimizer.iterations)
            total, count, _ = model.compute_loss(outputs, labels, training=True)
            loss = total / count
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

    held = [(tf.constant(source), tf.constant(target)) for source, target in batches]
    model.create_variables()
    update(*held[0])
    rates, steps = [], (len(held) - 1) // STRETCHES
    for stretch in range(STRETCHES):
        part = held[1 + stretch * steps : 1 + (stretch + 1) * steps]
        tokens = sum(int(tf.math.count_nonzero(target)) for _, target in part)
        start = time.perf_counter()
        for batch in part:
            update(*batch)
        optimizer.iterations.numpy()
        rates.append(tokens / (time.perf_counter() - start))
    return statistics.median(rates)


def generate(model: opennmt.models.Transformer, chunks: list[np.ndarray]) -> float:
    """Sentences per second, the median of three passes."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def ask(ids: tf.Tensor) -> tf.Tensor:
        _, found = model({"ids": ids, "length": tf.math.count_nonzero(ids, axis=1, dtype=tf.int32)})
        return found["tokens"]

    model.create_variables()
    held, passes = [tf.constant(chunk) for chunk in chunks], []
    assert ask(held[0]).shape[2] == FORCED
    for _ in range(3):
        start = time.perf_counter()
        for chunk in held:
            ask(chunk).numpy()
        passes.append(sum(len(chunk) for chunk in chunks) / (time.perf_counter() - start))
    return statistics.median(passes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("batches", help="file that benchmarks/text.py --save wrote")
    parser.add_argument("--model", nargs="+", choices=list(SIZES), default=list(SIZES), help="models to measure")
    arguments = parser.parse_args()
    with np.load(arguments.batches) as saved:
        count = sum(name.startswith("source_") for name in saved.files)
        batches = [(saved[f"source_{i}"], saved[f"target_{i}"]) for i in range(count)]
        chunks = [saved[f"chunk_{i}"] for i in range(sum(name.startswith("chunk_") for name in saved.files))]
        size = int(saved["size"])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as vocabulary:
        # The model adds an entry for unknown tokens.
        vocabulary.write("\n".join(["<blank>", "<s>", "</s>", *(f"t{i}" for i in range(size - 4))]) + "\n")
        vocabulary.flush()
        for name in arguments.model:
            print(f"{name}: training {train(build(name, vocabulary.name), batches):,.0f} tok/s", flush=True)
            for beam in (1, 4):
                speed = generate(build(name, vocabulary.name, beam), chunks)
                print(f"{name}: beam {beam}: {speed:.0f} sentences/s", flush=True)


if __name__ == "__main__":
    main()
