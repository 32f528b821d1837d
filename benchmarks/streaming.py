"""Compares streams with whole recordings: equal texts and scores, and the time to process a stream.

    python benchmarks/streaming.py runs/fsdd_streaming data/connected/test.tsv --split test

Each recording is streamed in pieces of 1 to 4,000 random samples, with a fixed seed. The time is that of all pieces,
divided by the duration of the recordings.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.inference.streaming import Streaming
from tfseq2seq.run import Run
from tfseq2seq.sources.recordings import read_recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("manifest", help="manifest of recordings")
    parser.add_argument("--split", default="", help="split of the manifest")
    parser.add_argument("--count", type=int, default=100, help="most recordings to use")
    given = parser.parse_args()
    run = Run.open(given.run)
    model = Predictor.of_runs([run])
    recordings = read_recordings(read_manifest(given.manifest, given.split)[: given.count], run.recipe.source).samples
    whole = Generator(model).generate(recordings)
    streaming, draw = Streaming(model), np.random.default_rng(0)
    same, apart, spent = 0, 0.0, 0.0
    for samples, expected in zip(recordings, whole, strict=True):
        stream, index, began = streaming.open(), 0, time.perf_counter()
        while index < len(samples):
            size = int(draw.integers(1, 4001))
            stream.accept(samples[index : index + size])
            index += size
        found = stream.finish()
        spent += time.perf_counter() - began
        same += found.texts == expected.texts
        apart = max(apart, *(abs(one - other) for one, other in zip(found.scores, expected.scores)))
    seconds = sum(map(len, recordings)) / run.recipe.source.sample_rate
    print(
        f"{same} of {len(recordings)} texts equal, scores within {apart:.1e}; "
        f"{seconds:,.0f} s of recordings, processed in {spent / seconds:.3f} of their duration"
    )


if __name__ == "__main__":
    main()
