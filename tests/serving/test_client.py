"""Clients get from servers what the model answers, over REST from our own and over gRPC from one of real messages."""

import socket
import threading
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf
import uvicorn

from tfseq2seq.errors import UserError
from tfseq2seq.serving.client import GrpcClient, RestClient
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app

grpc = pytest.importorskip("grpc")
apis = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
predict_messages = pytest.importorskip("tensorflow_serving.apis.predict_pb2")


@pytest.fixture(scope="module")
def rest(small_version):
    repository = Repository(small_version.parent.parent)
    repository.refresh()
    server = uvicorn.Server(uvicorn.Config(create_app(repository, Settings(wait=0.0)), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield RestClient(f"http://127.0.0.1:{port}/", "small", timeout=30)
    server.should_exit = True
    thread.join(timeout=30)


class Service(apis.PredictionServiceServicer):
    """What TensorFlow Serving does with a PredictRequest."""

    def __init__(self, folder):
        self.model = tf.saved_model.load(str(folder))

    def Predict(self, request, context):
        if request.model_spec.name != "small":
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        response = predict_messages.PredictResponse()
        for name, value in self.model.signatures[request.model_spec.signature_name](**inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response


@pytest.fixture(scope="module")
def rpc(small_version):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    apis.add_PredictionServiceServicer_to_server(Service(small_version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = GrpcClient(f"127.0.0.1:{port}", "small", timeout=30)
    yield client
    client.close()
    server.stop(None)


@pytest.fixture(params=["rest", "rpc"])
def client(request):
    return request.getfixturevalue(request.param)


def test_text(client):
    first, second = client.generate(["abc", "çd"])
    assert first.endswith("ABC") and second.endswith("çD")
    assert client.generate([]) == []
    several = client.predict({"text": ["abc", "d"]}, "n_best")
    assert several["text"].tolist() == [["abc", "ABC"], ["d", "D"]] and several["score"].shape == (2, 2)


def test_numbers_and_bytes(client):
    samples = np.array([[1.5, 2.0], [3.0, 0.0]], "float32")
    found = client.predict({"audio": samples, "length": np.array([2, 1], "int32")}, "audio")
    assert next(iter(found.values())).tolist() == [3.5, 3.0]


def test_refusals_tell_why(client):
    with pytest.raises(UserError, match="404|NOT_FOUND"):
        type(client)(client.address, "other", timeout=30).generate(["a"])
    with pytest.raises(UserError, match="no response|UNAVAILABLE"):
        type(client)(client.address.rsplit(":", 1)[0] + ":9", "small", timeout=5).generate(["a"])


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "no response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "no response"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{", "400: Bad Request"),
        (b"nonsense\r\n\r\n", "no response"),
    ],
)
def test_an_answer_that_breaks_off_is_told(sent, told):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UserError, match=told):
            RestClient(f"http://127.0.0.1:{listener.getsockname()[1]}", "small", timeout=30).generate(["a"])
        thread.join()


def test_what_is_wrong_with_a_recording_is_told(client, monkeypatch):
    answers = {"text": np.array(["a", ""]), "error": np.array(["", "silence"])}
    monkeypatch.setattr(client, "predict", lambda inputs: answers if inputs["audio"].shape == (2, 3) else None)
    with pytest.raises(UserError, match="recording 2: silence"):
        client.transcribe([np.ones(3), np.zeros(1)])
    with pytest.raises(UserError, match="text 2: silence"):
        monkeypatch.setattr(client, "predict", lambda inputs: answers)
        client.generate(["a", "b"])
    answers["error"][:] = ""
    assert client.transcribe([np.ones(3), np.zeros(1)]) == ["a", ""] and client.transcribe([]) == []


def test_status_and_versions(rest, rpc):
    (status,) = rest.status()
    assert status["state"] == "AVAILABLE"
    exact = RestClient(rest.address, "small", int(status["version"]))
    assert exact.generate(["a"]) == rest.generate(["a"])
    request = GrpcClient(rpc.address, "small", 3).request({"text": ["a"]}, "n_best")
    again = predict_messages.PredictRequest.FromString(request.SerializeToString())
    assert (again.model_spec.version.value, again.model_spec.signature_name) == (3, "n_best")
    assert tf.make_ndarray(again.inputs["text"]).tolist() == [b"a"]
