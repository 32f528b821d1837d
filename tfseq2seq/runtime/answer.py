"""Program that asks an exported model as a client would, without this package.

    python -P answer.py FOLDER ASKED.npz ANSWERS.json

A SavedModel, and a TFLite file of strings, need tensorflow and tensorflow-text, another TFLite file ai-edge-litert, a
CTranslate2 folder ctranslate2, and nothing else but numpy. ASKED holds "batch", and either "texts" (JSON: a list of
strings, or of lists of tokens or turns) or arrays "row_0", "row_1", ... of samples, ids or pixels, or of the bytes of
files (uint8 of one dimension). ANSWERS gets "answers"
(strings, or lists of ids or of tokens), "scores", "seconds" of each call and "peak_bytes". The first call, which
prepares the graph, is made twice and timed once.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Answers = tuple[list[Any], list[float]]
Ask = Callable[[Sequence[Any]], Answers]


def saved_model(folder: str) -> Ask:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the kernels)

    # As a graph in a session, the way TensorFlow Serving loads it: tf.saved_model.load restores other objects.
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    outputs = [signature.outputs[name].name for name in ("text", "score")]

    def ask(rows: Sequence[Any]) -> Answers:
        given = named({name: len(info.tensor_shape.dim) for name, info in signature.inputs.items()}, rows)
        texts, scores = session.run(outputs, {signature.inputs[name].name: value for name, value in given.items()})
        return [text.decode("utf-8", "replace") for text in texts], scores.tolist()

    return ask


def tflite(folder: str) -> Ask:
    path = os.path.join(folder, "model.tflite")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        strings = "text" in json.load(file)["outputs"]
    if strings:
        from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
        from tensorflow_text import tflite_registrar

        operations = tflite_registrar.SELECT_TFTEXT_OPS
        interpreter = InterpreterWithCustomOps(operations, model_path=path, num_threads=cores())
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=cores())
    runner = interpreter.get_signature_runner("serving_default")

    def ask(rows: Sequence[Any]) -> Answers:
        found = runner(**named({name: len(info["shape"]) for name, info in runner.get_input_details().items()}, rows))
        if strings:
            return [text.decode("utf-8", "replace") for text in found["text"]], found["score"].tolist()
        return found["ids"][:, 0].tolist(), found["score"][:, 0].tolist()

    return ask


def ctranslate2(folder: str) -> Ask:
    import ctranslate2

    with open(os.path.join(folder, "tfseq2seq.json"), encoding="utf-8") as file:
        options = json.load(file)["options"]
    begin = options.pop("target_prefix", None)
    translator = ctranslate2.Translator(folder, device="cpu", intra_threads=cores())

    def ask(rows: Sequence[Any]) -> Answers:
        found = translator.translate_batch(rows, target_prefix=begin and [begin] * len(rows), **options)
        return [result.hypotheses[0] for result in found], [result.scores[0] for result in found]

    return ask


def cores() -> int:
    """Of the processor, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def named(ranks: dict[str, int], rows: Sequence[Any]) -> dict[str, Any]:
    """Rows as the inputs of a signature, given the rank of each: strings, bytes, or values or turns [B, N, ...] and
    their number [B]; of a model that copies, ids [B, N] and copy_ids [B, N], the columns of rows [N, 2]."""
    if isinstance(rows[0], str):
        return {name: np.array(rows, object) for name in ranks}
    if isinstance(rows[0], np.ndarray) and rows[0].dtype == np.uint8 and rows[0].ndim == 1:
        return {name: np.array([row.tobytes() for row in rows], object) for name in ranks}
    values, lengths = packed(rows)
    if "copy_ids" in ranks:
        return {"ids": values[..., 0], "copy_ids": values[..., 1]}
    return {name: values if rank > 1 else lengths for name, rank in ranks.items()}


def packed(rows: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded to one array, numbers with zeros and strings with empty ones, and their lengths."""
    shape = len(rows), max(map(len, rows))
    if isinstance(rows[0], list):
        values = np.full(shape, "", object)
    else:
        values = np.zeros((*shape, *rows[0].shape[1:]), rows[0].dtype)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    return values, np.array([len(row) for row in rows], "int32")


def main(folder: str, asked_path: str, answers_path: str) -> None:
    with np.load(asked_path) as asked:
        size = int(asked["batch"])
        if "texts" in asked:
            rows = json.loads(str(asked["texts"]))
        else:
            rows = [asked[f"row_{index}"] for index in range(len(asked.files) - 1)]
    kinds = {"model.tflite": tflite, "model.bin": ctranslate2, "saved_model.pb": saved_model}
    ask = next(kind for name, kind in kinds.items() if os.path.exists(os.path.join(folder, name)))(folder)
    answers: list[Any] = []
    scores: list[float] = []
    seconds: list[float] = []
    ask(rows[:size])
    for begin in range(0, len(rows), size):
        start = time.perf_counter()
        found, ranked = ask(rows[begin : begin + size])
        seconds.append(time.perf_counter() - start)
        answers += found
        scores += ranked
    if any(name.split(".")[0] == "tfseq2seq" for name in sys.modules):
        raise RuntimeError("the package was imported; the answers prove nothing")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open(answers_path, "w", encoding="utf-8") as file:
        json.dump({"answers": answers, "scores": scores, "seconds": seconds, "peak_bytes": peak}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
