"""The figures of a benchmark as panels, each of which is drawn alone or beside the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marsrl.report import figures
from marsrl.report.bootstrap import Estimate
from marsrl.report.curves import Curve, Efficiency, TaskCurves
from marsrl.report.factorial import BOUNDARIES, GEOMETRIES, Factorial
from marsrl.report.response import Point, Response
from marsrl.report.settings import base_objective
from marsrl.report.stats import lowest
from marsrl.report.styles import Style, band, cell, course, ends, response, shared_legend, style_at
from marsrl.report.summary import Group, Summary
from marsrl.report.verdict import Contest, Duel, by_family
from marsrl.report.wording import MISSING, difference, number, ratio, score, small, with_interval

PANEL = (3.7, 2.7)
"""Inches: legible at its own size on a phone."""
_COLUMNS = 3
_BY = {
    "steps": {True: "IQM by steps", False: "IQM by share of steps"},
    "time": {True: "IQM by seconds", False: "IQM by share of time"},
}
"""What the axis of a sample-efficiency curve is, where all tasks took the same and where not."""
_ROW = 0.17  # inches of a row of a forest
_LOWEST_RATIO = 1e-4
"""Smaller ratios are drawn there: how small exactly says nothing, and would flatten the rest."""
_SHARES = {
    "gradient/dead": "Dead gradients, share",
    "gradient/corrective": "Corrective outside, share",
    "gradient/low": "Gradient from ratios below 0.5, share",
    "gradient/high": "Gradient from ratios above 2, share",
    "ratio/collapsed": "Collapsed ratios, share",
}
_AMOUNTS = {
    "update_kl": "KL of an update, nats",
    "update_kl/agents": "KL of an update, spread over agents",
    "approx_kl": "KL over minibatches, nats",
    "eps": "Region size eps",
    "entropy": "Entropy, nats",
}
_MEASURES = {"update_kl": "KL of an update, nats", "approx_kl": "KL over minibatches, nats"}


class Panel(NamedTuple):
    """One set of axes.

    Attributes:
        title: in the panel.
        text: what it shows, with its numbers.
        draw: puts it on axes.
        height: in inches.
    """

    title: str
    text: str
    draw: Callable[[Axes], None]
    height: float = PANEL[1]


class Plot(NamedTuple):
    """A figure.

    Attributes:
        name: of its files.
        panels: of it, at least one.
        styles: the legend.
    """

    name: str
    panels: tuple[Panel, ...]
    styles: dict[str, Style]


def make_plots(summary: Summary) -> dict[str, Plot]:
    """All figures for which there is data, by name."""
    names = summary.results.suite.objectives
    # the clearest style to the objective that the verdict is about
    order = sorted(names, key=lambda name: name != summary.target)
    all_styles = {name: style_at(order.index(name)) for name in names}
    compared = {name: all_styles[name] for name in summary.objectives}
    cells = {name: all_styles[name] for name in summary.cells.values()}
    contests = [contest for contest in summary.contests if contest.tasks]
    width = _forest_width(contests)
    others = {contest.other: all_styles[contest.other] for contest in contests}
    groups = summary.groups
    plots = (
        Plot(
            "forest",
            tuple(_forest(x, summary.margin, width, others[x.other]) for x in contests),
            others,
        ),
        *_responses(summary, all_styles),
        Plot("scores", tuple(_scores(group, groups, compared) for group in groups), compared),
        Plot("profile", tuple(_profile(group, groups, compared) for group in groups), compared),
        *(Plot(f"efficiency-{by}", _efficiencies(summary, by, compared), compared) for by in _BY),
        Plot("factorial", tuple(_factorial(x, summary, cells) for x in summary.factorial), cells),
        Plot("diagnostics", _diagnostics(summary, compared), compared),
        Plot(
            "curves",
            tuple(_curves(*item, all_styles) for item in summary.curves.items()),
            all_styles,
        ),
    )
    return {plot.name: plot for plot in plots if plot.panels}


def draw_panel(panel: Panel) -> Figure:
    """A panel alone."""
    figure = figures.new_figure(PANEL[0], panel.height)
    panel.draw(figure.add_subplot())
    return figure


def draw_plot(plot: Plot) -> Figure:
    """All panels of a plot in rows, with its legend."""
    columns = min(_COLUMNS, len(plot.panels))
    rows = math.ceil(len(plot.panels) / columns)
    height = max(panel.height for panel in plot.panels)
    figure = figures.new_figure(PANEL[0] * columns, height * rows)
    for place, panel in enumerate(plot.panels, start=1):
        panel.draw(figure.add_subplot(rows, columns, place))
    shared_legend(figure, plot.styles)
    return figure


def _forest_width(contests: Sequence[Contest]) -> float:
    """How far from 0 the axis of all forests goes: all values and overall intervals are seen."""
    rows = [duel for x in contests for _, duel, _ in _forest_rows(x)]
    values = [1.2 * abs(float(duel.difference.value)) for duel in rows]
    ends = [abs(float(end)) for x in contests if x.overall for end in x.overall.difference]
    return max(0.1, *values, *ends) if rows else 0.1


def _forest(contest: Contest, margin: float, width: float, style: Style) -> Panel:
    """The differences of a contest: overall, then each family above its tasks."""
    rows = _forest_rows(contest)

    def draw(ax: Axes) -> None:
        figures.span_across(ax, margin)
        for place, (_, duel, bold) in enumerate(rows):
            settled = duel.verdict != "not settled"
            ends = np.array([duel.difference.low, duel.difference.high])
            value = float(duel.difference.value)
            figures.difference(ax, place, ends, value, style.color, style.marker, bold, settled)
            figures.reaches_beyond(ax, place, ends, width, style.color)
        figures.dress_differences(ax, title, [(name, bold) for name, _, bold in rows])
        ax.set_xlim(-width, width)

    title = f"{contest.target} minus {contest.other}"
    told = [f"{name.strip()} {_told(duel)}" for name, duel, _ in rows]
    text = f"Differences of mean scores with intervals, {title}: {'; '.join(told)}."
    return Panel(figures.plain(title), text, draw, max(PANEL[1], 0.7 + _ROW * len(rows)))


def _forest_rows(contest: Contest) -> list[tuple[str, Duel, bool]]:
    """The name of each row, what it shows, and whether it is more than one task."""
    rows = [("all tasks", contest.overall, True)] if contest.overall else []
    for family, tasks in by_family(contest.tasks).items():
        several = len(tasks) > 1
        if several:
            rows.append((family, contest.families[family], True))
        for task in tasks:
            name = f"  {task.partition('/')[2]}" if several else task
            rows.append((name, contest.tasks[task], False))
    return rows


def _told(duel: Duel) -> str:
    low, value, high = (difference(float(x)) for x in sorted(duel.difference))
    return f"{value} [{low}, {high}] {duel.verdict}"


def _responses(summary: Summary, styles: dict[str, Style]) -> Iterator[Plot]:
    """The score against the size of the region as it was set, and as it was measured."""
    found = summary.responses
    runs = summary.results.runs
    bases = {label: base_objective(runs, label) for label in summary.objectives}
    ours = {base: styles.get(base, styles[label]) for label, base in bases.items()}
    if len(summary.objectives) < 2 or not found:
        return
    values = [p.score.value for x in found for line in x.lines for p in line]
    limits = _limits([Estimate(x, x, x) for x in values])  # intervals of few seeds reach far beyond
    if any(x.sweeps for x in found):
        panels = [_response(x, bases, ours, limits, "eps") for x in found if x.sweeps]
        yield Plot("response-eps", tuple(panels), ours)
    measured = [x for x in found if len(x.unmeasured) < len(summary.objectives)]
    if found[0].measure and measured:
        panels = [_response(x, bases, ours, limits, _MEASURES[found[0].measure]) for x in measured]
        yield Plot("response-kl", tuple(panels), ours)


def _response(
    found: Response,
    bases: dict[str, str],
    styles: dict[str, Style],
    limits: tuple[float, float],
    by: str,
) -> Panel:
    def at(point: Point) -> float | None:
        size = point.eps if by == "eps" else point.kl
        return None if size is None or np.isnan(size) else size

    lines = [
        (styles[bases[line[0].label]], points)
        for line in found.lines
        if (points := [p for p in line if at(p) is not None])
    ]

    def draw(ax: Axes) -> None:
        for style, points in lines:
            x = np.array([at(p) for p in points], np.float64)
            response(ax, x, [p.score for p in points], style)
        figures.dress_sizes(ax, title, by)
        ax.set_ylim(limits)

    title = f"{found.name}: mean score"
    told = [
        f"{p.label} at {small(at(p))} {with_interval(p.score)}" for _, line in lines for p in line
    ]
    text = f"Mean score against {by}, {found.name}: {'; '.join(told)}."
    return Panel(title, text, draw)


def _scores(group: Group, groups: Sequence[Group], styles: dict[str, Style]) -> Panel:
    means = [mean for each in groups for mean in each.mean]
    single = [each.scores for each in groups if len(each.tasks) == 1]  # whose runs are drawn too
    limits = _limits([*means, *(Estimate(x, x, x) for x in single)])

    def draw(ax: Axes) -> None:
        figures.dress_scores(ax, title, len(styles))
        for place, (style, mean) in enumerate(zip(styles.values(), group.mean, strict=True)):
            ends = np.array([mean.low, mean.high])
            runs = group.scores[place, 0] if len(group.tasks) == 1 else np.empty(0)
            figures.score(ax, place, runs, ends, float(mean.value), style.color)
        figures.name_scores(ax, list(styles))
        ax.set_xlim(limits)

    title = f"{group.name}: mean score"
    values = _each(list(styles), [with_interval(mean) for mean in group.mean])
    return Panel(title, f"Mean score with interval, {group.name}: {values}.", draw)


def _profile(group: Group, groups: Sequence[Group], styles: dict[str, Style]) -> Panel:
    profile = group.profile
    ends = [x for each in groups for x in each.profile.threshold[[0, -1]]]

    def draw(ax: Axes) -> None:
        for style, *share in zip(styles.values(), *profile.share, strict=True):
            band(ax, profile.threshold, Estimate(*share), style)
        figures.dress_numbers(ax, title)
        ax.set_xlim(min(ends), max(ends))
        ax.set_ylim(0, 1.02)

    title = f"{group.name}: share above a score"
    half = int(np.abs(profile.threshold - 0.5).argmin())
    shares = _each(list(styles), [score(x) for x in profile.share.value[:, half]])
    at = score(profile.threshold[half])
    return Panel(title, f"{group.name}: share of runs that score above {at}: {shares}.", draw)


def _efficiencies(summary: Summary, by: str, styles: dict[str, Style]) -> tuple[Panel, ...]:
    found = {x.name: x.efficiency[by] for x in summary.groups if by in x.efficiency}
    if not found:
        return ()
    limits = _limits(curves.iqm for curves in found.values())
    return tuple(
        _efficiency(f"{name}: {_BY[by][curves.alike]}", curves, styles, limits)
        for name, curves in found.items()
    )


def _efficiency(
    title: str, curves: Efficiency, styles: dict[str, Style], limits: tuple[float, float]
) -> Panel:
    def draw(ax: Axes) -> None:
        for style, *iqm in zip(styles.values(), *curves.iqm, strict=True):
            band(ax, curves.x, Estimate(*iqm), style)
        if curves.alike:
            figures.dress(ax, title, small=True)
        else:
            figures.dress_shares(ax, title)
        ax.set_ylim(limits)

    middle = len(curves.x) // 2
    values = [f"{score(x[middle])} halfway, {score(x[-1])} at the end" for x in curves.iqm.value]
    return Panel(title, f"{title}: {_each(list(styles), values)}.", draw)


def _factorial(factorial: Factorial, summary: Summary, styles: dict[str, Style]) -> Panel:
    title = f"{factorial.name}: IQM"
    shifts = (-0.08, 0.08)  # so that intervals stand beside each other

    def draw(ax: Axes) -> None:
        for b, (boundary, shift) in enumerate(zip(BOUNDARIES, shifts, strict=True)):
            places = np.arange(len(GEOMETRIES), dtype=np.float64) + shift
            figures.join_cells(ax, places, factorial.cells.value[:, b], solid=b == 0)
            for g, geometry in enumerate(GEOMETRIES):
                estimate = Estimate(*(x[g, b] for x in factorial.cells))
                cell(ax, places[g], estimate, styles[summary.cells[geometry, boundary]])
        figures.dress_cells(ax, title, GEOMETRIES)

    cells = zip(*(x.ravel() for x in factorial.cells), strict=True)
    values = _each(list(styles), [with_interval(Estimate(*x)) for x in cells])
    return Panel(title, f"IQM with interval, {factorial.name}: {values}.", draw)


def _diagnostics(summary: Summary, styles: dict[str, Style]) -> tuple[Panel, ...]:
    found = summary.diagnostics
    if found is None:
        return ()

    def course_of(name: str, title: str) -> Panel:
        spans = name in _AMOUNTS and np.nanmin(found.course[name]) > 0

        def draw(ax: Axes) -> None:
            for style, values in zip(styles.values(), found.course[name], strict=True):
                course(ax, found.share, values, style)
            figures.dress_shares(ax, title)
            if spans:
                figures.span_orders(ax, "y")
            elif name in _SHARES:
                ax.set_ylim(bottom=0)

        means = _each(list(styles), [small(x) for x in found.total[name]])
        return Panel(title, f"{title}, mean over training: {means}.", draw)

    def draw_ratios(ax: Axes) -> None:
        courses = found.course["ratio/min"], found.course["ratio/max"]
        for style, low, high in zip(styles.values(), *courses, strict=True):
            ends(ax, found.share, np.maximum(low, _LOWEST_RATIO), high, style)
        figures.dress_shares(ax, "Ratio, smallest and largest")

    measured = {
        name: title
        for name, title in (_AMOUNTS | _SHARES).items()
        if np.isfinite(found.course[name]).any()
    }
    panels = tuple(course_of(*item) for item in measured.items())
    if not np.isfinite(found.course["ratio/min"]).any():
        return panels
    extremes = zip(found.total["ratio/min"], found.total["ratio/max"], strict=True)
    ranges = _each(list(styles), [f"{ratio(low)} to {ratio(high)}" for low, high in extremes])
    text = f"Smallest and largest ratio of any run: {ranges}."
    return (*panels, Panel("Ratio range", text, draw_ratios))


def _curves(task: str, curves: TaskCurves, styles: dict[str, Style]) -> Panel:
    def draw(ax: Axes) -> None:
        figures.references(ax, _near(curves))
        for curve in curves.objectives:
            style = styles[curve.objective]
            band(ax, curves.step, curve.mean, style)
            for step, value in curve.last:
                figures.mark_divergence(ax, np.array([step]), np.array([value]), style.color)
        figures.dress(ax, figures.plain(task), small=True)

    means = _each([x.objective for x in curves.objectives], [_end(x) for x in curves.objectives])
    bounds = f"random policy {number(curves.low)}, reference {number(curves.high)}"
    return Panel(task, f"Evaluation return on {task}, mean at the end: {means}; {bounds}.", draw)


def _limits(shown: Iterable[Estimate]) -> tuple[float, float]:
    """The ends of an axis that panels share: from 0 or less to what is shown."""
    ends = [np.ravel(x) for estimate in shown for x in (estimate.low, estimate.high)]
    low, high = min(0.0, lowest(*ends)), -lowest(*(-x for x in ends))
    return low - 0.02 * (high - low), max(high, low + 0.05) + 0.04 * (high - low)


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
