"""The one look of every figure: arrays and axes in, marks on the axes out; computes nothing."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    ScalarFormatter,
)

from marsrl.files import write_beside
from marsrl.report.stats import Floats

# Told apart with every common colour blindness: Petroff (2021), arXiv:2107.02270, ten colours.
COLORS = (
    "#3f90da",
    "#e76300",
    "#832db6",
    "#bd1f01",
    "#717581",
    "#ffa90e",
    "#a96b59",
    "#92dadd",
    "#b9ac70",
    "#94a4a2",
)
INK = "#333333"
GRID = "#e3e3e3"
SPINE = "#999999"
DPI = 150

_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without any global state."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG and returns its path."""
    write_beside(path, render(figure, "png"))
    return path


def render(figure: Figure, kind: str, transparent: bool = False) -> bytes:
    """The figure as a file's content, the same every time.

    Args:
        figure: what to draw.
        kind: pdf, png or svg, whose text stays text.
        transparent: leave out the background.
    """
    file = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "marsrl", "pdf.fonttype": 42}):
        figure.savefig(file, format=kind, transparent=transparent, metadata=_UNDATED[kind])
    return file.getvalue()


def plain(text: str) -> str:
    """Keeps matplotlib from reading a name's dollar signs as mathematics."""
    return text.replace("$", r"\$")


def dress(ax: Axes, title: str, ylabel: str = "", small: bool = False) -> None:
    """Title, labels, light grid; small panels leave out that the x axis is environment steps."""
    size = 9 if small else 11
    ax.set_title(title, loc="left", fontsize=size + 1, color=INK)
    ax.set_xlabel("" if small else "environment steps", fontsize=size, color=INK)
    ax.set_ylabel(ylabel, fontsize=size, color=INK)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    if small:  # more labels would touch each other
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.tick_params(which="both", labelsize=size - 1, colors=INK, length=3)
    ax.grid(color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(SPINE)


def dress_shares(ax: Axes, title: str) -> None:
    """The look of a small panel with shares of something on the x axis."""
    dress(ax, title, small=True)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlim(0, 1)


def dress_numbers(ax: Axes, title: str) -> None:
    """The look of a small panel with plain numbers on the x axis."""
    dress(ax, title, small=True)
    ax.xaxis.set_major_formatter(ScalarFormatter())


def dress_cells(ax: Axes, title: str, names: Sequence[str]) -> None:
    """The look of a small panel with named places on the x axis."""
    dress(ax, title, small=True)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.4, len(names) - 0.6)


def curve(
    ax: Axes, step: Floats, mean: Floats, low: Floats, high: Floats, label: str, color: str
) -> None:
    """A mean as a thick line on its interval; all arrays (T,)."""
    ax.fill_between(step, low, high, color=color, alpha=0.18, linewidth=0)
    ax.plot(step, mean, color=color, linewidth=2.2, label=label)


def seed_curves(ax: Axes, step: Floats, values: Floats, color: str) -> None:
    """One thin line per seed; `values` is (S, T)."""
    ax.plot(step, values.T, color=color, linewidth=0.8, alpha=0.5)


def faint_curve(ax: Axes, step: Floats, mean: Floats, label: str) -> None:
    """A line for the background, (T,)."""
    ax.plot(step, mean, ".--", color="#aaaaaa", linewidth=1.3, markersize=3, zorder=1, label=label)


def line(ax: Axes, step: Floats, values: Floats, color: str) -> None:
    """A plain line of a small panel, (T,)."""
    # markers keep a value visible that has no neighbours
    ax.plot(step, values, color=color, linewidth=1.5, marker="o", markersize=1.5)


def references(ax: Axes, values: Sequence[float]) -> None:
    """Thin lines at returns to compare with, such as those of the random policy."""
    for value in values:
        ax.axhline(value, color=SPINE, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)


def mark_divergence(ax: Axes, step: Floats, values: Floats, color: str) -> None:
    """A cross at the last point of a diverged seed's line, (T,) with NaN from there on."""
    known = np.isfinite(values)
    end = step[known][-1:], values[known][-1:]
    ax.plot(
        *end,
        linestyle="none",
        marker="X",
        markersize=8,
        color=color,
        markeredgecolor="black",
        zorder=4,
        label="diverged: counts as lowest",
    )


def score(
    ax: Axes, place: int, per_seed: Floats, interval: Floats, mean: float, color: str
) -> None:
    """One objective's row in a panel of scores: seeds as dots, mean and interval as a bar.

    Args:
        ax: the panel.
        place: of the row, from the top.
        per_seed: (S,).
        interval: (2,) its ends.
        mean: over the seeds.
        color: the objective's.
    """
    ax.plot(interval, [place, place], color=color, linewidth=5, alpha=0.3, solid_capstyle="butt")
    ax.plot(per_seed, np.full(len(per_seed), place), "o", markersize=3.5, color=color, alpha=0.7)
    ax.plot([mean], [place], "|", markersize=13, markeredgewidth=2.5, color=color)


def difference(
    ax: Axes,
    place: int,
    interval: Floats,
    value: float,
    color: str,
    marker: str,
    bold: bool,
    filled: bool,
) -> None:
    """A row of a forest: a value on its interval.

    Args:
        ax: the panel.
        place: of the row, from the top.
        interval: (2,) its ends.
        value: the difference.
        color: of both.
        marker: of the value.
        bold: whether it sums up other rows.
        filled: whether the marker is.
    """
    ax.plot(interval, [place, place], color=color, linewidth=2.6 if bold else 1.1)
    size = 6.5 if bold else 4.5
    face = color if filled else "none"
    ax.plot([value], [place], marker, markersize=size, color=color, markerfacecolor=face)


def reaches_beyond(ax: Axes, place: int, interval: Floats, width: float, color: str) -> None:
    """Arrows at the axis' ends, `width` from 0, where a row's interval goes on beyond them."""
    for end, marker in zip(interval, "<>", strict=True):
        if abs(end) > width:
            edge = math.copysign(width, end)
            ax.plot([edge], [place], marker, markersize=4.5, color=color, clip_on=False)


def span_across(ax: Axes, margin: float) -> None:
    """The line at 0, and the band around it within which scores match."""
    ax.axvspan(-margin, margin, color=GRID, linewidth=0, zorder=0)
    ax.axvline(0, color=SPINE, linewidth=0.8, zorder=1)


def dress_differences(ax: Axes, title: str, rows: Sequence[tuple[str, bool]]) -> None:
    """The look of a forest: a named row for each difference, the first one on top."""
    dress_numbers(ax, title)
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [plain(name) for name, _ in rows], fontsize=7)
    ax.tick_params(axis="y", length=0)
    for label, (_, bold) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if bold else "normal")


def dress_sizes(ax: Axes, title: str, xlabel: str) -> None:
    """The look of a small panel whose x axis spans orders of magnitude, once all is drawn on it."""
    dress_numbers(ax, title)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    # Sizes that are nearly equal stand close together; two of the labels below are in view.
    middle = (low * high) ** 0.5
    ax.set_xlim(min(low, middle / 3.5), max(high, middle * 3.5))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(xlabel, fontsize=8, color=INK)


def span_orders(ax: Axes, name: Literal["x", "y"]) -> None:
    """Lets an axis span orders of magnitude."""
    ax.set(**{f"{name}scale": "log"})
    axis = {"x": ax.xaxis, "y": ax.yaxis}[name]
    axis.set_major_formatter(PlainLog())
    axis.set_minor_formatter(PlainLog())


class PlainLog(LogFormatter):
    """Labels where a logarithmic axis has room for them, without powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick; empty where others are too near."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def dress_scores(ax: Axes, title: str, places: int) -> None:
    """The look of a panel of scores with this many rows, the first one on top."""
    dress_numbers(ax, title)
    ax.set_ylim(places - 0.5, -0.5)
    ax.set_yticks([])


def name_scores(ax: Axes, names: Sequence[str]) -> None:
    """Puts names beside the rows of a panel of scores, no longer than leaves room for these."""
    short = [name if len(name) <= 18 else f"{name[:17]}\N{HORIZONTAL ELLIPSIS}" for name in names]
    ax.set_yticks(range(len(names)), [plain(name) for name in short])
    ax.tick_params(axis="y", length=0)


def join_cells(ax: Axes, places: Floats, values: Floats, solid: bool) -> None:
    """The line between the points of one row of cells, (G,) each."""
    ax.plot(places, values, color=INK, linewidth=1, linestyle="-" if solid else (0, (5, 2)))


def legend(ax: Axes) -> None:
    """The labelled marks, each label once, without a frame."""
    handles, labels = ax.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    ax.legend(by_label.values(), by_label.keys(), frameon=False, fontsize=9, labelcolor=INK)
