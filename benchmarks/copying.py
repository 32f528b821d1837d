"""Measures how many sentences with unseen names are right with copying and without.

    python benchmarks/copying.py

The data are those of `tfseq2seq data names`: 1,000 test sentences, English and Chinese, whose names are not in the
training data. The model is that of recipes/names.yaml.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfseq2seq.data.synthetic.names import write_names
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import load_recipe
from tfseq2seq.training.fit import train

RECIPE = Path(__file__).parents[1] / "recipes" / "names.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="updates of each training")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_names(Path(scratch) / "names")
        corpora = [
            f"data.{split}.{side}={paths[f'{split}.{side}']}"
            for split in ("train", "validation")
            for side in ("source", "target")
        ]
        sources, targets = (paths[f"test.{side}"].read_text("utf-8").splitlines() for side in ("source", "target"))
        for copy in ("true", "false"):
            settings = [*corpora, f"model.decoder.copy={copy}", f"training.steps={arguments.steps}"]
            begin = time.time()
            run = train(load_recipe(RECIPE, settings), Path(scratch) / copy, log=lambda line: None)
            seconds = time.time() - begin
            outputs = [output.texts[0] for output in Generator(Predictor.of_runs([run])).generate(sources)]
            for language, chosen in (("English", str.isascii), ("Chinese", lambda line: not line.isascii())):
                pairs = [(out, target) for out, target, source in zip(outputs, targets, sources) if chosen(source)]
                right = sum(out == target for out, target in pairs)
                print(f"copy {copy}: {language}: {right} of {len(pairs)} right ({right / len(pairs):.1%})", flush=True)
            print(f"copy {copy}: trained in {seconds:.0f} s; such as {sources[0]!r} -> {outputs[0]!r}", flush=True)


if __name__ == "__main__":
    main()
