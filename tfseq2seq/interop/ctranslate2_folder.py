"""Models in the format of CTranslate2: model.bin and config.json, read without CTranslate2.

The file has the name of the architecture, and variables that each have a name, a shape, a type and their numbers. They
are read one at a time from the file, which is mapped into memory. They have the names of Hugging Face here, where the
projections of an attention are apart.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.interop.model_folder import ModelFolder

MODEL = "model.bin"
_VERSIONS = (5, 6)
# NumPy's types by the number that the file has. 16 bits of the sixth are the upper half of a float32.
_TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "<u2")
_BFLOAT16, _INT8 = 5, 1
_WEIGHTS = (0, 1, 4, 5)
_MOST_VARIABLES, _MOST_AXES = 1_000_000, 8
# Parts of a layer: the name of Hugging Face, the one here, and the place of a projection in it of how many.
_PARTS = {
    "self_attn.q_proj": ("self_attention/linear_0", 0, 3),
    "self_attn.k_proj": ("self_attention/linear_0", 1, 3),
    "self_attn.v_proj": ("self_attention/linear_0", 2, 3),
    "self_attn.out_proj": ("self_attention/linear_1", 0, 1),
    "self_attn_layer_norm": ("self_attention/layer_norm", 0, 1),
    "encoder_attn.q_proj": ("attention/linear_0", 0, 1),
    "encoder_attn.k_proj": ("attention/linear_1", 0, 2),
    "encoder_attn.v_proj": ("attention/linear_1", 1, 2),
    "encoder_attn.out_proj": ("attention/linear_2", 0, 1),
    "encoder_attn_layer_norm": ("attention/layer_norm", 0, 1),
    "fc1": ("ffn/linear_0", 0, 1),
    "fc2": ("ffn/linear_1", 0, 1),
    "final_layer_norm": ("ffn/layer_norm", 0, 1),
}
_OUTSIDE = {
    "embed_positions.weight": "position_encodings/encodings",
    "embed_tokens.weight": "embeddings/weight",
}
_LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)")
_OTHER = re.compile(r"model\.(encoder|decoder)\.(.+)")


@dataclass(frozen=True)
class _Variable:
    shape: tuple[int, ...]
    kind: int
    begin: int
    size: int


class CTranslate2Folder(ModelFolder):
    """A model of CTranslate2 on disk.

    Args:
        folder: the folder.

    Attributes:
        architecture: what the file calls it, such as WhisperSpec.
        config: settings, with the names of Hugging Face.

    Raises:
        UserError: the file is missing, damaged or of another version.
    """

    def __init__(self, folder: str | Path):
        super().__init__(Path(folder), {}, {})
        path = self.path(MODEL)
        try:
            with open(path, "rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            self.architecture, self._variables = _parsed(self._bytes)
        except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
            raise UserError(f"{path}: damaged, or no model of CTranslate2: {error}") from None
        # Of what was read, where it begins: a variable can have two names.
        self._used: set[int] = set()

    def count_layers(self, side: str) -> int:
        """The number of layers of the encoder or decoder."""
        found = {name.split("/")[1] for name in self._variables if name.startswith(f"{side}/layer_")}
        return sum(name != "layer_norm" for name in found)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable.

        Raises:
            UserError: it is missing.
        """
        if name not in self._variables:
            raise UserError(f"{self.path(MODEL)}: must have the variable {name}, and lacks it")
        return self._variables[name].shape

    def number(self, name: str) -> int:
        """The value of a variable that is one number.

        Raises:
            UserError: it is missing, or has another shape.
        """
        if self.shape(name) != ():
            raise UserError(f"{self.path(MODEL)}: the variable {name} must be a number")
        return int(self._array(name))

    def tensor(self, name: str, shape: Sequence[int]) -> np.ndarray:
        variable, place, count = self._place(name)
        own = self.shape(variable)
        if own and own[0] % count:
            raise UserError(f"{self.path(MODEL)}: the variable {variable} must have {count} parts, got {list(own)}")
        self._used.add(self._variables[variable].begin)
        found = self._array(variable)
        if count > 1:
            rows = own[0] // count
            found = found[place * rows : (place + 1) * rows]
        if self._variables[variable].kind == _INT8:
            scales = f"{variable}_scale"
            self.shape(scales)
            self._used.add(self._variables[scales].begin)
            part = np.split(self._array(scales), count)[place]
            found = found.astype("float32") / part.reshape(-1, *[1] * (found.ndim - 1))
        return self.shaped(name, found, shape)

    def has_tensor(self, name: str) -> bool:
        return self._place(name)[0] in self._variables

    def unused(self) -> list[str]:
        # Settings are single numbers, or lists of whole ones.
        return sorted(
            name
            for name, variable in self._variables.items()
            if variable.shape and variable.kind in _WEIGHTS and variable.begin not in self._used
        )

    @staticmethod
    def _place(name: str) -> tuple[str, int, int]:
        """The variable that has a tensor, and the part of how many parts that the tensor is."""
        if found := _LAYER.fullmatch(name):
            side, layer, part, kind = found.groups()
            if part in _PARTS:
                own, place, count = _PARTS[part]
                if own.endswith("norm"):
                    kind = {"weight": "gamma", "bias": "beta"}[kind]
                return f"{side}/layer_{layer}/{own}/{kind}", place, count
        if found := _OTHER.fullmatch(name):
            side, rest = found.groups()
            if rest.startswith("layer_norm."):
                return f"{side}/layer_norm/{'gamma' if rest.endswith('weight') else 'beta'}", 0, 1
            return f"{side}/{_OUTSIDE.get(rest, rest.replace('.', '/'))}", 0, 1
        return name.replace(".", "/"), 0, 1

    def _array(self, name: str) -> np.ndarray:
        variable = self._variables[name]
        kind = np.dtype(_TYPES[variable.kind])
        found = np.frombuffer(self._bytes, kind, variable.size // kind.itemsize, variable.begin)
        if variable.kind == _BFLOAT16:
            found = (found.astype("<u4") << 16).view("<f4")
        return found.reshape(variable.shape)


def _parsed(content: mmap.mmap) -> tuple[str, dict[str, _Variable]]:
    """The architecture and the variables of a file.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    position = 0

    def read(form: str) -> tuple[Any, ...]:
        nonlocal position
        found = struct.unpack_from(f"<{form}", content, position)
        position += struct.calcsize(f"<{form}")
        return found

    def read_text() -> str:
        nonlocal position
        (size,) = read("H")
        position += size
        if position > len(content):
            raise ValueError("it ends too early")
        return content[position - size : position - 1].decode("utf-8")

    (version,) = read("I")
    if version not in _VERSIONS:
        raise ValueError(f"must have the version {_VERSIONS[0]} or {_VERSIONS[1]}, got {version}")
    architecture = read_text()
    _, count = read("II")
    if count > _MOST_VARIABLES:
        raise ValueError(f"must have at most {_MOST_VARIABLES:,} variables, got {count:,}")
    variables = {}
    for _ in range(count):
        name = read_text()
        (axes,) = read("B")
        if axes > _MOST_AXES:
            raise ValueError(f"{name} must have at most {_MOST_AXES} axes, got {axes}")
        shape = read("I" * axes)
        kind, size = read("BI")
        expected = int(np.prod(shape, dtype="object")) * np.dtype(_TYPES[kind]).itemsize if kind < len(_TYPES) else -1
        if size != expected or position + size > len(content):
            raise ValueError(f"{name} must have {expected} bytes of type {kind}, got {size}")
        variables[name] = _Variable(shape, kind, position, size)
        position += size
    (count,) = read("I")
    for _ in range(min(count, _MOST_VARIABLES)):
        alias, name = read_text(), read_text()
        if name in variables:
            variables[alias] = variables[name]
    return architecture, variables
