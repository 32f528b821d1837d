"""Generated pictures with captions, for trying picture captioning: two colored shapes beside or above each other.

    a red circle to the left of a blue square        红色的圆形在蓝色的方形的左边
    a blue square to the right of a red circle       蓝色的方形在红色的圆形的右边

Both captions say the same, so each picture has two references. What the validation and test pictures show, the two
shapes with their colors and places, is in no training picture.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tfseq2seq.data.synthetic.captioned import Language, write_captioned
from tfseq2seq.errors import UserError

if TYPE_CHECKING:
    import numpy as np

COLORS = {
    "red": ("红色", (220, 40, 40)),
    "green": ("绿色", (40, 160, 60)),
    "blue": ("蓝色", (50, 80, 220)),
    "yellow": ("黄色", (240, 200, 40)),
    "black": ("黑色", (20, 20, 20)),
}
SHAPES = {"circle": "圆形", "square": "方形", "triangle": "三角形", "cross": "十字形"}
# The place of the first shape as the caption that begins with it has it, and as the other caption has it.
PLACES = {"left": "right", "above": "below"}
_ENGLISH = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_CHINESE = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}
# Of ten scenes, by the rest of a checksum.
SHARES = {"train": range(8), "validation": (8,), "test": (9,)}
_SHADES = (200, 256)


@dataclass(frozen=True)
class Scene:
    """What a picture shows: two shapes, each (color, shape), and the place of the first one, "left" or "above"."""

    first: tuple[str, str]
    second: tuple[str, str]
    place: str

    def captions(self, language: Language) -> list[str]:
        """Returns two captions in a language, or in both."""
        views = ((self.first, self.place, self.second), (self.second, PLACES[self.place], self.first))
        english = [f"a {' '.join(one)} {_ENGLISH[place]} a {' '.join(other)}" for one, place, other in views]
        chinese = [f"{in_chinese(one)}在{in_chinese(other)}的{_CHINESE[place]}" for one, place, other in views]
        return {"en": english, "zh": chinese, "both": english + chinese}[language]


def in_chinese(one: tuple[str, str]) -> str:
    """The name of a thing, (color, shape), in Chinese."""
    color, shape = one
    return f"{COLORS[color][0]}的{SHAPES[shape]}"


def scenes(split: str) -> list[Scene]:
    """Returns all scenes of a split: those that its pictures are drawn of."""
    things = list(itertools.product(COLORS, SHAPES))
    every = (Scene(*pair, place) for pair in itertools.permutations(things, 2) for place in PLACES)
    return [scene for scene in every if zlib.crc32(scene.captions("en")[0].encode()) % 10 in SHARES[split]]


def draw(scene: Scene, generator: np.random.Generator, size: int) -> np.ndarray:
    """Draws a scene with random sizes and places of the shapes on a light ground of a random shade.

    Args:
        scene: what to draw.
        generator: draws the random numbers.
        size: S, height and width in pixels.

    Returns:
        [S, S, 3] uint8.
    """
    import numpy as np

    pixels = np.empty((size, size, 3))
    pixels[:] = generator.integers(*_SHADES, size=3)
    for (color, shape), side in ((scene.first, -1), (scene.second, 1)):
        radius = generator.uniform(0.11, 0.17) * size
        along = size * (0.5 + side * generator.uniform(0.2, 0.3))
        across = size * generator.uniform(0.25, 0.75)
        x, y = (along, across) if scene.place == "left" else (across, along)
        pixels[inside_shape(shape, size, x, y, radius)] = COLORS[color][1]
    return np.clip(pixels + generator.normal(0, 4, pixels.shape), 0, 255).astype("uint8")


def inside_shape(shape: str, size: int, x: float, y: float, radius: float) -> np.ndarray:
    """Returns [S, S] bool: whether a pixel belongs to a shape around a center."""
    import numpy as np

    down, right = np.mgrid[:size, :size] + 0.5
    right, down = (right - x) / radius, (down - y) / radius
    wide, high = np.abs(right), np.abs(down)
    inside: np.ndarray = {
        "circle": right**2 + down**2 <= 1,
        "square": np.maximum(wide, high) <= 0.9,
        "triangle": (high <= 0.9) & (wide <= (down + 0.9) / 1.8),
        "cross": (np.minimum(wide, high) <= 0.3) & (np.maximum(wide, high) <= 1),
    }[shape]
    return inside


def write_pictures(
    folder: str | Path,
    train: int = 2_000,
    validation: int = 100,
    test: int = 300,
    seed: int = 1,
    size: int = 64,
    language: Language = "en",
) -> Path:
    """Writes `pictures.tsv`, with the columns split, path and text, and the PNG files that it lists.

    Existing files are replaced only when all pictures are drawn. The table is written last.

    Args:
        folder: the folder to write to.
        train, validation, test: numbers of pictures.
        seed: equal seeds give equal pictures.
        size: height and width of the pictures in pixels, at least 16.
        language: of the captions.

    Returns:
        The table.

    Raises:
        UserError: a number is out of range, or a file cannot be written.
    """
    if size < 16:
        raise UserError(f"size: must be at least 16 pixels, got {size}")
    counts = {"train": train, "validation": validation, "test": test}

    def content(scene: Scene, generator: np.random.Generator) -> bytes:
        import tensorflow as tf

        png: bytes = tf.io.encode_png(draw(scene, generator, size)).numpy()
        return png

    return write_captioned(folder, "pictures", ".png", counts, seed, language, scenes, content)
