"""Curves of values over training steps as PNG. matplotlib (the `plot` extra) is imported only to draw them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tfseq2seq.evaluation.pictures import checked_png, new_figure, save_figure, text_style

# A curve: training steps, and the value at each of them.
Curve = tuple[Sequence[int], Sequence[float]]

# matplotlib's default cycle has ten colors. Further curves have the same colors in another style.
_STYLES = ("-", "--", ":", "-.")
_COLORS = 10


def curves_png(curves: Mapping[str, Mapping[str, Curve]], path: str | os.PathLike[str]) -> None:
    """Draws a plot for each value, with a curve for each run.

    Args:
        curves: for each value, the curve of each run by its name. A run has the same color in all plots.
        path: the `.png` file to write. Missing folders are created.

    Raises:
        UserError: the file is not a `.png` or cannot be written, no font has the characters, or matplotlib is not
            installed.
    """
    path = checked_png(path)
    runs = list(dict.fromkeys(run for each in curves.values() for run in each))
    style = text_style([*curves, *runs], 8.0)
    figure = new_figure(7.0, 3.2 * len(curves))
    plots = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    for axes, (name, each) in zip(plots, curves.items(), strict=True):
        for run, (steps, values) in each.items():
            place = runs.index(run)
            line = _STYLES[place // _COLORS % len(_STYLES)]
            # A single evaluation is a point.
            marker = "o" if len(steps) == 1 else ""
            axes.plot(steps, values, line, color=f"C{place % _COLORS}", marker=marker, label=run, linewidth=1.2)
        axes.set_ylabel(name, **style)
        axes.grid(alpha=0.3)
        axes.legend(prop=style["fontproperties"], loc="upper left", bbox_to_anchor=(1.01, 1.0))
        for text in axes.get_legend().get_texts():
            text.set_parse_math(False)
    plots[-1].set_xlabel("training step", **style)
    save_figure(figure, path)


def shares_png(shares: Mapping[str, float], path: str | os.PathLike[str], label: str) -> None:
    """Draws shares of a whole as bars, in the given order from top to bottom.

    Args:
        shares: the share of each name.
        path: the `.png` file to write.
        label: what the shares are.

    Raises:
        UserError: as `curves_png`.
    """
    path = checked_png(path)
    style = text_style([*shares, label], 8.0)
    figure = new_figure(6.0, 0.35 * len(shares) + 0.6)
    axes = figure.add_axes((0, 0, 1, 1))
    places = range(len(shares))
    axes.barh(places, list(shares.values()), color="C0")
    axes.set_yticks(places, list(shares), **style)
    axes.invert_yaxis()
    axes.set_xlabel(label, **style)
    save_figure(figure, path)
