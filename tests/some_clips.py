"""Clips in GIF files, made by Pillow, and broken ones."""

import io
import struct

import numpy as np
from PIL import Image


def frames(count=6, height=40, width=60):
    """Frames [N, H, W, 3] uint8 of a square that moves to the right."""
    made = np.full((count, height, width, 3), 230, "uint8")
    for index, frame in enumerate(made):
        frame[10:20, 4 * index + 5 : 4 * index + 15] = (220, 40, 40)
    return made


def gif(pictures, **options):
    """The bytes of a GIF file."""
    first, *rest = map(Image.fromarray, pictures)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, **options)
    return file.getvalue()


def good_clips():
    """The bytes of files that can be read, by name."""
    return {
        "changes alone": gif(frames()),
        "whole frames": gif(frames(), disposal=2),
        "more frames than are read": gif(frames(11)),
        "one frame": gif(frames(1)),
        "with a comment": gif(frames(), comment=b"a comment " * 60),
    }


def claiming(height, width):
    """A GIF file whose header says that it is so large."""
    content = bytearray(gif(frames()))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def bad_clips():
    """The bytes of files that cannot be read, and the messages about them, by name."""
    good, damaged = gif(frames()), "a clip that is damaged or cut off"
    no_gif = "no clip that can be read: it begins like no GIF file"
    return {
        "cut": (good[:-200], damaged),
        "without its end": (good[:-1], damaged),
        "header alone": (good[:11], damaged),
        "without frames": (b"GIF89a" + bytes([60, 0, 40, 0, 0, 0, 0]) + b";", damaged),
        "nothing": (b"", "an empty file, without a clip"),
        "text": (b"hello", no_gif),
        "picture": (b"\x89PNG\r\n\x1a\n" + bytes(90), no_gif),
        "small": (claiming(3, 60), "too small: 60 x 3 pixels, at least 8 x 8 are needed to see anything"),
        "large": (
            claiming(4000, 3000),
            "too large: 6 frames of 3000 x 4000 pixels, at most 50 megapixels are answered (search.max_input)",
        ),
    }
