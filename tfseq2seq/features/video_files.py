"""The bytes of animated GIF files to the frames that a model reads, in graph, with operations of TensorFlow alone.

How many frames a file has is read from its blocks before anything is decoded, so that a clip with too many pixels costs
neither memory nor time.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfseq2seq.features.clips import (
    EXTENSION,
    GIF_BEGINNINGS,
    HEADER_FLAGS,
    HEADER_SIZE,
    IMAGE,
    IMAGE_FLAGS,
    IMAGE_SIZE,
    TRAILER,
)
from tfseq2seq.features.image import ImageResizing
from tfseq2seq.features.image_files import little_endian, read_each, told
from tfseq2seq.spec import VideoSpec
from tfseq2seq.spec.limits import (
    DAMAGED_CLIP,
    LEAST_SIDE,
    NO_CLIP,
    NO_CLIP_BYTES,
    too_few_pixels,
    too_large_clip,
)


def decode_clips(contents: tf.Tensor, spec: VideoSpec, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Frames of GIF files at the size of the model, and what is wrong with each file.

    Args:
        contents: [B] string, the bytes of the files.
        spec: number and size of the frames, and fit.
        most: clips with more megapixels in all their frames together are not decoded; 0 for no limit.

    Returns:
        Pixels [B, F, S, S, 3] uint8, black where there is a fault, and messages [B] string, "" where there is none.
    """
    return read_each(contents, clip_reader(spec, most), [spec.frames, spec.size, spec.size, 3], DAMAGED_CLIP)


def clip_reader(spec: VideoSpec, most: int) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function from the bytes of one file to pixels [F, S, S, 3] uint8 and a message, "" where all is well.

    The function raises `InvalidArgumentError` for a file that is damaged where its blocks do not show it.
    """
    resize = ImageResizing(spec, name="resizing")

    def read(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        beginning = tf.strings.substr(content, 0, len(GIF_BEGINNINGS[0]))
        is_gif = tf.reduce_any(tf.equal(beginning, tf.constant(GIF_BEGINNINGS)))
        fault = tf.cond(is_gif, lambda: _fault(content, most), lambda: tf.constant(NO_CLIP))
        fault = tf.where(tf.equal(tf.strings.length(content), 0), NO_CLIP_BYTES, fault)

        def decoded() -> tf.Tensor:
            frames = tf.ensure_shape(tf.io.decode_gif(content), [None, None, None, 3])
            # The decoder gives the frames before one that is damaged.
            complete = tf.debugging.assert_equal(tf.shape(frames, tf.int64)[0], _blocks(content)[2])
            with tf.control_dependencies([complete] if complete is not None else []):
                frames = tf.identity(frames)
            places = (2 * tf.range(spec.frames) + 1) * tf.shape(frames)[0] // (2 * spec.frames)
            # One after the other, so that only frames at the size of the model take memory beside those of the file.
            return tf.map_fn(lambda place: resize(frames[place]), places, fn_output_signature=tf.uint8)

        nothing = tf.zeros([spec.frames, spec.size, spec.size, 3], tf.uint8)
        return tf.cond(tf.equal(fault, ""), decoded, lambda: nothing), fault

    return read


def _fault(content: tf.Tensor, most: int) -> tf.Tensor:
    """What the blocks of a GIF file say that keeps it from being read; "" if there is nothing."""
    height, width, frames, whole = _blocks(content)
    fault = tf.where(whole & (frames > 0), "", DAMAGED_CLIP)
    if most:
        large = told(too_large_clip(most), frames, width, height)
        fault = tf.where(height * width * frames > most * 1_000_000, large, fault)
    return tf.where(tf.minimum(height, width) < LEAST_SIDE, told(too_few_pixels(), width, height), fault)


def _blocks(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Height, width, number of frames, int64, and whether the file goes on to its trailer; see `gif_blocks`."""
    data = tf.io.decode_raw(content, tf.uint8)
    # A descriptor that is cut off reads zeros.
    data = tf.pad(data, [[0, HEADER_SIZE]])
    end = tf.strings.length(content)

    def byte_at(place: tf.Tensor) -> tf.Tensor:
        return tf.cast(data[tf.minimum(place, end)], tf.int32)

    def colors(flags: tf.Tensor) -> tf.Tensor:
        has_table = tf.bitwise.bitwise_and(flags, 0x80) > 0
        return tf.where(has_table, tf.bitwise.left_shift(3, tf.bitwise.bitwise_and(flags, 7) + 1), 0)

    def goes_on(place: tf.Tensor, frames: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
        byte = byte_at(place)
        return (place < end) & (inside | tf.equal(byte, EXTENSION) | tf.equal(byte, IMAGE))

    def following(place: tf.Tensor, frames: tf.Tensor, inside: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        byte = byte_at(place)
        is_image = ~inside & tf.equal(byte, IMAGE)
        # Behind the color table stands the size of the first codes.
        of_image = IMAGE_SIZE + colors(byte_at(place + IMAGE_FLAGS)) + 1
        step = tf.where(inside, 1 + byte, tf.where(is_image, of_image, 2))
        return place + step, frames + tf.cast(is_image, tf.int32), ~inside | (byte > 0)

    start = HEADER_SIZE + colors(byte_at(tf.constant(HEADER_FLAGS))), tf.constant(0), tf.constant(False)
    place, frames, inside = tf.while_loop(goes_on, following, start)
    whole = ~inside & (place < end) & tf.equal(byte_at(place), TRAILER)
    numbers = tf.cast(data[:HEADER_SIZE], tf.int64)
    return little_endian(numbers, 8, 2), little_endian(numbers, 6, 2), tf.cast(frames, tf.int64), whole
