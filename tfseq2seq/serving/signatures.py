"""The inputs and outputs of the signatures of a SavedModel, read from its saved_model.pb."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

DEFAULT_SIGNATURE = "serving_default"
# An integer input of this name has the lengths of the other inputs along axis 1.
LENGTH = "length"
# An output of this name has messages about answers that are there; "" for none.
WARNING = "warning"
# An output of this name has messages about inputs that are not answered; "" for none.
ERROR = "error"

# The signatures that write text token by token, and the input of the first one that determines what is drawn.
STREAM_START, STREAM_STEP, SEED = "stream_start", "stream_step", "seed"

# JSON values are converted to these types, which TensorFlow Serving documents.
NUMPY_TYPES: dict[str, Any] = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT8": np.int8,
    "DT_UINT8": np.uint8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_UINT32": np.uint32,
    "DT_INT64": np.int64,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
    "DT_STRING": np.object_,
}


@dataclass(frozen=True)
class Tensor:
    """The type and shape of an input or output.

    Attributes:
        dtype: the name of the type as TensorFlow Serving writes it.
        shape: the shape, with -1 for axes of any size; None for any rank.
    """

    dtype: str
    shape: tuple[int, ...] | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Returns whether an array of this shape is valid."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            expected in (-1, size) for expected, size in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.dtype} {'of any shape' if self.shape is None else list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """A signature: its name, inputs, outputs, and its protocol buffer as JSON (`described`)."""

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    described: Mapping[str, Any]

    @cached_property
    def by_rows(self) -> bool:
        """Whether axis 0 of every input and output can be the batch, so that requests can be combined along it."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return bool(self.inputs) and all(tensor.shape is None or tensor.shape[:1] == (-1,) for tensor in tensors)

    @cached_property
    def padded(self) -> frozenset[str]:
        """The inputs that may be padded with zeros along axis 1, because another input has their lengths."""
        length = self.inputs.get(LENGTH)
        if length is None or length.shape != (-1,) or length.dtype not in ("DT_INT32", "DT_INT64"):
            return frozenset()
        return frozenset(
            name
            for name, tensor in self.inputs.items()
            if tensor.shape is not None and tensor.shape[1:2] == (-1,) and tensor.dtype != "DT_STRING"
        )


def read_signatures(folder: Path) -> dict[str, Signature]:
    """Reads the signatures of the SavedModel in `folder` by name.

    Raises:
        OSError: saved_model.pb cannot be read.
        google.protobuf.message.DecodeError: saved_model.pb is damaged.
        ValueError: saved_model.pb has no graph.
    """
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    if not saved.meta_graphs:
        raise ValueError("saved_model.pb has no graph")
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    graph = (graphs or saved.meta_graphs)[0]
    return {name: _signature(name, message) for name, message in sorted(graph.signature_def.items())}


def _signature(name: str, message: Any) -> Signature:
    # The name of the option changed in protobuf 5.26. TensorFlow 2.17 uses an older version.
    options = inspect.signature(MessageToDict).parameters
    with_empty = next(
        option
        for option in ("always_print_fields_with_no_presence", "including_default_value_fields")
        if option in options
    )
    described = MessageToDict(message, preserving_proto_field_name=True, **{with_empty: True})
    return Signature(name, _tensors(message.inputs), _tensors(message.outputs), described)


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(
            types_pb2.DataType.Name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(size.size for size in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }
