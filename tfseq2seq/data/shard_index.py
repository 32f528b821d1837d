"""The index beside shards, a file that tells what they hold, so that nobody has to read them to open them.

    index.json   {"format": 1, "kind": "pairs" or "recordings", "rate": samples a second of recordings,
                  "shards": [{"file": name, "examples": number, "bytes": size of the file, "digest": of the content}]}

It is written last: a folder with an index has all of its shards.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.files import check_regular, read_file, write_whole

INDEX = "index.json"
# The shards that are complete while others are still being written, one on a line.
JOURNAL = "shards.partial.jsonl"
_LARGEST_INDEX = 1 << 28


@dataclass(frozen=True)
class Shard:
    """A file of examples.

    Attributes:
        path: the file.
        examples: how many it holds.
        bytes: the size of the file.
        digest: of what it was written from: equal examples give equal digests.
    """

    path: Path
    examples: int
    bytes: int
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"file": self.path.name, "examples": self.examples, "bytes": self.bytes, "digest": self.digest}

    @classmethod
    def from_json(cls, folder: Path, entry: Any) -> Shard:
        """Reads an entry of an index.

        Raises:
            ValueError: it is none.
        """
        name, examples, size = entry["file"], entry["examples"], entry["bytes"]
        if not isinstance(name, str) or "/" in name or "\0" in name or not name:
            raise ValueError(f"{name!r} is no name of a file")
        if any(type(value) is not int or not 0 <= value < 2**62 for value in (examples, size)):
            raise ValueError(f"{name} must have numbers of examples and bytes")
        return cls(folder / name, examples, size, str(entry["digest"]))


def write_index(folder: Path, kind: str, shards: Sequence[Shard], rate: int = 0) -> None:
    """Writes the index of all shards in a folder.

    Raises:
        UserError: it cannot be written.
    """
    content = {"format": 1, "kind": kind, "rate": rate, "shards": [shard.to_json() for shard in shards]}
    write_whole(folder / INDEX, f"{json.dumps(content, indent=1)}\n".encode())


def record_files(pattern: str) -> list[str]:
    """The files that a glob pattern matches, or those in a folder, in the order of their names.

    Raises:
        UserError: one of them is no regular file.
    """
    if os.path.isdir(pattern):
        pattern = os.path.join(glob.escape(pattern), "*.tfrecord*")
    files = [file for file in sorted(glob.glob(pattern)) if Path(file).name not in (INDEX, JOURNAL)]
    for file in files:
        # TensorFlow would wait for a pipe, and read a device without end.
        check_regular(file)
    return files


def indexed_shards(files: Sequence[str], kind: str, rate: int = 0) -> list[Shard] | None:
    """What the indexes beside files tell of them; None where a file has none.

    Args:
        files: from `record_files`.
        kind: what they must hold, "pairs" or "recordings".
        rate: the sample rate that recordings must have.

    Raises:
        UserError: an index is damaged or tells of something else, a shard that it lists is missing or has another size,
            or the shards are not all written yet.
    """
    listed: dict[Path, Shard] = {}
    for folder in sorted({Path(file).parent for file in files}):
        if (folder / INDEX).exists():
            listed.update({shard.path: shard for shard in _read_index(folder, kind, rate)})
        elif (folder / JOURNAL).exists():
            raise UserError(
                f"{folder}: not all shards are written yet; give the same command `tfseq2seq data shard` again, which "
                "continues"
            )
    shards = [listed.get(Path(file)) for file in files]
    return None if None in shards else [shard for shard in shards if shard]


def _read_index(folder: Path, kind: str, rate: int) -> list[Shard]:
    path = folder / INDEX
    try:
        content = json.loads(read_file(path, _LARGEST_INDEX))
        if content["format"] != 1:
            raise ValueError(f"format {content['format']!r} is of another version")
        found, found_rate = content["kind"], content["rate"]
        shards = [Shard.from_json(folder, entry) for entry in content["shards"]]
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path}: damaged ({type(error).__name__}: {str(error)[:100]}); delete it, and the shards are counted anew"
        ) from None
    if found != kind:
        raise UserError(f"{folder}: must have shards of {kind}, got shards of {found}")
    if found_rate != rate:
        raise UserError(
            f"{folder}: the sample rate of the shards must be {rate} Hz, got {found_rate} Hz; write the shards with "
            "this rate"
        )
    for shard in shards:
        check_shard(shard)
    return shards


def check_shard(shard: Shard) -> None:
    """Checks that a shard is there and has its size.

    Raises:
        UserError: it is missing or has another size.
    """
    try:
        size = os.path.getsize(shard.path)
    except OSError:
        raise UserError(
            f"{shard.path}: missing, but {INDEX} beside it lists it; copy it there or write the shards again"
        ) from None
    if size != shard.bytes:
        raise UserError(
            f"{shard.path}: must have {shard.bytes:,} bytes, as {INDEX} beside it says, got {size:,}; copy the file "
            "again or write the shards again"
        )
