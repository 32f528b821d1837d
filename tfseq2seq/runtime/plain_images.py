"""Pictures to the pixels that an exported model reads, by Pillow, without TensorFlow.

The steps are those of the graph in `features/image_files.py` and `features/image.py`. Pictures without loss (PNG, BMP,
GIF) give the same pixels but for rounding; decoders of JPEG differ by a few of 255 levels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.spec import ImageSpec
from tfseq2seq.spec.limits import (
    DAMAGED_PICTURE,
    LEAST_SIDE,
    NO_BYTES,
    NO_PICTURE,
    too_few_pixels,
    too_many_pixels,
)

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")


class PlainImages:
    """Pictures: the bytes of files, their paths as `Path`, or pixels [H, W, 3] uint8.

    Args:
        spec: of the source.
    """

    def __init__(self, spec: ImageSpec):
        self.spec = spec

    @classmethod
    def load(cls, spec: Any, folder: Path, config: dict[str, Any], target: Any) -> PlainImages:
        return cls(spec)

    def row(self, value: Any) -> np.ndarray:
        """Pixels [S, S, 3] uint8 of a picture."""
        if isinstance(value, np.ndarray) and value.shape == (self.spec.size, self.spec.size, 3):
            return value.astype("uint8")
        pixels = value if isinstance(value, np.ndarray) else _pixels(_opened(_content(value)), self.spec.background)
        return _resized(_fitted(pixels, self.spec.fit), self.spec.size)

    def is_nothing(self, row: np.ndarray) -> bool:
        return False

    def fault(self, most: int, value: Any) -> str:
        """What is wrong with a picture, or ""; `most` is the largest number of megapixels, 0 for no limit."""
        if isinstance(value, np.ndarray):
            return ""
        content = _content(value)
        if not content:
            return NO_BYTES
        if not content.startswith(_BEGINNINGS):
            return NO_PICTURE
        try:
            picture = _opened(content)
            if most and picture.width * picture.height > most * 1_000_000:
                return _told(too_many_pixels(most), picture)
            if min(picture.size) < LEAST_SIDE:
                return _told(too_few_pixels(), picture)
            picture.load()
        except UserError:
            raise
        except Exception:  # Pillow has many kinds for damaged files
            return DAMAGED_PICTURE
        return ""

    def packed(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {"pixels": np.stack(rows)}

    def string(self, value: Any) -> dict[str, np.ndarray]:
        return self.packed([self.row(value)])


def _told(parts: tuple[str, str, str], picture: Image) -> str:
    before, between, after = parts
    return f"{before}{picture.width}{between}{picture.height}{after}"


def _content(value: Any) -> bytes:
    return Path(value).read_bytes() if isinstance(value, os.PathLike) else bytes(value)


def _opened(content: bytes) -> Image:
    """A picture whose header is read.

    Raises:
        UserError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need Pillow: `pip install 'tfseq2seq[image]'`") from None
    # The limit is ours, and is told as a fault of this picture.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _pixels(picture: Image, background: Sequence[int]) -> np.ndarray:
    """Pixels [H, W, 3] uint8, turned as EXIF says, and laid over the background."""
    from PIL import ImageOps

    if picture.format == "JPEG":
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        # Of 16 bits the upper 8 count.
        shades = (np.asarray(picture).astype("uint32") >> 8).astype("uint8")
        return np.repeat(shades[:, :, np.newaxis], 3, axis=2)
    if picture.format == "PNG" and ("A" in picture.getbands() or "transparency" in picture.info):
        pixels = np.asarray(picture.convert("RGBA")).astype("float32")
        share = pixels[:, :, 3:] / 255.0
        mixed = pixels[:, :, :3] * share + np.array(background, "float32") * (1.0 - share)
        return np.round(mixed).astype("uint8")
    return np.asarray(picture.convert("RGB"))


def _fitted(pixels: np.ndarray, fit: str) -> np.ndarray:
    """Pixels [H, W, 3] as a square around the center if they are not to be stretched."""
    height, width = pixels.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return pixels[top : top + side, left : left + side]
    if fit == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        around = ((top, side - height - top), (left, side - width - left), (0, 0))
        return np.pad(pixels, around)
    return pixels


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pixels resized to [size, size, 3] uint8 with antialiasing, computed in floats as in the graph."""
    from PIL import Image

    planes = [
        np.asarray(
            Image.fromarray(pixels[:, :, color].astype("float32")).resize((size, size), Image.Resampling.BILINEAR)
        )
        for color in range(3)
    ]
    return np.round(np.clip(np.stack(planes, axis=2), 0, 255)).astype("uint8")
