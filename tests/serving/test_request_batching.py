"""Requests joined in one call: each gets its own rows, and only what can be joined is."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.request_batching import Batcher
from tfseq2seq.serving.servable import Servable

URL = "/v1/models/small:predict"


class Recorded(Servable):
    """Keeps the shapes it is called with, and waits at a gate before it answers."""

    def __init__(self, folder):
        super().__init__(folder)
        self.calls, self.gate = [], threading.Event()
        self.gate.set()

    def call(self, signature, inputs):
        self.calls.append({name: array.shape for name, array in inputs.items()})
        assert self.gate.wait(30)
        return super().call(signature, inputs)


@pytest.fixture(scope="module")
def loaded(small_version):
    return Recorded(small_version)


@pytest.fixture
def servable(loaded):
    loaded.calls.clear()
    loaded.not_by_rows.clear()
    return loaded


def ask_all(servable, signature, requests, **settings):
    """The outcomes of requests that arrive together at one worker, which waits long enough for all of them."""

    async def main():
        batcher = Batcher(**{"workers": 1, "wait": 0.05, "max_batch": 64, **settings})
        try:
            asked = (batcher.submit(servable, servable.signatures[signature], inputs) for inputs in requests)
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            assert batcher.waiting == 0
            await batcher.close()

    return asyncio.run(main())


def strings(*texts):
    return {"text": np.array([text.encode() for text in texts], object)}


def test_joined_requests_get_their_own_rows(servable):
    requests = [strings(*(f"r{number}.{row}" for row in range(1 + number % 3))) for number in range(20)]
    found = ask_all(servable, "serving_default", requests)
    for request, answer in zip(requests, found, strict=True):
        assert answer["text"].tolist() == [text.upper() for text in request["text"]]
    assert servable.calls == [{"text": (39,)}]


def test_a_batch_has_no_more_rows_than_allowed(servable):
    found = ask_all(servable, "serving_default", [strings("a", "b", "c")] * 7, max_batch=8)
    assert [len(answer["text"]) for answer in found] == [3] * 7
    assert [call["text"] for call in servable.calls] == [(6,), (6,), (6,), (3,)]


def test_idle_workers_share_what_waits(servable):
    ask_all(servable, "serving_default", [strings("a")] * 10, workers=2)
    assert [call["text"] for call in servable.calls] == [(5,), (5,)]


def test_recordings_of_similar_length_are_padded_to_one_shape(servable):
    lengths = [100, 128, 70, 5, 7, 1000]
    requests = [
        {"audio": np.ones([1, length], "float32"), "length": np.array([length - 1], "int32")} for length in lengths
    ]
    found = ask_all(servable, "audio", requests)
    assert [answer["total"].tolist() for answer in found] == [[length - 1.0] for length in lengths]
    # Not all in one: the longest would make nine tenths of the batch padding.
    assert [call["audio"] for call in servable.calls] == [(3, 128), (2, 7), (1, 1000)]


def test_other_shapes_and_signatures_are_not_joined(servable):
    rows = [{"x": np.array(values, "float32")} for values in ([1.0, 3.0], [5.0])]
    assert [answer["mean"].item() for answer in ask_all(servable, "mean", rows)] == [2.0, 5.0]
    # Its signature promises rows and the outputs have fewer, so it is called anew, for each request alone.
    same = [{"x": np.array([number, number], "float32")} for number in (1.0, 2.0)]
    for _ in range(2):
        assert [answer["distinct"].tolist() for answer in ask_all(servable, "distinct", same)] == [[1.0], [2.0]]


def test_parts_of_a_request_that_are_not_as_wide_are_asked_as_one(servable):
    for _ in range(2):
        (found,) = ask_all(servable, "wide", [strings("a", "bc", "def")], max_batch=2)
        assert [b"".join(row) for row in found["bytes"]] == [b"a", b"bc", b"def"]
    assert servable.calls == 2 * [{"text": (2,)}, {"text": (1,)}, {"text": (3,)}]
    # Requests of their own are joined as before.
    servable.calls.clear()
    ask_all(servable, "wide", [strings("a"), strings("bc")])
    assert servable.calls == [{"text": (2,)}]


def test_only_the_request_at_fault_is_refused(servable):
    rows = [{"x": np.array([value], "float32")} for value in (4.0, -1.0, 9.0)]
    first, refused, last = ask_all(servable, "positive", rows)
    assert (first["root"].tolist(), last["root"].tolist()) == ([2.0], [3.0])
    assert isinstance(refused, Refusal) and refused.code == 400 and "only positive numbers" in refused.message


def test_what_nobody_waits_for_any_more_leaves_the_queue(servable):
    async def main():
        batcher = Batcher(workers=1, wait=0.0)
        servable.gate.clear()
        signature = servable.signatures["serving_default"]
        tasks = [asyncio.create_task(batcher.submit(servable, signature, strings(text))) for text in "abc"]
        await asyncio.sleep(0.05)
        assert batcher.waiting == 2
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        servable.gate.set()
        assert (await tasks[2])["text"].tolist() == [b"C"]
        await batcher.close()

    asyncio.run(main())
    assert [call["text"] for call in servable.calls] == [(1,), (1,)]


def test_many_clients_at_once_are_not_mixed_up(serving, small_version):
    client = serving(small_version.parent, wait=0.01, workers=2, max_batch=8)

    def ask(number):
        name = ("serving_default", "n_best")[number % 2]
        texts = [f"{number}-{row}" + "x" * (number % 5) for row in range(1 + number % 3)]
        answer = client.post(URL, content=json.dumps({"signature_name": name, "instances": texts}))
        assert answer.status_code == 200
        found = [row["text"] for row in answer.json()["predictions"]]
        return found == [text.upper() if name == "serving_default" else [text, text.upper()] for text in texts]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


def test_a_full_queue_asks_to_come_again(serving, small_version):
    made = []

    def load(folder):
        made.append(Recorded(folder))
        made[0].gate.clear()
        return made[0]

    client = serving(small_version.parent, load=load, max_waiting=2)
    content = json.dumps({"instances": ["a"]})
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, URL, content=content) for _ in range(3)]
        deadline = time.monotonic() + 20
        while "tfseq2seq_serving_queue_depth 2.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = client.post(URL, content=content)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "2 requests are waiting" in refused.json()["error"]
        assert client.get("/healthz").status_code == 200
        made[0].gate.set()
        assert [answer.result().status_code for answer in asked] == [200, 200, 200]
    assert client.post(URL, content=content).status_code == 200
