"""Generated clips with captions, for trying video to text: two colored shapes that move, one after the other.

    a red circle moves left, then a blue square moves up        红色的圆形先向左移动，然后蓝色的方形向上移动

Played backward, the frames of a clip have another caption: the other shape moves first, and both move the other way.
Both clips are equally likely, so a model that does not see the order of frames is right about half of them at most.
What the validation and test clips show is in no training clip, not backward either.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tfseq2seq.data.gif_files import gif_bytes
from tfseq2seq.data.synthetic.captioned import Language, write_captioned
from tfseq2seq.data.synthetic.colored_shapes import COLORS, SHAPES, SHARES, in_chinese, inside_shape
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Thing = tuple[str, str]
Color = tuple[int, int, int]

# The name of a direction in Chinese, the opposite one, and the axis: 0 from left to right, 1 from top to bottom.
DIRECTIONS = {
    "left": ("左", "right", 0),
    "right": ("右", "left", 0),
    "up": ("上", "down", 1),
    "down": ("下", "up", 1),
}
_TOWARD_END = ("right", "down")
_SHADES = (200, 256)
_LEAST_SIZE, _LEAST_FRAMES = 24, 4


@dataclass(frozen=True)
class Motion:
    """What a clip shows: two events, each a thing, (color, shape), and the direction in which it moves."""

    first: tuple[Thing, str]
    second: tuple[Thing, str]

    @property
    def backward(self) -> Motion:
        """What the frames show when they are played backward."""
        (one, toward), (other, other_toward) = self.first, self.second
        return Motion((other, DIRECTIONS[other_toward][1]), (one, DIRECTIONS[toward][1]))

    def captions(self, language: Language) -> list[str]:
        """Returns a caption in a language, or one in each of both."""
        (one, toward), (other, other_toward) = self.first, self.second
        english = f"a {' '.join(one)} moves {toward}, then a {' '.join(other)} moves {other_toward}"
        side, other_side = DIRECTIONS[toward][0], DIRECTIONS[other_toward][0]
        chinese = f"{in_chinese(one)}先向{side}移动，然后{in_chinese(other)}向{other_side}移动"
        return {"en": [english], "zh": [chinese], "both": [english, chinese]}[language]


def motions(split: str) -> list[Motion]:
    """Returns all that clips of a split can show. With each motion its `backward` is there."""
    events = list(itertools.product(itertools.product(COLORS, SHAPES), DIRECTIONS))
    every = (Motion(one, other) for one, other in itertools.product(events, repeat=2) if one[0] != other[0])
    return [motion for motion in every if _checksum(motion) % 10 in SHARES[split]]


def _checksum(motion: Motion) -> int:
    """A number that is the same for a motion and for its `backward`."""
    return zlib.crc32(min(one.captions("en")[0] for one in (motion, motion.backward)).encode())


def draw(motion: Motion, generator: np.random.Generator, size: int, count: int) -> tuple[np.ndarray, list[Color]]:
    """Draws a clip with random sizes and paths of the shapes on a light ground of a random shade.

    The first half of the frames has the first event, and the second half the second one. Each shape keeps to its half
    of the picture. Where a path lies does not depend on the direction in which it is taken.

    Args:
        motion: what to draw.
        generator: draws the random numbers.
        size: S, height and width in pixels.
        count: N, the number of frames.

    Returns:
        Indices of colors [N, S, S] uint8, and the palette, of three colors.
    """
    import numpy as np

    halves = generator.permutation(2)
    half_axis = int(generator.integers(2))
    frames = np.zeros((count, size, size), "uint8")
    red, green, blue = map(int, generator.integers(*_SHADES, size=3))
    palette: list[Color] = [(red, green, blue)]
    for place, ((color, shape), toward) in enumerate((motion.first, motion.second)):
        palette.append(COLORS[color][1])
        radius = generator.uniform(0.09, 0.13) * size
        low, high = _free(size, radius, int(halves[place]), half_axis)
        ends = _path(generator, low, high, DIRECTIONS[toward][2])
        if toward not in _TOWARD_END:
            ends = ends[::-1]
        # Half of the frames are for each event, and the shape rests in the others.
        part = np.arange(count) - place * (count // 2)
        share = np.clip(part / (count // 2 - 1), 0.0, 1.0)
        for index, (x, y) in enumerate(ends[0] + share[:, np.newaxis] * (ends[1] - ends[0])):
            frames[index][inside_shape(shape, size, x, y, radius)] = place + 1
    return frames, palette


def _free(size: int, radius: float, half: int, half_axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest center (x, y) of a shape in its half of the picture along an axis."""
    import numpy as np

    low, high = np.full(2, radius + 1.0), np.full(2, size - radius - 1.0)
    if half == 0:
        high[half_axis] = size / 2 - radius
    else:
        low[half_axis] = size / 2 + radius
    return low, high


def _path(generator: np.random.Generator, low: np.ndarray, high: np.ndarray, axis: int) -> np.ndarray:
    """Two centers [2, 2], from the lower to the higher one, on a path along an axis of at least 0.6 of what is free."""
    import numpy as np

    begin = generator.uniform(low, high)
    length = generator.uniform(0.6, 1.0) * (high[axis] - low[axis])
    begin[axis] = generator.uniform(low[axis], high[axis] - length)
    end = begin.copy()
    end[axis] += length
    return np.stack([begin, end])


def write_clips(
    folder: str | Path,
    train: int = 4_000,
    validation: int = 200,
    test: int = 500,
    seed: int = 1,
    size: int = 48,
    frames: int = 12,
    language: Language = "en",
) -> Path:
    """Writes `clips.tsv`, with the columns split, path and text, and the GIF files that it lists.

    Existing files are replaced only when all clips are drawn. The table is written last.

    Args:
        folder: the folder to write to.
        train, validation, test: numbers of clips.
        seed: equal seeds give equal clips.
        size: height and width of the clips in pixels, at least 24.
        frames: number of frames of a clip, an even number, at least 4.
        language: of the captions.

    Returns:
        The table.

    Raises:
        UserError: a number is out of range, or a file cannot be written.
    """
    if size < _LEAST_SIZE:
        raise UserError(f"size: must be at least {_LEAST_SIZE} pixels, got {size}")
    if frames < _LEAST_FRAMES or frames % 2:
        raise UserError(f"frames: must be an even number and at least {_LEAST_FRAMES}, got {frames}")
    counts = {"train": train, "validation": validation, "test": test}

    def content(motion: Motion, generator: np.random.Generator) -> bytes:
        return gif_bytes(*draw(motion, generator, size, frames))

    return write_captioned(folder, "clips", ".gif", counts, seed, language, motions, content)
