"""The longest input that a trained model answers, and the messages about longer ones and about other bad pictures.

The attention of an encoder takes memory in proportion to the square of the length of its input. Without a limit, one
long input would end a server, or a command with all its outputs.
"""

from __future__ import annotations

# Messages about inputs that are not answered because of their length begin like this, in all exported models too.
TOO_LONG = "too long: "
# Text with more bytes for each token than this is not even split into tokens, which takes memory and time itself.
BYTES_PER_TOKEN = 64
# The fewest pixels in height and width of a picture. Nothing can be told of one with fewer.
LEAST_SIDE = 8
NO_BYTES = "an empty file, without a picture"
NO_PICTURE = "no picture that can be read: it begins like no JPEG, PNG, GIF or BMP file"
DAMAGED_PICTURE = "a picture that is damaged or cut off"
ODD_BMP = "a BMP file that is compressed or has fewer than 8 bits a pixel; save it as PNG"
# Messages about clips.
NO_CLIP_BYTES = "an empty file, without a clip"
NO_CLIP = "no clip that can be read: it begins like no GIF file"
DAMAGED_CLIP = "a clip that is damaged or cut off"
NO_FRAMES = "an empty folder, without a frame"
# The message about a dialogue that cannot be answered.
NO_TURN = "empty: a dialogue must have a turn with text"


def too_many_tokens(most: int, setting: str = "search.max_input") -> tuple[str, str]:
    """Returns the message about too many tokens, before and after their number."""
    return TOO_LONG, f" tokens with <eos>, at most {most} are answered ({setting})"


def too_many_bytes(most: int, setting: str = "search.max_input") -> tuple[str, str]:
    """Returns the message about text with too many bytes for so many tokens, before and after their number."""
    return TOO_LONG, f" bytes, at most {BYTES_PER_TOKEN * most} are answered, for {most} tokens ({setting})"


def too_many_seconds(most: int) -> tuple[str, str]:
    """Returns the message about too long a recording, before and after its seconds."""
    return TOO_LONG, f" s, at most {most} s are answered (search.max_input)"


def too_many_pixels(most: int) -> tuple[str, str, str]:
    """Returns the message about a picture of too many pixels, before, between and after its width and height."""
    return "too large: ", " x ", f" pixels, at most {most} megapixels are answered (search.max_input)"


def too_large_clip(most: int) -> tuple[str, str, str, str]:
    """Returns the message about a clip of too many pixels, around its number of frames, its width and its height."""
    return "too large: ", " frames of ", " x ", f" pixels, at most {most} megapixels are answered (search.max_input)"


def too_few_pixels() -> tuple[str, str, str]:
    """Returns the message about a picture of too few pixels, before, between and after its width and height."""
    return "too small: ", " x ", f" pixels, at least {LEAST_SIDE} x {LEAST_SIDE} are needed to see anything"


def cut_turns(most: int) -> tuple[str, str]:
    """Returns the message about turns of a dialogue that were cut, before and after their number."""
    return "", f" turns were cut, oldest first, as at most {most} tokens are read (data.max_source_length)"


def cut_tokens(most: int) -> tuple[str, str]:
    """Returns the message about tokens at the end of a source that were cut, before and after their number."""
    return "", f" tokens at the end were cut, as at most {most} are read (data.truncate_source)"
