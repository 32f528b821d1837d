"""Connections as clients make them: in parts, too slow, half closed, or with two lengths."""

import contextlib
import json
import socket
import threading
import time

import pytest

from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app, create_server

BODY = json.dumps({"signature_name": "slow", "inputs": [3]}).encode()
HEAD = b"POST /v1/models/small:predict HTTP/1.1\r\nHost: localhost\r\n"
SECONDS = 1.0


@pytest.fixture(scope="module")
def port(small_version):
    repository = Repository(small_version.parent.parent)
    repository.refresh()
    settings = Settings(port=0, workers=1, wait=0.0, poll_seconds=0.0, request_seconds=SECONDS)
    server = create_server(create_app(repository, settings), settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@contextlib.contextmanager
def connected(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        yield client


def until_closed(client):
    """All that the server sends before it closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(4096):
            found += part
    return found


def with_length(body):
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_a_client_that_closes_its_sending_side_is_answered(port):
    for count in (1, 2):
        with connected(port) as client:
            client.sendall(with_length(BODY) * count)
            client.shutdown(socket.SHUT_WR)
            answer = until_closed(client)
        assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b'{"outputs": [3]}') == count
    # Nothing is owed to these, and they are closed at once.
    for sent in (b"", HEAD, with_length(BODY)[:-1]):
        with connected(port) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            began = time.monotonic()
            assert until_closed(client) == b""
        assert time.monotonic() - began < SECONDS / 2


@pytest.mark.parametrize(
    "head, message",
    [
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "must have either Content-Length or Transfer-"),
        (HEAD.replace(b"/1.1", b"/1.0") + b"Transfer-Encoding: chunked\r\n", "must not have Transfer-Encoding in HTTP"),
    ],
)
def test_a_request_with_an_ambiguous_end_is_refused_and_its_connection_closed(port, head, message):
    with connected(port) as client:
        client.sendall(head + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) + with_length(BODY))
        answer = until_closed(client)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"\r\nconnection: close\r\n" in answer.lower()
    assert message in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize(
    "first, rest, expected",
    [
        (b"", b"", b""),
        (b"", HEAD, b"HTTP/1.1 408 "),
        (with_length(b"x" * 1000)[:-1000], b"x" * 1000, b"HTTP/1.1 408 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 200, b"HTTP/1.1 408 "),
        # The second request of a connection.
        (with_length(BODY), HEAD, b"HTTP/1.1 200 "),
        # A body that is not read.
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"x" * 1000, b"HTTP/1.1 200 "),
    ],
)
def test_a_request_must_arrive_in_time_however_often_bytes_come(port, first, rest, expected):
    with connected(port) as client:
        began = time.monotonic()
        client.sendall(first)
        with contextlib.suppress(OSError):
            client.settimeout(0.05)
            answer = b""
            for byte in rest:
                client.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    part = client.recv(4096)
                    answer += part
                    if not part:
                        break
        client.settimeout(20)
        answer += until_closed(client)
    assert SECONDS * 0.9 < time.monotonic() - began < 3 * SECONDS
    assert answer.startswith(expected) and bool(answer) == bool(expected)
    if b"chunked" in first or b"POST" in first and len(rest) == 1000:
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error == "the request: must arrive within 1 s (--request-seconds), and its body is incomplete"


def test_other_clients_are_answered_beside_slow_ones(port):
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(port)).sendall(HEAD)
        with connected(port) as client:
            client.sendall(with_length(BODY))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
