"""A benchmark's results as arrays: O objectives, T tasks and S seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marsrl.bench.records import Results
from marsrl.envs.tasks import Bounds
from marsrl.errors import UserError
from marsrl.report.stats import Floats, normalize_scores

Endpoint = Literal["last", "best", "area"]
"""What a run's score is made of: the parameters that its training ended with, those of its best
evaluation, or the mean of its evaluation curve over the steps."""


class Grid(NamedTuple):
    """How every planned run ended.

    Attributes:
        objectives: O names.
        tasks: T names.
        seeds: S of them.
        ended: (O, T, S) whether a run finished or diverged.
        diverged: (O, T, S) whether it diverged.
        returns: (O, T, S) at the endpoint; NaN if a run did not finish.
        scores: (O, T, S) the same, 0 at the task's low bound and 1 at its high one, to six
            decimals.
        bounds: of each task.
    """

    objectives: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    ended: NDArray[np.bool_]
    diverged: NDArray[np.bool_]
    returns: Floats
    scores: Floats
    bounds: dict[str, Bounds]

    def bounds_of(self, tasks: tuple[str, ...]) -> tuple[Floats, Floats]:
        """The low and the high bound of each of these tasks, (T,) each."""
        low, high = zip(*(self.bounds[task] for task in tasks), strict=True)
        return np.array(low), np.array(high)

    def compared(self) -> tuple[str, ...]:
        """The objectives of the scoreboard: with half as many complete tasks as any, or more.

        So one that has just been added does not leave all others with its few tasks.
        """
        done = {name: int(x.all(axis=1).sum()) for name, x in self._by_objective()}
        most = max(done.values())
        return tuple(name for name, x in self._by_objective() if x.any() and 2 * done[name] >= most)

    def _by_objective(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Each name with the (T, S) of its runs that ended."""
        return zip(self.objectives, self.ended, strict=True)

    def complete(self, objectives: tuple[str, ...]) -> tuple[str, ...]:
        """The tasks on which every seed of these objectives has ended."""
        rows = [self.objectives.index(name) for name in objectives]
        return tuple(task for t, task in enumerate(self.tasks) if self.ended[rows, t].all())

    def scores_of(self, objectives: tuple[str, ...], tasks: tuple[str, ...]) -> Floats:
        """The scores of these objectives on these tasks, in their order."""
        rows = [self.objectives.index(name) for name in objectives]
        columns = [self.tasks.index(name) for name in tasks]
        return self.scores[np.ix_(rows, columns)]


class Trace(NamedTuple):
    """What was logged on one task while its objectives trained.

    Attributes:
        step: (V,) environment steps at which any of them logged.
        columns: (O, S, V) by the column's name; NaN where nothing was measured.
    """

    step: Floats
    columns: dict[str, Floats]


def read_grids(results: Results, evaluations: dict[str, Trace]) -> dict[Endpoint, Grid]:
    """The scores of all planned runs at each endpoint.

    Args:
        results: of which the episodes are needed.
        evaluations: their "return" by task, as `read_traces` gives them.

    Raises:
        UserError: a finished run has no final episodes, or no evaluations.
    """
    best = _read_best(results)
    areas, lasts = (np.full_like(best.scores, np.nan) for _ in range(2))
    more = _means(results, "last")
    for o, t, s in np.argwhere(best.ended & ~best.diverged):
        task, name, seed = best.tasks[t], best.objectives[o], best.seeds[s]
        step, columns = evaluations[task]
        known = np.isfinite(returns := columns["return"][o, s])
        if not known.any():
            raise UserError(
                f"a run on {task} is done but has no evaluations in its curve: seed {seed} of "
                f"{name}"
            )
        at, values = step[known], returns[known]
        areas[o, t, s] = np.trapezoid(values, at) / np.ptp(at) if len(at) > 1 else values[0]
        lasts[o, t, s] = more.get((task, name, seed), values[-1])
    found: dict[Endpoint, Floats] = {"last": lasts, "area": areas}
    grids = {name: _scored(best, x) for name, x in found.items()}
    return {"last": grids["last"], "best": best, "area": grids["area"]}


def fresh_share(results: Results) -> float:
    """The share of finished runs whose last parameters were scored on episodes of their own."""
    done = {(*run[:2], run.seed) for run in results.runs if run.status == "done"}
    return len(done & _means(results, "last").keys()) / len(done) if done else 0.0


def _read_best(results: Results) -> Grid:
    suite = results.suite
    shape = (len(suite.objectives), len(suite.tasks), len(suite.seeds))
    ended, diverged = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    final = np.full(shape, np.nan)
    means = _means(results, "final")
    for run in results.runs:
        at = (
            suite.objectives.index(run.objective),
            suite.tasks.index(run.task),
            suite.seeds.index(run.seed),
        )
        diverged[at] = run.status == "diverged"
        ended[at] = run.status in ("done", "diverged")
        if run.status == "done":
            key = (run.task, run.objective, run.seed)
            if key not in means:
                raise UserError(
                    f"seed {run.seed} of {run.objective} on {run.task} is done but has no final "
                    "episodes (absolute_metrics in marl-eval's JSON)"
                )
            final[at] = means[key]
    bounds = {task: suite.bounds_of(task) for task in suite.tasks}
    names = suite.objectives, suite.tasks, suite.seeds
    return _scored(Grid(*names, ended, diverged, final, final, bounds), final)


def _scored(grid: Grid, returns: Floats) -> Grid:
    """The grid with the scores of these returns, (O, T, S)."""
    low, high = grid.bounds_of(grid.tasks)
    scores = np.moveaxis(normalize_scores(np.moveaxis(returns, 1, 0), low, high), 0, 1)
    # float32 returns of a solved task differ in the last digits, which is no difference
    return grid._replace(returns=returns, scores=np.round(scores, 6))


def diverged_as_lowest(scores: Floats) -> tuple[Floats, float]:
    """Lets what diverged (NaN) count as the lowest score of the table, and says which that is.

    That is the lowest score present or 0, the random policy's, whichever is lower: where all the
    others solve a task, the lowest one present would make divergence a success.
    """
    return _lowest_where_missing(scores, 0.0)


def returns_of(grid: Grid, task: str) -> Floats:
    """The returns on a task (O, S), where what diverged counts as in `diverged_as_lowest`."""
    t = grid.tasks.index(task)
    return _lowest_where_missing(grid.returns[:, t], grid.bounds[task].low)[0]


def _lowest_where_missing(x: Floats, most: float) -> tuple[Floats, float]:
    """The lowest value, or `most` if that is lower, in place of NaN; and which that is."""
    lowest = float(np.fmin.reduce(x.ravel(), initial=most))
    return np.where(np.isnan(x), lowest, x), lowest


def read_traces(results: Results, phase: str, names: tuple[str, ...]) -> dict[str, Trace]:
    """The rows of one phase of `results.curves`, "train" or "eval", by task."""
    suite = results.suite
    table = {name: results.curves.column(name).to_numpy() for name in _KEYS + names}
    of_phase = table["phase"] == phase
    traces = {}
    for task in suite.tasks:
        chosen = of_phase & (table["task"] == task)
        rows = {name: column[chosen] for name, column in table.items()}
        step, place = np.unique(rows["step"], return_inverse=True)
        objective = [suite.objectives.index(name) for name in rows["objective"]]
        seed = [suite.seeds.index(number) for number in rows["seed"]]
        shape = (len(suite.objectives), len(suite.seeds), len(step))
        columns = {name: np.full(shape, np.nan) for name in names}
        for name, grid in columns.items():
            grid[objective, seed, place] = rows[name].astype(np.float64)
        traces[task] = Trace(step.astype(np.float64), columns)
    return traces


_KEYS = ("phase", "task", "objective", "seed", "step")


def _means(results: Results, phase: str) -> dict[tuple[str, str, int], float]:
    """The mean return over the episodes of this phase, by task, objective and seed."""
    keys = ["phase", "task", "objective", "seed"]
    means = results.episodes.group_by(keys).aggregate([("return", "mean")]).to_pylist()
    return {
        (row["task"], row["objective"], row["seed"]): row["return_mean"]
        for row in means
        if row["phase"] == phase
    }
