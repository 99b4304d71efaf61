"""Evaluations while a benchmark's runs trained: on a task, and as scores over all tasks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marsrl.errors import UserError
from marsrl.report.bootstrap import Estimate, mean_band
from marsrl.report.grids import Grid, Trace, diverged_as_lowest
from marsrl.report.stats import Floats, iqm, normalize_scores
from marsrl.report.verdict import estimate

CURVE_RESAMPLES = 2_000
"""Resamples of an interval at every point of a curve."""
_POINTS = 41
"""Most points of a sample-efficiency curve."""


class Efficiency(NamedTuple):
    """The IQM of the evaluations so far into training.

    Attributes:
        totals: (T,) what each task took: its steps, or the seconds of its slowest run.
        x: (K,) shares of that; the steps or seconds themselves, if all tasks took the same.
        iqm: (O, K) with its interval.
    """

    totals: Floats
    x: Floats
    iqm: Estimate

    @property
    def alike(self) -> bool:
        """Whether all tasks took the same."""
        return bool((self.totals == self.totals[0]).all())


class Curve(NamedTuple):
    """One objective's evaluations on one task.

    Attributes:
        objective: its name.
        seeds: how many have been evaluated.
        mean: (V,) return over those seeds with its interval; NaN where one of them has none yet.
        last: (D, 2) step and return at the last evaluation of each seed that diverged.
    """

    objective: str
    seeds: int
    mean: Estimate
    last: Floats


class TaskCurves(NamedTuple):
    """The learning curves of a task.

    Attributes:
        step: (V,) environment steps.
        low: the return of the random policy.
        high: the reference return.
        objectives: those that have been evaluated.
    """

    step: Floats
    low: float
    high: float
    objectives: tuple[Curve, ...]


def efficiency(
    grid: Grid, evaluations: dict[str, Trace], objectives: tuple[str, ...], tasks: tuple[str, ...]
) -> dict[str, Efficiency]:
    """Sample-efficiency curves over "steps" and over wall "time", if that was measured.

    Tasks are aligned by shares of what each took. A run keeps its last evaluation from when it is
    over; one that diverged counts as the lowest score of the curves from after its last one.

    Raises:
        UserError: a finished run has no evaluations.
    """
    rows = [grid.objectives.index(name) for name in objectives]
    share = np.linspace(0, 1, min(_POINTS, max(len(evaluations[task].step) for task in tasks)))
    aligned, totals = {"steps": [], "time": []}, {"steps": [], "time": []}
    for task in tasks:
        step, columns = evaluations[task]
        returns = columns["return"][rows]
        diverged = grid.diverged[rows, grid.tasks.index(task)]
        if not (np.isfinite(returns).any(axis=-1) | diverged).all():
            raise UserError(f"a run on {task} is done but has no evaluations in its curve")
        steps = np.where(np.isfinite(returns), step, np.nan)
        for name, clock in (("steps", steps), ("time", columns["seconds"][rows])):
            total = np.fmax.reduce(clock.ravel(), initial=0)
            totals[name].append(total)
            aligned[name].append(_aligned(share * total, clock, returns, diverged))
    return {
        name: _efficiency(
            np.array(totals[name]), share, np.stack(aligned[name]), grid.bounds_of(tasks)
        )
        for name in aligned
        if all(totals[name])
    }


def task_curves(grid: Grid, evaluations: dict[str, Trace]) -> dict[str, TaskCurves]:
    """The learning curves of every task that has been evaluated.

    A diverged seed counts from after its last evaluation on as the lowest return of the task, or
    as the random policy's if that is lower.
    """
    curves = {}
    for t, (task, (step, columns)) in enumerate(evaluations.items()):
        returns = columns["return"]
        (low,), (high,) = grid.bounds_of((task,))
        lowest = np.fmin.reduce(returns.ravel(), initial=low)
        known = np.isfinite(returns)
        after = known[..., ::-1].cumsum(axis=-1)[..., ::-1] == 0
        counted = np.where(after & grid.diverged[:, t, :, None], lowest, returns)
        found = []
        for o, objective in enumerate(grid.objectives):
            seen = known[o].any(axis=-1)
            if seen.any():
                ends = [
                    (step[known[o, s]][-1], returns[o, s, known[o, s]][-1])
                    for s in np.flatnonzero(seen & grid.diverged[o, t])
                ]
                band = mean_band(counted[o, seen])
                last = np.array(ends, np.float64).reshape(-1, 2)
                found.append(Curve(objective, int(seen.sum()), band, last))
        if found:
            curves[task] = TaskCurves(step, low, high, tuple(found))
    return curves


def _efficiency(
    totals: Floats, share: Floats, returns: Floats, bounds: tuple[Floats, Floats]
) -> Efficiency:
    """Of returns (T, O, S, K), NaN where a run has diverged."""
    scores, _ = diverged_as_lowest(normalize_scores(returns, *bounds))
    iqms = [estimate(iqm, x, resamples=CURVE_RESAMPLES) for x in np.moveaxis(scores, 1, 0)]
    stacked = Estimate(*(np.stack(part) for part in zip(*iqms, strict=True)))
    found = Efficiency(totals, share, stacked)
    return found._replace(x=share * totals[0]) if found.alike else found


def _aligned(points: Floats, when: Floats, returns: Floats, diverged: NDArray[np.bool_]) -> Floats:
    """Returns (O, S, V) interpolated at the points (K,); NaN once diverged."""
    aligned = np.full((*returns.shape[:2], len(points)), np.nan)
    for run in np.ndindex(returns.shape[:2]):
        known = np.isfinite(returns[run])
        if known.any():
            x = when[run][known]
            aligned[run] = np.interp(points, x, returns[run][known])
            if diverged[run]:
                aligned[run][points > x[-1]] = np.nan
    return aligned
