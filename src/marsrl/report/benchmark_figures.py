"""The figures of a benchmark as panels, each of which is drawn alone or beside the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marsrl.report import figures
from marsrl.report.ablation import BOUNDARIES, GEOMETRIES, Factorial
from marsrl.report.bootstrap import Estimate
from marsrl.report.curves import Curve, Efficiency, TaskCurves
from marsrl.report.looks import Look, band, cell, course, ends, look_at, shared_legend
from marsrl.report.runs import lowest
from marsrl.report.summary import Group, Summary
from marsrl.report.wording import MISSING, number, score, with_interval

PANEL = (3.7, 2.7)
"""Inches: legible at its own size on a phone."""
_COLUMNS = 3
_BY = {
    "steps": {True: "IQM by steps", False: "IQM by share of steps"},
    "time": {True: "IQM by seconds", False: "IQM by share of time"},
}
"""What the axis of a sample-efficiency curve is, where all tasks took the same and where not."""
_DIAGNOSTICS = {
    "gradient/dead": "Dead gradients, share",
    "gradient/corrective": "Corrective outside, share",
    "ratio/collapsed": "Collapsed ratios, share",
}


class Panel(NamedTuple):
    """One set of axes.

    Attributes:
        title: in the panel.
        text: what it shows, with its numbers.
        draw: puts it on axes.
    """

    title: str
    text: str
    draw: Callable[[Axes], None]


class Plot(NamedTuple):
    """A figure.

    Attributes:
        name: of its files.
        panels: of it, at least one.
        looks: the legend.
    """

    name: str
    panels: tuple[Panel, ...]
    looks: dict[str, Look]


def make_plots(summary: Summary) -> dict[str, Plot]:
    """All figures for which there is data, by name."""
    names = summary.results.suite.objectives
    # the clearest look to the objective that the verdict is about
    order = sorted(names, key=lambda name: name != summary.target)
    all_looks = {name: look_at(order.index(name)) for name in names}
    compared = {name: all_looks[name] for name in summary.objectives}
    cells = {name: all_looks[name] for name in summary.cells.values()}
    plots = (
        Plot("scores", tuple(_scores(group, compared) for group in summary.groups), compared),
        Plot("profile", tuple(_profile(group, compared) for group in summary.groups), compared),
        *(Plot(f"efficiency-{by}", _efficiencies(summary, by, compared), compared) for by in _BY),
        Plot("factorial", tuple(_factorial(x, summary, cells) for x in summary.factorial), cells),
        Plot("diagnostics", _diagnostics(summary, compared), compared),
        Plot(
            "curves", tuple(_curves(*item, all_looks) for item in summary.curves.items()), all_looks
        ),
    )
    return {plot.name: plot for plot in plots if plot.panels}


def draw_panel(panel: Panel) -> Figure:
    """A panel alone."""
    figure = figures.new_figure(*PANEL)
    panel.draw(figure.add_subplot())
    return figure


def draw_plot(plot: Plot) -> Figure:
    """All panels of a plot in rows, with its legend."""
    columns = min(_COLUMNS, len(plot.panels))
    rows = math.ceil(len(plot.panels) / columns)
    figure = figures.new_figure(PANEL[0] * columns, PANEL[1] * rows)
    for place, panel in enumerate(plot.panels, start=1):
        panel.draw(figure.add_subplot(rows, columns, place))
    shared_legend(figure, plot.looks)
    return figure


def _scores(group: Group, looks: dict[str, Look]) -> Panel:
    def draw(ax: Axes) -> None:
        figures.dress_scores(ax, title, len(looks))
        for place, (look, iqm) in enumerate(zip(looks.values(), group.iqm, strict=True)):
            ends = np.array([iqm.low, iqm.high])
            figures.score(ax, place, np.empty(0), ends, float(iqm.value), look.color)
        figures.name_scores(ax, list(looks))

    title = f"{group.name}: IQM"
    values = _each(list(looks), [with_interval(iqm) for iqm in group.iqm])
    return Panel(title, f"IQM with interval, {group.name}: {values}.", draw)


def _profile(group: Group, looks: dict[str, Look]) -> Panel:
    profile = group.profile

    def draw(ax: Axes) -> None:
        for look, *share in zip(looks.values(), *profile.share, strict=True):
            band(ax, profile.threshold, Estimate(*share), look)
        figures.dress_numbers(ax, title)

    title = f"{group.name}: share above a score"
    half = int(np.abs(profile.threshold - 0.5).argmin())
    shares = _each(list(looks), [score(x) for x in profile.share.value[:, half]])
    at = score(profile.threshold[half])
    return Panel(title, f"{group.name}: share of runs that score above {at}: {shares}.", draw)


def _efficiencies(summary: Summary, by: str, looks: dict[str, Look]) -> tuple[Panel, ...]:
    return tuple(
        _efficiency(f"{group.name}: {_BY[by][curves.alike]}", curves, looks)
        for group in summary.groups
        if (curves := group.efficiency.get(by))
    )


def _efficiency(title: str, curves: Efficiency, looks: dict[str, Look]) -> Panel:
    def draw(ax: Axes) -> None:
        for look, *iqm in zip(looks.values(), *curves.iqm, strict=True):
            band(ax, curves.x, Estimate(*iqm), look)
        if curves.alike:
            figures.dress(ax, title, small=True)
        else:
            figures.dress_shares(ax, title)

    middle = len(curves.x) // 2
    values = [f"{score(x[middle])} halfway, {score(x[-1])} at the end" for x in curves.iqm.value]
    return Panel(title, f"{title}: {_each(list(looks), values)}.", draw)


def _factorial(factorial: Factorial, summary: Summary, looks: dict[str, Look]) -> Panel:
    title = f"{factorial.name}: IQM"
    shifts = (-0.08, 0.08)  # so that intervals stand beside each other

    def draw(ax: Axes) -> None:
        for b, (boundary, shift) in enumerate(zip(BOUNDARIES, shifts, strict=True)):
            places = np.arange(len(GEOMETRIES), dtype=np.float64) + shift
            figures.join_cells(ax, places, factorial.cells.value[:, b], solid=b == 0)
            for g, geometry in enumerate(GEOMETRIES):
                estimate = Estimate(*(x[g, b] for x in factorial.cells))
                cell(ax, places[g], estimate, looks[summary.cells[geometry, boundary]])
        figures.dress_cells(ax, title, GEOMETRIES)

    cells = zip(*(x.ravel() for x in factorial.cells), strict=True)
    values = _each(list(looks), [with_interval(Estimate(*x)) for x in cells])
    return Panel(title, f"IQM with interval, {factorial.name}: {values}.", draw)


def _diagnostics(summary: Summary, looks: dict[str, Look]) -> tuple[Panel, ...]:
    found = summary.diagnostics
    if found is None:
        return ()

    def shares(name: str, title: str) -> Panel:
        def draw(ax: Axes) -> None:
            for look, values in zip(looks.values(), found.course[name], strict=True):
                course(ax, found.share, values, look)
            figures.dress_shares(ax, title)
            ax.set_ylim(bottom=0)

        means = _each(list(looks), [number(x) for x in found.total[name]])
        return Panel(title, f"{title}, mean over training: {means}.", draw)

    def draw_ratios(ax: Axes) -> None:
        courses = found.course["ratio/min"], found.course["ratio/max"]
        for look, low, high in zip(looks.values(), *courses, strict=True):
            ends(ax, found.share, low, high, look)
        figures.dress_shares(ax, "Ratio, smallest and largest")

    extremes = zip(found.total["ratio/min"], found.total["ratio/max"], strict=True)
    ranges = _each(list(looks), [f"{number(low)} to {number(high)}" for low, high in extremes])
    ratios = Panel("Ratio range", f"Smallest and largest ratio of any run: {ranges}.", draw_ratios)
    return (*(shares(*item) for item in _DIAGNOSTICS.items()), ratios)


def _curves(task: str, curves: TaskCurves, looks: dict[str, Look]) -> Panel:
    def draw(ax: Axes) -> None:
        figures.references(ax, _near(curves))
        for curve in curves.objectives:
            look = looks[curve.objective]
            band(ax, curves.step, curve.mean, look)
            for step, value in curve.last:
                figures.mark_divergence(ax, np.array([step]), np.array([value]), look.color)
        figures.dress(ax, figures.plain(task), small=True)

    means = _each([x.objective for x in curves.objectives], [_end(x) for x in curves.objectives])
    bounds = f"random policy {number(curves.low)}, reference {number(curves.high)}"
    return Panel(task, f"Evaluation return on {task}, mean at the end: {means}; {bounds}.", draw)


def _near(curves: TaskCurves) -> list[float]:
    """The bounds that leave the curves at least half of the height, if drawn with them."""
    drawn = [x for curve in curves.objectives for x in (curve.mean.low, curve.mean.high)]
    low, high = lowest(*drawn), -lowest(*(-x for x in drawn))
    return [x for x in (curves.low, curves.high) if max(high, x) - min(low, x) <= 2 * (high - low)]


def _end(curve: Curve) -> str:
    """The last mean that all seeds have."""
    known = np.flatnonzero(np.isfinite(curve.mean.value))
    if not len(known):
        return MISSING
    mean, low, high = (number(float(x[known[-1]])) for x in curve.mean)
    return f"{mean} [{low}, {high}]"


def _each(names: list[str], values: list[str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
