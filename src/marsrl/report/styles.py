"""How objectives look in the figures of a benchmark: by colour, and by line and marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from marsrl.report import figures
from marsrl.report.bootstrap import Estimate
from marsrl.report.stats import Floats

# The same hues where the background is dark: each at least 3.9 : 1 on #14171c.
COLORS_ON_DARK = (
    "#3f90da",
    "#e76300",
    "#b57ae0",
    "#f0523a",
    "#9aa0ad",
    "#ffa90e",
    "#a96b59",
    "#92dadd",
    "#b9ac70",
    "#94a4a2",
)
_DASHES = ((), (5.0, 1.5), (1.0, 1.0), (5.0, 1.5, 1.0, 1.5), (9.0, 2.0), (3.0, 1.0), (2.0, 2.5))
_MARKERS = "osD^vPX"


class Style(NamedTuple):
    """How one objective looks in every figure: by more than its colour.

    Attributes:
        color: of `figures.COLORS`.
        dashes: lengths drawn and left out in turn, in line widths; none for a solid line.
        marker: of its points.
    """

    color: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """The arguments of a line for `Axes.plot`."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.color, "linestyle": style}


def style_at(place: int) -> Style:
    """The style of the objective at this place; no two of the first 70 are the same."""
    colors, kinds = figures.COLORS, len(_DASHES)
    return Style(colors[place % len(colors)], _DASHES[place % kinds], _MARKERS[place % kinds])


def band(ax: Axes, x: Floats, estimate: Estimate, style: Style) -> None:
    """A line in an objective's style on its interval; all arrays (K,)."""
    ax.fill_between(x, estimate.low, estimate.high, color=style.color, alpha=0.13, linewidth=0)
    ax.plot(x, estimate.value, linewidth=1.7, **style.line)


def course(ax: Axes, x: Floats, values: Floats, style: Style) -> None:
    """A line in an objective's style, whose points stay visible between gaps; (K,) each."""
    shown = {"clip_on": False, "zorder": 3}  # a share of 0 lies on the axis
    ax.plot(x, values, linewidth=1.4, marker=style.marker, markersize=2.5, **style.line, **shown)


def ends(ax: Axes, x: Floats, low: Floats, high: Floats, style: Style) -> None:
    """The two ends of a range in an objective's style, on a logarithmic axis; arrays (K,)."""
    ax.plot(x, low, linewidth=1.4, **style.line)
    ax.plot(x, high, linewidth=1.4, **style.line)
    figures.span_orders(ax, "y")


def response(ax: Axes, x: Floats, scores: Sequence[Estimate], style: Style) -> None:
    """Points in an objective's style on their intervals, upright, joined; x is (K,)."""
    values, lows, highs = (
        np.array([float(part) for part in parts]) for parts in zip(*scores, strict=True)
    )
    ax.vlines(x, lows, highs, color=style.color, linewidth=3, alpha=0.3)
    ax.plot(x, values, linewidth=1.4, marker=style.marker, markersize=4.5, **style.line)


def cell(ax: Axes, place: float, estimate: Estimate, style: Style) -> None:
    """A point in an objective's style on its interval, upright."""
    ends = [float(estimate.low), float(estimate.high)]
    ax.plot([place, place], ends, color=style.color, linewidth=4, alpha=0.3)
    ax.plot([place], [float(estimate.value)], style.marker, markersize=6, color=style.color)


def shared_legend(figure: Figure, styles: dict[str, Style]) -> None:
    """One legend under all panels, no wider than the figure, which grows by its height."""
    handles = [
        Line2D([], [], marker=style.marker, markersize=4, **style.line) for style in styles.values()
    ]
    names = [figures.plain(name) for name in styles]
    for columns in (4, 3, 2, 1):
        legend = figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=columns,
            handlelength=3,
            frameon=False,
            fontsize=9,
            labelcolor=figures.INK,
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)
