"""A benchmark's results as arrays: O objectives, T tasks and S seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marsrl.bench.results import Results
from marsrl.envs.tasks import Bounds
from marsrl.errors import UserError
from marsrl.report.stats import Floats, normalize_scores


class Grid(NamedTuple):
    """How every planned run ended.

    Attributes:
        objectives: O names.
        tasks: T names.
        seeds: S of them.
        ended: (O, T, S) whether a run finished or diverged.
        diverged: (O, T, S) whether it diverged.
        scores: (O, T, S) mean return of the final evaluation, 0 at the task's low bound and 1 at
            its high one, to six decimals; NaN if a run did not finish.
        bounds: of each task.
    """

    objectives: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    ended: NDArray[np.bool_]
    diverged: NDArray[np.bool_]
    scores: Floats
    bounds: dict[str, Bounds]

    def bounds_of(self, tasks: tuple[str, ...]) -> tuple[Floats, Floats]:
        """The low and the high bound of each of these tasks, (T,) each."""
        low, high = zip(*(self.bounds[task] for task in tasks), strict=True)
        return np.array(low), np.array(high)

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


def read_grid(results: Results) -> Grid:
    """The final scores of all planned runs.

    Raises:
        UserError: a finished run has no final episodes.
    """
    suite = results.suite
    shape = (len(suite.objectives), len(suite.tasks), len(suite.seeds))
    ended, diverged = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    final = np.full(shape, np.nan)
    means = _final_means(results)
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
    grid = Grid(suite.objectives, suite.tasks, suite.seeds, ended, diverged, final, bounds)
    low, high = grid.bounds_of(suite.tasks)
    scores = np.moveaxis(normalize_scores(np.moveaxis(final, 1, 0), low, high), 0, 1)
    # float32 returns of a solved task differ in the last digits, which is no difference
    return grid._replace(scores=np.round(scores, 6))


def counted(scores: Floats) -> tuple[Floats, float]:
    """Lets what diverged (NaN) count as the lowest score of the table, and says which that is.

    That is the lowest score present or 0, the random policy's, whichever is lower: where all the
    others solve a task, the lowest one present would make divergence a success.
    """
    lowest = float(np.fmin.reduce(scores.ravel(), initial=0.0))
    return np.where(np.isnan(scores), lowest, scores), lowest


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


def _final_means(results: Results) -> dict[tuple[str, str, int], float]:
    keys = ["phase", "task", "objective", "seed"]
    means = results.episodes.group_by(keys).aggregate([("return", "mean")]).to_pylist()
    return {
        (row["task"], row["objective"], row["seed"]): row["return_mean"]
        for row in means
        if row["phase"] == "final"
    }
