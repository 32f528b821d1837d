"""How training scales on this machine, and what a network must carry for more machines.

    python benchmarks/scaling.py recipes/tatoeba_transformer.yaml

It trains a recipe for some updates in alternating runs: one process on all cores, one with two logical devices, and two
workers with half of the cores each. Tokens per second are those of the second half of the updates. The second table is
calculated, not measured: a ring all-reduce sends 2 (N - 1) / N times the gradients from each of N workers in each
update, after the gradients are computed, and no time is hidden behind the computation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# Name: command, settings, threads of a process; 0 for as many as there are cores.
WAYS = {
    "one process": ("train", [], 0),
    "two logical devices": ("train", ["training.strategy=mirrored", "training.devices=2"], 0),
    "two workers": ("launch", [], 1),
}
WORKERS = (8, 64, 512)
BYTES = 4  # of a gradient in float32
EFFICIENCY = 0.8


def trained(recipe: str, way: str, steps: int, settings: list[str]) -> dict[str, float]:
    """The last line of metrics of a training, and the number of parameters."""
    command, own, threads = WAYS[way]
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        given = [*settings, *own, f"training.steps={2 * steps}", f"training.evaluate_every={steps}"]
        given += ["training.monitor=loss", "training.minutes=0", "training.tensorboard=false", "training.patience=0"]
        options = [part for setting in given for part in ("--set", setting)]
        if command == "launch":
            options += ["--workers", "2"]
        done = subprocess.run(
            [sys.executable, "-m", "tfseq2seq.cli", command, recipe, "--run", f"{folder}/run", *options],
            env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(max(1, cores // 2) if threads else cores)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        parameters = next(line for line in done.stderr.splitlines() if "model: " in line).split("model: ")[1].split()[0]
        rows = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
        seconds = rows[1]["seconds"] - rows[0]["seconds"]
        return {
            "parameters": int(parameters.replace(",", "")),
            "tokens": rows[1]["tokens_per_second"],
            "update": seconds / steps,
            "nll": rows[1].get("nll", rows[1]["loss"]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument(
        "--steps", type=int, default=60, help="number of updates that are measured, after as many others"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            found[way].append(trained(arguments.recipe, way, arguments.steps, arguments.settings))
            print(way, found[way][-1], file=sys.stderr, flush=True)
    base = statistics.median(run["tokens"] for run in found["one process"])
    print("| way | target tokens a second | ratio | s per update | training loss |\n|---|---|---|---|---|")
    for way, runs in found.items():
        tokens, update = (statistics.median(run[key] for run in runs) for key in ("tokens", "update"))
        print(f"| {way} | {tokens:,.0f} | {tokens / base:.2f} | {update:.3f} | {runs[0]['nll']:.4f} |")
    parameters = found["one process"][0]["parameters"]
    update = statistics.median(run["update"] for run in found["one process"])
    print(f"\n{parameters:,.0f} parameters, {update:.3f} s per update. By calculation:\n")
    print("| workers | sent by each worker per update | network for 80 % efficiency |\n|---|---|---|")
    for workers in WORKERS:
        volume = 2 * (workers - 1) / workers * parameters * BYTES
        # update / (update + volume / rate) = EFFICIENCY
        rate = volume / (update * (1 / EFFICIENCY - 1))
        print(f"| {workers} | {volume / 1e6:,.1f} MB | {rate * 8 / 1e9:,.2f} Gbit/s |")


if __name__ == "__main__":
    main()
