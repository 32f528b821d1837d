"""Clients of exported models: TensorFlow Serving or `tfseq2seq serve` over REST, TensorFlow Serving over gRPC.

client = RestClient("http://localhost:8501", "my")
client.generate(["你 好 ！"])                      # ["hello !"]
client.predict({"text": ["你 好 ！"]}, "n_best")   # {"text": array [1, N], "score": array [1, N]}

list(client.stream("你 好 ！", seed=7))             # ["hello", " !"], while the model writes them

client = GrpcClient("localhost:8500", "my")       # `pip install 'tfseq2seq[client]'`
client.transcribe([samples])                      # float32 arrays at the model's rate
"""

from __future__ import annotations

import abc
import base64
import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.serving.events import events


class Client(abc.ABC):
    """A client of one model on a server.

    Args:
        address: the address of the server.
        model: the name of the model on the server.
        version: the number of the version; None for the newest version on the server.
        timeout: the maximum time to wait for a response, in seconds.
    """

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        self.address, self.model, self.version, self.timeout = address.rstrip("/"), model, version, timeout

    @abc.abstractmethod
    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Calls a signature and returns its outputs by name. Text outputs are strings.

        Args:
            inputs: maps the input names of the signature to strings, bytes or numbers, with the batch as first axis.
            signature: the name of the signature, see `tfseq2seq.export.signatures`.

        Raises:
            UserError: the server cannot be reached, does not respond in time, or rejects the request.
        """

    def generate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best output for each text.

        Raises:
            UserError: as for `predict`; or the model does not answer a text, because it is too long.
        """
        if not texts:
            return []
        return _answers(self.predict({"text": list(texts)}), "text")

    def transcribe(self, recordings: Sequence[np.ndarray]) -> list[str]:
        """Returns the transcript of each recording, given as float32 samples at the sample rate of the model.

        Raises:
            UserError: as for `predict`; or the server reports an error for a recording.
        """
        if not recordings:
            return []
        lengths = np.array([len(samples) for samples in recordings], "int32")
        audio = np.zeros((len(recordings), lengths.max()), "float32")
        for row, samples in zip(audio, recordings, strict=True):
            row[: len(samples)] = samples
        return _answers(self.predict({"audio": audio, "length": lengths}), "recording")


class RestClient(Client):
    """A client over HTTP and JSON. The address looks like http://localhost:8501."""

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        columns = {name: _jsonable(value) for name, value in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode("utf-8")
        outputs = self._ask(":predict", body)["outputs"]
        # The response has no output name if a signature has only one output. Ours have several.
        named = outputs if isinstance(outputs, dict) else {"output": outputs}
        return {name: np.array(value) for name, value in named.items()}

    def stream(self, inputs: str | Mapping[str, Any], seed: int | None = None) -> Iterator[str]:
        """Yields the pieces of one text while the model writes it. Together they are what `generate` returns.

        An iterator that is closed before its end closes the connection, and the server stops writing.

        Args:
            inputs: a text or prompt, or the inputs of the model by name, with one row each.
            seed: determines what is drawn by a model that draws; None for the seed that it was exported with.

        Raises:
            UserError: as for `predict`; or the model cannot stream.
        """
        named = {"text": [inputs]} if isinstance(inputs, str) else inputs
        content: dict[str, Any] = {"inputs": {name: _jsonable(value) for name, value in named.items()}}
        if seed is not None:
            content["seed"] = seed
        with self._opened(":stream", json.dumps(content).encode("utf-8")) as response:
            for name, found in events(response):
                if name == "end":
                    return
                if name == "error":
                    raise UserError(f"{self.address}: {found['error']}")
                yield found["text"]
        raise UserError(f"{self.address}: the stream ended before the text was complete")

    def status(self) -> list[dict[str, Any]]:
        """Returns the versions of the model on the server and their states. Raises the errors of `predict`."""
        found: list[dict[str, Any]] = self._ask("")["model_version_status"]
        return found

    def _ask(self, ending: str, body: bytes | None = None) -> dict[str, Any]:
        with self._opened(ending, body) as response:
            try:
                found: dict[str, Any] = json.load(response)
            except ValueError as error:
                raise UserError(f"{response.url}: the response is not valid JSON ({error})") from None
            return found

    @contextlib.contextmanager
    def _opened(self, ending: str, body: bytes | None) -> Iterator[Any]:
        """The response to a request, while it is read.

        Raises:
            UserError: as for `predict`.
        """
        version = "" if self.version is None else f"/versions/{self.version}"
        url = f"{self.address}/v1/models/{self.model}{version}{ending}"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                yield response
        except urllib.error.HTTPError as error:
            raise UserError(f"{url}: {error.code}: {_reason(error)}") from None
        # URLError is an OSError. A lost connection raises either of the two.
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"{url}: no response ({getattr(error, 'reason', None) or repr(error)})") from None


class GrpcClient(Client):
    """A client over gRPC. The address looks like localhost:8500."""

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        super().__init__(address, model, version, timeout)
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError:
            raise UserError(
                "the gRPC client needs tensorflow-serving-api and grpcio; run `pip install 'tfseq2seq[client]'`"
            ) from None
        # Recordings can be larger than 4 MiB, the default limit of gRPC.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(self.address, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        import grpc
        import tensorflow as tf

        try:
            response = self._stub.Predict(self.request(inputs, signature), timeout=self.timeout)
        except grpc.RpcError as error:
            raise UserError(f"{self.address}: {error.code().name}: {error.details()}") from None
        return {name: _decoded(tf.make_ndarray(tensor)) for name, tensor in response.outputs.items()}

    def request(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> Any:
        """Returns the `tensorflow_serving.apis.predict_pb2.PredictRequest` that `predict` sends."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self.model, signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()


def _answers(found: Mapping[str, np.ndarray], noun: str) -> list[str]:
    """Returns the texts of a response, or raises `UserError` for the first input with an error."""
    # Models that were exported by earlier versions have no errors of text.
    for number, message in enumerate(found.get("error", ()), start=1):
        if message:
            raise UserError(f"{noun} {number}: {message}")
    return [str(text) for text in found["text"]]


def _jsonable(value: Any) -> Any:
    """Converts a value to lists of numbers and strings, with bytes as {"b64": ...}."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    return value


def _reason(error_response: urllib.error.HTTPError) -> str:
    try:
        body = error_response.read()
    except (OSError, http.client.HTTPException):
        return error_response.reason
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()[:300]


def _decoded(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([one.decode("utf-8", "replace") for one in array.ravel()], object).reshape(array.shape)
