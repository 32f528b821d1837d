"""What a frozen backbone computes of pictures, kept on disk.

    FOLDER/DIGEST/KEY.npy    the vectors of one picture, [N, C] float16

DIGEST is that of the backbone and of all that is done to a picture before. KEY is that of the bytes of its file. So a
changed photo, another size or other weights are computed anew, and all trainings with the same ones share the files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.files import write_whole


class StoredVectors:
    """The vectors [N, C] float16 of a picture in a file, which is read each time they are used.

    An open or a mapped file for each picture would exceed what a process may have.

    Args:
        path: the file.

    Raises:
        OSError, ValueError, EOFError: the file is not there, or not whole.
    """

    def __init__(self, path: Path):
        self.path = path
        # Only the header is read. The mapping ends with the array.
        header = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self.dtype = header.shape, header.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(np.load(self.path, allow_pickle=False), dtype)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]


class FeatureCache:
    """The vectors of pictures by the bytes of their files.

    Args:
        folder: where they are kept.
        digest: of the backbone and the settings.
        compute: from contents of files to the vectors [N, C] of each and messages, "" for those that can be read.

    Attributes:
        computed: how many pictures were not found on disk.
    """

    def __init__(
        self,
        folder: str | Path,
        digest: str,
        compute: Callable[[Sequence[bytes]], tuple[Sequence[np.ndarray], Sequence[str]]],
    ):
        self.folder, self.compute, self.computed = Path(folder) / digest, compute, 0

    def __call__(self, contents: Sequence[bytes]) -> tuple[list[StoredVectors | None], list[str]]:
        """Returns the vectors of each file, and messages about files without them."""
        paths = [self.folder / f"{hashlib.sha256(content).hexdigest()}.npy" for content in contents]
        rows = [_read(path) for path in paths]
        faults = [""] * len(rows)
        missing = [index for index, row in enumerate(rows) if row is None]
        if missing:
            vectors, messages = self.compute([contents[index] for index in missing])
            for index, own, message in zip(missing, vectors, messages, strict=True):
                faults[index] = message
                if message:
                    continue
                self.computed += 1
                file = io.BytesIO()
                np.save(file, np.asarray(own, "float16"))
                write_whole(paths[index], file.getvalue())
                rows[index] = _read(paths[index])
        return rows, faults


def _read(path: Path) -> StoredVectors | None:
    """The vectors in a file; None if there is no whole one."""
    try:
        return StoredVectors(path)
    except (OSError, ValueError, EOFError):
        return None
