"""Clips as files: which frames of one a model reads, the files in a folder of frames, and the blocks of a GIF file.

Nothing here needs TensorFlow. `features/video_files.py` has the same in graph.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

GIF_BEGINNINGS = (b"GIF87a", b"GIF89a")
# The bytes that the blocks of a GIF file begin with (GIF89a, appendix A).
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
# The bytes of the header and of the logical screen descriptor, and where the latter has its flags.
HEADER_SIZE, HEADER_FLAGS = 13, 10
# The bytes of an image descriptor with its introducer, and where it has its flags.
IMAGE_SIZE, IMAGE_FLAGS = 10, 9


class GifBlocks(NamedTuple):
    """What the blocks of a GIF file say.

    Attributes:
        height, width: of the whole picture, in pixels.
        frames: the number of frames.
        whole: whether the file goes on to its trailer.
    """

    height: int
    width: int
    frames: int
    whole: bool


def sampled_frames(count: int, wanted: int) -> list[int]:
    """Returns the indices of the frames in the middle of `wanted` equal parts of a clip of `count` frames."""
    return [(2 * index + 1) * count // (2 * wanted) for index in range(wanted)]


def frame_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the files in a folder of frames, in the order of their names, in which numbers count as numbers.

    Names that begin with a dot are left out, and so are folders.

    Raises:
        OSError: the folder cannot be read.
    """
    files = (path for path in Path(folder).iterdir() if not path.name.startswith(".") and path.is_file())
    return sorted(files, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def gif_blocks(content: bytes) -> GifBlocks:
    """Reads the blocks of a GIF file without decoding it, so that its size is known before it takes memory."""

    def at(index: int) -> int:
        return content[index] if index < len(content) else 0

    def colors(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    place, frames, inside = HEADER_SIZE + colors(at(HEADER_FLAGS)), 0, False
    while place < len(content):
        byte = content[place]
        if inside:
            inside, place = byte > 0, place + 1 + byte
        elif byte == EXTENSION:
            inside, place = True, place + 2
        elif byte == IMAGE:
            # Behind the color table stands the size of the first codes.
            inside, place, frames = True, place + IMAGE_SIZE + colors(at(place + IMAGE_FLAGS)) + 1, frames + 1
        else:
            break
    whole = not inside and place < len(content) and content[place] == TRAILER
    return GifBlocks(at(8) + 256 * at(9), at(6) + 256 * at(7), frames, whole)
