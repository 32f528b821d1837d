"""`tfseq2seq serve` as a process: it starts, answers, and stops without leaving anyone unanswered."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import uvicorn

from tfseq2seq.errors import UserError
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, _signals, _Stopped, serve

URL = "/v1/models/small"
COMMAND = [sys.executable, "-m", "tfseq2seq.cli", "serve"]
# As a user starts it: the tests' own level lets TensorFlow's greetings through.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


@contextlib.contextmanager
def server(folder, *options):
    """A server of its own, with the lines of its log as they come; its port is in the last that is read here."""
    command = [*COMMAND, str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield process, int(found[1]), lines
                return
        pytest.fail("".join(lines))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(port, method, path, content=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if content is None else json.dumps(content))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_it_listens(port):
    for _ in range(400):
        with contextlib.suppress(OSError):
            return ask(port, "GET", "/healthz")
        time.sleep(0.05)
    return None


def refused(*arguments):
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def test_a_stop_answers_what_was_accepted(small_version):
    options = ["--workers", "1", "--max-batch", "4", "--access-log"]
    with server(small_version.parent, *options) as (process, port, lines):
        assert wait_until_it_listens(port)[0] == 200
        assert len(lines) == 2 and "small version 3 loaded" in lines[0]
        steps = 20_000
        while True:
            began = time.perf_counter()
            assert ask(port, "POST", f"{URL}:predict", {"signature_name": "slow", "inputs": [steps]})[0] == 200
            if time.perf_counter() - began > 0.2:
                break
            steps *= 2
        answers = {}

        def one(index):
            content = {"signature_name": "slow", "instances": [steps, index]}
            answers[index] = ask(port, "POST", f"{URL}:predict", content)

        threads = [threading.Thread(target=one, args=[index]) for index in range(12)]
        for thread in threads:
            thread.start()
        # One is being computed, the others wait: all of them have been accepted.
        while b"queue_depth 0.0" in ask(port, "GET", "/metrics")[1]:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        rest = process.stderr.read()
        assert process.wait(60) == 0
    assert sorted(answers) == list(range(12))
    for index, (status, body) in answers.items():
        assert (status, json.loads(body)) == (200, {"predictions": [steps, index]})
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].endswith("INFO stopped; all accepted requests are answered")
    assert rest.count('predict HTTP/1.1" 200') >= 12


def test_a_stop_has_a_deadline(small_version):
    """Beside bodies of which a byte comes now and then, and a call of the model that nothing ends."""
    with server(small_version.parent, "--stop-seconds", "2") as (process, port, _), contextlib.ExitStack() as stack:
        assert wait_until_it_listens(port)[0] == 200
        bodies = [b"x" * 1000] * 25 + [json.dumps({"signature_name": "slow", "inputs": [2**31 - 1]}).encode()]
        clients = []
        for body in bodies:
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
            head = f"POST {URL}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            clients[-1].sendall(head.encode())
        clients[-1].sendall(bodies[-1])
        stopped = threading.Event()

        def drip():
            while not stopped.wait(0.1):
                for client in clients[:-1]:
                    with contextlib.suppress(OSError):
                        client.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 0
        finally:
            stopped.set()
            thread.join()
        assert time.monotonic() - began < 4
        rest = process.stderr.read()
        assert rest.splitlines()[-1].endswith("stopped after 2 s (--stop-seconds); 26 requests are not answered")
        assert "Traceback" not in rest


def test_a_large_body_is_refused_and_never_held(small_version):
    with server(small_version.parent, "--max-body-mb", "1") as (process, port, _):
        wait_until_it_listens(port)

        def peak():
            with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
                return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) >> 10

        before = peak()
        block = b"a" * (1 << 20)
        for headers in (b"Content-Length: 52428800", b"Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(b"POST /v1/models/small:predict HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n")
                for _ in range(50):
                    client.sendall(block if b"Length" in headers else b"100000\r\n" + block + b"\r\n")
                if b"chunked" in headers:
                    client.sendall(b"0\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert peak() - before < 20
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_mistakes_cost_one_line(small_version, tmp_path):
    assert "the folder does not exist" in refused(tmp_path / "nowhere")
    assert "found no version of a model" in refused(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port}: not available on 127.0.0.1" in refused(small_version.parent, "--port", port)
    with pytest.raises(UserError, match=r"nowhere\.invalid"):
        serve(Repository(small_version.parent), Settings(host="nowhere.invalid"))


def test_a_signal_before_the_server_listens_is_not_lost():
    with _signals() as signals:
        with pytest.raises(_Stopped):
            signal.raise_signal(signal.SIGTERM)
        signals.server = uvicorn.Server(uvicorn.Config(lambda *_: None))
        signal.raise_signal(signal.SIGTERM)
        assert signals.server.should_exit


def test_help_sends_production_to_tensorflow_serving():
    command = [sys.executable, "-X", "importtime", "-m", "tfseq2seq.cli", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Use TensorFlow Serving in production" in " ".join(done.stdout.split())
    assert not re.search(r"\|\s+(tensorflow|starlette|uvicorn)$", done.stderr, re.MULTILINE)
