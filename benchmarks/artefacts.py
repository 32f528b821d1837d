"""Every artefact of a run: size, also compressed, share of texts that are the run's, score, and time for one input.

    taskset -c 0 python benchmarks/artefacts.py RUN --input test.source --reference test.target --metric bleu
    taskset -c 0 python benchmarks/artefacts.py RUN --manifest manifest.tsv --split test --metric wer

Each artefact answers in a process of its own, without this package and, but for the SavedModel, without TensorFlow;
with taskset on one core. Times are of inputs one by one after a first call; of a SavedModel without a server around it.
"""

from __future__ import annotations

import argparse
import collections
import os
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.export.ctranslate2 import export_ctranslate2
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.files import read_lines
from tfseq2seq.inference.endpoints import endpoint
from tfseq2seq.run import Run
from tfseq2seq.sources.recordings import read_recordings
from tfseq2seq.spec import AudioSpec

KINDS = [
    ("SavedModel", "float32"),
    ("TFLite", "float32"),
    ("TFLite", "float16"),
    ("TFLite", "int8"),
    ("TFLite", "full_int8"),
    ("CTranslate2", "float32"),
    ("CTranslate2", "int16"),
    ("CTranslate2", "int8"),
]


def exported(kind: str, quantization: str, model, folder: Path, examples: list) -> Path:
    if kind == "SavedModel":
        return export_saved_model(model, folder)
    if kind == "TFLite":
        return export_tflite(model, folder, quantization, examples if quantization == "full_int8" else ())
    return export_ctranslate2(model, folder, quantization)


def operations(folder: Path) -> str:
    """How many kinds of operation a TFLite file uses."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(folder / "model.tflite"))._get_ops_details()
    return f"{len(collections.Counter(one['op_name'] for one in details))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--input")
    parser.add_argument("--reference")
    parser.add_argument("--manifest")
    parser.add_argument("--split", default="")
    parser.add_argument("--metric", default="bleu")
    parser.add_argument("--count", type=int, default=500, help="inputs at most")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="search settings")
    parser.add_argument("--only", action="append", default=[], help="as TFLite:int8; all by default")
    given = parser.parse_args()
    run = Run.open(given.run, [f"search.{one}" for one in given.overrides])
    model = endpoint([run.load_model()], run.source, run.target, run.recipe.search)
    if isinstance(run.recipe.source, AudioSpec):
        utterances = read_manifest(given.manifest, given.split)[: given.count]
        inputs, references = read_recordings(utterances, run.recipe.source).samples, [one.text for one in utterances]
    else:
        inputs, references = read_lines(given.input)[: given.count], read_lines(given.reference)[: given.count]
    print(f"{run.recipe.name}: {len(inputs)} inputs, search {given.overrides or 'as in the recipe'}")
    print(f"| artefact | MB | compressed | texts the same | score within | {given.metric} | ms each | operations |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, quantization in KINDS:
        if given.only and f"{kind}:{quantization}" not in given.only:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = exported(kind, quantization, model, Path(scratch) / "artefact", inputs[:50])
            except UserError as error:
                print(f"| {kind} {quantization} | {error} |", flush=True)
                continue
            contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
            size, zipped = (sum(map(len, them)) / 1e6 for them in (contents, map(zlib.compress, contents)))
            (verdict,) = verify(folder, model, inputs, batches=[1])
            (score,) = corpus_scores(list(verdict.texts), [references], [given.metric], bootstrap=0)
            counted = operations(folder) if kind == "TFLite" else ""
        print(
            f"| {kind} {quantization} | {size:.2f} | {zipped:.2f} | {verdict.same} of {verdict.count} | "
            f"{verdict.score_difference:.1e} | {score.value:.2f} | {1000 * verdict.latency:.1f} | {counted} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
