"""Pictures in files of all formats and kinds, made by Pillow, and broken ones."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def pixels(height=40, width=60):
    """Smooth pixels [H, W, 3] uint8 in which no two corners are alike."""
    down, right = np.mgrid[:height, :width]
    planes = 255 * down / height, 255 * right / width, 127 + 127 * np.sin(right / 9 + down / 17)
    return np.stack(planes, axis=2).astype("uint8")


def content(picture, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def oriented(orientation, height=40, width=60):
    """A JPEG file with EXIF data."""
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    return content(Image.fromarray(pixels(height, width)), "JPEG", exif=exif, quality=95)


def good_files():
    """The bytes of files that can be read, by name."""
    color = Image.fromarray(pixels())
    gray = color.convert("L")
    faded = Image.merge("RGBA", (*color.split(), gray))
    few = color.quantize(200)
    return {
        "jpeg": content(color, "JPEG"),
        "progressive jpeg": content(color, "JPEG", progressive=True),
        "gray jpeg": content(gray, "JPEG"),
        "cmyk jpeg": content(color.convert("CMYK"), "JPEG"),
        "png": content(color, "PNG"),
        "gray png": content(gray, "PNG"),
        "16-bit png": content(Image.fromarray(pixels()[:, :, 0].astype("uint16") * 257), "PNG"),
        "1-bit png": content(gray.convert("1"), "PNG"),
        "palette png": content(few, "PNG"),
        "4-bit palette png": content(color.quantize(16), "PNG"),
        "palette png with alpha": content(few, "PNG", transparency=3),
        "png with alpha": content(faded, "PNG"),
        "gray png with alpha": content(Image.merge("LA", (gray, gray)), "PNG"),
        "gif": content(color, "GIF"),
        "animated gif": content(color, "GIF", save_all=True, append_images=[Image.fromarray(255 - pixels())]),
        "bmp": content(color, "BMP"),
        "32-bit bmp": content(color.convert("RGBA"), "BMP"),
        "palette bmp": content(few, "BMP"),
        "gray bmp": content(gray, "BMP"),
    }


def claiming(height, width):
    """A PNG file whose header says that it is so large."""
    start = bytearray(good_files()["png"])
    start[16:24] = struct.pack(">II", width, height)
    start[29:33] = struct.pack(">I", zlib.crc32(start[12:29]))
    return bytes(start)


def bad_files():
    """The bytes of files that cannot be read, and the messages about them, by name."""
    good = good_files()
    damaged = "a picture that is damaged or cut off"
    odd = "a BMP file that is compressed or has fewer than 8 bits a pixel; save it as PNG"
    return {
        "cut jpeg": (good["jpeg"][:700], damaged),
        "header of a jpeg alone": (good["jpeg"][:20], damaged),
        "cut png": (good["png"][:300], damaged),
        "cut gif": (good["gif"][:500], damaged),
        "cut bmp": (good["bmp"][:500], damaged),
        "1-bit bmp": (content(Image.fromarray(pixels()).convert("1"), "BMP"), odd),
        "text": (b"hello", "no picture that can be read: it begins like no JPEG, PNG, GIF or BMP file"),
        "nothing": (b"", "an empty file, without a picture"),
        "one pixel": (
            content(Image.new("RGB", (1, 1)), "PNG"),
            "too small: 1 x 1 pixels, at least 8 x 8 are needed to see anything",
        ),
        "huge": (
            claiming(20_000, 30_000),
            "too large: 30000 x 20000 pixels, at most 50 megapixels are answered (search.max_input)",
        ),
    }
