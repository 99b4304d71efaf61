"""Any logged series of several runs, drawn into one figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path

import numpy as np

from marsrl.errors import UserError, check_choice, near_misses, shown
from marsrl.files import write_beside
from marsrl.report import figures
from marsrl.report.bootstrap import mean_band
from marsrl.report.stats import Floats
from marsrl.runs.folder import RunFolder
from marsrl.runs.followers import scalars

Series = dict[str, dict[int, dict[int, float]]]
"""KIND/NAME -> seed -> step -> value."""


def plot(runs: Sequence[Path], names: Sequence[str], out: Path) -> Path:
    """Draws a panel per series: each run's mean over seeds with its 95 % interval, seeds thin.

    Args:
        runs: run folders; they may still be training.
        names: of series, as KIND/NAME or NAME alone, which is looked for in evaluations first.
        out: the file to write, .png, .pdf or .svg.

    Raises:
        UserError: a folder is no run's, or no run has such a series (near misses named).
    """
    if not 1 <= len(runs) <= len(figures.COLORS):
        raise UserError(f"plot draws 1 to {len(figures.COLORS)} runs, not {len(runs)}")
    check_choice("the ending of out", out.suffix, (".png", ".pdf", ".svg"))
    logged = [_series(run) for run in runs]
    found = [_found(name, logged) for name in names]
    figure = figures.new_figure(8, 4 * len(found))
    for place, name in enumerate(found):
        ax = figure.add_subplot(len(found), 1, place + 1)
        for run, series, color in zip(_names(runs), logged, figures.COLORS, strict=False):
            if name in series:
                step, values = _grid(series[name])
                figures.seed_curves(ax, step, values, color)
                figures.curve(ax, step, *mean_band(values), figures.plain(run), color)
        figures.dress(ax, figures.plain(name))
        figures.legend(ax)
    write_beside(out, figures.render(figure, out.suffix[1:]))
    return out


def _names(runs: Sequence[Path]) -> list[str]:
    """What of their paths tells them apart."""
    parents = commonpath([run.resolve().parent for run in runs])
    return [str(run.resolve().relative_to(parents)) for run in runs]


def _series(run: Path) -> Series:
    series: Series = {}
    for row in RunFolder.open(run).rows():
        for name, value in scalars(row).items():
            series.setdefault(name, {}).setdefault(row["seed"], {})[row["step"]] = value
    return series


def _found(name: str, logged: Sequence[Series]) -> str:
    known = dict.fromkeys(name for series in logged for name in series)
    for full in (name, f"eval/{name}", f"train/{name}"):
        if full in known:
            return full
    raise UserError(f"no run has a series {shown(name)}{near_misses(name, known)}")


def _grid(seeds: dict[int, dict[int, float]]) -> tuple[Floats, Floats]:
    """The steps (T,) and the values at them (S, T), NaN where a seed has none."""
    steps = sorted({step for values in seeds.values() for step in values})
    values = [[seeds[seed].get(step, math.nan) for step in steps] for seed in sorted(seeds)]
    return np.array(steps, np.float64), np.array(values, np.float64)
