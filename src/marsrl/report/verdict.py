"""Who is ahead, as far as the runs settle it: one objective against each of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations, product
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np

from marsrl.envs.tasks import family_of
from marsrl.report.bootstrap import (
    Estimate,
    percentiles,
    stratified_interval,
    widened_bootstrap,
)
from marsrl.report.grids import Endpoint, Grid, diverged_as_lowest
from marsrl.report.permutation import attainable, holm, shifts
from marsrl.report.stats import Floats, family_mean, iqm, probability_of_improvement

MARGIN = 0.03
"""By how much a score may be lower and still match, if nothing else is asked for."""
LEVEL = 0.025
"""Of each claim's p value: one end of a 95 % interval."""
FEWEST_SEEDS = 3
"""That settle anything over several tasks: the two of a task that carries much of the weight may do
alike where others would not, and then say nothing of its spread (docs/statistics.md)."""

K = TypeVar("K")
Verdict = Literal["exceeds", "matches", "behind", "not settled"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Evidence(NamedTuple):
    """P values of what may be claimed of a difference, each against the opposite.

    Attributes:
        exceeds: that it is above 0.
        matches: that it is above minus the margin.
        behind: that it is below 0.
    """

    exceeds: float
    matches: float
    behind: float


NOTHING = Evidence(1.0, 1.0, 1.0)
"""That settles no claim."""


class Duel(NamedTuple):
    """One objective against another on some tasks.

    Attributes:
        tasks: on which both are complete.
        difference: of the mean scores, the first minus the second, with its interval: of families
            if there are several, of tasks if there is one.
        confidence: of that interval; less than 95 % where so few seeds allow no more.
        evidence: for a verdict.
        improvement: probability that a run of the first scores higher than one of the second; None
            of a single task.
        iqm: difference of the interquartile means; None of a single task.
        verdict: corrected for those that are given beside it.
    """

    tasks: tuple[str, ...]
    difference: Estimate
    confidence: float
    evidence: Evidence
    improvement: Estimate | None = None
    iqm: Estimate | None = None
    verdict: Verdict = "not settled"


class Contest(NamedTuple):
    """The target against one other objective.

    Attributes:
        target: its name.
        other: the other's.
        overall: on all tasks on which both are complete; None if there are none.
        families: by family.
        tasks: by task.
        endpoints: the overall difference at each endpoint.
    """

    target: str
    other: str
    overall: Duel | None
    families: dict[str, Duel]
    tasks: dict[str, Duel]
    endpoints: dict[Endpoint, Estimate]

    def families_where(self, verdict: Verdict) -> tuple[str, ...]:
        """The families with this verdict."""
        return tuple(name for name, duel in self.families.items() if duel.verdict == verdict)

    def tasks_where(self, verdict: Verdict) -> tuple[str, ...]:
        """The tasks with this verdict."""
        return tuple(name for name, duel in self.tasks.items() if duel.verdict == verdict)


def contests(
    grids: dict[Endpoint, Grid], endpoint: Endpoint, target: str, margin: float = MARGIN
) -> tuple[Contest, ...]:
    """The target against each other objective: overall, by family and by task.

    Overall verdicts are corrected for the number of contests, the others for the number of
    families or tasks of their contest. In each comparison a diverged run counts as the lowest
    score, see `grids.diverged_as_lowest`.

    Args:
        grids: the scores at each endpoint.
        endpoint: of the verdicts.
        target: the objective of which they are.
        margin: how much lower a score that matches may be.
    """
    grid = grids[endpoint]
    found = [_contest(grids, endpoint, target, x, margin) for x in grid.objectives if x != target]
    judged = _judged({x.other: x.overall for x in found if x.overall is not None})
    return tuple(x._replace(overall=judged.get(x.other)) for x in found)


def matrix(grid: Grid, margin: float = MARGIN) -> dict[tuple[str, str], Duel]:
    """Each objective of the grid against each other, on the tasks that both have completed.

    All verdicts are corrected together, for the number of ordered pairs: what a pair settles is the
    same from both sides.
    """
    duels: dict[tuple[str, str], Duel] = {}
    names = grid.objectives
    # so many that the least p value, 1 / (1 + resamples), settles something among all pairs
    resamples = max(10_000, math.ceil(4 * len(names) * (len(names) - 1) / LEVEL))
    for one, other in combinations(names, 2):
        if tasks := grid.complete((one, other)):
            there, back = _both_ways(grid, (one, other), tasks, margin, resamples)
            duels |= {(one, other): there, (other, one): back}
    found = _judged(duels)
    return {(x, y): found[x, y] for x, y in product(names, repeat=2) if (x, y) in found}


def verdicts(evidence: Sequence[Evidence]) -> tuple[Verdict, ...]:
    """The verdicts that stand side by side, corrected for their number (Holm, 1979).

    Whatever is true, the chance that any claim of a kind is wrong is at most `LEVEL`. What is
    settled to be within the margin matches, even if it is settled to be lower.
    """
    corrected = zip(*(holm(p) for p in zip(*evidence, strict=True)), strict=True)
    return tuple(_verdict(Evidence(*p)) for p in corrected)


def evidence(values: Floats, margin: float) -> Evidence:
    """The shares of resampled differences (R,) that contradict each claim."""
    against = values <= 0, values <= -margin, values >= 0
    return Evidence(*(float(1 + x.sum()) / (1 + len(values)) for x in against))


def estimate(
    statistic: Callable[..., Floats],
    *arrays: Floats,
    resamples: int = 10_000,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """A statistic with its 95 % bootstrap interval, stratified and made up for few seeds.

    Args:
        statistic: see `bootstrap`.
        *arrays: (T, S, ...) each.
        resamples: how many.
        within: what the statistic can be.
    """
    interval = stratified_interval(statistic, *arrays, resamples=resamples, widen=True)
    return Estimate(statistic(*arrays), *(np.clip(end, *within) for end in interval))


def groups(tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """All of the tasks as "overall", then those of each family if there are several."""
    families = by_family(tasks)
    return {"overall": tasks} | (families if len(families) > 1 else {}) if tasks else {}


def by_family(tasks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The tasks of each family, in their order."""
    families: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        family = family_of(task)
        families[family] = (*families.get(family, ()), task)
    return families


def mean_over(tasks: tuple[str, ...]) -> Callable[[Floats], Floats]:
    """The statistic that is the mean over the families of these tasks."""
    return partial(family_mean, families=tuple(map(family_of, tasks)))


def _contest(
    grids: dict[Endpoint, Grid], endpoint: Endpoint, target: str, other: str, margin: float
) -> Contest:
    grid, pair = grids[endpoint], (target, other)
    tasks = grid.complete(pair)

    def duel(tasks: tuple[str, ...]) -> Duel:
        duel, _ = _both_ways(grid, pair, tasks, margin)
        x, y = diverged_as_lowest(grid.scores_of(pair, tasks))[0]
        return duel._replace(
            improvement=estimate(probability_of_improvement, x, y, within=(0, 1)),
            iqm=estimate(lambda x, y: iqm(x) - iqm(y), x, y),
        )

    families = {family: duel(members) for family, members in by_family(tasks).items()}
    single = {task: _both_ways(grid, pair, (task,), margin)[0] for task in tasks}
    endpoints: dict[Endpoint, Estimate] = {
        name: _both_ways(each, pair, tasks, margin)[0].difference
        for name, each in grids.items()
        if tasks
    }
    overall = duel(tasks) if tasks else None
    return Contest(*pair, overall, _judged(families), _judged(single), endpoints)


def _both_ways(
    grid: Grid,
    pair: tuple[str, str],
    tasks: tuple[str, ...],
    margin: float,
    resamples: int = 10_000,
) -> tuple[Duel, Duel]:
    """Each of two objectives against the other, without a verdict.

    A single task's runs are too few for the bootstrap: there the test is exact. Of several tasks
    it is the bootstrap that knows that the difference is not the same on each. Where all runs of
    both have diverged they are not alike, but say nothing.
    """
    scores = grid.scores_of(pair, tasks)
    x, y = diverged_as_lowest(scores)[0]
    if len(tasks) == 1:
        there, back = _exact(tasks, x[0], y[0], margin)
    else:
        there, back = _resampled(tasks, x, y, margin, resamples)
    if np.isnan(scores).all():
        return there._replace(evidence=NOTHING), back._replace(evidence=NOTHING)
    return there, back


def _exact(tasks: tuple[str, ...], x: Floats, y: Floats, margin: float) -> tuple[Duel, Duel]:
    """By the permutation test of the seeds (S,) of one task; the second is the first turned round.

    It is not computed anew: of too many deals another random sample would be taken.
    """
    found, confidence = shifts(x, y), attainable(len(x))
    low, high = found.interval()
    evidence = Evidence(found.p_above(0), found.p_above(-margin), found.p_below(0))
    turned = Evidence(found.p_below(0), found.p_below(margin), found.p_above(0))
    difference = Estimate(*np.array([found.difference, low, high]))
    opposite = Estimate(*np.array([-found.difference, -high, -low]))
    return Duel(tasks, difference, confidence, evidence), Duel(tasks, opposite, confidence, turned)


def _resampled(
    tasks: tuple[str, ...], x: Floats, y: Floats, margin: float, resamples: int
) -> tuple[Duel, Duel]:
    """By the bootstrap of the seeds (T, S) of several tasks; too few settle nothing."""
    mean, seeds = mean_over(tasks), x.shape[1]

    def difference(x: Floats, y: Floats) -> Floats:
        return mean(x) - mean(y)

    value = difference(x, y)
    values = widened_bootstrap(difference, x, y, resamples=resamples)
    values = np.round(values, 9)  # equal scores differ by nothing
    confidence = 0.95 if seeds > 1 else 0.0

    def duel(sign: int) -> Duel:
        found = evidence(sign * values, margin) if seeds >= FEWEST_SEEDS else NOTHING
        estimate = Estimate(sign * value, *percentiles(sign * values))
        return Duel(tasks, estimate, confidence, found)

    return duel(1), duel(-1)


def _verdict(corrected: Evidence) -> Verdict:
    for verdict, p in zip(VERDICTS, corrected, strict=False):
        if p <= LEVEL:
            return verdict
    return "not settled"


def _judged(duels: dict[K, Duel]) -> dict[K, Duel]:
    """Duels that stand side by side, with their verdicts."""
    found = verdicts([duel.evidence for duel in duels.values()])
    return {
        name: duel._replace(verdict=verdict)
        for (name, duel), verdict in zip(duels.items(), found, strict=True)
    }
