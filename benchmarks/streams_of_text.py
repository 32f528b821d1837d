"""Checks and measures the streams of `tfseq2seq serve` with many clients at once.

    python benchmarks/streams_of_text.py saved_models/NAME --input FILE [--clients 16] [--rounds 3]

FILE has prompts or source texts, one per line. The model must be exported with search.sample=true or search.beam=1. The
server runs in a process of its own on this machine.

First the SavedModel answers each line by itself in this process: whole texts, the time to the state after the prompt,
and the time of a step. Then one client streams each line, and then all clients stream at once, each its own lines. Each
stream is compared with the whole text. The script prints the time from a request to its first piece, and the exit code
is 1 if a stream differs or fails.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the kernels that text models need)

from tfseq2seq.serving.client import RestClient


class Local:
    """The SavedModel in this process.

    Args:
        folder: of a version.
    """

    def __init__(self, folder: Path):
        self.signatures = tf.saved_model.load(str(folder)).signatures
        self.draws = "seeded" in self.signatures

    def whole(self, line: str, seed: int) -> str:
        given = {"text": tf.constant([line])}
        if self.draws:
            return self.signatures["seeded"](**given, seed=tf.constant([seed]))["text"].numpy()[0].decode()
        return self.signatures["serving_default"](**given)["text"].numpy()[0].decode()

    def times(self, line: str, seed: int) -> tuple[float, list[float]]:
        """The seconds to the state after the prompt, and those of each step."""
        given = {"text": tf.constant([line])}
        if self.draws:
            given["seed"] = tf.constant([seed])
        began = time.perf_counter()
        found = self.signatures["stream_start"](**given)
        started, steps, done = time.perf_counter() - began, [], False
        while not done:
            state = {name: part for name, part in found.items() if name.startswith("stream_")}
            began = time.perf_counter()
            found = self.signatures["stream_step"](**state)
            done = bool(found["done"].numpy()[0])
            steps.append(time.perf_counter() - began)
        return started, steps


def streamed(client: RestClient, line: str, seed: int | None) -> tuple[str, float, int]:
    """The text of a stream, the seconds to its first piece, and the number of pieces."""
    began, first, pieces = time.perf_counter(), 0.0, []
    for piece in client.stream(line, seed):
        first = first or time.perf_counter() - began
        pieces.append(piece)
    return "".join(pieces), first, len(pieces)


def serve(base: Path) -> tuple[subprocess.Popen[str], str]:
    """Starts a server on a free port, and returns its process and address."""
    command = [sys.executable, "-m", "tfseq2seq.cli", "serve", str(base), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "serving" in line and "http://" in line:
            address = "http://" + line.split("http://")[1].split()[0]
            # The port is that of the socket, which the log names.
            return process, address
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base", type=Path, help="folder of the versions of an exported model")
    parser.add_argument("--input", type=Path, required=True, help="file of prompts or source texts, one per line")
    parser.add_argument("--clients", type=int, default=16, help="clients at once")
    parser.add_argument("--rounds", type=int, default=3, help="lines of each client")
    given = parser.parse_args()
    lines = given.input.read_text(encoding="utf-8").split("\n")[: given.clients * given.rounds]
    local = Local(max((path for path in given.base.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)))
    seeds = range(1, len(lines) + 1)
    whole = [local.whole(line, seed) for line, seed in zip(lines, seeds)]
    local.times(lines[0], 1)
    times = [local.times(line, seed) for line, seed in zip(lines, seeds)]
    step = statistics.median(second for _, steps in times for second in steps)
    start = statistics.median(started for started, _ in times)
    print(f"after the prompt {1000 * start:.1f} ms, a step {1000 * step:.1f} ms (medians, no server)")
    process, address = serve(given.base)
    wrong = 0
    try:
        client = RestClient(address, given.base.resolve().name, timeout=600)
        wait_until_ready(client)
        # The first calls prepare the graphs, in each of the server's threads.
        for _ in range(4):
            streamed(client, lines[0], 1 if local.draws else None)
        for clients in (1, given.clients):
            jobs = list(zip(lines, seeds))
            if clients == 1:
                jobs = jobs[: given.clients]
            began = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                found = list(pool.map(lambda job: streamed(client, job[0], job[1] if local.draws else None), jobs))
            spent = time.perf_counter() - began
            differing = sum(text != expected for (text, _, _), expected in zip(found, whole))
            wrong += differing
            firsts = sorted(first for _, first, _ in found)
            pieces = sum(count for _, _, count in found)
            print(
                f"{clients} clients: {len(found)} streams, {differing} differ from the whole text; first piece after "
                f"{1000 * statistics.median(firsts):.1f} ms (most {1000 * firsts[-1]:.1f}); {pieces / spent:,.0f} "
                f"pieces/s"
            )
    finally:
        process.terminate()
        process.wait()
    sys.exit(1 if wrong else 0)


def wait_until_ready(client: RestClient) -> None:
    """Waits until the server answers."""
    from tfseq2seq.errors import UserError

    for _ in range(600):
        try:
            client.status()
            return
        except UserError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    main()
