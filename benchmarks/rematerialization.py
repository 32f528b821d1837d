"""Measures what `training.rematerialize` saves and costs: peak memory and time of an update, and the losses.

    python benchmarks/rematerialization.py [--layers 6] [--width 256] [--rows 32] [--length 256] [--updates 8]

Each of the two trainings runs in a process of its own, on random token ids, with the same seeds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Trains in this process, and returns the peak memory in MB, the median seconds of an update and the losses."""
    import keras
    import numpy as np

    from tfseq2seq.models.build import build_model
    from tfseq2seq.recipe import from_dict
    from tfseq2seq.spec import ModelSpec, OptimizerSpec, TextSpec, TrainingSpec
    from tfseq2seq.training.objectives import build_objective
    from tfseq2seq.training.schedules import build_optimizer

    keras.utils.set_random_seed(1)
    block = {"layers": options.layers, "heads": 8, "ffn": 4 * options.width}
    spec = from_dict(ModelSpec, {"width": options.width, "encoder": block, "decoder": block})
    model = build_model(spec, TextSpec(), 8000, 8000)
    if options.rematerialize:
        model.rematerialize()
    objective = build_objective(spec, TrainingSpec())
    model.compile(build_optimizer(OptimizerSpec(), 1e-3), jit_compile=False, **objective.compile_options())
    random, shape = np.random.default_rng(1), (options.rows, options.length)
    batch = {name: random.integers(4, 8000, shape).astype("int32") for name in ("source", "target")}
    example = objective.example(batch)
    losses, seconds = [], []
    for _ in range(options.updates):
        began = time.perf_counter()
        losses.append(float(model.train_on_batch(*example, return_dict=True)["loss"]))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"megabytes": peak, "seconds": float(np.median(seconds[1:])), "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 6), ("width", 256), ("rows", 32), ("length", 256), ("updates", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rematerialize", choices=["0", "1"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rematerialize:
        options.rematerialize = options.rematerialize == "1"
        print(json.dumps(measure(options)))
        return
    found = {}
    for value in ("0", "1"):
        command = [sys.executable, __file__, *sys.argv[1:], "--rematerialize", value]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[value] = json.loads(output.splitlines()[-1])
        print(f"rematerialize={value}: {found[value]['megabytes']:,.0f} MB, {found[value]['seconds']:.2f} s an update")
    losses = zip(found["0"]["losses"], found["1"]["losses"], strict=True)
    differences = [abs(one - other) / one for one, other in losses]
    memory, speed = (found["1"][name] / found["0"][name] for name in ("megabytes", "seconds"))
    print(f"memory x {memory:.2f}, time x {speed:.2f}, largest relative difference of a loss {max(differences):.2e}")


if __name__ == "__main__":
    main()
