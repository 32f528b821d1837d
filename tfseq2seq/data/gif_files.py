"""Writing of animated GIF files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_MOST_CODES = 1 << 12


def gif_bytes(frames: np.ndarray, palette: Sequence[tuple[int, int, int]], delay: int = 10) -> bytes:
    """The bytes of a GIF file that repeats its frames forever (GIF89a).

    Args:
        frames: [N, H, W] uint8, indices of colors, at least one frame.
        palette: red, green and blue of each color, from 0 to 255; 2 to 256 colors.
        delay: of each frame, in hundredths of a second.

    Raises:
        ValueError: a frame has an index beyond the palette.
    """
    if frames.max() >= len(palette):
        raise ValueError(f"frames must have indices below {len(palette)}, got {frames.max()}")
    bits = max(2, (len(palette) - 1).bit_length())
    height, width = frames.shape[1:]
    colors = b"".join(map(bytes, palette)).ljust(3 << bits, b"\0")
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF0 | (bits - 1), 0, 0), colors]
    parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
    for frame in frames:
        parts += [b"\x21\xf9\x04", struct.pack("<BHB", 0, delay, 0), b"\0"]
        parts += [b"\x2c", struct.pack("<HHHHB", 0, 0, width, height, 0), bytes([bits])]
        data = _compressed(frame.tobytes(), bits)
        parts += [bytes([len(block)]) + block for block in (data[i : i + 255] for i in range(0, len(data), 255))]
        parts.append(b"\0")
    return b"".join([*parts, b"\x3b"])


def _compressed(indices: bytes, bits: int) -> bytes:
    """Indices of colors compressed by LZW with codes of growing size (Welch 1984, in the variant of GIF)."""
    clear, end = 1 << bits, (1 << bits) + 1
    roots = {bytes([index]): index for index in range(clear)}
    table, size = dict(roots), bits + 1
    # Codes are written from the lowest bit, so they gather in one number.
    value, filled, output = clear, size, bytearray()
    known = b""
    for at in range(len(indices)):
        longer = known + indices[at : at + 1]
        if longer in table:
            known = longer
            continue
        value |= table[known] << filled
        filled += size
        # Two codes are taken by `clear` and `end`.
        code = len(table) + 2
        if code < _MOST_CODES:
            table[longer] = code
            size += code == 1 << size
        else:
            value |= clear << filled
            filled += size
            table, size = dict(roots), bits + 1
        known = indices[at : at + 1]
        while filled >= 8:
            output.append(value & 255)
            value, filled = value >> 8, filled - 8
    for code in (table[known], end):
        value |= code << filled
        filled += size
        # The reader of the file adds an entry after the last code too.
        size += len(table) + 2 == 1 << size and size < 12
    output += value.to_bytes((filled + 7) // 8, "little")
    return bytes(output)
