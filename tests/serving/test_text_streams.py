"""Streams of text over HTTP: a server with an exported model, and clients that read or leave."""

import json
import threading
import time
import urllib.request
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest
import uvicorn
from small_models import live

from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.serving.client import RestClient
from tfseq2seq.serving.events import event, events
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app

FAMILY = "lstm language model"
SEARCH = {"sample": True, "max_length": 24, "seed": 5, "stop_strings": ("aab",)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with a model that draws, and one with a beam; the address and the servables."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        from tfseq2seq.export import signatures

        names = ("serving_default", "seeded", "stream_start", "stream_step")
        original = signatures.endpoints
        patch.setattr(signatures, "endpoints", lambda model: [one for one in original(model) if one.name in names])
        export_saved_model(live(FAMILY, **SEARCH), folder / "drawing")
        export_saved_model(live(FAMILY, beam=2, max_length=10), folder / "beam")
    repository = Repository(folder)
    repository.refresh()
    app = create_app(repository, Settings(workers=2, wait=0.0, poll_seconds=0.0, max_waiting=6))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", repository
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture
def client(served):
    return RestClient(served[0], "drawing", timeout=60)


def test_streams_at_once_are_each_the_whole_answer(client):
    prompts = ["", "abcd", "a", "cab  dab"]
    whole = client.predict({"text": prompts, "seed": [3, 4, 5, 6]}, "seeded")["text"].tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: list(client.stream(*pair)), zip(prompts, [3, 4, 5, 6])))
    assert ["".join(pieces) for pieces in found] == whole
    assert max(map(len, found)) > 2
    # Without a seed, it is that of the export.
    assert "".join(client.stream("a")) == client.generate(["a"])[0]


def test_a_client_that_leaves_stops_the_work(client, served, monkeypatch):
    servable = served[1].find("drawing")[1]
    advance, calls = servable.advance_stream, []

    def slowly(state):
        calls.append(1)
        time.sleep(0.05)
        return advance(state)

    monkeypatch.setattr(servable, "advance_stream", slowly)
    text = client.predict({"text": ["a"], "seed": [4]}, "seeded")["text"][0]
    assert len(text) > 8
    pieces = client.stream("a", seed=4)
    next(pieces)
    pieces.close()
    time.sleep(0.4)
    begun = len(calls)
    time.sleep(0.4)
    assert len(calls) == begun < len(text)


def test_what_cannot_be_streamed_is_refused(client, served):
    for inputs, seed, reason in (
        ({"text": ["a", "b"]}, 1, "400: a stream answers one input, got 2"),
        ("a", -3, "400: 'seed': expected an integer from 0 to 2147483647, got the number -3"),
        ("a" * 2000, 1, r"400: input \[0\]: too long"),
        ({"x": ["a"]}, 1, "400: 'inputs': expected 'text', got 'x'"),
    ):
        with pytest.raises(UserError, match=reason):
            list(client.stream(inputs, seed))
    with pytest.raises(UserError, match="400: this model decides on outputs as a whole; .*search.beam=1"):
        list(RestClient(served[0], "beam").stream("a"))
    with pytest.raises(UserError, match="404: Servable not found"):
        list(RestClient(served[0], "none").stream("a"))


def test_too_many_streams_are_refused(client, served, monkeypatch):
    servable = served[1].find("drawing")[1]
    advance, go = servable.advance_stream, threading.Event()
    monkeypatch.setattr(servable, "advance_stream", lambda state: go.wait(120) and advance(state))
    with ThreadPoolExecutor(8) as pool:
        asked = {pool.submit(lambda: "".join(client.stream("a", seed=1))) for _ in range(8)}
        refused = set()
        while len(refused) < 2:
            done, _ = wait(asked - refused, timeout=60, return_when=FIRST_COMPLETED)
            assert done
            refused |= done
        go.set()
        for one in refused:
            with pytest.raises(UserError, match="503: 6 texts are being written; try again in a second"):
                one.result()
        (text,) = {one.result() for one in asked - refused}
    # They are counted no longer.
    assert "".join(client.stream("a", seed=1)) == text


def test_an_error_of_the_model_ends_the_stream_with_an_event(client, served, monkeypatch):
    from tfseq2seq.serving.refusal import Refusal

    servable = served[1].find("drawing")[1]
    advance, calls = servable.advance_stream, []

    def failing(state):
        calls.append(1)
        if len(calls) > 3:
            raise Refusal(500, "the model fails: because")
        return advance(state)

    monkeypatch.setattr(servable, "advance_stream", failing)
    with pytest.raises(UserError, match="the model fails: because"):
        list(client.stream("a", seed=4))


def test_a_stream_that_fails_is_not_counted_as_answered(client, served, monkeypatch):
    def failing(state):
        raise ZeroDivisionError

    def counted(code):
        lines = urllib.request.urlopen(f"{served[0]}/metrics").read().decode("utf-8").splitlines()
        return [line for line in lines if "stream_start" in line and f'code="{code}"' in line]

    monkeypatch.setattr(served[1].find("drawing")[1], "advance_stream", failing)
    answered = counted(200)
    with pytest.raises(UserError):
        list(client.stream("a", seed=4))
    assert counted(500) and counted(200) == answered


def test_events_are_read_as_they_are_written():
    sent = event({"text": "你\n"}) + event({"error": "x"}, "error")
    assert list(events(sent.splitlines(keepends=True))) == [("message", {"text": "你\n"}), ("error", {"error": "x"})]
    assert json.loads(event({"a": 1}).split(b"data: ")[1]) == {"a": 1}
