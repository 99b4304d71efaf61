"""The pictures of a search: score against what was chosen and measured, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marsrl.files import write_beside
from marsrl.report import figures
from marsrl.tune.trials import Trial, best_of

_MARKS = {"scored": "o", "pruned": "x"}


def draw(
    trials: Sequence[Trial], importances: Mapping[str, Mapping[str, float]], folder: Path
) -> list[Path]:
    """Draws what there is to see: nothing of a setting that no trial has.

    Args:
        trials: of a search.
        importances: study -> setting -> its share.
        folder: where the PNGs go.
    """
    made = {
        "score-eps.png": _scatter(trials, "eps", lambda t: t.settings.get("eps", math.nan)),
        "score-kl.png": _scatter(trials, "measured KL of an update", lambda t: t.kl),
        "importance.png": _bars(importances),
    }
    drawn = {folder / name: figure for name, figure in made.items() if figure is not None}
    for path, figure in drawn.items():
        write_beside(path, figures.render(figure, "png"))
    return list(drawn)


def _scatter(trials: Sequence[Trial], label: str, place: Callable[[Trial], float]) -> Figure | None:
    """A point for each trial with a score; those that were ended early are crosses."""
    shown = [t for t in trials if t.state in _MARKS and math.isfinite(t.score)]
    shown = [t for t in shown if place(t) > 0]
    if not shown:
        return None
    figure = figures.new_figure(8, 5)
    ax = figure.add_subplot()
    names = list(dict.fromkeys(t.study.name for t in trials))
    for i, name in enumerate(names):
        color = figures.COLORS[i % len(figures.COLORS)]
        for state, mark in _MARKS.items():
            mine = [t for t in shown if t.study.name == name and t.state == state]
            x, y = [place(t) for t in mine], [t.score for t in mine]
            text = name if state == "scored" else "pruned: score until then"
            ax.plot(x, y, mark, color=color, label=figures.plain(text) if mine else None)
        _mark_best(ax, shown, name, place, color)
    figures.dress(ax, f"Score against {label}", "score")
    ax.set_xlabel(label)
    figures.span_orders(ax, "x")
    figures.legend(ax)
    return figure


def _mark_best(
    ax: Axes, trials: Sequence[Trial], name: str, place: Callable[[Trial], float], color: str
) -> None:
    mine = [trial for trial in trials if trial.study.name == name]
    best = best_of(mine, mine[0].study) if mine else None
    if best is not None:
        ax.plot([place(best)], [best.score], "o", markersize=12, fillstyle="none", color=color)


def _bars(importances: Mapping[str, Mapping[str, float]]) -> Figure | None:
    """A panel for each study."""
    known = {name: shares for name, shares in importances.items() if shares}
    if not known:
        return None
    figure = figures.new_figure(6, 1 + 2.2 * len(known))
    axes = figure.subplots(len(known), squeeze=False)[:, 0]
    for ax, (name, shares) in zip(axes, known.items(), strict=True):
        ordered = sorted(shares.items(), key=lambda item: item[1])
        names, values = zip(*ordered, strict=True)
        figures.dress_shares(ax, f"{figures.plain(name)}: importance of the settings")
        ax.barh(range(len(names)), values, color=figures.COLORS[0])
        ax.set_yticks(range(len(names)), names)
    return figure
