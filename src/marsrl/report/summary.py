"""Every number on the page of a benchmark, computed from its results; nothing is formatted here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marsrl.bench.results import Results
from marsrl.report.ablation import Factorial, factorial_cells, factorials
from marsrl.report.bootstrap import Estimate
from marsrl.report.curves import (
    CURVE_RESAMPLES,
    Diagnostics,
    Efficiency,
    TaskCurves,
    diagnose,
    efficiency,
    task_curves,
)
from marsrl.report.grids import Grid, Trace, counted, read_grid, read_traces
from marsrl.report.stats import Floats, iqm, optimality_gap, performance_profile
from marsrl.report.verdict import Contest, contest, estimate, groups


class Profile(NamedTuple):
    """Performance profiles over the tasks of a group.

    Attributes:
        threshold: (K,) scores.
        share: (O, K) of the runs above them, with its interval.
    """

    threshold: Floats
    share: Estimate


class Group(NamedTuple):
    """All compared objectives on some tasks.

    Attributes:
        name: "overall" or a family.
        tasks: on which all of them are complete.
        lowest: the score that a diverged run counts as.
        iqm: (O,) interquartile means.
        gap: (O,) optimality gaps.
        profile: how the scores are distributed.
        efficiency: by "steps" and, if it was measured, "time".
    """

    name: str
    tasks: tuple[str, ...]
    lowest: float
    iqm: tuple[Estimate, ...]
    gap: tuple[Estimate, ...]
    profile: Profile
    efficiency: dict[str, Efficiency]


class TaskRow(NamedTuple):
    """One objective on one task.

    Attributes:
        task: its name.
        objective: its name.
        ended: the seeds that finished or diverged.
        diverged: those of them that diverged.
        mean: final return over the ended seeds, where a diverged one counts as the lowest of the
            task; None without any.
        score: the same mean, normalised.
        low: the return at score 0.
        high: the return at score 1.
    """

    task: str
    objective: str
    ended: tuple[int, ...]
    diverged: tuple[int, ...]
    mean: Estimate | None
    score: float | None
    low: float
    high: float


class Summary(NamedTuple):
    """The content of the page; O objectives are compared, those of which a run has ended.

    Attributes:
        results: what it was computed from.
        target: the objective of the verdict, "mars" or else the first.
        objectives: O names, in the suite's order.
        contests: the target against each other.
        groups: the whole and each family, without those that have no complete task.
        cells: the objectives of the factorial by geometry and boundary, missing ones left out.
        factorial: the whole and each family; empty if no task is complete in all six cells.
        rows: each task with each objective.
        curves: learning curves by task.
        diagnostics: failure modes during training; None if no task is complete, or one was not
            logged.
    """

    results: Results
    target: str
    objectives: tuple[str, ...]
    contests: tuple[Contest, ...]
    groups: tuple[Group, ...]
    cells: dict[tuple[str, str], str]
    factorial: tuple[Factorial, ...]
    rows: tuple[TaskRow, ...]
    curves: dict[str, TaskCurves]
    diagnostics: Diagnostics | None

    @property
    def complete(self) -> tuple[str, ...]:
        """The tasks on which every seed of all compared objectives has ended."""
        return self.groups[0].tasks if self.groups else ()

    @property
    def any_diverged(self) -> bool:
        """Whether any run has diverged."""
        return any(row.diverged for row in self.rows)


def summarize_benchmark(results: Results) -> Summary:
    """Computes every number of the page.

    Aggregates are taken over the tasks alone on which every seed of all that is compared has
    ended. A diverged run is never dropped, see `grids.counted`.

    Raises:
        UserError: a finished run has no final episodes, or no evaluations.
    """
    suite, grid = results.suite, read_grid(results)
    objectives = tuple(x for o, x in enumerate(grid.objectives) if grid.ended[o].any())
    tasks = grid.complete(objectives) if objectives else ()
    target = "mars" if "mars" in suite.objectives else suite.objectives[0]
    evaluations = read_traces(results, "eval", ("return", "seconds"))
    cells = factorial_cells(suite.objectives)
    return Summary(
        results=results,
        target=target,
        objectives=objectives,
        contests=tuple(contest(grid, target, x) for x in suite.objectives if x != target),
        groups=tuple(
            _group(grid, evaluations, objectives, *group) for group in groups(tasks).items()
        ),
        cells=cells,
        factorial=factorials(grid, cells),
        rows=tuple(_row(grid, task, name) for task in grid.tasks for name in grid.objectives),
        curves=task_curves(grid, evaluations),
        diagnostics=diagnose(results, grid, objectives, tasks) if tasks else None,
    )


def _group(
    grid: Grid,
    evaluations: dict[str, Trace],
    objectives: tuple[str, ...],
    name: str,
    tasks: tuple[str, ...],
) -> Group:
    scores, lowest = counted(grid.scores_of(objectives, tasks))
    return Group(
        name,
        tasks,
        lowest,
        iqm=tuple(estimate(iqm, x) for x in scores),
        gap=tuple(estimate(optimality_gap, x) for x in scores),
        profile=_profile(scores, lowest),
        efficiency=efficiency(grid, evaluations, objectives, tasks),
    )


def _profile(scores: Floats, lowest: float) -> Profile:
    """Of scores (O, T, S)."""
    threshold = np.linspace(lowest, max(1.0, float(scores.max())), 101)
    shares = [
        estimate(lambda x: performance_profile(x, threshold), x, resamples=CURVE_RESAMPLES)
        for x in scores
    ]
    return Profile(threshold, Estimate(*(np.stack(part) for part in zip(*shares, strict=True))))


def _row(grid: Grid, task: str, objective: str) -> TaskRow:
    """Takes the diverged as the lowest among all objectives on the task."""
    o, t = grid.objectives.index(objective), grid.tasks.index(task)
    ended, diverged = grid.ended[o, t], grid.diverged[o, t]
    score = counted(grid.scores[:, t])[0][o, ended]
    (low,), (high,) = grid.bounds_of((task,))
    some = len(score) > 0
    return TaskRow(
        task,
        objective,
        ended=tuple(np.array(grid.seeds)[ended].tolist()),
        diverged=tuple(np.array(grid.seeds)[diverged].tolist()),
        mean=estimate(_mean, (low + score * (high - low))[None]) if some else None,
        score=float(score.mean()) if some else None,
        low=low,
        high=high,
    )


def _mean(x: Floats) -> Floats:
    return x.mean(axis=(0, 1))
