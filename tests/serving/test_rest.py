"""Paths, JSON and error codes as TensorFlow Serving's REST API documents them."""

import base64
import json
import math
import time

import pytest
import tensorflow as tf
from fuzzing import doors, fault_of
from starlette.testclient import TestClient

from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app

URL = "/v1/models/small"


@pytest.fixture(scope="module")
def client(small_version):
    repository = Repository(small_version.parent.parent)
    repository.refresh()
    settings = Settings(workers=1, wait=0.0, max_batch=4, poll_seconds=0.0, body_limit=16384)
    with TestClient(create_app(repository, settings)) as client:
        yield client


def predict(client, content, url=f"{URL}:predict"):
    answer = client.post(url, content=content if isinstance(content, bytes | str) else json.dumps(content))
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, json.loads(answer.content)


def refused(client, content, url=f"{URL}:predict"):
    code, body = predict(client, content, url)
    assert list(body) == ["error"] and "\n" not in body["error"]
    return code, body["error"]


def test_status_of_a_model_and_of_a_version(client):
    expected = {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert client.get(URL).json() == expected
    assert client.get(f"{URL}/versions/3").json() == expected


@pytest.mark.parametrize("url", [f"{URL}/metadata", f"{URL}/versions/3/metadata"])
def test_metadata_describes_the_signatures(client, url):
    body = client.get(url).json()
    assert body["model_spec"] == {"name": "small", "signature_name": "", "version": "3"}
    signature = body["metadata"]["signature_def"]["signature_def"]["lone"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "name": "lone_x:0",
        "tensor_shape": {"dim": [{"name": "", "size": "-1"}, {"name": "", "size": "3"}], "unknown_rank": False},
    }


@pytest.mark.parametrize("url", [f"{URL}:predict", f"{URL}/versions/3:predict"])
def test_rows(client, url):
    expected = {"predictions": [{"score": 1.0, "text": "A"}, {"score": 3.0, "text": "äB"}]}
    for instances in (["a", "äb"], [{"text": "a"}, {"text": "äb"}], ["a", {"b64": "w6Ri"}]):
        code, body = predict(client, {"instances": instances}, url)
        assert (code, body) == (200, expected)


def test_columns(client):
    expected = {"outputs": {"score": [1.0, 2.0], "text": ["A", "BC"]}}
    for inputs in (["a", "bc"], {"text": ["a", "bc"]}):
        assert predict(client, {"signature_name": "serving_default", "inputs": inputs}) == (200, expected)


def test_n_best_has_a_list_in_each_row(client):
    code, body = predict(client, {"signature_name": "n_best", "instances": ["a", "b"]})
    assert code == 200
    assert body["predictions"] == [
        {"score": [-0.1, -2.0], "text": ["a", "A"]},
        {"score": [-0.1, -2.0], "text": ["b", "B"]},
    ]
    assert predict(client, {"signature_name": "n_best", "inputs": ["a"]})[1] == {
        "outputs": {"score": [[-0.1, -2.0]], "text": [["a", "A"]]}
    }


def test_a_lone_output_has_no_name_and_floats_no_noise(client):
    rows = [[0, 0.1, 7], [1, -1.5, 3e20]]
    code, body = predict(client, {"signature_name": "lone", "instances": rows})
    assert code == 200
    # What float32 gives, in as few digits as tell it apart: 0.2, not 0.20000000298.
    assert body == {"predictions": [[0.1, 0.2, 7.1], [1.1, -1.4, 3e20]]}
    assert predict(client, {"signature_name": "lone", "inputs": {"x": rows[:1]}})[1] == {"outputs": [[0.1, 0.2, 7.1]]}


def test_numbers_that_json_lacks(client):
    code, body = predict(client, '{"signature_name": "lone", "inputs": [[NaN, Infinity, -Infinity]]}')
    assert code == 200 and math.isnan(body["outputs"][0][0])
    assert body["outputs"][0][1:] == [math.inf, -math.inf]


def test_bytes_go_both_ways_as_base64(client):
    binary, text = b"RIFF\0\xff\xfe", "plain"
    value = {"b64": base64.b64encode(binary).decode()}
    code, body = predict(client, {"signature_name": "raw", "instances": [value, text]})
    assert code == 200
    # `same` is text where it can be, `same_bytes` is bytes by its name.
    assert body["predictions"] == [
        {"same": value, "same_bytes": value},
        {"same": text, "same_bytes": {"b64": "cGxhaW4="}},
    ]
    assert predict(client, {"signature_name": "raw", "inputs": {"raw": [{"b64": "cGxhaW4"}]}})[1]["outputs"][
        "same"
    ] == [text]


def test_several_inputs_of_several_types(client):
    row = {"small": -128, "wide": 1e300, "flag": True}
    assert predict(client, {"signature_name": "kinds", "instances": [row]}) == (200, {"predictions": [row]})
    columns = {"small": [1, 2], "wide": [0.1, 2.0], "flag": [False, True]}
    assert predict(client, {"signature_name": "kinds", "inputs": columns}) == (200, {"outputs": columns})


def test_an_output_without_rows_is_given_by_columns_only(client):
    assert predict(client, {"signature_name": "mean", "inputs": [1.0, 2.0]}) == (200, {"outputs": 1.5})
    code, message = refused(client, {"signature_name": "mean", "instances": [1.0, 2.0]})
    assert code == 400 and "'inputs'" in message


def test_more_rows_than_a_batch_are_answered_in_order(client):
    texts = [f"t{number}" for number in range(11)]
    assert [row["text"] for row in predict(client, {"instances": texts})[1]["predictions"]] == [
        text.upper() for text in texts
    ]
    # Its outputs are fewer than its inputs, whatever the signature promises: no part may be answered by itself.
    numbers = [1.0, 1.0, 1.0, 1.0, 2.0, 1.0]
    assert predict(client, {"signature_name": "distinct", "inputs": numbers}) == (200, {"outputs": [1.0, 2.0]})
    code, message = refused(client, {"instances": ["a"] * 1025})
    assert code == 413 and "at most 1024" in message


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "JSON parse error"),
        ('{"instances": ["a"', "JSON parse error"),
        (b'{"instances": ["\xff"]}', "not UTF-8"),
        ("[" * 4000, "JSON parse error"),
        ('["a"]', "the body: expected an object with 'instances' or 'inputs', got a list"),
        ("{}", "expected either 'instances' (rows) or 'inputs' (columns), got neither"),
        ({"instances": ["a"], "inputs": ["a"]}, "'inputs' (columns), got both"),
        ({"instances": ["a"], "signature_name": 5}, "'signature_name': expected a string, got the number 5"),
        ({"instances": ["a"], "signature_name": "best"}, '"best" not found in signature def; available: '),
        ({"instances": "a"}, "'instances': expected a list of at least one row, got a string"),
        ({"instances": []}, "'instances': expected a list of at least one row, got an empty list"),
        ({"inputs": []}, "input 'text': expected at least one row, got none"),
        ({"instances": [5]}, "input 'text'[0]: expected a value for DT_STRING, got the number 5"),
        ({"instances": ["a", None]}, "input 'text'[1]: expected a value for DT_STRING, got null"),
        ({"instances": ["a", {"text": "b"}]}, "instances[1]: expected a value, as in the rows before, got an object"),
        ({"instances": [{"text": "b"}, "a"]}, "instances[1]: expected an object, as in the rows before, got a string"),
        ({"instances": [{"txt": "a"}]}, "instances[0]: expected 'text', got 'txt'"),
        ({"inputs": {"text": ["a"], "prefix": ["b"]}}, "'inputs': expected 'text', got 'prefix', 'text'"),
        ({"instances": [["a"]]}, "input 'text': expected DT_STRING [-1], got shape [1, 1]"),
        ({"inputs": "a"}, "input 'text': expected DT_STRING [-1], got shape []"),
        ({"instances": ["a\0b"]}, "input 'text'[0]: must not have a NUL character"),
        ('{"instances": ["\\ud800"]}', "surrogate"),
        ({"instances": [{"b64": "a$"}]}, "input 'text'[0]: 'b64' is not valid base64"),
        ({"signature_name": "lone", "instances": [[1, 2]]}, "expected DT_FLOAT [-1, 3], got shape [1, 2]"),
        ({"signature_name": "lone", "instances": [[1, 2, 3], [1, 2]]}, "input 'x': is ragged"),
        ({"signature_name": "lone", "instances": [[1, 2, [3]]]}, "input 'x': is ragged"),
        (
            {"signature_name": "lone", "instances": [[1, 2, True]]},
            "input 'x'[0][2]: expected a value for DT_FLOAT, got a boolean",
        ),
        (
            {"signature_name": "lone", "instances": [[1, 2, 1e39]]},
            "'x'[0][2]: expected a value for DT_FLOAT, got the number 1e+39",
        ),
        ({"signature_name": "lone", "instances": [[1, 2, 10**400]]}, "too large for DT_FLOAT"),
        ({"signature_name": "kinds", "instances": [1]}, "expected a list of objects with 'flag', 'small', 'wide', got"),
        (
            {"signature_name": "kinds", "instances": [{"small": 128, "wide": 1, "flag": True}]},
            "[0]: expected a value for DT_INT8, got the number 128",
        ),
        (
            {"signature_name": "kinds", "instances": [{"small": 1.0, "wide": 1, "flag": True}]},
            "[0]: expected a value for DT_INT8, got the number 1.0",
        ),
        (
            {"signature_name": "kinds", "instances": [{"small": 1, "wide": 1, "flag": 1}]},
            "'flag'[0]: expected a value for DT_BOOL, got the number 1",
        ),
        ({"signature_name": "positive", "inputs": [-1.0]}, "only positive numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told(client, content, told):
    code, message = refused(client, content)
    assert code == 400 and told in message
    assert len(message) < 300


@pytest.mark.parametrize("url", ["/v1/models/large:predict", f"{URL}/versions/2:predict"])
def test_unknown_models_and_versions_are_not_found(client, url):
    code, message = refused(client, {"instances": ["a"]}, url)
    assert code == 404 and message.startswith("Servable not found for request: ")
    for path in (url.removesuffix(":predict"), url.replace(":predict", "/metadata")):
        answer = client.get(path)
        assert answer.status_code == 404 and list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "method, url, code",
    [
        ("GET", f"{URL}:predict", 400),
        ("POST", URL, 400),
        ("POST", f"{URL}:classify", 400),
        ("GET", "/v1/models", 400),
        ("GET", f"{URL}/labels/stable", 404),
        ("GET", "/", 404),
        ("DELETE", URL, 405),
    ],
)
def test_other_paths_are_told_as_json(client, method, url, code):
    answer = client.request(method, url)
    assert answer.status_code == code and list(answer.json()) == ["error"]


def test_a_body_beyond_the_limit_is_not_read(client):
    code, message = refused(client, {"instances": ["a" * 20000]})
    assert code == 413 and "16384 bytes" in message
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1024
            yield b"a" * 1024
            assert read < 1 << 20

    answer = client.post(f"{URL}:predict", content=endless(), headers={"Content-Length": str(50 << 20)})
    assert answer.status_code == 413


def test_health_and_metrics(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    predict(client, {"instances": ["a", "b", "c"]})
    refused(client, {"instances": ["a"]}, "/v1/models/anything:predict")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(lines['tfseq2seq_serving_requests_total{code="200",model="small",signature="serving_default"}']) >= 1
    # Names that clients make up are no labels.
    assert float(lines['tfseq2seq_serving_requests_total{code="404",model="",signature=""}']) >= 1
    assert "anything" not in answer.text
    name = 'tfseq2seq_serving_request_seconds_bucket{le="+Inf",model="small",signature="serving_default"}'
    assert float(lines[name]) >= 1
    assert float(lines["tfseq2seq_serving_batch_rows_sum"]) >= 3
    assert float(lines["tfseq2seq_serving_queue_depth"]) == 0


def test_warnings_of_a_model_are_answered_counted_and_logged(client, caplog):
    body = {"signature_name": "warned", "inputs": ["a", "", ""]}
    assert predict(client, body)[1]["outputs"]["warning"] == ["", "nothing", "nothing"]
    assert "model small, signature warned: 2 answers with a warning: nothing" in caplog.text
    predict(client, {"signature_name": "warned", "inputs": ["a"]})
    counted = [line for line in client.get("/metrics").text.splitlines() if line.startswith("tfseq2seq_serving_warn")]
    assert 'tfseq2seq_serving_warnings_total{model="small",signature="warned"} 2.0' in counted


def test_what_the_model_does_not_answer_because_of_its_length_is_refused(client):
    message = "input [1]: too long: more than 5 letters"
    for content in ({"inputs": ["a", "abcdef"]}, {"instances": ["a", "abcdef"]}):
        assert refused(client, {"signature_name": "limited", **content}) == (400, message)
    # More rows than a call has, and another error, which is an answer.
    rows = ["a"] * 7 + ["abcdef"]
    assert refused(client, {"signature_name": "limited", "inputs": rows})[1].startswith("input [7]: too long")
    found = predict(client, {"signature_name": "limited", "inputs": ["a", ""]})
    assert found == (200, {"outputs": {"error": ["", "silence"], "text": ["a", ""]}})


def test_an_exported_run_is_served(trained_run, tmp_path, serving):
    from tfseq2seq.export.saved_model import export_saved_model
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.inference.predictor import TextToText

    model = TextToText([trained_run.load_model()], trained_run.source, trained_run.target, trained_run.recipe.search)
    export_saved_model(model, tmp_path / "saved" / "dates")
    texts = ["on 3 May", "it costs $5"]
    live = Generator(model).generate(texts)
    client = serving(tmp_path / "saved")
    rows = predict(client, {"instances": texts}, "/v1/models/dates:predict")[1]["predictions"]
    assert [row["text"] for row in rows] == [output.texts[0] for output in live]
    n_best = predict(client, {"inputs": texts, "signature_name": "n_best"}, "/v1/models/dates:predict")[1]["outputs"]
    assert n_best["text"] == [output.texts for output in live]
    # A megabyte, which no encoder reads.
    began = time.monotonic()
    code, error = refused(client, {"instances": ["on 3 May", "a" * 10**6]}, "/v1/models/dates:predict")
    limit = "1000000 bytes, at most 65536 are answered, for 1024 tokens (search.max_input)"
    assert (code, error) == (400, f"input [1]: too long: {limit}")
    assert time.monotonic() - began < 5
    assert tf.reduce_max(tf.abs(tf.constant(n_best["score"]) - tf.constant([one.scores for one in live]))) < 1e-4


def test_hostile_bodies_are_answered_with_a_code_below_500(client, tmp_path):
    def ask(content):
        return client.post(f"{URL}:predict", content=content).status_code

    (door,) = [door for door in doors(ask=ask) if door.name == "REST"]
    faults = [fault for index in range(200) if (fault := fault_of(door, index, tmp_path))]
    assert not faults, "\n".join(faults[:5])
