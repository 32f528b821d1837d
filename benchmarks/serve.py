"""Measures the throughput of `tfseq2seq serve` with many clients and with one client.

    python benchmarks/serve.py saved_models/NAME --input FILE [--seconds 60] [--clients 32] [--rounds 3]
                               [--serve "--wait-ms 5 --max-batch 32"]

FILE contains source texts, one per line. The script compares each answer with the answer of the SavedModel to this
line alone, in a process without a server. The server runs in a separate process on this machine. The clients are
threads. Each client keeps a connection and has its own lines. One client and many clients alternate in `--rounds`
rounds, because the speed of a machine changes over time. Each of the two has `--seconds` in all. The script prints
the answers per second of both and their ratio, the median and the 99th percentile of the time to an answer, the rows
per call, and the errors. The exit code is 1 if there are errors.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import multiprocessing
import os
import re
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOLERANCE = 1e-3
WARM_UP_SECONDS = 5.0


@dataclass
class Measured:
    """Seconds to each answer, wrong answers as (line, expected, found), and failed requests."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    duration: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.duration

    def add(self, other: "Measured") -> None:
        self.seconds += other.seconds
        self.wrong += other.wrong
        self.failures += other.failures
        self.duration += other.duration

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.seconds, n=100)
        return (
            f"{self.rate:7.1f} answers/s ({len(self.seconds):,} in {self.duration:.0f} s), "
            f"p50 {1000 * cuts[49]:,.0f} ms, p99 {1000 * cuts[98]:,.0f} ms"
        )


def asked_alone(version: str, lines: list[str]) -> dict[str, tuple[str, float]]:
    """The answer of the SavedModel to each line, in a separate call."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    model = tf.saved_model.load(version).signatures["serving_default"]
    answers = {}
    for line in lines:
        found = model(text=tf.constant([line]))
        answers[line] = (found["text"].numpy()[0].decode("utf-8", "replace"), float(found["score"].numpy()[0]))
    return answers


@contextlib.contextmanager
def server(folder: str, options: str) -> Iterator[int]:
    """The port of a server in a separate process, which must stop with exit code 0."""
    command = [sys.executable, "-m", "tfseq2seq.cli", "serve", folder, "--port", "0", *shlex.split(options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            print(f"  {line.rstrip()}")
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                break
        process.terminate()
        print(*(f"  {line.rstrip()}" for line in process.stderr), sep="\n")
        if process.wait():
            sys.exit(f"the server ended with exit code {process.returncode}")
    finally:
        process.kill()


def client(
    port: int, path: str, lines: list[str], expected: dict[str, tuple[str, float]], until: float, into: Measured
) -> None:
    """Sends one line after the other, again and again, and adds the results to `into`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    bodies = [(line, json.dumps({"instances": [line]}).encode()) for line in lines]
    index = 0
    while time.perf_counter() < until:
        line, body = bodies[index % len(bodies)]
        index += 1
        began = time.perf_counter()
        try:
            connection.request("POST", path, body)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            into.failures.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        into.seconds.append(time.perf_counter() - began)
        if answer.status != 200:
            into.failures.append(f"{answer.status}: {content['error']}")
            continue
        row, (text, score) = content["predictions"][0], expected[line]
        if row["text"] != text or abs(row["score"] - score) > TOLERANCE:
            into.wrong.append((line, f"{text} ({score:.4f})", f"{row['text']} ({row['score']:.4f})"))
    connection.close()


def measure(
    port: int, path: str, lines: list[str], expected: dict[str, tuple[str, float]], clients: int, seconds: float
) -> Measured:
    """Runs a number of clients for a number of seconds. Each client has its own lines."""
    parts = [Measured() for _ in range(clients)]
    began = time.perf_counter()
    threads = [
        threading.Thread(
            target=client, args=[port, path, lines[index::clients], expected, began + seconds, parts[index]]
        )
        for index in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Measured()
    for part in parts:
        total.add(part)
    total.duration = time.perf_counter() - began
    return total


def rows_in_calls(port: int) -> tuple[float, float]:
    """The rows and the calls so far, from /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    rows, calls = (re.search(rf"^tfseq2seq_serving_batch_rows_{name} (\S+)$", text, re.M) for name in ("sum", "count"))
    return (float(rows[1]), float(calls[1])) if rows and calls else (0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="Folder with the versions of one model.")
    parser.add_argument("--input", required=True, help="File of source texts, one per line.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Seconds to measure each number of clients.")
    parser.add_argument("--clients", type=int, default=32, help="Number of clients.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of rounds.")
    parser.add_argument("--lines", type=int, default=640, help="Number of different lines to use.")
    parser.add_argument("--serve", default="", help="Options of the server, in one string.")
    arguments = parser.parse_args()

    with open(arguments.input, encoding="utf-8") as file:
        lines = list(dict.fromkeys(line.rstrip("\n") for line in file))[: arguments.lines]
    versions = [path for path in Path(arguments.folder).iterdir() if path.name.isdigit()]
    newest = max(versions, key=lambda path: int(path.name))
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        expected = alone.submit(asked_alone, str(newest), lines).result()
    path = f"/v1/models/{Path(arguments.folder).resolve().name}:predict"

    counts = {1: Measured(), arguments.clients: Measured()}
    ratios = []
    rows = calls = 0.0
    with server(arguments.folder, arguments.serve) as port:
        measure(port, path, lines, expected, arguments.clients, WARM_UP_SECONDS)
        for _ in range(arguments.rounds):
            rates = []
            for count, total in counts.items():
                before = rows_in_calls(port)
                found = measure(port, path, lines, expected, count, arguments.seconds / arguments.rounds)
                if count > 1:
                    after = rows_in_calls(port)
                    rows, calls = rows + after[0] - before[0], calls + after[1] - before[1]
                rates.append(found.rate)
                total.add(found)
            ratios.append(rates[1] / rates[0])
    for count, total in counts.items():
        print(f"{count:3} clients: {total}")
    spread = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    ratio = counts[arguments.clients].rate / counts[1].rate
    print(f"ratio {ratio:.2f} (by round {spread}), {rows / calls:.1f} rows a call")
    wrong = [one for total in counts.values() for one in total.wrong]
    failures = [one for total in counts.values() for one in total.failures]
    others = {text: line for line, (text, _) in expected.items()}
    mixed = sum(others.get(given.rsplit(" (", 1)[0], line) != line for line, _, given in wrong)
    print(f"{len(failures)} failures, {len(wrong)} answers unlike those asked alone, {mixed} of them another line's")
    for line, wanted, given in sorted(set(wrong))[:10]:
        print(f"  {line!r}: alone {wanted}, here {given}")
    for failure in sorted(set(failures))[:10]:
        print(f"  {failure}")
    sys.exit(1 if wrong or failures else 0)


if __name__ == "__main__":
    main()
