"""Tries hostile inputs on every door of the package, and counts what is wrong by door.

    python benchmarks/hostile_input.py [--count 20000] [--first 0]

The inputs are those of tests/fuzzing.py. Equal numbers give equal inputs, so a fault can be repeated.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "serving"))

import conftest as serving
from fuzzing import doors, fault_of
from small_models import live
from starlette.testclient import TestClient

from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="number of inputs for each door")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        exported = export_tflite(live("gru", beam=1, max_length=8), Path(folder) / "model")
        served = Path(folder) / "served" / "small"
        served.mkdir(parents=True)
        serving.save(served / "1")
        repository = Repository(served.parent)
        repository.refresh()
        settings = Settings(workers=1, wait=0.0, poll_seconds=0.0)
        with TestClient(create_app(repository, settings)) as client:

            def ask(content: bytes) -> int:
                return client.post("/v1/models/small:predict", content=content).status_code

            failed = False
            for door in doors(exported, ask):
                inside = Path(folder) / "door"
                inside.mkdir()
                began, faults = time.monotonic(), []
                for index in range(arguments.first, arguments.first + arguments.count):
                    if fault := fault_of(door, index, inside):
                        faults.append(fault)
                        print(fault, flush=True)
                inside.rmdir()
                spent = time.monotonic() - began
                print(f"{door.name}: {arguments.count:,} inputs, {len(faults)} faults, {spent:.0f} s", flush=True)
                failed = failed or bool(faults)
    sys.exit(failed)


if __name__ == "__main__":
    main()
