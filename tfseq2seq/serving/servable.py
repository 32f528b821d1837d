"""A loaded SavedModel that is called with arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the kernels that text models need)

from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.signatures import ERROR, SEED, STREAM_START, STREAM_STEP, Signature, read_signatures
from tfseq2seq.serving.tensors import Arrays

# Lines of TensorFlow's messages that begin like this name a place in the graph, which does not help clients.
_GRAPH_LINES = ("Graph execution error", "Detected at node", "<stack traces", "File ", "[[{{node")

Tensors = dict[str, Any]


class Servable:
    """A SavedModel in memory.

    Args:
        folder: the folder with saved_model.pb.

    Raises:
        Exception: any exception of TensorFlow, if the folder is not a complete SavedModel.
    """

    def __init__(self, folder: Path):
        self.described = read_signatures(folder)
        self._model = tf.saved_model.load(str(folder))
        self._functions = dict(self._model.signatures)
        self.signatures: dict[str, Signature] = {
            name: signature for name, signature in self.described.items() if name in self._functions
        }
        # Signatures whose outputs did not have one row per input row, although their shapes allow it.
        self.not_by_rows: set[str] = set()

    def batchable(self, signature: Signature) -> bool:
        """Returns whether requests to a signature may be combined along the first axis."""
        return signature.by_rows and signature.name not in self.not_by_rows

    def call(self, signature: Signature, inputs: Arrays) -> Arrays:
        """Returns the outputs of a signature by name.

        Raises:
            Refusal: the model fails: 400 if the inputs are invalid, 503 if there is not enough memory, 500 otherwise.
        """
        found = self._call(signature.name, {name: tf.constant(inputs[name]) for name in signature.inputs})
        return {name: np.asarray(found[name].numpy()) for name in sorted(found)}

    @property
    def stream_signature(self) -> Signature:
        """The signature that begins a stream of text, without the seed, which requests may leave out.

        Raises:
            Refusal: 400 if the model writes no text piece by piece.
        """
        if not {STREAM_START, STREAM_STEP} <= set(self.signatures):
            raise Refusal(
                400,
                "this model decides on outputs as a whole; to stream, export it with search.beam=1 or "
                "search.sample=true, and search.n_best=1 (`tfseq2seq generate --stream` tells what else keeps it from "
                "that)",
            )
        found = self.signatures[STREAM_START]
        inputs = {name: tensor for name, tensor in found.inputs.items() if name != SEED}
        return dataclasses.replace(found, inputs=inputs)

    @property
    def draws(self) -> bool:
        """Whether streams take a seed."""
        return SEED in self.signatures[STREAM_START].inputs

    def start_stream(self, inputs: Arrays) -> Tensors:
        """Returns the first state of a stream.

        Raises:
            Refusal: as for `call`; or 400 if the model does not answer the input.
        """
        found = self._call(STREAM_START, {name: tf.constant(value) for name, value in inputs.items()})
        message = found[ERROR].numpy()[0] if ERROR in found else b""
        if message:
            raise Refusal(400, f"input [0]: {message.decode('utf-8', 'replace')}")
        return _state(found)

    def advance_stream(self, state: Tensors) -> tuple[Tensors, Arrays]:
        """Returns the next state of a stream, and the outputs of the step by name. Raises the errors of `call`."""
        found = self._call(STREAM_STEP, state)
        following = _state(found)
        return following, {name: part.numpy() for name, part in found.items() if name not in following}

    def _call(self, name: str, tensors: Tensors) -> Tensors:
        try:
            found: Tensors = self._functions[name](**tensors)
            return found
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise Refusal(400, f"the model rejects the inputs: {_reason(error)}") from error
        except tf.errors.ResourceExhaustedError as error:
            raise Refusal(503, f"not enough memory for the inputs: {_reason(error)}", 1) from error
        except tf.errors.OpError as error:
            raise Refusal(500, f"the model fails: {_reason(error)}") from error


def _state(found: Tensors) -> Tensors:
    """The outputs of a stream's signature that the next step takes."""
    return {name: part for name, part in found.items() if name.startswith("stream_")}


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    informative = [line for line in lines if line and not line.startswith(_GRAPH_LINES)]
    return (informative or lines or [type(error).__name__])[0]
