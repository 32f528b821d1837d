"""Folders of models of Hugging Face: config.json, generation_config.json and safetensors, without PyTorch.

Tensors are read one at a time, and large ones in blocks, from files that are mapped into memory. Nothing in the folder
is run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.interop.model_folder import ModelFolder

# Bytes of a large tensor that are read at a time.
_BLOCK = 1 << 25
_WEIGHTS, _INDEX, _PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


class HuggingFaceFolder(ModelFolder):
    """A model of Hugging Face on disk.

    Args:
        folder: the folder.

    Attributes:
        config: of the model.
        generation: how it generates by default; that of `config` where generation_config.json does not say.

    Raises:
        UserError: a file is missing or damaged, or there are pickled weights alone.
    """

    def __init__(self, folder: str | Path):
        path = Path(folder)
        if not path.is_dir():
            raise UserError(f"{folder}: must be a folder with config.json and {_WEIGHTS}, and is none")
        super().__init__(path, {}, {})
        self.config = self.json("config.json")
        own = self.json("generation_config.json") if self.has("generation_config.json") else {}
        self.generation = {**self.config, **own}
        self._files = self._files_of_tensors()
        self._used: set[str] = set()

    def tensor(self, name: str, shape: Sequence[int]) -> np.ndarray:
        with self._reading(name) as file:
            return self.shaped(name, file.get_tensor(name), shape)

    def blocks(self, name: str, shape: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        with self._reading(name) as file:
            self.check_shape(name, file.get_slice(name).get_shape(), shape)
        rows = max(1, _BLOCK // (4 * int(np.prod(shape[1:]))))
        for first in range(0, shape[0], rows):
            # Opened again each time: pages that a mapping has read stay in memory as long as it is there.
            with self._reading(name) as file:
                block = np.asarray(file.get_slice(name)[first : min(first + rows, shape[0])], "float32")
            yield first, block

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        """The open file of a tensor. What goes wrong in reading becomes a `UserError`."""
        if name not in self._files:
            raise UserError(f"{self.folder}: must have the tensor {name}, and lacks it")
        self._used.add(name)
        file = self._open(self._files[name])
        try:
            yield file
        except UserError:
            raise
        except Exception as error:  # safetensors raises an error of its own, which is a plain Exception
            raise UserError(f"{self.folder}: the tensor {name} cannot be read: {first_line(error)}") from None

    def has_tensor(self, name: str) -> bool:
        return name in self._files

    def unused(self) -> list[str]:
        return sorted(self._files.keys() - self._used)

    def _files_of_tensors(self) -> Mapping[str, str]:
        """The file of each tensor."""
        if self.has(_INDEX):
            parts = self.json(_INDEX).get("weight_map")
            if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
                raise UserError(f"{self.path(_INDEX)}: must have the file of each tensor under 'weight_map'")
            there = {part: set(self._open(part).keys()) for part in sorted(set(parts.values()))}
            for name, part in parts.items():
                if name not in there[part]:
                    raise UserError(f"{self.folder}: {part} must have the tensor {name}, and lacks it")
            return dict(parts)
        if not self.has(_WEIGHTS):
            if self.has(_PICKLED):
                raise UserError(
                    f"{self.path(_PICKLED)}: pickled weights can run any code and are not read; save the model with "
                    f"transformers to {_WEIGHTS}"
                )
            raise UserError(f"{self.folder}: must have {_WEIGHTS}, and lacks it")
        return dict.fromkeys(self._open(_WEIGHTS).keys(), _WEIGHTS)

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
