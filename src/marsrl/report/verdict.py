"""Who is ahead, as far as intervals settle it: one objective against each of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from marsrl.envs.tasks import family_of
from marsrl.report.bootstrap import Estimate, stratified_interval
from marsrl.report.grids import Grid, counted
from marsrl.report.stats import Floats, iqm, probability_of_improvement


class Duel(NamedTuple):
    """One objective against another on some tasks.

    Attributes:
        tasks: on which both are complete.
        seeds: of each; the interval of a single one is a point, which settles nothing.
        improvement: probability that a run of the first scores higher than one of the second.
        difference: IQM of the first minus that of the second.
    """

    tasks: tuple[str, ...]
    seeds: int
    improvement: Estimate
    difference: Estimate

    @property
    def word(self) -> str:
        """What both intervals say of the first objective; "not settled" if they do not.

        "beats" and "loses to" need both to exclude equality, "matches" to hold nothing else;
        "matches or beats" and "matches or loses to" let them touch it.
        """
        shift = self.improvement.low - 0.5, self.improvement.high - 0.5
        low, high = zip(shift, self.difference[1:], strict=True)
        if self.seeds == 1:
            return "not settled"
        if all(x == 0 for x in low + high):
            return "matches"
        if all(x >= 0 for x in low):
            return "beats" if all(x > 0 for x in low) else "matches or beats"
        if all(x <= 0 for x in high):
            return "loses to" if all(x < 0 for x in high) else "matches or loses to"
        return "not settled"


class Contest(NamedTuple):
    """The target against one other objective.

    Attributes:
        target: its name.
        other: the other's.
        overall: on all tasks on which both are complete; None if there are none.
        families: by family.
        tasks: by task.
    """

    target: str
    other: str
    overall: Duel | None
    families: dict[str, Duel]
    tasks: dict[str, Duel]

    def families_where(self, *words: str) -> tuple[str, ...]:
        """The families with one of these verdicts."""
        return tuple(name for name, duel in self.families.items() if duel.word in words)

    def tasks_where(self, *words: str) -> tuple[str, ...]:
        """The tasks with one of these verdicts."""
        return tuple(name for name, duel in self.tasks.items() if duel.word in words)


def contest(grid: Grid, target: str, other: str) -> Contest:
    """Compares two objectives on every task, every family and all tasks on which both are complete.

    In each of these comparisons a diverged run counts as the lowest score, see `grids.counted`.
    """
    pair = (target, other)
    tasks = grid.complete(pair)

    def duel(tasks: tuple[str, ...]) -> Duel:
        x, y = counted(grid.scores_of(pair, tasks))[0]
        improvement = estimate(probability_of_improvement, x, y)
        return Duel(tasks, len(grid.seeds), improvement, estimate(_difference, x, y))

    return Contest(
        *pair,
        overall=duel(tasks) if tasks else None,
        families={family: duel(members) for family, members in by_family(tasks).items()},
        tasks={task: duel((task,)) for task in tasks},
    )


def estimate(
    statistic: Callable[..., Floats], *arrays: Floats, resamples: int = 10_000
) -> Estimate:
    """A statistic with its stratified 95 % bootstrap interval."""
    interval = stratified_interval(statistic, *arrays, resamples=resamples)
    return Estimate(statistic(*arrays), *interval)


def groups(tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """All of the tasks as "overall", then those of each family; empty if there are none."""
    return {"overall": tasks} | by_family(tasks) if tasks else {}


def by_family(tasks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The tasks of each family, in their order."""
    families: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        family = family_of(task)
        families[family] = (*families.get(family, ()), task)
    return families


def _difference(x: Floats, y: Floats) -> Floats:
    return iqm(x) - iqm(y)
