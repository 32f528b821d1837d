"""Folders with a model of another toolkit: JSON files and tensors. Nothing in a folder is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.files import parse_object, read_file

_LARGEST_JSON = 1 << 26


class ModelFolder:
    """A model on disk. Settings and tensors have the names that Hugging Face gives them.

    Args:
        folder: the folder.
        config: settings of the model.
        generation: how it generates by default.
    """

    def __init__(self, folder: Path, config: dict[str, Any], generation: dict[str, Any]):
        self.folder, self.config, self.generation = folder, config, generation

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

    def json_list(self, name: str) -> list[Any]:
        """The entries of a JSON file that has a list.

        Raises:
            UserError: as `content`, or it has none.
        """
        try:
            found = json.loads(self.content(name))
        except ValueError:
            raise UserError(f"{self.path(name)}: must be JSON, and is not") from None
        if not isinstance(found, list):
            raise UserError(f"{self.path(name)}: must have a list, got {json.dumps(found)[:40]}")
        return found

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
        raise NotImplementedError

    def blocks(self, name: str, shape: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The rows of a tensor in float32 some thousands at a time, each time with the index of the first one.

        Raises:
            UserError: as `tensor`.
        """
        yield 0, self.tensor(name, shape)

    def has_tensor(self, name: str) -> bool:
        """Whether there is a tensor."""
        raise NotImplementedError

    def unused(self) -> list[str]:
        """The names of tensors that were not read, in order."""
        raise NotImplementedError

    def shaped(self, name: str, found: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """A tensor of the file in float32, whose shape is checked.

        Raises:
            UserError: it has another shape.
        """
        self.check_shape(name, found.shape, shape)
        return np.asarray(found, "float32")

    def check_shape(self, name: str, found: Sequence[int], shape: Sequence[int]) -> None:
        """Checks the shape of a tensor.

        Raises:
            UserError: it is another one.
        """
        if tuple(found) != tuple(shape):
            raise UserError(f"{self.folder}: the tensor {name} must have the shape {list(shape)}, got {list(found)}")
