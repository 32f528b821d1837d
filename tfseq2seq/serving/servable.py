"""A loaded SavedModel that is called with arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the kernels that text models need)

from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.signatures import Signature, read_signatures
from tfseq2seq.serving.tensors import Arrays

# Lines of TensorFlow's messages that begin like this name a place in the graph, which does not help clients.
_GRAPH_LINES = ("Graph execution error", "Detected at node", "<stack traces", "File ", "[[{{node")


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
        tensors = {name: tf.constant(inputs[name]) for name in signature.inputs}
        try:
            found = self._functions[signature.name](**tensors)
            return {name: np.asarray(found[name].numpy()) for name in sorted(found)}
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise Refusal(400, f"the model rejects the inputs: {_reason(error)}") from error
        except tf.errors.ResourceExhaustedError as error:
            raise Refusal(503, f"not enough memory for the inputs: {_reason(error)}", 1) from error
        except tf.errors.OpError as error:
            raise Refusal(500, f"the model fails: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    informative = [line for line in lines if line and not line.startswith(_GRAPH_LINES)]
    return (informative or lines or [type(error).__name__])[0]
