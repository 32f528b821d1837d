"""Measures every exported model of a run: size, compressed size, texts equal to the run's, score, and time per input.

    taskset -c 0 python benchmarks/exported_models.py RUN --input test.source --reference test.target --metric bleu
    taskset -c 0 python benchmarks/exported_models.py RUN --manifest manifest.tsv --split test --metric wer

Each exported model answers in a separate process without this package, and, except for the SavedModel, without
TensorFlow. With taskset it uses one core. The inputs are sent one by one after a first call. A SavedModel is measured
without a server.
"""

from __future__ import annotations

import argparse
import collections
import os
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfseq2seq.cli.inputs import Request, read_inputs
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.export.formats import ExportOptions, formats
from tfseq2seq.export.verify import verify
from tfseq2seq.files import read_lines
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.run import Run


def operations(folder: Path) -> str:
    """The number of different operations in a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(folder / "model.tflite"))._get_ops_details()
    return f"{len(collections.Counter(one['op_name'] for one in details))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("--input", help="file with one input per line")
    parser.add_argument("--reference", help="file of references for --input, one per line")
    parser.add_argument("--manifest", help="manifest of recordings and references")
    parser.add_argument("--split", default="", help="split of the manifest")
    parser.add_argument("--metric", default="bleu", help="metric to score with")
    parser.add_argument("--count", type=int, default=500, help="most inputs to use")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="setting of the search, as beam=1")
    parser.add_argument("--only", action="append", default=[], help="format and quantization, as tflite:int8")
    given = parser.parse_args()
    run = Run.open(given.run, [f"search.{one}" for one in given.overrides])
    found = read_inputs(run.recipe.source, Request(lines=given.input, manifest=given.manifest, split=given.split))
    inputs, references = found.values[: given.count], found.references or read_lines(given.reference)
    model = Predictor.of_runs([run])
    print(f"{run.recipe.name}: {len(inputs)} inputs, search {given.overrides or 'as in the recipe'}")
    print(f"| exported model | MB | compressed | equal texts | score within | {given.metric} | ms each | operations |")
    print("|---|---|---|---|---|---|---|---|")
    for form in formats().values():
        for quantization in form.quantizations:
            name = f"{form.name}:{quantization}"
            if given.only and name not in given.only:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                examples = inputs[:50] if quantization == "full_int8" else ()
                options = ExportOptions(quantization, examples=examples)
                try:
                    folder = form.write(model, str(Path(scratch) / "exported"), options)
                except UserError as error:
                    print(f"| {name} | {error} |", flush=True)
                    continue
                contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
                size, zipped = (sum(map(len, them)) / 1e6 for them in (contents, map(zlib.compress, contents)))
                (verdict,) = verify(folder, model, inputs, batches=[1])
                references = list(references)[: len(inputs)]
                (score,) = corpus_scores(list(verdict.texts), [references], [given.metric], bootstrap=0)
                counted = operations(folder) if form.name == "tflite" else ""
            print(
                f"| {name} | {size:.2f} | {zipped:.2f} | {verdict.same} of {verdict.count} | "
                f"{verdict.score_difference:.1e} | {score.value:.2f} | {1000 * verdict.latency:.1f} | {counted} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
