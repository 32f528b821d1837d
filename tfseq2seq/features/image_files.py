"""The bytes of JPEG, PNG, GIF and BMP files to pixels, in graph, with operations of TensorFlow alone.

One file that cannot be read does not keep the others of a batch from being read. The size of a picture is read from its
header, before anything is decoded, so that a picture with too many pixels costs neither memory nor time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.features.image import ImageResizing
from tfseq2seq.spec import ImageSpec
from tfseq2seq.spec.limits import (
    DAMAGED_PICTURE,
    LEAST_SIDE,
    NO_BYTES,
    NO_PICTURE,
    ODD_BMP,
    too_few_pixels,
    too_many_pixels,
)

# What files begin with, in the order of `_decoders`.
_BEGINNINGS = ((b"\xff\xd8\xff",), (b"\x89PNG\r\n\x1a\n",), (b"GIF87a", b"GIF89a"), (b"BM",))
_JPEG, _PNG, _GIF, _BMP = range(4)
# EXIF data stands near the beginning of a file.
_EXIF_WITHIN = 1 << 17
_MOST_TAGS = 512
_ORIENTATION = 0x0112


def decode_images(
    contents: tf.Tensor, spec: ImageSpec, most: int, load: Callable[[tf.Tensor], tf.Tensor] = tf.identity
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels of files at the size of the model, and what is wrong with each file.

    Args:
        contents: [B] string, the bytes of the files, or what `load` makes such bytes of, as their paths.
        spec: size, fit and background.
        most: pictures with more megapixels are not decoded; 0 for no limit.
        load: called for each string.

    Returns:
        Pixels [B, S, S, 3] uint8, black where there is a fault, and messages [B] string, "" where there is none.
    """
    read, shape = image_reader(spec, most), [spec.size, spec.size, 3]
    count = tf.shape(contents, out_type=tf.int64)[0]

    def numbered(index: tf.Tensor, content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return index, *read(load(content))

    # The decoders raise errors, which no other construct of a graph survives. What raised one is missing afterwards.
    decoded = tf.data.Dataset.from_tensor_slices((tf.range(count), contents)).map(
        tf.autograph.experimental.do_not_convert(numbered), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    # There is always a row, so that a batch without a picture that can be read is one too.
    none = tf.data.Dataset.from_tensors((count, tf.zeros(shape, tf.uint8), tf.constant("")))
    rows = none.concatenate(decoded.ignore_errors(log_warning=False)).batch(count + 1)
    indices, pixels, faults = rows.get_single_element()
    place = tf.scatter_nd(indices[:, tf.newaxis], tf.range(tf.shape(indices)[0]), [count + 1])[:count]
    return tf.gather(pixels, place), tf.where(place > 0, tf.gather(faults, place), DAMAGED_PICTURE)


def image_reader(spec: ImageSpec, most: int) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function from the bytes of one file to its pixels [S, S, 3] uint8 and a message, "" where all is well.

    The function raises `InvalidArgumentError` for a file that is damaged.
    """
    resize, decoders = ImageResizing(spec, name="resizing"), _decoders(spec.background)

    def read(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        kind = _kind(content)
        fault = _fault(content, kind, most)

        def decoded() -> tf.Tensor:
            pixels = tf.switch_case(kind, [lambda decode=decode: decode(content) for decode in decoders])
            orientation = tf.cond(tf.equal(kind, _JPEG), lambda: _orientation(content), lambda: tf.constant(1))
            return resize(_turned(tf.ensure_shape(pixels, [None, None, 3]), orientation))

        nothing = tf.zeros([spec.size, spec.size, 3], tf.uint8)
        return tf.cond(tf.equal(fault, ""), decoded, lambda: nothing), fault

    return read


def _kind(content: tf.Tensor) -> tf.Tensor:
    """The place of the format in `_BEGINNINGS`, or their number."""
    kind = tf.constant(len(_BEGINNINGS))
    for place, beginnings in enumerate(_BEGINNINGS):
        for begin in beginnings:
            kind = tf.where(tf.equal(tf.strings.substr(content, 0, len(begin)), begin), place, kind)
    return kind


def _fault(content: tf.Tensor, kind: tf.Tensor, most: int) -> tf.Tensor:
    """What the header of a file says that keeps it from being read; "" if there is nothing."""

    def of_header() -> tf.Tensor:
        height, width = _size(content, kind)
        fault = tf.where(tf.minimum(height, width) < LEAST_SIDE, _told(too_few_pixels(), height, width), "")
        if most:
            large = _told(too_many_pixels(most), height, width)
            fault = tf.where(height * width > most * 1_000_000, large, fault)
        header = _bytes(content, 64)
        bits, compression = _little(header, 28, 2), _little(header, 30, 4)
        plain = tf.equal(compression, 0) | (tf.equal(compression, 3) & tf.equal(bits, 32))
        odd = tf.equal(kind, _BMP) & ~(plain & (bits >= 8) & tf.not_equal(bits, 16))
        return tf.where(odd & tf.equal(fault, ""), ODD_BMP, fault)

    fault = tf.cond(kind < len(_BEGINNINGS), of_header, lambda: tf.constant(NO_PICTURE))
    return tf.where(tf.equal(tf.strings.length(content), 0), NO_BYTES, fault)


def _told(parts: tuple[str, str, str], height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """A message about the size of a picture."""
    before, between, after = parts
    return tf.strings.join([before, tf.strings.as_string(width), between, tf.strings.as_string(height), after])


def _size(content: tf.Tensor, kind: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width in pixels, int64, as the header of a file says."""
    header = _bytes(content, 32)

    def of_jpeg() -> tf.Tensor:
        return tf.cast(tf.io.extract_jpeg_shape(content)[:2], tf.int64)

    def of_bmp() -> tf.Tensor:
        sides = tf.stack([_little(header, 22, 4), _little(header, 18, 4)])
        # The height of a picture that is stored from the top is negative.
        return tf.where(sides >= 2**31, 2**32 - sides, sides)

    sizes = [
        of_jpeg,
        lambda: tf.stack([_big(header, 20, 4), _big(header, 16, 4)]),
        lambda: tf.stack([_little(header, 8, 2), _little(header, 6, 2)]),
        of_bmp,
    ]
    height, width = tf.unstack(tf.ensure_shape(tf.switch_case(kind, sizes), [2]))
    return height, width


# ---- numbers in bytes -----------------------------------------------------------------------------------------------


def _bytes(content: tf.Tensor, count: int) -> tf.Tensor:
    """The first `count` bytes as int64, and zeros in place of those that are missing."""
    values = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, count), tf.uint8), tf.int64)
    return tf.pad(values, [[0, count - tf.shape(values)[0]]])


def _number(data: tf.Tensor, at: Any, places: Sequence[int]) -> tf.Tensor:
    """Unsigned numbers at the indices `at`.

    They are made of the bytes at these places after the indices, from the most to the least significant. Bytes beyond
    the end are zero.
    """
    size, total = tf.shape(data, out_type=tf.int64)[0], tf.zeros_like(tf.cast(at, tf.int64))
    for place in places:
        index = tf.cast(at, tf.int64) + place
        byte = tf.gather(data, tf.clip_by_value(index, 0, size - 1))
        total = total * 256 + tf.where(index < size, byte, 0)
    return total


def _little(data: tf.Tensor, at: Any, count: int) -> tf.Tensor:
    return _number(data, at, range(count - 1, -1, -1))


def _big(data: tf.Tensor, at: Any, count: int) -> tf.Tensor:
    return _number(data, at, range(count))


# ---- pixels ---------------------------------------------------------------------------------------------------------


def _decoders(background: Sequence[int]) -> list[Callable[[tf.Tensor], tf.Tensor]]:
    """Functions from the bytes of a file to pixels [H, W, 3] uint8, in the order of `_BEGINNINGS`."""

    def png(content: tf.Tensor) -> tf.Tensor:
        # Asked for four channels, TensorFlow misreads palettes and shades of less than 8 bits.
        pixels = tf.io.decode_png(content)
        channels = tf.shape(pixels)[2]
        colors = tf.cond(channels >= 3, lambda: pixels[:, :, :3], lambda: tf.repeat(pixels[:, :, :1], 3, axis=2))
        has_alpha = tf.equal(channels % 2, 0)
        return tf.cond(has_alpha, lambda: _over(colors, pixels[:, :, -1:], background), lambda: colors)

    return [
        # The default of TensorFlow is a faster and less exact transform.
        lambda content: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        png,
        lambda content: tf.io.decode_image(content, channels=3, expand_animations=False),
        _decode_bmp,
    ]


def _over(colors: tf.Tensor, alpha: tf.Tensor, background: Sequence[int]) -> tf.Tensor:
    """Colors [H, W, 3] laid over a background as their alpha [H, W, 1] says."""
    share = tf.cast(alpha, tf.float32) / 255.0
    mixed = tf.cast(colors, tf.float32) * share + tf.constant(background, tf.float32) * (1.0 - share)
    return tf.cast(tf.round(mixed), tf.uint8)


def _decode_bmp(content: tf.Tensor) -> tf.Tensor:
    """TensorFlow takes the numbers of a palette for shades of gray, so its colors are looked up here."""
    header = _bytes(content, 64)
    pixels = tf.io.decode_bmp(content)

    def of_palette() -> tf.Tensor:
        begin = tf.cast(14 + _little(header, 14, 4), tf.int32)
        entries = tf.io.decode_raw(tf.strings.substr(content, begin, 4 * 256), tf.uint8)
        entries = tf.pad(entries, [[0, 4 * 256 - tf.shape(entries)[0]]])
        # Blue comes first, and a fourth byte that means nothing.
        colors = tf.reshape(entries, [256, 4])[:, 2::-1]
        return tf.gather(colors, tf.cast(pixels[:, :, 0], tf.int32))

    return tf.cond(tf.equal(_little(header, 28, 2), 8), of_palette, lambda: pixels[:, :, :3])


def _turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Pixels [H, W, 3] turned and mirrored so that they stand as the EXIF orientation, 1 to 8, says."""
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    for axis, turned in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
        reverse = tf.reduce_any(tf.equal(orientation, turned))
        pixels = tf.cond(reverse, lambda p=pixels, a=axis: tf.reverse(p, [a]), lambda p=pixels: p)
    return pixels


def _orientation(content: tf.Tensor) -> tf.Tensor:
    """The orientation in the EXIF data of a JPEG file, 1 to 8; 1 where there is none or it is damaged."""
    data = _bytes(content, _EXIF_WITHIN)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        name = tf.strings.substr(content, at + 4, 6)
        return tf.equal(_number(data, at, (0, 1)), 0xFFE1) & tf.equal(name, b"Exif\0\0")

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        marker = _number(data, at, (1,))
        # The data of the picture begin after 0xDA.
        segment = tf.equal(_number(data, at, (0,)), 0xFF) & tf.not_equal(marker, 0xDA) & (at < _EXIF_WITHIN - 12)
        return segment & ~is_exif_safe(at)

    def is_exif_safe(at: tf.Tensor) -> tf.Tensor:
        inside = at + 10 <= tf.strings.length(content)
        return tf.cond(inside, lambda: is_exif(at), lambda: tf.constant(False))

    def following(at: tf.Tensor) -> tuple[tf.Tensor]:
        # Any number of bytes 0xFF may stand before a marker.
        filler = tf.equal(_number(data, at, (1,)), 0xFF)
        length = tf.cast(_number(data, at + 2, (0, 1)), tf.int32)
        return (at + tf.where(filler, 1, 2 + tf.maximum(length, 2)),)

    (found,) = tf.while_loop(goes_on, following, (tf.constant(2),))
    orientation = tf.cond(is_exif_safe(found), lambda: _orientation_tag(data, found + 10), lambda: tf.constant(1))
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)


def _orientation_tag(data: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of EXIF data that begin at an index; 0 if it is not there."""
    start = tf.cast(begin, tf.int64)
    little = tf.equal(_number(data, start, (0, 1)), 0x4949)

    def number(at: Any, count: int) -> tf.Tensor:
        return tf.where(little, _little(data, at, count), _big(data, at, count))

    directory = start + number(start + 4, 4)
    count = tf.minimum(number(directory, 2), _MOST_TAGS)
    entries = directory + 2 + 12 * tf.range(count)
    values = tf.where(tf.equal(number(entries, 2), _ORIENTATION), number(entries + 8, 2), 0)
    return tf.cast(tf.reduce_max(tf.concat([values, [0]], axis=0)), tf.int32)
