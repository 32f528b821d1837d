"""Checkpoints of PyTorch, read without it and without trusting them."""

import collections
import io
import os
import pickle
import types

import numpy as np
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.interop.torch_files import read_tensors


class FloatStorage:
    __module__ = "torch"


class LongStorage:
    __module__ = "torch"


def _rebuild_tensor_v2(*parts):
    raise AssertionError("is pickled by name alone")


_rebuild_tensor_v2.__module__ = "torch._utils"


class Tensor:
    """A stand-in that pickles as a tensor does."""

    def __init__(self, values):
        self.values = values

    def __reduce__(self):
        strides = tuple(stride // self.values.itemsize for stride in self.values.strides)
        parts = Stored(self.values), 0, self.values.shape, strides, False, collections.OrderedDict()
        return _rebuild_tensor_v2, parts


class Stored:
    def __init__(self, values):
        self.values = values


class Writer(pickle.Pickler):
    def __init__(self, file, storages):
        super().__init__(file, protocol=2)
        self.storages = storages

    def persistent_id(self, value):
        if not isinstance(value, Stored):
            return None
        key = str(len(self.storages))
        self.storages[key] = value.values
        kind = FloatStorage if value.values.dtype == np.float32 else LongStorage
        return "storage", kind, key, "cpu", value.values.size, None


@pytest.fixture
def torch(monkeypatch):
    """The names that a checkpoint mentions, for pickle to find them as it writes."""
    import sys

    package, private = types.ModuleType("torch"), types.ModuleType("torch._utils")
    package.FloatStorage, package.LongStorage = FloatStorage, LongStorage
    private._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", package)
    monkeypatch.setitem(sys.modules, "torch._utils", private)


def checkpoint(state):
    """The bytes of a file as PyTorch before 1.6 writes it."""
    file, storages = io.BytesIO(), {}
    pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
    pickle.dump(1001, file, protocol=2)
    pickle.dump({"protocol_version": 1001, "little_endian": True}, file, protocol=2)
    Writer(file, storages).dump(state)
    pickle.dump(list(storages), file, protocol=2)
    for values in storages.values():
        file.write(values.size.to_bytes(8, "little") + values.tobytes(order="A"))
    return file.getvalue()


def state():
    random = np.random.default_rng(0)
    values = {
        "kernel": random.normal(size=(2, 3, 4)).astype("float32"),
        "turned": np.asfortranarray(random.normal(size=(3, 2)).astype("float32")),
        "count": np.array(7, "int64"),
    }
    return values, collections.OrderedDict((name, Tensor(value)) for name, value in values.items())


def test_tensors_are_read_with_their_shapes_types_and_strides(torch, tmp_path):
    values, pickled = state()
    (tmp_path / "a.pth").write_bytes(checkpoint(pickled))
    found = read_tensors(tmp_path / "a.pth")
    assert list(found) == list(values)
    for name, value in values.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


class Evil:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_code_in_a_file_is_not_run(torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(checkpoint({"a": Evil()}))
    with pytest.raises(UserError, match=r"must be a PyTorch file of tensors alone: .*system is no part of a tensor"):
        read_tensors("evil.pth")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "must be in the format of PyTorch before 1.6, got the zip format"),
        (pickle.dumps(3) * 2, "must be a PyTorch file, got another pickle"),
        (b"", "damaged: "),
        (b"text", "must be a PyTorch file of tensors alone|damaged: "),
    ],
)
def test_another_file_is_refused(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tensors(tmp_path / "a.pth")


def test_a_file_that_is_missing_or_cut_off_is_refused(torch, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_tensors(tmp_path / "none.pth")
    (tmp_path / "a.pth").write_bytes(checkpoint(state()[1])[:-3])
    with pytest.raises(UserError, match="ends within the numbers of a tensor"):
        read_tensors(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(checkpoint({"a": 3}))
    with pytest.raises(UserError, match="must have a dictionary of tensors"):
        read_tensors(tmp_path / "b.pth")


def test_a_tensor_cannot_reach_beyond_its_storage(torch, tmp_path):
    tensor = Tensor(np.zeros(4, "float32"))
    tensor.__class__ = type(
        "Reaching",
        (Tensor,),
        {
            "__reduce__": lambda self: (
                _rebuild_tensor_v2,
                (Stored(self.values), 0, (400,), (1,), False, collections.OrderedDict()),
            )
        },
    )
    (tmp_path / "a.pth").write_bytes(checkpoint({"a": tensor}))
    with pytest.raises(UserError, match="damaged: a tensor lies outside of its storage"):
        read_tensors(tmp_path / "a.pth")
