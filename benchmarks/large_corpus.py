"""Trains a tiny model on generated pairs in shards: time to the first update, memory, and time to continue late.

    python benchmarks/large_corpus.py --pairs 10000000 --folder /tmp/large

The shards are written once into FOLDER/PAIRS and used again. Each training is a process of its own. The training that
is continued begins in the last segment of the third epoch: its saved position is moved there.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

WORDS = 20_000
LONGEST = 16


def generated(count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of random words by Zipf's law and the same words, spelled backwards, in falling order of places."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, random.integers(2, 9))) for _ in range(WORDS)]
    sides = (
        np.array([word.encode() for word in words], object),
        np.array([word[::-1].encode() for word in words], object),
    )
    share = 1 / np.arange(1, WORDS + 1)
    for start in range(0, count, 10_000):
        sizes = random.integers(3, LONGEST + 1, min(10_000, count - start))
        ids = random.choice(WORDS, int(sizes.sum()), p=share / share.sum())
        for part in np.split(ids, np.cumsum(sizes)[:-1]):
            yield b" ".join(sides[0][part]), b" ".join(sides[1][part[::-1]])


def recipe(shards: Path, steps: int, scheme: str) -> Any:
    from tfseq2seq.recipe import from_dict
    from tfseq2seq.spec import Recipe

    layer = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 32, "dropout": 0.1}
    return from_dict(
        Recipe,
        {
            "name": "large",
            "data": {"train": {"records": str(shards)}, "holdout": 200, "batch_tokens": 4096},
            "source": {"scheme": scheme, "vocabulary_size": 2000},
            "target": {"scheme": scheme, "vocabulary_size": 2000},
            "model": {"width": 16, "encoder": layer, "decoder": layer},
            "training": {"steps": steps, "evaluate_every": steps, "tensorboard": False},
        },
    )


def trained(shards: str, run: str, steps: int, scheme: str, resume: bool, began: float, answers: Any) -> None:
    """Trains in a new process, and puts the seconds and CPU seconds to the first update, the seconds of the others, and
    the peak of memory in MB."""
    from tfseq2seq.training import callbacks
    from tfseq2seq.training.fit import train

    first: list[float] = []
    used: list[float] = []
    counted = callbacks.Position.on_train_batch_end

    def timed(self: Any, batch: int, logs: Any = None) -> None:
        first.append(time.time())
        used.append(time.process_time())
        counted(self, batch, logs)

    callbacks.Position.on_train_batch_end = timed  # type: ignore[method-assign]
    train(recipe(Path(shards), steps, scheme), run, resume=resume, log=lambda line: print(f"    {line}", flush=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers.put((first[0] - began, used[0], first[-1] - first[0], memory))


def measured(*arguments: Any) -> tuple[float, float, float, float]:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=trained, args=(*arguments, time.time(), answers))
    process.start()
    found = answers.get()
    process.join()
    return found


def move_position(run: Path, shards: Path) -> None:
    """Moves the position of a saved state into the last segment of the third epoch."""
    from tfseq2seq.data.corpora import most_pairs
    from tfseq2seq.data.pair_shards import pair_units
    from tfseq2seq.data.segments import Segments
    from tfseq2seq.data.shard_index import indexed_shards, record_files
    from tfseq2seq.spec import DataSpec

    units = pair_units(indexed_shards(record_files(str(shards)), "pairs") or [], {})
    segments = Segments(units, most_pairs(DataSpec()), lambda *_: None, 1).of_epoch(2)
    path = run / "checkpoints" / "resume.npz"
    with np.load(path) as saved:
        arrays = dict(saved)
    progress = json.loads(str(arrays.pop("progress")))
    progress["position"] = {"epoch": 2, "segment": len(segments) - 1, "batch": 100}
    np.savez(path, progress=json.dumps(progress), **arrays)
    print(f"    continues at {progress['position']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/large"))
    parser.add_argument("--steps", type=int, default=1000, help="updates of the first training")
    parser.add_argument("--scheme", default="unigram")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    shards, run = options.folder / str(options.pairs), options.folder / f"run-{options.pairs}"
    from tfseq2seq.data.pair_shards import write_pair_shards
    from tfseq2seq.data.shard_index import INDEX

    if not (shards / INDEX).exists():
        began = time.time()
        write_pair_shards(generated(options.pairs), shards, jobs=options.jobs, log=print)
        print(f"written in {time.time() - began:.1f} s, generation included", flush=True)
    shutil.rmtree(run, ignore_errors=True)
    first, used, rest, memory = measured(str(shards), str(run), options.steps, options.scheme, False)
    print(f"{options.pairs:,} pairs: first update after {first:.1f} s (CPU {used:.1f} s), peak memory {memory:,.0f} MB")
    print(f"    {options.steps:,} updates in {rest:.1f} s", flush=True)
    move_position(run, shards)
    first, used, _, memory = measured(str(shards), str(run), options.steps + 20, options.scheme, True)
    print(f"{options.pairs:,} pairs, continued: first update after {first:.1f} s (CPU {used:.1f} s)")
    print(f"    peak memory {memory:,.0f} MB")


if __name__ == "__main__":
    main()
