"""Stops one of two workers at random moments, resumes both, and compares the run with one that never stopped.

    python benchmarks/worker_kills.py [--stops 20]

Two workers on this machine train a small Transformer, started by `tfseq2seq launch`. One of them, drawn at random, gets
SIGTERM or SIGKILL at a random moment of the training; both must end. Weights, metrics and progress of the resumed run
must equal those of a run without stops. Sums of metrics are divided among the workers when they are restored, so
metrics are compared up to rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from kills import progress, recipes, rows, weights

from tfseq2seq.recipe import dump_recipe

NAME = "transformer"


def launched(recipe: Path, run: Path) -> subprocess.Popen:
    options = ["--resume"] if (run / "recipe.yaml").exists() else []
    command = [
        sys.executable,
        "-m",
        "tfseq2seq.cli",
        "launch",
        str(recipe),
        "--run",
        str(run),
        "--workers",
        "2",
        *options,
    ]
    with open(f"{run}.err", "w", encoding="utf-8") as errors:
        return subprocess.Popen(command, stderr=errors)


def step_of(run: Path) -> int:
    with np.load(run / "checkpoints" / "resume.npz") as state:
        return json.loads(str(state["progress"]))["step"]


def stopped(process: subprocess.Popen, run: Path, draw: random.Random, number: int, longest: float) -> bool:
    """Sends a signal to one of the workers at a random moment after the first new state. False: they ended before."""
    state, begun = run / "checkpoints" / "resume.npz", time.time()
    while not (state.exists() and state.stat().st_mtime >= begun):
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    time.sleep(draw.uniform(0.0, longest))
    if process.poll() is not None:
        return False
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(draw.choice(workers)), number)
    code = process.wait(180)
    # 2: the other worker says that this one has gone.
    if code not in (2, 128 + signal.SIGTERM, 128 + signal.SIGKILL):
        raise SystemExit(f"exit code {code}: {Path(f'{run}.err').read_text()[-3000:]}")
    return True


def alike(one: list[dict[str, float]], other: list[dict[str, float]]) -> bool:
    """Whether rows of metrics are equal up to rounding."""
    return len(one) == len(other) and all(
        row.keys() == found.keys() and np.allclose(list(row.values()), list(found.values()), rtol=1e-6, atol=1e-9)
        for row, found in zip(one, other)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600, help="number of training steps")
    arguments = parser.parse_args()
    draw, steps, counts = random.Random(NAME), [], {"SIGTERM": 0, "SIGKILL": 0}
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        recipe = folder / "recipe.yaml"
        recipe.write_text(dump_recipe(recipes(folder, arguments.steps)[NAME]))
        whole, broken = folder / "whole", folder / "broken"
        if launched(recipe, whole).wait():
            raise SystemExit(Path(f"{whole}.err").read_text()[-3000:])
        seconds = [json.loads(line)["seconds"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
        longest = (seconds[-1] - seconds[0]) / arguments.stops
        for index in range(arguments.stops):
            number = (signal.SIGTERM, signal.SIGKILL)[index % 2]
            if not stopped(launched(recipe, broken), broken, draw, number, longest):
                break
            counts[number.name] += 1
            steps.append(step_of(broken))
        if launched(recipe, broken).wait():
            raise SystemExit(Path(f"{broken}.err").read_text()[-3000:])
        one, other = weights(whole), weights(broken)
        equal = {
            "weights": one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one),
            "metrics to 1e-6": alike(rows(whole), rows(broken)),
            "progress": progress(whole)["best"] == progress(broken)["best"],
        }
    print(f"{len(steps)} stops of one of two workers {counts}, resumed from steps {steps}; equal: {equal}")
    sys.exit(not all(equal.values()))


if __name__ == "__main__":
    main()
