"""Tests whether ONNX can express the step functions of a run.

tf2onnx converts `encode` and `decode_step` of export/signatures.py, for ids or samples. A greedy search calls them,
and its texts are compared with those of the run.

    python benchmarks/onnx_steps.py RUN --input test.source
    python benchmarks/onnx_steps.py RUN --manifest manifest.tsv --split test

It needs tf2onnx, onnx and onnxruntime, which are not in the requirements of this package.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

from tfseq2seq.cli.inputs import Request, read_inputs
from tfseq2seq.export.signatures import loop_endpoints
from tfseq2seq.inference.decoding import Endpoint
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.run import Run
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.search.ctc import best_path
from tfseq2seq.spec import BOS, EOS, PAD

Step = Callable[[list[np.ndarray]], dict[str, np.ndarray]]


def converted(step: Endpoint) -> tuple[Step, int]:
    """The function in ONNX Runtime, which takes arrays in the order of its signature, and its size in bytes."""

    # tf2onnx takes an input and an output of the same name, such as a state, for one tensor.
    def renamed(*inputs: Any) -> dict[str, Any]:
        return {f"out_{name}": value for name, value in step.function(*inputs).items()}

    function = tf.function(renamed, input_signature=step.signature, autograph=False)
    content = tf2onnx.convert.from_function(function, input_signature=step.signature, opset=18)[0].SerializeToString()
    session = onnxruntime.InferenceSession(content)
    names = [one.name.removeprefix("out_") for one in session.get_outputs()]
    # The file does not contain inputs that no output depends on.
    taken = {one.name for one in session.get_inputs()}

    def ask(inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
        given = {spec.name: value for spec, value in zip(step.signature, inputs, strict=True) if spec.name in taken}
        return dict(zip(names, session.run(None, given), strict=True))

    return ask, len(content)


def numbered(found: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    count = sum(key.startswith(f"{name}_") for key in found)
    return [found[f"{name}_{index}"] for index in range(count)]


def by_attention(first: dict[str, np.ndarray], step: Step, limit: int) -> list[int]:
    fixed, states, last, ids = numbered(first, "fixed"), numbered(first, "state"), BOS, []
    while len(ids) < limit:
        found = step([np.array([last], "int32"), *fixed, *states])
        states, last = numbered(found, "state"), int(found["log_probs"][0].argmax())
        if last == EOS:
            break
        ids.append(last)
    return ids


def by_transducer(first: dict[str, np.ndarray], step: Step, limit: int) -> list[int]:
    states, last, ids = numbered(first, "state"), BOS, []
    for frame in first["frames"][0, : first["mask"][0].sum()]:
        for _ in range(limit):
            found = step([frame[np.newaxis], np.array([last], "int32"), *states])
            best = int(found["log_probs"][0].argmax())
            if best == PAD:
                break
            ids.append(best)
            states, last = numbered(found, "state"), best
    return ids


def by_ctc(first: dict[str, np.ndarray], limit: int) -> list[int]:
    found = best_path(first["log_probs"][:, : first["mask"][0].sum()], limit).ids[0, 0].numpy()
    return found[found != PAD].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("--input", help="file with one input per line")
    parser.add_argument("--manifest", help="manifest of recordings")
    parser.add_argument("--split", default="", help="split of the manifest")
    parser.add_argument("--count", type=int, default=200, help="most inputs to use")
    given = parser.parse_args()
    settings = ["search.beam=1", "search.n_best=1"]
    if "two outputs" in Run.open(given.run).recipe.provides:
        # The step functions are those of the attention decoder.
        settings.append("search.ctc_weight=0")
    run = Run.open(given.run, settings)
    model = Predictor.of_runs([run])
    request = Request(lines=given.input, manifest=given.manifest, split=given.split)
    inputs = read_inputs(run.recipe.source, request).values[: given.count]
    # What `encode` takes for each input: ids, or samples and their number.
    signature = model.source.features_signature
    dtype = signature[0].dtype.as_numpy_dtype
    rows = [list(padded_rows(model.source.features_of([one]), dtype)[: len(signature)]) for one in inputs]
    live = [output.texts[0] for output in Generator(model).generate(inputs)]
    steps = {one.name: converted(one) for one in loop_endpoints(model)}
    encode = steps["encode"][0]
    limit, same, seconds = run.recipe.search.max_length, 0, []
    for row, expected in zip(rows, live, strict=True):
        begin = time.perf_counter()
        first = encode(row)
        if "decode_step" not in steps:
            ids = by_ctc(first, limit)
        elif "frames" in first:
            ids = by_transducer(first, steps["decode_step"][0], limit)
        else:
            ids = by_attention(first, steps["decode_step"][0], limit)
        seconds.append(time.perf_counter() - begin)
        same += model.target.detokenize(tf.constant([ids], tf.int32)).numpy()[0].decode() == expected
    size = sum(one for _, one in steps.values())
    print(
        f"| {run.recipe.name} | {', '.join(steps)} | {size / 1e6:.2f} | {same} of {len(rows)} | "
        f"{1000 * float(np.median(seconds)):.1f} |"
    )


if __name__ == "__main__":
    main()
