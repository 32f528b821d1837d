"""Kills trainings at random moments and while they write, resumes them, and compares them with one that never stopped.

    python benchmarks/kills.py [--kills 20]

For each of three families a small run is trained once without a stop. Another one of the same recipe is killed
(SIGKILL) again and again, a third of the times as soon as a file written aside appears, and resumed. Weights, metrics
and progress must be equal, and no file may be left aside.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np

from tfseq2seq.data.synthetic.morse import write_morse
from tfseq2seq.data.synthetic.text_normalization import write_generated
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import Recipe
from tfseq2seq.training.fit import train

TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 32, "dropout": 0.1}
RECURRENT = {"kind": "recurrent", "layers": 1, "units": 16, "dropout": 0.1}
CONFORMER = {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3}
MODELS = {
    "lstm": {"encoder": RECURRENT, "decoder": {**RECURRENT, "attention": "general"}},
    "transformer": {"encoder": TRANSFORMER, "decoder": TRANSFORMER},
    "ctc": {"encoder": CONFORMER, "decoder": {"kind": "ctc"}},
}
# What depends on the clock.
TIMED = ("seconds", "tokens_per_second")


def recipes(folder: Path) -> dict[str, Recipe]:
    text = write_generated(folder / "text", train=400, validation=40, test=40)
    morse = write_morse(folder / "morse", train=24, validation=6, test=6)["morse.tsv"]
    pairs = {
        split: {side: str(text[f"{split}.{side}"]) for side in ("source", "target")}
        for split in ("train", "validation")
    }
    speech = {split: {"manifest": str(morse), "split": split} for split in ("train", "validation")}
    training = {
        "evaluate_every": 10,
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"name": "constant"},
        "keep": 3,
        "tensorboard": False,
    }
    found = {}
    for name, model in MODELS.items():
        is_text = name != "ctc"
        found[name] = from_dict(
            Recipe,
            {
                "name": name,
                "data": {**pairs, "batch_tokens": 512} if is_text else {**speech, "batch_seconds": 20},
                "source": {"scheme": "characters"} if is_text else {"kind": "audio", "sample_rate": 8000, "bins": 16},
                "target": {"scheme": "characters"},
                "model": {"width": 16, **model},
                "training": {**training, "steps": 1200 if is_text else 1000},
            },
        )
    return found


def started(recipe: Recipe, folder: Path) -> int:
    """Trains in a child process, which begins or continues the run; returns its number."""
    child = os.fork()
    if child:
        return child
    errors = os.open(f"{folder}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(errors, 2)
    code = 1
    try:
        train(recipe, folder, resume=(folder / "recipe.yaml").exists(), log=lambda text: None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def killed(child: int, folder: Path, draw: random.Random, at_write: bool) -> bool:
    """Kills a child at a random moment, or when it next writes after that moment. False if it ended before."""
    until = time.monotonic() + draw.uniform(0.5, 14.0)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(Path(f"{folder}.err").read_text())
            return False
        now = time.monotonic() >= until
        writing = now and at_write and any(folder.rglob(".partial-*"))
        if now and (writing or not at_write or time.monotonic() > until + 20):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.0005 if now else 0.02)


def weights(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(
            lambda name, part: found.__setitem__(name, part[()]) if isinstance(part, h5py.Dataset) else None
        )
    return found


def rows(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMED} for line in lines]


def progress(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "checkpoints" / "progress.json").read_text())
    for key in TIMED:
        found.get("metrics", {}).pop(key, None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--kills", type=int, default=20, help="number of kills for each family")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as kept:
        for name, recipe in recipes(Path(kept)).items():
            if name not in arguments.families:
                continue
            draw, began = random.Random(name), time.monotonic()
            whole, broken = Path(kept) / f"{name}-whole", Path(kept) / f"{name}-broken"
            os.waitpid(started(recipe, whole), 0)
            kills = at_writes = 0
            while kills < arguments.kills:
                at_write = kills % 3 == 2
                if not killed(started(recipe, broken), broken, draw, at_write):
                    break
                kills, at_writes = kills + 1, at_writes + at_write
            os.waitpid(started(recipe, broken), 0)
            one, other = weights(whole), weights(broken)
            same = one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
            equal = {
                "weights": same,
                "metrics": rows(whole) == rows(broken),
                "progress": progress(whole) == progress(broken),
            }
            aside = [path.name for path in broken.rglob(".partial*")]
            spent = time.monotonic() - began
            print(
                f"{name}: {kills} kills, {at_writes} at writes; equal: {equal}; left aside: {aside}; {spent:.0f} s",
                flush=True,
            )
            failed = failed or bool(aside) or not all(equal.values())
    sys.exit(failed)


if __name__ == "__main__":
    main()
