"""Which run's weights the training of a run began with: a file in its folder.

    start.json    {"run": "/runs/base", "weights": "model.weights.h5", "sha256": "...", "beside": "../base"}

A run with weights of its own never needs the other run again. A run of adapters needs these weights each time that it
is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from tfseq2seq.errors import UserError
from tfseq2seq.files import open_file, read_file

START = "start.json"

# The largest start.json, in bytes.
_LIMIT = 1 << 20


class Origin(NamedTuple):
    """The weights that a training began with.

    Attributes:
        run: the absolute path of their run.
        weights: the path of the weights file in its folder.
        sha256: the digest of this file.
        beside: the path of their run from the folder of the one that began with them, for runs that are moved together.
            Files of earlier versions do not have it.
    """

    run: str
    weights: str
    sha256: str
    beside: str = ""

    @classmethod
    def of(cls, weights: Path, folder: Path, own: Path) -> Origin:
        """Returns the origin of a new run.

        Args:
            weights: the weights file of the other run.
            folder: the folder of the other run.
            own: the folder of the new run.
        """
        there = folder.absolute()
        name, beside = weights.relative_to(folder).as_posix(), Path(os.path.relpath(there, own.absolute())).as_posix()
        return cls(str(there), name, file_digest(weights), beside)

    def content(self) -> bytes:
        """Returns the content of the file."""
        return json.dumps(self._asdict(), indent=1).encode("utf-8")

    def find(self, own: Path) -> Path:
        """Returns the weights file.

        Args:
            own: the folder of the run that began with it.

        Raises:
            UserError: it is not where it was, or is another one now.
        """
        places = [Path(self.run) / self.weights]
        if self.beside:
            places.insert(0, own / self.beside / self.weights)
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise UserError(
                f"{own}: has adapters for the weights {places[-1]}, which are not there; put that run back. "
                "`tfseq2seq merge` writes a run that needs no other"
            )
        if (digest := file_digest(found)) != self.sha256:
            raise UserError(
                f"{found}: must have the SHA-256 digest {self.sha256[:12]}..., as when the adapters of {own} were "
                f"trained, got {digest[:12]}...; put the earlier file back"
            )
        return found


def read_origin(folder: Path) -> Origin | None:
    """Returns which weights the run in a folder began with; None if they were random.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / START
    if not path.exists():
        return None
    try:
        values: Any = json.loads(read_file(path, _LIMIT))
        origin = Origin(**values)
        if not all(isinstance(value, str) for value in origin):
            raise ValueError("must be text")
        return origin
    except UserError:
        raise
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(f"{path}: must hold an object with run, weights and sha256; put the file back") from None


def file_digest(path: Path) -> str:
    """Returns the SHA-256 digest of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
