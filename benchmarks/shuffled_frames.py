"""Whether a model of clips uses the order of frames: its exact match with frames in order, shuffled and reversed.

    tfseq2seq data shapes data/shapes
    tfseq2seq train recipes/shapes.yaml --run runs/shapes
    python benchmarks/shuffled_frames.py --run runs/shapes --manifest data/shapes/clips.tsv

Prints a line for each order: the share of captions that are exact, in percent, with its 95 % bootstrap interval. The
script changes the order of the frames that the model reads, after they are sampled.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from tfseq2seq.cli.runs import open_predictor, open_runs
from tfseq2seq.data.caption_manifests import read_pictures
from tfseq2seq.inference.generator import Generator

_RESAMPLES = 1000


def interval(right: np.ndarray, generator: np.random.Generator) -> str:
    """The share of True values with its bootstrap interval, in percent."""
    drawn = generator.choice(right, (_RESAMPLES, len(right))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{100 * right.mean():.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def main(run: str, manifest: str, split: str, seed: int) -> None:
    model = open_predictor(open_runs([run], []))
    listed = read_pictures(manifest, split, clips=True)
    captions = [clip.captions for clip in listed]
    (pixels,) = model.pack([Path(clip.path) for clip in listed])
    frames: np.ndarray = pixels.numpy()
    generator = np.random.default_rng(seed)
    orders: dict[str, Sequence[np.ndarray]] = {
        "in order": list(frames),
        "shuffled": [clip[generator.permutation(len(clip))] for clip in frames],
        "reversed": [clip[::-1].copy() for clip in frames],
    }
    print(f"{len(listed)} clips, exact match:")
    for name, clips in orders.items():
        outputs = Generator(model, 64, 1).generate(clips)
        right = np.array([output.texts[0] in own for output, own in zip(outputs, captions, strict=True)])
        print(f"  {name:9} {interval(right, generator)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, help="folder of a run of clips")
    parser.add_argument("--manifest", required=True, help="TSV file with the columns split, path and text")
    parser.add_argument("--split", default="test", help="split to describe")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffling and of the bootstrap")
    arguments = parser.parse_args()
    main(arguments.run, arguments.manifest, arguments.split, arguments.seed)
