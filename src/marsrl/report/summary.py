"""Every number on the page of a benchmark, computed from its results; nothing is formatted here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marsrl.bench.labels import settings_of
from marsrl.bench.records import Results
from marsrl.errors import check_choice, check_number
from marsrl.report.bootstrap import Estimate
from marsrl.report.curves import CURVE_RESAMPLES, Efficiency, TaskCurves, efficiency, task_curves
from marsrl.report.diagnostics import Diagnostics, diagnose
from marsrl.report.factorial import Factorial, factorial_cells, factorials
from marsrl.report.grids import (
    Endpoint,
    Grid,
    Trace,
    diverged_as_lowest,
    fresh_share,
    read_grids,
    read_traces,
    returns_of,
)
from marsrl.report.response import Response, mean_divergence, respond
from marsrl.report.settings import Setting, base_objective, read_settings
from marsrl.report.stats import Floats, iqm, mean, optimality_gap, performance_profile
from marsrl.report.verdict import (
    MARGIN,
    Contest,
    Duel,
    contests,
    estimate,
    groups,
    matrix,
    mean_over,
)


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
        scores: (O, T, S) of all runs.
        mean: (O,) means over families, or over the tasks of one.
        iqm: (O,) interquartile means.
        gap: (O,) optimality gaps.
        profile: how the scores are distributed.
        efficiency: by "steps" and, if it was measured, "time".
    """

    name: str
    tasks: tuple[str, ...]
    lowest: float
    scores: Floats
    mean: tuple[Estimate, ...]
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
        mean: return at the endpoint over the ended seeds, where a diverged one counts as the
            lowest of the task; None without any.
        score: the same mean, normalised.
        returns: of each ended seed.
        low: the return at score 0.
        high: the return at score 1.
    """

    task: str
    objective: str
    ended: tuple[int, ...]
    diverged: tuple[int, ...]
    mean: Estimate | None
    score: float | None
    returns: tuple[float, ...]
    low: float
    high: float


class Summary(NamedTuple):
    """The content of the page; O objectives are on the scoreboard, see `Grid.compared`.

    Attributes:
        results: what it was computed from.
        target: the objective of the verdict; None if all are points of a sweep: nothing is judged.
        endpoint: what a run's score is made of.
        fresh: the share of runs whose last parameters were scored on episodes of their own.
        margin: how much lower a score that matches may be.
        objectives: O names, in the suite's order.
        contests: the target against each other.
        matrix: each objective against each other, on all tasks that both have completed; empty
            without a target.
        settings: of all runs, those first in which the objectives differ.
        responses: scores against the size of the trust region, of the whole and each family.
        groups: the whole and each family, without those that have no complete task.
        cells: the objectives of the factorial by geometry and boundary, missing ones left out.
        factorial: the whole and each family; empty if no task is complete in all six cells.
        rows: each task with each objective.
        curves: learning curves by task.
        diagnostics: failure modes during training; None if no task is complete, or one was not
            logged.
    """

    results: Results
    target: str | None
    endpoint: Endpoint
    fresh: float
    margin: float
    objectives: tuple[str, ...]
    contests: tuple[Contest, ...]
    matrix: dict[tuple[str, str], Duel]
    settings: tuple[Setting, ...]
    responses: tuple[Response, ...]
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


def summarize_benchmark(
    results: Results,
    target: str | None = None,
    endpoint: Endpoint = "last",
    margin: float = MARGIN,
) -> Summary:
    """Computes every number of the page.

    Aggregates are taken over the tasks alone on which every seed of all that is compared has
    ended. A diverged run is never dropped, see `grids.diverged_as_lowest`.

    Args:
        results: of a suite.
        target: the objective that is compared with each other; default: mars, or else the first
            label of it, or else the first of all, of those that are no point of a sweep.
        endpoint: what a run's score is made of.
        margin: how much lower a score that matches may be.

    Raises:
        UserError: there is no such target, the margin is out of range, or a finished run has no
            final episodes, or no evaluations.
    """
    suite = results.suite
    target = _target(results, target)
    check_number("margin", margin, 0, 1)
    evaluations = read_traces(results, "eval", ("return", "seconds"))
    grids = read_grids(results, evaluations)
    grid = grids[endpoint]
    objectives = grid.compared()
    tasks = grid.complete(objectives) if objectives else ()
    cells = factorial_cells(suite.objectives)
    settings = read_settings(results)
    found = tuple(_group(grid, evaluations, objectives, *group) for group in groups(tasks).items())
    return Summary(
        results=results,
        target=target,
        endpoint=endpoint,
        fresh=fresh_share(results),
        margin=margin,
        objectives=objectives,
        contests=() if target is None else contests(grids, endpoint, target, margin),
        matrix={} if target is None else matrix(grid, margin),
        settings=settings,
        responses=_responses(results, grid, objectives, settings, found),
        groups=found,
        cells=cells,
        factorial=factorials(grid, cells),
        rows=tuple(_row(grid, task, name) for task in grid.tasks for name in grid.objectives),
        curves=task_curves(grid, evaluations),
        diagnostics=diagnose(results, grid, objectives, tasks) if tasks else None,
    )


def _target(results: Results, asked: str | None) -> str | None:
    names = results.suite.objectives
    if asked is not None:
        check_choice("target", asked, names)
        return asked
    chosen = [name for name in names if not settings_of(name)]  # others are points of a sweep
    of_mars = [name for name in chosen if base_objective(results.runs, name) == "mars"]
    return "mars" if "mars" in chosen else next(iter([*of_mars, *chosen]), None)


def _responses(
    results: Results,
    grid: Grid,
    objectives: tuple[str, ...],
    settings: tuple[Setting, ...],
    groups: tuple[Group, ...],
) -> tuple[Response, ...]:
    if not groups:
        return ()
    every = groups[0].tasks
    measure, kl = mean_divergence(results, grid, objectives, every)
    return tuple(
        respond(
            results,
            group.name,
            group.tasks,
            settings,
            dict(zip(objectives, group.mean, strict=True)),
            measure,
            kl[:, [every.index(task) for task in group.tasks]],
        )
        for group in groups
    )


def _group(
    grid: Grid,
    evaluations: dict[str, Trace],
    objectives: tuple[str, ...],
    name: str,
    tasks: tuple[str, ...],
) -> Group:
    scores, lowest = diverged_as_lowest(grid.scores_of(objectives, tasks))
    return Group(
        name,
        tasks,
        lowest,
        scores,
        mean=tuple(estimate(mean_over(tasks), x) for x in scores),
        iqm=tuple(estimate(iqm, x) for x in scores),
        gap=tuple(estimate(optimality_gap, x, within=(0, np.inf)) for x in scores),
        profile=_profile(scores, lowest),
        efficiency=efficiency(grid, evaluations, objectives, tasks),
    )


def _profile(scores: Floats, lowest: float) -> Profile:
    """Of scores (O, T, S)."""
    threshold = np.linspace(lowest, max(1.0, float(scores.max())), 101)
    shares = [
        estimate(
            lambda x: performance_profile(x, threshold),
            x,
            resamples=CURVE_RESAMPLES,
            within=(0, 1),
        )
        for x in scores
    ]
    return Profile(threshold, Estimate(*(np.stack(part) for part in zip(*shares, strict=True))))


def _row(grid: Grid, task: str, objective: str) -> TaskRow:
    """Takes the diverged as the lowest among all objectives on the task."""
    o, t = grid.objectives.index(objective), grid.tasks.index(task)
    ended, diverged = grid.ended[o, t], grid.diverged[o, t]
    score = diverged_as_lowest(grid.scores[:, t])[0][o, ended]
    (low,), (high,) = grid.bounds_of((task,))
    returns, some = returns_of(grid, task)[o, ended], len(score) > 0
    return TaskRow(
        task,
        objective,
        ended=tuple(np.array(grid.seeds)[ended].tolist()),
        diverged=tuple(np.array(grid.seeds)[diverged].tolist()),
        mean=estimate(mean, returns[None]) if some else None,
        score=float(score.mean()) if some else None,
        returns=tuple(returns.tolist()),
        low=low,
        high=high,
    )
