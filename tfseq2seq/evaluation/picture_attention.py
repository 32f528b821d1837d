"""Attention over a picture: drawn over it for each token of its caption, and as text.

matplotlib (the `plot` extra) is imported only to draw.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfseq2seq.evaluation.pictures import checked_png, new_figure, save_figure, text_style

_COLUMNS = 6
# Of one picture, in inches, with its token above.
_SIDE, _TITLE, _GAP = 1.6, 0.3, 0.1
# How much of the picture is seen where there is no attention.
_DARKEST = 0.2


def grid_weights(weights: ArrayLike) -> NDArray[np.float64]:
    """Returns weights [T, N] over the vectors of a picture as grids [T, side, side].

    Raises:
        ValueError: N is not a square number, or the weights are not finite.
    """
    rows = np.asarray(weights, "float64")
    side = math.isqrt(rows.shape[1]) if rows.ndim == 2 else 0
    if not side or side * side != rows.shape[1] or not np.isfinite(rows).all():
        raise ValueError(f"weights must be finite and [T, N] with a square number N, got {list(rows.shape)}")
    return rows.reshape(len(rows), side, side)


def grid_places(weights: ArrayLike, tokens: Sequence[str]) -> Iterator[str]:
    """Yields a line for each token: the row and the column with the largest weight, from 1, and this weight."""
    grids = grid_weights(weights)
    width = max(map(len, tokens), default=0)
    for token, grid in zip(tokens, grids, strict=True):
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        side = len(grid)
        yield f"{token:<{width}}  row {row + 1} of {side}, column {column + 1} of {side}: {grid.max():.3f}"


def picture_attention_png(
    weights: ArrayLike, tokens: Sequence[str], pixels: NDArray[np.uint8], path: str | os.PathLike[str]
) -> None:
    """Draws a picture once as it is and once for each token, with light where the token attends to.

    The largest weight of each token is white light.

    Args:
        weights: [T, N], over the vectors of the picture, row by row.
        tokens: T names.
        pixels: [H, W, 3] uint8.
        path: the `.png` file to write. Missing folders are created.

    Raises:
        ValueError: the weights are not those of a grid.
        UserError: the file is not a `.png` or cannot be written, no font has the characters, or matplotlib is not
            installed.
    """
    path, grids = checked_png(path), grid_weights(weights)
    style = text_style(list(tokens), 9.0)
    shown = [("", pixels), *((token, lit(pixels, grid)) for token, grid in zip(tokens, grids, strict=True))]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    width, height = columns * (_SIDE + _GAP), rows * (_SIDE + _TITLE)
    figure = new_figure(width, height)
    for index, (token, picture) in enumerate(shown):
        left = index % columns * (_SIDE + _GAP)
        bottom = height - (index // columns + 1) * (_SIDE + _TITLE)
        axes = figure.add_axes((left / width, bottom / height, _SIDE / width, _SIDE / height))
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(token, pad=3, **style)
    save_figure(figure, path)


def lit(pixels: NDArray[np.uint8], grid: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns a picture [H, W, 3] that is dark except where a grid of weights has its largest values.

    The weights are interpolated linearly between the centers of the grid.
    """
    height, width = pixels.shape[:2]
    smooth = _interpolated(_interpolated(grid, height).T, width).T
    light = smooth / max(smooth.max(), 1e-12)
    return (pixels * (_DARKEST + (1 - _DARKEST) * light[:, :, np.newaxis])).astype("uint8")


def _interpolated(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Values [n, m] interpolated along the first axis to [size, m]."""
    places = np.clip((np.arange(size) + 0.5) * len(values) / size - 0.5, 0, len(values) - 1)
    lower = np.floor(places).astype(int)
    upper = np.minimum(lower + 1, len(values) - 1)
    share = (places - lower)[:, np.newaxis]
    return values[lower] * (1 - share) + values[upper] * share
