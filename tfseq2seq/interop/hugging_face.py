"""Folders of models of Hugging Face: config.json, generation_config.json and safetensors, without PyTorch.

Tensors are read one at a time from files that are mapped into memory. Nothing in the folder is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.files import parse_object, read_file

_LARGEST_JSON = 1 << 26
_WEIGHTS, _INDEX, _PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


class HuggingFaceFolder:
    """A model on disk.

    Args:
        folder: the folder.

    Attributes:
        config: of the model.
        generation: how it generates by default; that of `config` where generation_config.json does not say.

    Raises:
        UserError: a file is missing or damaged, or there are pickled weights alone.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{folder}: must be a folder with config.json and {_WEIGHTS}, and is none")
        self.config = self.json("config.json")
        own = self.json("generation_config.json") if self.has("generation_config.json") else {}
        self.generation = {**self.config, **own}
        self._files = self._opened()
        self._used: set[str] = set()

    def path(self, name: str) -> Path:
        """The path of a file in the folder."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the folder has a file."""
        return self.path(name).is_file()

    def content(self, name: str, limit: int = _LARGEST_JSON) -> bytes:
        """The bytes of a file of at most `limit` bytes.

        Raises:
            UserError: it is missing, too large or not readable.
        """
        if not self.has(name):
            raise UserError(f"{self.folder}: must have {name}, and lacks it")
        try:
            return read_file(self.path(name), limit)
        except OSError as error:
            raise UserError(f"{self.path(name)}: cannot be read: {error.strerror}") from None

    def json(self, name: str) -> dict[str, Any]:
        """The keys and values of a JSON file.

        Raises:
            UserError: as `content`, or it is none.
        """
        return parse_object(self.content(name), self.path(name))

    def setting(self, name: str, kind: type, default: Any = None) -> Any:
        """A value of config.json.

        Raises:
            UserError: it is missing and has no default, or is of another kind.
        """
        return self._of_kind(self.config.get(name, default), name, kind)

    def search_setting(self, name: str, kind: type, default: Any) -> Any:
        """A value of how the model generates; the default where it is missing or null.

        Raises:
            UserError: it is of another kind.
        """
        value = self.generation.get(name)
        return self._of_kind(default if value is None else value, name, kind)

    def _of_kind(self, value: Any, name: str, kind: type) -> Any:
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{self.path('config.json')}: {name} must be of kind {kind.__name__}, got {value!r}")
        return value

    def require(self, **wanted: Any) -> None:
        """Checks that settings, where config.json has them, have the only values that can be represented.

        Raises:
            UserError: one has another value.
        """
        for name, value in wanted.items():
            if self.config.get(name, value) != value:
                raise UserError(
                    f"{self.path('config.json')}: {name} must be {json.dumps(value)}, which alone can be represented, "
                    f"got {json.dumps(self.config[name])}"
                )

    def tensor(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """A tensor in float32.

        Args:
            name: of the tensor.
            shape: that it must have.

        Raises:
            UserError: it is missing or has another shape, or its file is damaged.
        """
        if name not in self._files:
            raise UserError(f"{self.folder}: must have the tensor {name}, and lacks it")
        self._used.add(name)
        try:
            found = self._files[name].get_tensor(name)
        except Exception as error:  # safetensors raises an error of its own, which is a plain Exception
            raise UserError(f"{self.folder}: the tensor {name} cannot be read: {first_line(error)}") from None
        if found.shape != tuple(shape):
            raise UserError(
                f"{self.folder}: the tensor {name} must have the shape {list(shape)}, got {list(found.shape)}"
            )
        return np.asarray(found, "float32")

    def has_tensor(self, name: str) -> bool:
        """Whether there is a tensor."""
        return name in self._files

    def unused(self) -> list[str]:
        """The names of tensors that were not read, in order."""
        return sorted(self._files.keys() - self._used)

    def _opened(self) -> Mapping[str, Any]:
        """The open file of each tensor."""
        if self.has(_INDEX):
            parts = self.json(_INDEX).get("weight_map")
            if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
                raise UserError(f"{self.path(_INDEX)}: must have the file of each tensor under 'weight_map'")
            files = {part: self._open(part) for part in sorted(set(parts.values()))}
            there = {part: set(file.keys()) for part, file in files.items()}
            for name, part in parts.items():
                if name not in there[part]:
                    raise UserError(f"{self.folder}: {part} must have the tensor {name}, and lacks it")
            return {name: files[part] for name, part in parts.items()}
        if not self.has(_WEIGHTS):
            if self.has(_PICKLED):
                raise UserError(
                    f"{self.path(_PICKLED)}: pickled weights can run any code and are not read; save the model with "
                    f"transformers to {_WEIGHTS}"
                )
            raise UserError(f"{self.folder}: must have {_WEIGHTS}, and lacks it")
        file = self._open(_WEIGHTS)
        return dict.fromkeys(file.keys(), file)

    def _open(self, name: str) -> Any:
        try:
            from safetensors import safe_open
        except ImportError:
            raise UserError("safetensors is not installed: `pip install 'tfseq2seq[import]'`") from None
        if os.path.basename(name) != name:
            raise UserError(f"{self.path(_INDEX)}: must name files in the folder, got {name!r}")
        if not self.has(name):
            raise UserError(f"{self.folder}: must have {name}, and lacks it")
        try:
            return safe_open(self.path(name), "np")
        except Exception as error:  # as above
            raise UserError(f"{self.path(name)}: damaged: {first_line(error)}") from None
