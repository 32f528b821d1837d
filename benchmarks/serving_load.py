"""`tfseq2seq serve` under load and faults: are all answers right, and does it give its memory back?

    python benchmarks/serving_load.py saved_models/quickstart/1 --input runs/quickstart/data/test.source

Beside clients that check every answer, new versions are published and the old ones deleted at once, slow clients send a
byte now and then, and others send bodies that are wrong in many ways. The answers that clients must get are those of
the SavedModel to each line alone. The script prints counts, errors, answers that belong to another line, answers to
wrong bodies by status, and the memory of the server before the load, at most, and after it. The exit code is 1 if there
are errors, or if the memory after the load is more than a fifth above that before.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import multiprocessing
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from serve import asked_alone, measure

NAME = "loaded"
PATH = f"/v1/models/{NAME}:predict"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode()
WARM_UP_SECONDS, QUIET_SECONDS = 10.0, 5.0


def hostile_bodies() -> list[bytes]:
    """100 bodies, none of which has an answer."""
    wrong = [b"", b"\0", b"{", b"[" * 100_000, b"\xff\xfe" * 100, b"x" * 1_000_000, b'{"instances": ["\\ud800"]}']
    values = [None, 1, True, {}, [], [[]], [None], [1], [["a"], "b"], [["a", ["b"]]], {"b64": "a"}, "a" * 1_000_000]
    values += [[{"text": "a"}, "b"], [{"text": 1}], [{"other": "a"}], [{"b64": "%"}], ["a\0"], ["a" * 1_000_000]]
    keys = ("instances", "inputs", "signature_name", "other", "")
    wrong += [json.dumps({key: value}).encode() for value in values for key in keys]
    wrong += [json.dumps({"instances": ["a"], "signature_name": "none" * count}).encode() for count in (1, 9, 99)]
    # A string alone is a column of one row, which has an answer.
    return [body for body in wrong if body != b'{"inputs": "a"}'][:100]


def hostile(port: int, until: float, statuses: collections.Counter) -> None:
    """Sends wrong bodies, one after the other, each over a connection of its own."""
    framings = [
        b"Content-Length: %d\r\n",
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 9%d\r\n",
    ]
    for number, body in enumerate(itertools.cycle(hostile_bodies())):
        if time.perf_counter() > until:
            return
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(HEAD + framings[number % 10 if number % 10 < 3 else 0] % len(body) + b"\r\n" + body)
                client.shutdown(socket.SHUT_WR)
                first = client.recv(4096)
            statuses[first[9:12].decode() or "closed"] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1
        time.sleep(0.01)


def slow(port: int, until: float, count: int) -> None:
    """Sends a byte a second over many connections, which the server may close."""
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket | None] = [None] * count
        while time.perf_counter() < until:
            for index, client in enumerate(clients):
                try:
                    if client is None:
                        clients[index] = client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" if index % 2 else b"")
                    client.sendall(b"P")
                except OSError:
                    clients[index] = None
            time.sleep(1)


def publish(version: Path, folder: Path, until: float, seconds: float) -> int:
    """Publishes a version every so many seconds, deletes the one before at once, and returns their number."""
    for number in itertools.count(2):
        if time.perf_counter() + seconds > until:
            return number - 2
        aside = folder / f".aside-{number}"
        shutil.copytree(version, aside)
        aside.rename(folder / str(number))
        shutil.rmtree(folder / str(number - 1))
        time.sleep(seconds)
    raise AssertionError


@contextlib.contextmanager
def server(folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """A server in a separate process, and its port. It must stop with exit code 0."""
    command = [sys.executable, "-m", "tfseq2seq.cli", "serve", str(folder), "--port", "0", "--poll-seconds", "1"]
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--request-seconds", "20"], stderr=file)
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            if process.poll() is not None:
                sys.exit(log.read_text())
            time.sleep(0.1)
        yield process, int(found[1])
        began = time.perf_counter()
        process.terminate()
        print(f"stopped with exit code {process.wait(60)} after {time.perf_counter() - began:.1f} s")
    finally:
        process.kill()
        process.wait()


def megabytes(process: subprocess.Popen, field: str) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found[1]) >> 10 if found else 0


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    return connection.getresponse().status == 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="Folder of a version of a text model.")
    parser.add_argument("--input", required=True, help="File of source texts, one per line.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Seconds of the load.")
    parser.add_argument("--clients", type=int, default=32, help="Number of clients that check their answers.")
    parser.add_argument("--slow", type=int, default=50, help="Number of slow connections.")
    parser.add_argument("--hostile", type=int, default=4, help="Number of clients that send wrong bodies.")
    parser.add_argument("--publish-seconds", type=float, default=5.0, help="Seconds between two versions.")
    arguments = parser.parse_args()

    lines = list(dict.fromkeys(Path(arguments.input).read_text(encoding="utf-8").splitlines()))[:640]
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        expected = alone.submit(asked_alone, arguments.version, lines).result()
    statuses: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / NAME, Path(scratch) / "log"
        shutil.copytree(arguments.version, folder / "1")
        with server(folder, log) as (process, port):
            while not healthy(port):
                time.sleep(0.1)
            measure(port, PATH, lines, expected, arguments.clients, WARM_UP_SECONDS)
            time.sleep(QUIET_SECONDS)
            before = megabytes(process, "VmRSS")
            until = time.perf_counter() + arguments.seconds
            threads = [threading.Thread(target=slow, args=[port, until, arguments.slow])]
            threads += [
                threading.Thread(target=hostile, args=[port, until, statuses]) for _ in range(arguments.hostile)
            ]
            with concurrent.futures.ThreadPoolExecutor() as pool:
                published = pool.submit(publish, Path(arguments.version), folder, until, arguments.publish_seconds)
                for thread in threads:
                    thread.start()
                found = measure(port, PATH, lines, expected, arguments.clients, arguments.seconds)
                for thread in threads:
                    thread.join()
                print(f"{published.result()} versions published, the ones before them deleted")
            time.sleep(QUIET_SECONDS + arguments.publish_seconds)
            after, most = megabytes(process, "VmRSS"), megabytes(process, "VmHWM")
        errors = [line for line in log.read_text().splitlines() if " ERROR " in line or "Traceback" in line]
    others = {text: line for line, (text, _) in expected.items()}
    mixed = sum(others.get(given.rsplit(" (", 1)[0], line) != line for line, _, given in found.wrong)
    print(f"{arguments.clients} clients beside {arguments.slow} slow ones: {found}")
    print(f"{len(found.failures)} failures, {len(found.wrong)} wrong answers, {mixed} of them another line's")
    for failure, count in collections.Counter(found.failures).most_common(5):
        print(f"  {count} times {failure}")
    print(f"wrong bodies by status: {dict(sorted(statuses.items()))}")
    print(f"memory: {before} MB before, {most} MB at most, {after} MB after ({after / before:.2f} times)")
    for line in errors[:5]:
        print(line)
    unanswered = sum(count for status, count in statuses.items() if status[:1] == "5")
    sys.exit(1 if found.failures or found.wrong or errors or unanswered or after > 1.2 * before else 0)


if __name__ == "__main__":
    main()
