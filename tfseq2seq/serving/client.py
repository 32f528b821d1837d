"""Asks exported models on a server: over REST TensorFlow Serving or `tfseq2seq serve`, over gRPC TensorFlow Serving.

client = RestClient("http://localhost:8501", "my")
client.generate(["你 好 ！"])                      # ["hello !"]
client.predict({"text": ["你 好 ！"]}, "n_best")   # {"text": array [1, N], "score": array [1, N]}

client = GrpcClient("localhost:8500", "my")       # `pip install 'tfseq2seq[client]'`
client.transcribe([samples])                      # float32 arrays at the model's rate
"""

from __future__ import annotations

import abc
import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError


class Client(abc.ABC):
    """A model on a server.

    Args:
        address: of the server.
        model: its name there.
        version: a number; None for the server's newest.
        timeout: seconds until an answer is given up.
    """

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        self.address, self.model, self.version, self.timeout = address.rstrip("/"), model, version, timeout

    @abc.abstractmethod
    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """The outputs of a signature by name; what is text comes as strings.

        Args:
            inputs: strings, bytes or numbers by the signature's names, the batch first.
            signature: `tfseq2seq.export.signatures` lists them.

        Raises:
            UserError: the server cannot be reached, does not answer in time, or refuses the request.
        """

    def generate(self, texts: Sequence[str]) -> list[str]:
        """The best output for each text; errors as `predict`."""
        if not texts:
            return []
        return [str(text) for text in self.predict({"text": list(texts)})["text"]]

    def transcribe(self, recordings: Sequence[np.ndarray]) -> list[str]:
        """The transcript of each recording, float32 samples at the model's rate.

        Raises:
            UserError: as `predict`; or the server finds something wrong with a recording, and says what.
        """
        if not recordings:
            return []
        lengths = np.array([len(samples) for samples in recordings], "int32")
        audio = np.zeros((len(recordings), lengths.max()), "float32")
        for row, samples in zip(audio, recordings, strict=True):
            row[: len(samples)] = samples
        found = self.predict({"audio": audio, "length": lengths})
        for place, fault in enumerate(found["error"], start=1):
            if fault:
                raise UserError(f"recording {place}: {fault}")
        return [str(text) for text in found["text"]]


class RestClient(Client):
    """Over HTTP and JSON; the address is as http://localhost:8501."""

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        columns = {name: _jsonable(value) for name, value in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode("utf-8")
        outputs = self._ask(":predict", body)["outputs"]
        # A signature with one output gives it without its name; ours have several.
        named = outputs if isinstance(outputs, dict) else {"output": outputs}
        return {name: np.array(value) for name, value in named.items()}

    def status(self) -> list[dict[str, Any]]:
        """Version and state of what the server has of the model; errors as `predict`."""
        found: list[dict[str, Any]] = self._ask("")["model_version_status"]
        return found

    def _ask(self, ending: str, body: bytes | None = None) -> dict[str, Any]:
        version = "" if self.version is None else f"/versions/{self.version}"
        url = f"{self.address}/v1/models/{self.model}{version}{ending}"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise UserError(f"{url}: {error.code}: {_reason(error)}") from None
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError; a cut connection may be either
            raise UserError(f"{url}: no answer: {getattr(error, 'reason', None) or repr(error)}") from None
        except ValueError as error:
            raise UserError(f"{url}: the answer is no JSON: {error}") from None


class GrpcClient(Client):
    """Over gRPC; the address is as localhost:8500."""

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        super().__init__(address, model, version, timeout)
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError:
            raise UserError("gRPC needs tensorflow-serving-api and grpcio: `pip install 'tfseq2seq[client]'`") from None
        # Recordings are longer than the 4 MiB that gRPC stops at.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(self.address, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        import grpc
        import tensorflow as tf

        try:
            answer = self._stub.Predict(self.request(inputs, signature), timeout=self.timeout)
        except grpc.RpcError as error:
            raise UserError(f"{self.address}: {error.code().name}: {error.details()}") from None
        return {name: _decoded(tf.make_ndarray(tensor)) for name, tensor in answer.outputs.items()}

    def request(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> Any:
        """The `tensorflow_serving.apis.predict_pb2.PredictRequest` that `predict` sends."""
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
        """Lets go of the connection."""
        self._channel.close()


def _jsonable(value: Any) -> Any:
    """Lists of numbers and strings; bytes as {"b64": ...}."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    return value


def _reason(refusal: urllib.error.HTTPError) -> str:
    try:
        body = refusal.read()
    except (OSError, http.client.HTTPException):
        return refusal.reason
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()[:300]


def _decoded(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([one.decode("utf-8", "replace") for one in array.ravel()], object).reshape(array.shape)
