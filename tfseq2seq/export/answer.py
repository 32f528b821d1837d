"""Program that answers as a client of a SavedModel would: it needs tensorflow and tensorflow-text, not this package.

    python -P answer.py SAVED_MODEL ASKED.json ANSWERS.json

ASKED holds {"texts": [...], "batch": size}. ANSWERS gets {"texts", "scores", "seconds" of each call, "peak_bytes"}.
The first call, which prepares the graph, is made twice and timed once.
"""

import json
import resource
import sys
import time

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the kernels)


def main(folder: str, asked_path: str, answers_path: str) -> None:
    with open(asked_path, encoding="utf-8") as file:
        asked = json.load(file)
    model = tf.saved_model.load(folder).signatures["serving_default"]
    texts, size = asked["texts"], asked["batch"]
    outputs: list[str] = []
    scores: list[float] = []
    seconds: list[float] = []
    model(text=tf.constant(texts[:size], tf.string))
    for begin in range(0, len(texts), size):
        start = time.perf_counter()
        found = model(text=tf.constant(texts[begin : begin + size], tf.string))
        outputs += [text.decode("utf-8", "replace") for text in found["text"].numpy()]
        scores += found["score"].numpy().tolist()
        seconds.append(time.perf_counter() - start)
    if any(name.split(".")[0] == "tfseq2seq" for name in sys.modules):
        raise RuntimeError("the package was imported; the answers prove nothing")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open(answers_path, "w", encoding="utf-8") as file:
        json.dump({"texts": outputs, "scores": scores, "seconds": seconds, "peak_bytes": peak}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
