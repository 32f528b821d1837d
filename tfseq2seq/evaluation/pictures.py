"""What a model attends to and how its embeddings lie, as PNG files, terminal text and files for TensorBoard.

Takes numpy arrays and needs no TensorFlow. matplotlib (the `plot` extra) is imported when a PNG is drawn, and drawn on
directly, without pyplot, so that a caller's own figures and backend stay as they are.
"""

from __future__ import annotations

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

# Upright sans-serif families that cover Chinese, best first; the last is what older matplotlib sees of Noto's .ttc.
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
# matplotlib brings this family along, so that Latin letters, digits and signs can always be drawn.
_LATIN_FAMILY = "DejaVu Sans"

_CELL = 0.3  # inches a token takes along an axis of the heat map while there are few
_LONGEST_AXIS = 40.0  # inches, then the cells shrink: 6000 pixels, which image viewers still open
_LONGEST_LABEL = 40  # terminal cells; longer tokens are cut in a PNG
_DOTS_PER_INCH = 150


def attention_png(
    weights: ArrayLike, source_tokens: Sequence[str], target_tokens: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draws the attention of one pair as a heat map, source tokens along the top and target tokens down the side.

    The darkest color is the largest weight of this pair, as the color bar says. Where there are more tokens than
    names can be read along an axis of 40 inches, every second, third, ... one is named.

    Args:
        weights: attention of every target position over the source, float `[T, S]`.
        source_tokens: S names.
        target_tokens: T names.
        path: the `.png` to write. Missing folders are made.

    Raises:
        ValueError: `weights` is not `[T, S]`, is empty or is not finite.
        UserError: not a `.png`, it cannot be written, no font has the characters, or matplotlib is not installed.
    """
    weights = _checked_weights(weights, source_tokens, target_tokens)
    path = _checked_png(path)
    sources, targets = [[_cut(_readable(token)) for token in tokens] for tokens in (source_tokens, target_tokens)]
    width, height = [min(max(_CELL * len(tokens), 1.0), _LONGEST_AXIS) for tokens in (sources, targets)]
    cells = width / len(sources), height / len(targets)
    font_size = min(max(0.6 * 72 * min(cells), 6.0), 10.0)
    style = _text_style([*sources, *targets], font_size)

    # The axes fill the figure exactly, and saving grows it to hold the labels: cells keep their size however long the
    # tokens are.
    figure = _figure(width, height)
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
    # A gap and a bar of fixed inches beside the axes, whose width is 1 in these coordinates.
    bar_height = min(1.0, 3.0 / height)
    scale = figure.add_axes((1 + 0.15 / width, 1 - bar_height, 0.15 / width, bar_height))
    figure.colorbar(image, cax=scale, format="%.2g")
    scale.tick_params(labelfontfamily=style["fontproperties"].get_family(), labelsize=7)
    _save(figure, path)


def attention_text(
    weights: ArrayLike,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    width: int = 80,
    shades: str = " ░▒▓█",
) -> str:
    """The attention of one pair as lines for a terminal, a row for each target token.

    Source tokens are the column headings. Where they do not fit side by side the columns are numbered, with the
    names below, and where the numbers do not fit either the columns go on in a further block. Characters two
    terminal cells wide, as Chinese ones are, count as two.

    Args:
        weights: attention of every target position over the source, float `[T, S]`.
        source_tokens: S names.
        target_tokens: T names. Those wider than a third of `width` are cut.
        width: terminal cells in a line.
        shades: marks of one terminal cell each, from no weight to the largest weight of this pair. ` 123456789` is
            for terminals which draw the blocks two cells wide.

    Raises:
        ValueError: `weights` is not `[T, S]`, is empty or is not finite, or `shades` are not two or more such marks.
    """
    weights = _checked_weights(weights, source_tokens, target_tokens)
    if len(shades) < 2 or any(cell_len(shade) != 1 for shade in shades):
        raise ValueError(f"shades are two or more marks of one terminal cell each, got {shades!r}")
    targets = [_readable(token) for token in target_tokens]
    name_width = min(max(map(cell_len, targets)), max(width // 3, 1))
    targets = [_fitted(target, name_width) for target in targets]
    peak = weights.max()
    levels = np.rint(weights.clip(min=0) / (peak if peak > 0 else 1) * (len(shades) - 1)).astype(int)

    headings = [_readable(token) for token in source_tokens]
    room = width - name_width
    numbered = sum(1 + cell_len(heading) for heading in headings) > room
    names = [f"{number} {heading}" for number, heading in enumerate(headings, 1)]
    if numbered:
        digits = len(str(len(headings)))
        headings = [str(number).rjust(digits) for number in range(1, len(headings) + 1)]
        per_block = max(1, room // (digits + 1))
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

    Every point is labeled, so a few hundred are readable; `write_projector` is for more. The picture of the same
    vectors is always the same: each component points to where its largest loading is positive.

    Args:
        vectors: float `[N, D]`.
        labels: N names.
        path: the `.png` to write. Missing folders are made.
        dimensions: 2 or 3 axes, no more than N or D.
        method: "pca", the one there is: the singular value decomposition of the centered vectors.

    Raises:
        ValueError: shapes that do not fit, numbers which are not finite, or other `dimensions` or `method`.
        UserError: not a `.png`, it cannot be written, no font has the characters, or matplotlib is not installed.
    """
    if method != "pca":
        raise ValueError(f"method is 'pca', got {method!r}")
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions are 2 or 3, got {dimensions!r}")
    vectors = _checked_vectors(vectors, labels)
    if min(vectors.shape) < dimensions:
        raise ValueError(f"vectors of shape {vectors.shape} have no {dimensions} principal components")
    path = _checked_png(path)
    names = [_cut(_readable(label)) for label in labels]
    points, shares = _principal_components(vectors, dimensions)
    style = _text_style(names, 9.0)

    side = min(max(1.2 * math.sqrt(len(names)), 6.0), 24.0)
    figure = _figure(side, side)
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
    _save(figure, path)


def write_projector(vectors: ArrayLike, labels: Sequence[str], folder: str | os.PathLike[str]) -> None:
    """Writes vectors for TensorBoard's embedding projector: vectors.tsv, metadata.tsv and projector_config.pbtxt.

    TensorBoard finds them where `folder` is its log folder or the folder of one run in it. The two .tsv files can also
    be loaded at projector.tensorflow.org.

    Args:
        vectors: float `[N, D]`, D of 2 or more.
        labels: N names. Tabs, line breaks and other characters that would break the lines are written as escapes.
        folder: made if missing.

    Raises:
        ValueError: shapes that do not fit, or numbers which are not finite.
        UserError: the files cannot be written.
    """
    vectors = _checked_vectors(vectors, labels)
    if vectors.shape[1] < 2:
        raise ValueError(f"the projector takes vectors [N, D] with D of 2 or more, got shape {vectors.shape}")
    folder = Path(folder)
    with written_aside(folder / "vectors.tsv") as aside:
        # Nine digits bring every float32 back exactly.
        np.savetxt(aside, vectors, fmt="%.9g", delimiter="\t")
    with written_aside(folder / "metadata.tsv") as aside:
        # A first line without a tab is a label: a file of one column must not have a header. Blank lines are skipped
        # by the reader and would shift the labels, hence no label is written blank.
        aside.write_text("".join(f"{_readable(label)}\n" for label in labels), encoding="utf-8", newline="\n")
    # Last, so that a TensorBoard already running never follows it to files that are not there.
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
    """`weights` as float64 `[T, S]`; ValueError if they are anything else."""
    weights = np.asarray(weights, dtype=np.float64)
    shape = (len(targets), len(sources))
    if weights.shape != shape:
        raise ValueError(f"weights of shape {weights.shape} do not fit the target and source tokens, shape {shape}")
    if not weights.size:
        raise ValueError(f"weights of shape {weights.shape} leave nothing to show")
    if not np.isfinite(weights).all():
        raise ValueError("weights are not all finite numbers")
    return weights


def _checked_vectors(vectors: ArrayLike, labels: Sequence[str]) -> NDArray[np.float64]:
    """`vectors` as float64 `[N, D]`; ValueError if they are anything else."""
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(labels):
        raise ValueError(f"vectors of shape {vectors.shape} do not fit the labels, shape ({len(labels)},)")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors are not all finite numbers")
    return vectors


def _checked_png(path: str | os.PathLike[str]) -> Path:
    """`path`, if it is one to write a PNG to and there is something to draw it with; UserError if not."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"pictures are PNG files: give {path} the ending .png")
    if find_spec("matplotlib") is None:
        raise UserError("drawing needs matplotlib: pip install 'tfseq2seq[plot]'")
    return path


def _principal_components(vectors: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates `[N, count]` of `[N, D]` along the first principal components, and their shares of the variance."""
    left, scales, right = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    # A decomposition is as good with both signs turned; fix them.
    largest = np.take_along_axis(right, np.abs(right).argmax(axis=1)[:, None], axis=1)[:, 0]
    points = left * scales * np.where(largest < 0, -1.0, 1.0)
    variance = scales**2
    return points[:, :count], variance[:count] / (variance.sum() or 1.0)


def _readable(token: str) -> str:
    """`token` on one line and with something to see: what breaks lines, moves the cursor or is blank is escaped."""
    shown = "".join(
        _escaped(character) if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in token
    )
    # JavaScript, which reads the labels in the projector, takes U+FEFF for a space too.
    if shown.replace("\ufeff", "").strip():
        return shown
    return "".join("␣" if character == " " else _escaped(character) for character in token) or "(empty)"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str) -> str:
    return text if cell_len(text) <= _LONGEST_LABEL else _fitted(text, _LONGEST_LABEL)


def _fitted(text: str, cells: int) -> str:
    """`text` padded on the left, or cut, to exactly so many terminal cells."""
    missing = cells - cell_len(text)
    return " " * missing + text if missing >= 0 else set_cell_size(text, cells - 1) + "…"


def _table(headings: Sequence[str], names: Sequence[str], levels: NDArray[np.int64], shades: str) -> Iterator[str]:
    """A line of headings and a line for each name, of equal widths, with the shades of its row of `levels` `[T, S]`."""
    yield " ".join([" " * cell_len(names[0]), *headings])
    for name, row in zip(names, levels):
        marks = [_mark(shades[level], cell_len(heading)) for level, heading in zip(row, headings)]
        yield " ".join([name, *marks]).rstrip()


def _mark(shade: str, cells: int) -> str:
    """A shade fills its column; a digit stands once, as repeated digits would read as another number."""
    return shade.rjust(cells) if shade.isalnum() else shade * cells


def _filled(items: Sequence[str], width: int) -> Iterator[str]:
    """Lines of items two spaces apart, no wider than `width` terminal cells."""
    line = ""
    for item in items:
        item = item if cell_len(item) <= width else _fitted(item, width)
        if line and cell_len(line) + 2 + cell_len(item) > width:
            yield line
            line = ""
        line += f"  {item}" if line else item
    yield line


def _figure(width: float, height: float) -> Figure:
    """A figure of so many inches that knows no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", bbox_inches="tight", pad_inches=0.2)


def _text_style(texts: Sequence[str], size: float) -> dict[str, Any]:
    """Keyword arguments for matplotlib texts: fonts that have every character, and nothing taken for TeX."""
    properties = _font_properties([*_own_families(), _LATIN_FAMILY], size)
    missing = {character for text in texts for character in text}
    missing -= _covered(properties, missing)
    families, left = _covering_families(missing)
    if left:
        # matplotlib keeps its list of fonts on disk, where one installed since, on our own advice perhaps, is not.
        _notice_new_fonts()
        families, left = _covering_families(missing)
    if left:
        raise UserError(_no_font_message(left))
    properties.set_family([*properties.get_family(), *families])
    return {"fontproperties": properties, "parse_math": False, "usetex": False}


def _font_properties(families: Sequence[str], size: float = 10.0) -> FontProperties:
    """The upright regular face of each family, whatever a user's matplotlibrc prefers."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(
        family=list(families), style="normal", variant="normal", weight="normal", stretch="normal", size=size
    )


def _own_families() -> list[str]:
    """The font file of the environment variable, as a family of its own name beside the installed ones."""
    path = os.environ.get(FONT_VARIABLE)
    if not path:
        return []
    from matplotlib.font_manager import FontEntry, fontManager, get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{FONT_VARIABLE} names {path}, which cannot be read as a font: {error}") from error
    if not font.scalable:
        raise UserError(f"{FONT_VARIABLE} names {path}, which is a font of bitmaps: matplotlib draws outlines only")
    # addfont would use the family name in the file, which an installed font may have too.
    name = f"{FONT_VARIABLE} {path}"
    if all(entry.name != name for entry in fontManager.ttflist):
        fontManager.ttflist.append(FontEntry(fname=path, name=name, weight=400, size="scalable"))
    return [name]


def _covering_families(characters: set[str]) -> tuple[list[str], set[str]]:
    """The fewest installed families found that together draw `characters`, and the characters that none of them has."""
    has = {}
    for family in _installed_families() if characters else []:
        has[family] = _covered(_font_properties([family]), characters)
        if has[family] == characters:
            return [family], set()

    # No family has them all: take the one that has most of them, then the one that has most of the rest, ...
    families: list[str] = []
    left = characters
    while left and (best := max(has, key=lambda family: len(has[family] & left), default="")) and has[best] & left:
        families.append(best)
        left = left - has[best]
    return families, left


def _installed_families() -> list[str]:
    """The families with an upright regular face: those for Chinese, best first, then the others by name.

    Without those that come with matplotlib: they have symbols in place of letters or a box for every code point, which
    would pass for glyphs.
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
    """Adds the font files of the system to those matplotlib knows, for this process."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            # Bitmap fonts, such as those of color emoji, are not for matplotlib.
            with suppress(OSError, RuntimeError):
                fontManager.addfont(path)


def _covered(properties: FontProperties, characters: set[str]) -> set[str]:
    """Those of `characters` with a glyph in one of the fonts that matplotlib takes for `properties`."""
    from matplotlib.font_manager import fontManager, get_font

    covered: set[str] = set()
    for family in properties.get_family():
        try:
            path = fontManager.findfont(_font_properties([family]), fallback_to_default=False)
            glyphs = get_font(path).get_charmap()
        except (OSError, RuntimeError, ValueError):
            continue  # listed, but not there any more, not readable, or outside the folders matplotlib is held to
        covered |= {character for character in characters if ord(character) in glyphs}
    return covered


def _no_font_message(characters: set[str]) -> str:
    shown = [f"{character} (U+{ord(character):04X})" for character in sorted(characters)]
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (
        f"no installed font can draw {', '.join(shown[:8])}{rest}. Install one that can, such as the Debian package "
        f"fonts-noto-cjk for Chinese, or set {FONT_VARIABLE} to the path of its .ttf, .otf or .ttc file"
    )
