"""Reads the tensors of PyTorch checkpoints without PyTorch, and without running code that a file names.

A checkpoint is a pickle, which can call any function. The reader here knows the few names that tensors need, and
refuses all others. It reads the format of PyTorch before 1.6: pickles one after the other, then the numbers.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfseq2seq.errors import UserError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "<u1",
}


class _Tensor(NamedTuple):
    """Where a tensor lies in its storage."""

    storage: tuple[Any, ...]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *others: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Reader(pickle.Unpickler):
    """An unpickler that makes dictionaries, numbers, strings and descriptions of tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dictionary by name.

    Raises:
        UserError: the file is missing, damaged or of another format, or it has anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            return _tensors(file, path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: must be a PyTorch file of tensors alone: {error}") from None
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{path}: damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None


def _tensors(file: BinaryIO, path: str | Path) -> dict[str, np.ndarray]:
    if file.read(4) == b"PK\x03\x04":
        raise UserError(f"{path}: must be in the format of PyTorch before 1.6, got the zip format")
    file.seek(0)
    if _Reader(file).load() != _MAGIC or _Reader(file).load() != _PROTOCOL:
        raise UserError(f"{path}: must be a PyTorch file, got another pickle")
    system, state = _Reader(file).load(), _Reader(file).load()
    if not system.get("little_endian", True):
        raise UserError(f"{path}: must be little-endian")
    if not isinstance(state, dict) or not all(isinstance(value, _Tensor) for value in state.values()):
        raise UserError(f"{path}: must have a dictionary of tensors")
    types = {tensor.storage[2]: np.dtype(tensor.storage[1]) for tensor in state.values()}
    storages = {}
    for key in _Reader(file).load():
        count = int.from_bytes(file.read(8), "little")
        size = count * types[key].itemsize
        content = file.read(size)
        if len(content) != size:
            raise UserError(f"{path}: ends within the numbers of a tensor")
        storages[key] = np.frombuffer(content, types[key])
    return {name: _view(storages[tensor.storage[2]], tensor) for name, tensor in state.items()}


def _view(storage: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The numbers of a tensor in its own order."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.shape, default=1) > 0 and not 0 <= tensor.offset <= last < len(storage):
        raise ValueError("a tensor lies outside of its storage")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False).copy()
