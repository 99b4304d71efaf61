"""What was logged while a benchmark's runs trained, over all tasks or on one of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marsrl.bench.records import Results
from marsrl.bench.rows import DIAGNOSTICS, TRUST_REGION
from marsrl.report.grids import Grid, Trace, read_traces
from marsrl.report.stats import Floats, mean_present, steps_covered

_BINS = 20
"""Most points of a diagnostic over training."""
COURSES = ("entropy", "approx_kl", *TRUST_REGION, *DIAGNOSTICS)
"""What is followed over training."""
_REDUCE = {"ratio/min": np.fmin.reduce, "ratio/max": np.fmax.reduce}
"""Extremes stay extremes; everything else is averaged."""


class Diagnostics(NamedTuple):
    """Failure modes of the compared objectives during training; a diverged run until it did.

    Attributes:
        share: (K,) of the budget, at the middle of each part of it.
        course: (O, K) by name of `COURSES`: the mean over each run's steps, then over runs, but
            the smallest ratio/min and largest ratio/max of any; NaN where nothing was measured.
        total: (O,) by name, likewise over all of training.
    """

    share: Floats
    course: dict[str, Floats]
    total: dict[str, Floats]


def diagnose(
    results: Results, grid: Grid, objectives: tuple[str, ...], tasks: tuple[str, ...]
) -> Diagnostics | None:
    """Averages the failure modes over all runs of these tasks, or takes their extremes.

    None if they were not logged on one of the tasks.
    """
    traces = read_traces(results, "train", COURSES)
    if not all(len(traces[task].step) for task in tasks):
        return None
    rows = [grid.objectives.index(name) for name in objectives]
    bins = min(_BINS, *(len(traces[task].step) for task in tasks))
    course, total = {}, {}
    for name in COURSES:
        over_runs = []
        for task in tasks:
            step, columns = traces[task]
            covered, values = _covered(traces[task])[rows], columns[name][rows]
            # a row is about the steps before it, so it belongs at the middle of them
            place = ((step - covered / 2) / step[-1] * bins).astype(int)
            chosen = [*(place == k for k in range(bins)), place >= 0]  # and all of training
            parts = [_reduce(name, np.where(part, values, np.nan), covered) for part in chosen]
            over_runs.append(np.stack(parts, axis=-1))
        runs = np.concatenate(over_runs, axis=1)  # (O, T S, K + 1)
        reduced = _reduce(name, np.moveaxis(runs, 1, -1))
        course[name], total[name] = reduced[:, :-1], reduced[:, -1]
    return Diagnostics((np.arange(bins) + 0.5) / bins, course, total)


def of_training(grid: Grid, trace: Trace, objective: str, name: str) -> float:
    """The mean of what was logged over an objective's runs on a task; NaN if nothing was."""
    values = trace.columns[name][grid.objectives.index(objective)]
    covered = _covered(trace)[grid.objectives.index(objective)]
    return float(mean_present(_reduce(name, values, covered), axis=0))


def _covered(trace: Trace) -> Floats:
    """(O, S, V) the steps that each run's own rows cover; a row has at least one measurement."""
    logged = np.any([np.isfinite(x) for x in trace.columns.values()], axis=0)
    return steps_covered(trace.step, logged)


def _reduce(name: str, x: Floats, weights: Floats | float = 1.0) -> Floats:
    """Over the last axis; NaN where nothing was measured."""
    if name in _REDUCE:
        return _REDUCE[name](x, axis=-1, initial=np.nan)
    return mean_present(x, axis=-1, weights=weights)
