"""Plots of attention weights and embeddings, as PNG files, terminal text and files for TensorBoard.

The functions take numpy arrays and do not need TensorFlow. matplotlib (the `plot` extra) is imported only to draw a
PNG. It is used without pyplot, so that the figures and the backend of the caller do not change.
"""

from __future__ import annotations

import io
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.cells import cell_len, set_cell_size

from tfseq2seq.errors import UserError
from tfseq2seq.files import written_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

FONT_VARIABLE = "TFSEQ2SEQ_FONT"

# Upright sans-serif font families that cover Chinese, best first. The last one is the name that older versions of
# matplotlib read from Noto's .ttc file.
_CHINESE_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Arial Unicode MS",
    "Noto Sans CJK JP",
)
# matplotlib includes this font family, so Latin letters, digits and signs can always be drawn.
_LATIN_FAMILY = "DejaVu Sans"

_CELL = 0.3  # inches per token along an axis of the heat map, as long as the axis is not too long
_LONGEST_AXIS = 40.0  # inches; with more tokens the cells shrink. Image viewers can still open 6000 pixels
_LONGEST_SMALL_AXIS = 10.0  # inches, for pictures that are drawn often
_LONGEST_LABEL = 40  # terminal cells; longer tokens are cut in a PNG
_DOTS_PER_INCH = 150


def attention_png(
    weights: ArrayLike, source_tokens: Sequence[str], target_tokens: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draws the attention weights of one pair as a heat map. Source tokens are at the top, target tokens at the side.

    The darkest color is the largest weight of this pair, see the color bar. If an axis of 40 inches is too short for
    all names, only every second, third, ... token is named.

    Args:
        weights: attention weights of every target position over the source, float `[T, S]`.
        source_tokens: S names.
        target_tokens: T names.
        path: the `.png` file to write. Missing folders are created.

    Raises:
        ValueError: `weights` is not `[T, S]`, is empty or is not finite.
        UserError: the file is not a `.png` or cannot be written, no font has the characters, or matplotlib is not
            installed.
    """
    weights = _checked_weights(weights, source_tokens, target_tokens)
    path = checked_png(path)
    save_figure(_attention_figure(weights, source_tokens, target_tokens, _LONGEST_AXIS), path)


def attention_image(weights: ArrayLike, source_tokens: Sequence[str], target_tokens: Sequence[str]) -> bytes:
    """Returns the picture that `attention_png` draws, as the content of a PNG file with axes of at most 10 inches.

    Raises:
        ValueError: as `attention_png`.
        UserError: no font has the characters, or matplotlib is not installed.
    """
    check_matplotlib()
    weights = _checked_weights(weights, source_tokens, target_tokens)
    figure, content = _attention_figure(weights, source_tokens, target_tokens, _LONGEST_SMALL_AXIS), io.BytesIO()
    _write_png(figure, content)
    return content.getvalue()


def _attention_figure(
    weights: NDArray[np.float64], source_tokens: Sequence[str], target_tokens: Sequence[str], longest: float
) -> Figure:
    """Draws attention weights `[T, S]` on axes of at most `longest` inches."""
    sources, targets = [[_cut(_readable(token)) for token in tokens] for tokens in (source_tokens, target_tokens)]
    width, height = [min(max(_CELL * len(tokens), 1.0), longest) for tokens in (sources, targets)]
    cells = width / len(sources), height / len(targets)
    font_size = min(max(0.6 * 72 * min(cells), 6.0), 10.0)
    style = text_style([*sources, *targets], font_size)

    # The axes fill the figure exactly, and saving enlarges the figure to include the labels. The size of the cells does
    # not depend on the length of the tokens.
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(weights, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
    for axis, tokens, cell in zip((axes.xaxis, axes.yaxis), (sources, targets), cells):
        step = math.ceil(font_size * 1.2 / 72 / cell)
        axis.set_ticks(range(0, len(tokens), step), tokens[::step], **style)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=2)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source", **style)
    axes.set_ylabel("target", **style)
    if max(map(cell_len, sources)) * font_size * 0.6 / 72 > cells[0]:
        axes.tick_params(axis="x", labelrotation=90)
    # A gap and a color bar of fixed sizes in inches next to the axes, whose width is 1 in these coordinates.
    bar_height = min(1.0, 3.0 / height)
    scale = figure.add_axes((1 + 0.15 / width, 1 - bar_height, 0.15 / width, bar_height))
    figure.colorbar(image, cax=scale, format="%.2g")
    scale.tick_params(labelfontfamily=style["fontproperties"].get_family(), labelsize=7)
    return figure


def attention_text(
    weights: ArrayLike,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    width: int = 80,
    shades: str = " ░▒▓█",
) -> str:
    """Returns the attention weights of one pair as text for a terminal, with one row per target token.

    Source tokens are the column headings. If they are too wide for one line, the columns are numbered, and a list of
    the tokens follows. If the numbers are too wide too, the columns are split into blocks. Wide characters, such as
    Chinese ones, count as two terminal cells.

    Args:
        weights: attention weights of every target position over the source, float `[T, S]`.
        source_tokens: S names.
        target_tokens: T names. Names wider than a third of `width` are cut.
        width: the width of a line in terminal cells.
        shades: marks of one terminal cell each, from no weight to the largest weight of this pair. Use ` 123456789` for
            terminals that draw the blocks two cells wide.

    Raises:
        ValueError: `weights` is not `[T, S]`, is empty or is not finite, or `shades` are not two or more such marks.
    """
    weights = _checked_weights(weights, source_tokens, target_tokens)
    if len(shades) < 2 or any(cell_len(shade) != 1 for shade in shades):
        raise ValueError(f"shades: must be two or more marks of one terminal cell each, got {shades!r}")
    targets = [_readable(token) for token in target_tokens]
    name_width = min(max(map(cell_len, targets)), max(width // 3, 1))
    targets = [_fitted(target, name_width) for target in targets]
    peak = weights.max()
    levels = np.rint(weights.clip(min=0) / (peak if peak > 0 else 1) * (len(shades) - 1)).astype(int)

    headings = [_readable(token) for token in source_tokens]
    available_width = width - name_width
    numbered = sum(1 + cell_len(heading) for heading in headings) > available_width
    names = [f"{number} {heading}" for number, heading in enumerate(headings, 1)]
    if numbered:
        digits = len(str(len(headings)))
        headings = [str(number).rjust(digits) for number in range(1, len(headings) + 1)]
        per_block = max(1, available_width // (digits + 1))
    else:
        per_block = len(headings)

    lines = []
    for start in range(0, len(headings), per_block):
        block = slice(start, start + per_block)
        lines += ["", *_table(headings[block], targets, levels[:, block], shades)]
    if numbered:
        lines += ["", *_filled(names, width)]
    lines += ["", f"{shades} = 0 to {peak:.2g}"]
    return "\n".join(lines[1:])


def embeddings_png(
    vectors: ArrayLike,
    labels: Sequence[str],
    path: str | os.PathLike[str],
    dimensions: int = 2,
    method: str = "pca",
) -> None:
    """Draws vectors as labeled points along their principal components.

    Every point is labeled, so the plot is readable for a few hundred points; use `write_projector` for more. The plot
    is deterministic: the sign of each component makes its largest loading positive.

    Args:
        vectors: float `[N, D]`.
        labels: N names.
        path: the `.png` file to write. Missing folders are created.
        dimensions: the number of axes, 2 or 3, at most N and at most D.
        method: "pca", the only one: the singular value decomposition of the centered vectors.

    Raises:
        ValueError: the shapes do not match, numbers are not finite, or `dimensions` or `method` is invalid.
        UserError: the file is not a `.png` or cannot be written, no font has the characters, or matplotlib is not
            installed.
    """
    if method != "pca":
        raise ValueError(f"method: must be 'pca', got {method!r}")
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions: must be 2 or 3, got {dimensions!r}")
    vectors = _checked_vectors(vectors, labels)
    if min(vectors.shape) < dimensions:
        raise ValueError(
            f"vectors: {dimensions} principal components need N and D of at least {dimensions}, got shape "
            f"{vectors.shape}"
        )
    path = checked_png(path)
    names = [_cut(_readable(label)) for label in labels]
    points, shares = _principal_components(vectors, dimensions)
    style = text_style(names, 9.0)

    side = min(max(1.2 * math.sqrt(len(names)), 6.0), 24.0)
    figure = new_figure(side, side)
    axes: Any = figure.add_subplot(projection="3d" if dimensions == 3 else None)
    axes.scatter(*points.T, s=12)
    for name, point in zip(names, points):
        if dimensions == 3:
            axes.text(*point, f" {name}", **style)
        else:
            axes.annotate(name, point, xytext=(4, 2), textcoords="offset points", **style)
    for number, (letter, share) in enumerate(zip("xyz", shares), 1):
        getattr(axes, f"set_{letter}label")(f"component {number} ({share:.1%} of variance)", **style)
        getattr(axes, f"{letter}axis").set_major_formatter("{x:.3g}")
    axes.tick_params(labelfontfamily=style["fontproperties"].get_family(), labelsize=7)
    save_figure(figure, path)


def write_projector(vectors: ArrayLike, labels: Sequence[str], folder: str | os.PathLike[str]) -> None:
    """Writes vectors for TensorBoard's embedding projector: vectors.tsv, metadata.tsv and projector_config.pbtxt.

    TensorBoard finds them if `folder` is its log folder or the folder of a run in it. The two .tsv files can also be
    loaded at projector.tensorflow.org.

    Args:
        vectors: float `[N, D]`, with D of at least 2.
        labels: N names. Tabs, line breaks and other characters that would break the lines are written as escapes.
        folder: the folder to write to. It is created if it does not exist.

    Raises:
        ValueError: the shapes do not match, or numbers are not finite.
        UserError: the files cannot be written.
    """
    vectors = _checked_vectors(vectors, labels)
    if vectors.shape[1] < 2:
        raise ValueError(f"vectors: must have the shape [N, D] with D of at least 2, got shape {vectors.shape}")
    folder = Path(folder)
    with written_aside(folder / "vectors.tsv") as aside:
        # Nine digits represent every float32 exactly.
        np.savetxt(aside, vectors, fmt="%.9g", delimiter="\t")
    with written_aside(folder / "metadata.tsv") as aside:
        # A file with one column must not have a header, because the reader takes a first line without a tab as a label.
        # The reader skips blank lines, which would shift the labels, so no label is written as a blank line.
        aside.write_text("".join(f"{_readable(label)}\n" for label in labels), encoding="utf-8", newline="\n")
    # Written last, so that a running TensorBoard never reads a config whose files do not exist.
    with written_aside(folder / "projector_config.pbtxt") as aside:
        aside.write_text(
            "embeddings {\n"
            '  tensor_name: "embeddings"\n'
            '  tensor_path: "vectors.tsv"\n'
            '  metadata_path: "metadata.tsv"\n'
            "}\n",
            encoding="utf-8",
        )


def _checked_weights(weights: ArrayLike, sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
    """Returns `weights` as float64 `[T, S]`. Raises ValueError if they are not finite numbers of this shape."""
    weights = np.asarray(weights, dtype=np.float64)
    shape = (len(targets), len(sources))
    if weights.shape != shape:
        raise ValueError(f"weights: must have the shape {shape} of target and source tokens, got {weights.shape}")
    if not weights.size:
        raise ValueError(f"weights: must not be empty, got shape {weights.shape}")
    if not np.isfinite(weights).all():
        raise ValueError("weights: must be finite numbers")
    return weights


def _checked_vectors(vectors: ArrayLike, labels: Sequence[str]) -> NDArray[np.float64]:
    """Returns `vectors` as float64 `[N, D]`. Raises ValueError if they are not finite numbers of this shape."""
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(labels):
        raise ValueError(f"vectors: must have the shape [{len(labels)}, D] of the labels, got {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors: must be finite numbers")
    return vectors


def checked_png(path: str | os.PathLike[str]) -> Path:
    """Returns `path`. Raises UserError if it does not end in .png or if matplotlib is not installed."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the file name must end in .png")
    check_matplotlib()
    return path


def check_matplotlib() -> None:
    """Raises UserError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise UserError("plots need matplotlib; run `pip install 'tfseq2seq[plot]'`")


def _principal_components(vectors: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns coordinates `[N, count]` of vectors `[N, D]` along the first principal components, and the components'
    shares of the variance.
    """
    left, scales, right = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    # The signs of a decomposition are arbitrary. This makes them deterministic.
    largest = np.take_along_axis(right, np.abs(right).argmax(axis=1)[:, None], axis=1)[:, 0]
    points = left * scales * np.where(largest < 0, -1.0, 1.0)
    variance = scales**2
    return points[:, :count], variance[:count] / (variance.sum() or 1.0)


def _readable(token: str) -> str:
    """Returns `token` as visible text on one line. Line breaks, control characters and blank tokens are escaped."""
    shown = "".join(
        _escaped(character) if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in token
    )
    # The projector reads the labels with JavaScript, which treats U+FEFF as a space.
    if shown.replace("\ufeff", "").strip():
        return shown
    return "".join("␣" if character == " " else _escaped(character) for character in token) or "(empty)"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str) -> str:
    return text if cell_len(text) <= _LONGEST_LABEL else _fitted(text, _LONGEST_LABEL)


def _fitted(text: str, cells: int) -> str:
    """Pads `text` on the left, or cuts it, to exactly `cells` terminal cells."""
    missing = cells - cell_len(text)
    return " " * missing + text if missing >= 0 else set_cell_size(text, cells - 1) + "…"


def _table(headings: Sequence[str], names: Sequence[str], levels: NDArray[np.int64], shades: str) -> Iterator[str]:
    """Returns a line of headings, and a line per name with the shades of its row of `levels` `[T, S]`."""
    yield " ".join([" " * cell_len(names[0]), *headings])
    for name, row in zip(names, levels):
        marks = [_mark(shades[level], cell_len(heading)) for level, heading in zip(row, headings)]
        yield " ".join([name, *marks]).rstrip()


def _mark(shade: str, cells: int) -> str:
    """Repeats a shade to fill its column. A digit is not repeated, because it would look like another number."""
    return shade.rjust(cells) if shade.isalnum() else shade * cells


def _filled(items: Sequence[str], width: int) -> Iterator[str]:
    """Wraps items, separated by two spaces, to lines of at most `width` terminal cells."""
    line = ""
    for item in items:
        item = item if cell_len(item) <= width else _fitted(item, width)
        if line and cell_len(line) + 2 + cell_len(item) > width:
            yield line
            line = ""
        line += f"  {item}" if line else item
    yield line


def new_figure(width: float, height: float) -> Figure:
    """Returns a figure with a size in inches. It does not use a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    with written_aside(path) as aside:
        _write_png(figure, aside)


def _write_png(figure: Figure, file: Any) -> None:
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.2)


def text_style(texts: Sequence[str], size: float) -> dict[str, Any]:
    """Returns keyword arguments for matplotlib texts: fonts that have all characters, without interpretation as TeX."""
    properties = _font_properties([*_own_families(), _LATIN_FAMILY], size)
    missing = {character for text in texts for character in text}
    missing -= _covered(properties, missing)
    families, uncovered = _covering_families(missing)
    if uncovered:
        # matplotlib caches its list of fonts on disk. Fonts that were installed later are not in the list.
        _notice_new_fonts()
        families, uncovered = _covering_families(missing)
    if uncovered:
        raise UserError(_no_font_message(uncovered))
    properties.set_family([*properties.get_family(), *families])
    return {"fontproperties": properties, "parse_math": False, "usetex": False}


def _font_properties(families: Sequence[str], size: float = 10.0) -> FontProperties:
    """Returns the upright regular face of each family, independent of the user's matplotlibrc."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(
        family=list(families), style="normal", variant="normal", weight="normal", stretch="normal", size=size
    )


def _own_families() -> list[str]:
    """Registers the font file of the environment variable as a separate family, and returns its name in a list."""
    path = os.environ.get(FONT_VARIABLE)
    if not path:
        return []
    from matplotlib.font_manager import FontEntry, fontManager, get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{FONT_VARIABLE}: {path} cannot be read as a font ({error})") from error
    if not font.scalable:
        raise UserError(f"{FONT_VARIABLE}: {path} must be an outline font, got a bitmap font")
    # addfont would use the family name in the file, and an installed font may have the same name.
    name = f"{FONT_VARIABLE} {path}"
    if all(entry.name != name for entry in fontManager.ttflist):
        fontManager.ttflist.append(FontEntry(fname=path, name=name, weight=400, size="scalable"))
    return [name]


def _covering_families(characters: set[str]) -> tuple[list[str], set[str]]:
    """Selects installed families that together have `characters`. Also returns the characters that none of them has.

    A single family is preferred. Otherwise families are added greedily.
    """
    coverage = {}
    for family in _installed_families() if characters else []:
        coverage[family] = _covered(_font_properties([family]), characters)
        if coverage[family] == characters:
            return [family], set()

    # No family has all of them: take the family that has most of them, then the one that has most of the rest, ...
    families: list[str] = []
    uncovered = characters
    while (
        uncovered
        and (best := max(coverage, key=lambda family: len(coverage[family] & uncovered), default=""))
        and coverage[best] & uncovered
    ):
        families.append(best)
        uncovered = uncovered - coverage[best]
    return families, uncovered


def _installed_families() -> list[str]:
    """Returns the families with an upright regular face: those for Chinese, best first, then the others by name.

    The fonts included in matplotlib are excluded. Some have symbols instead of letters, or a box for every code point,
    and would seem to cover the characters.
    """
    import matplotlib
    from matplotlib.font_manager import fontManager

    bundled = Path(matplotlib.get_data_path())
    names = {
        entry.name
        for entry in fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal") and bundled not in Path(entry.fname).parents
    }
    return [name for name in _CHINESE_FAMILIES if name in names] + sorted(names.difference(_CHINESE_FAMILIES))


def _notice_new_fonts() -> None:
    """Adds new font files of the system to matplotlib's list of fonts, for this process."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            # matplotlib does not support bitmap fonts, such as color emoji.
            with suppress(OSError, RuntimeError):
                fontManager.addfont(path)


def _covered(properties: FontProperties, characters: set[str]) -> set[str]:
    """Returns those of `characters` that have a glyph in one of the fonts that matplotlib selects for `properties`."""
    from matplotlib.font_manager import fontManager, get_font

    covered: set[str] = set()
    for family in properties.get_family():
        try:
            path = fontManager.findfont(_font_properties([family]), fallback_to_default=False)
            glyphs = get_font(path).get_charmap()
        except (OSError, RuntimeError, ValueError):
            continue  # listed but deleted, not readable, or outside of the folders that matplotlib may use
        covered |= {character for character in characters if ord(character) in glyphs}
    return covered


def _no_font_message(characters: set[str]) -> str:
    shown = [f"{character} (U+{ord(character):04X})" for character in sorted(characters)]
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (
        f"no installed font has the characters {', '.join(shown[:8])}{rest}; install one, such as the Debian package "
        f"fonts-noto-cjk for Chinese, or set {FONT_VARIABLE} to the path of a .ttf, .otf or .ttc file"
    )
