"""Stops trainings at random moments, resumes them, and compares them with one that never stopped.

    python benchmarks/kills.py [--stops 20]

For each of four families a small run is trained once without a stop. Another one of the same recipe is stopped again
and again, at random moments between its updates and within its evaluations, and resumed: by SIGTERM, by SIGKILL, and by
SIGKILL as soon as a file written aside appears. Its state is saved every few updates. Weights, metrics and
progress must be equal, and no file may be left aside.
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
from tfseq2seq.training.signals import Interrupted

TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 32, "dropout": 0.1}
RECURRENT = {"kind": "recurrent", "layers": 1, "units": 16, "dropout": 0.1}
CONFORMER = {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3}
# The signal, and whether to wait until the training writes a file.
STOPS = [(signal.SIGTERM, False), (signal.SIGKILL, False), (signal.SIGKILL, True)]
MODELS = {
    "lstm": {"encoder": RECURRENT, "decoder": {**RECURRENT, "attention": "general"}},
    "transformer": {"encoder": TRANSFORMER, "decoder": TRANSFORMER},
    "ctc": {"encoder": CONFORMER, "decoder": {"kind": "ctc"}},
    "transducer": {"encoder": CONFORMER, "decoder": {"kind": "transducer", "units": 16, "joint": 16}},
}
EVALUATIONS = 6
# What depends on the clock.
TIMED = ("seconds", "tokens_per_second")


def recipes(folder: Path, steps: int) -> dict[str, Recipe]:
    text = write_generated(folder / "text", train=400, validation=40, test=40)
    morse = write_morse(folder / "morse", train=24, validation=6, test=6)["morse.tsv"]
    pairs = {
        split: {side: str(text[f"{split}.{side}"]) for side in ("source", "target")}
        for split in ("train", "validation")
    }
    speech = {split: {"manifest": str(morse), "split": split} for split in ("train", "validation")}
    training = {
        "evaluate_every": steps // EVALUATIONS,
        "checkpoint_every": 7,
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"name": "constant"},
        "keep": 3,
        "tensorboard": False,
    }
    found = {}
    for name, model in MODELS.items():
        is_text = name in ("lstm", "transformer")
        found[name] = from_dict(
            Recipe,
            {
                "name": name,
                "data": {**pairs, "batch_tokens": 512} if is_text else {**speech, "batch_seconds": 20},
                "source": {"scheme": "characters"} if is_text else {"kind": "audio", "sample_rate": 8000, "bins": 16},
                "target": {"scheme": "characters"},
                "model": {"width": 16, **model},
                "training": {**training, "steps": steps},
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
    except Interrupted as interrupted:
        code = interrupted.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def stopped(child: int, folder: Path, draw: random.Random, number: int, at_write: bool, longest: float) -> bool:
    """Sends a signal to a child at a random moment after it begins to train, or when it next writes after that moment.

    Returns:
        False if the child ended before.
    """
    until = 0.0
    state, begun = folder / "checkpoints" / "resume.npz", time.time()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            check(status, folder)
            return False
        if not until and state.exists() and state.stat().st_mtime >= begun:
            until = time.monotonic() + draw.uniform(0.0, longest)
        now = until and time.monotonic() >= until
        writing = now and at_write and any(folder.rglob(".partial-*"))
        if now and (writing or not at_write or time.monotonic() > until + 20):
            os.kill(child, number)
            _, status = os.waitpid(child, 0)
            check(status, folder)
            return True
        time.sleep(0.0005 if now else 0.005)


def check(status: int, folder: Path) -> None:
    """Ends the benchmark if a child has failed by itself."""
    good = (0, 128 + signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM)
    if os.waitstatus_to_exitcode(status) not in good:
        raise SystemExit(Path(f"{folder}.err").read_text())


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


def compare(name: str, recipe: Recipe, kept: Path, stops: int) -> bool:
    """Trains a recipe without and with stops, prints how they compare, and returns whether all is equal."""
    draw, began = random.Random(name), time.monotonic()
    whole, broken = kept / f"{name}-whole", kept / f"{name}-broken"
    check(os.waitpid(started(recipe, whole), 0)[1], whole)
    # Without the first interval, in which the graph is built. At such moments, stops end about half of the way.
    seconds = [json.loads(line)["seconds"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    longest = (seconds[-1] - seconds[0]) / stops
    counts = dict.fromkeys(("SIGTERM", "SIGKILL", "while writing"), 0)
    steps: list[int] = []
    for index in range(stops):
        number, at_write = STOPS[index % len(STOPS)]
        if not stopped(started(recipe, broken), broken, draw, number, at_write, longest):
            break
        counts[signal.Signals(number).name] += 1
        counts["while writing"] += at_write
        with np.load(broken / "checkpoints" / "resume.npz") as state:
            steps.append(json.loads(str(state["progress"]))["step"])
    check(os.waitpid(started(recipe, broken), 0)[1], broken)
    one, other = weights(whole), weights(broken)
    equal = {
        "weights": one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one),
        "metrics": rows(whole) == rows(broken),
        "progress": progress(whole) == progress(broken),
    }
    aside = [path.name for path in broken.rglob(".partial*")]
    print(
        f"{name}: {len(steps)} stops {counts}, resumed from steps {steps} of {recipe.training.steps}; equal: {equal}; "
        f"left aside: {aside}; {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return all(equal.values()) and not aside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--stops", type=int, default=20, help="number of stops for each family")
    parser.add_argument("--steps", type=int, default=600, help="number of training steps")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        found = recipes(Path(kept), arguments.steps)
        good = [compare(name, found[name], Path(kept), arguments.stops) for name in arguments.families]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
