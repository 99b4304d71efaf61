"""The 3 x 2 of a benchmark's objectives: is it the geometry of the barrier, or its boundary?"""

from __future__ import annotations

from typing import NamedTuple

from marsrl.objectives import OBJECTIVES
from marsrl.report.bootstrap import Estimate
from marsrl.report.effects import FactorialEffects, factorial_effects
from marsrl.report.grids import Grid, diverged_as_lowest
from marsrl.report.verdict import groups

GEOMETRIES = ("clipped", "quadratic", "symmetric")
BOUNDARIES = ("additive", "geometric")


class Effect(NamedTuple):
    """One effect of the factorial, a difference of IQMs.

    Attributes:
        kind: geometry, boundary, or the interaction of the two.
        first: what the difference is taken of: a geometry or a boundary.
        second: what is subtracted. For an interaction, the two geometries with which the
            boundary's effect is compared.
        seeds: of each cell.
        estimate: the difference.
    """

    kind: str
    first: str
    second: str
    seeds: int
    estimate: Estimate

    @property
    def verdict(self) -> str:
        """What the interval settles; that of a single seed is a point, which settles nothing."""
        low, high = self.estimate.low, self.estimate.high
        if self.seeds > 1 and low == high == 0:
            return "equal"
        if self.seeds > 1 and (low > 0 or high < 0):
            return "higher" if low > 0 else "lower"
        return "not settled"


class Factorial(NamedTuple):
    """The 3 x 2 of geometries and boundaries on some tasks.

    Attributes:
        name: "overall" or a family.
        tasks: on which all six cells are complete.
        cells: (3, 2) IQMs in the order of `GEOMETRIES` and `BOUNDARIES`.
        effects: of geometry, of the boundary, and interactions.
    """

    name: str
    tasks: tuple[str, ...]
    cells: Estimate
    effects: tuple[Effect, ...]


def factorial_cells(objectives: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """The objective of each geometry and boundary, as far as they are among these."""
    places = {(x.geometry.__name__, x.kind): name for name, x in OBJECTIVES.items()}
    cells = {(g, b): places[g, b] for g in GEOMETRIES for b in BOUNDARIES}
    return {place: name for place, name in cells.items() if name in objectives}


def factorials(grid: Grid, cells: dict[tuple[str, str], str]) -> tuple[Factorial, ...]:
    """The factorial of all tasks on which the six cells are complete, and that of each family.

    Empty if there is no such task, or the suite lacks a cell. A diverged run counts as the lowest
    score of the six on these tasks, see `grids.diverged_as_lowest`.
    """
    if len(cells) < len(GEOMETRIES) * len(BOUNDARIES):
        return ()
    names = tuple(cells.values())
    shape = (len(GEOMETRIES), len(BOUNDARIES))
    found = []
    for name, tasks in groups(grid.complete(names)).items():
        scores, _ = diverged_as_lowest(grid.scores_of(names, tasks))
        effects = factorial_effects(scores.reshape(*shape, *scores.shape[1:]), widen=True)
        found.append(Factorial(name, tasks, effects.cells, _effects(effects, len(grid.seeds))))
    return tuple(found)


def _effects(found: FactorialEffects, seeds: int) -> tuple[Effect, ...]:
    def effect(kind: str, pair: tuple[int, int], *rest: int) -> Effect:
        names = BOUNDARIES if kind == "boundary" else GEOMETRIES
        values: Estimate = getattr(found, kind)
        estimate = Estimate(*(x[(*pair, *rest)] for x in values))
        return Effect(kind, names[pair[0]], names[pair[1]], seeds, estimate)

    clipped, quadratic, symmetric = range(3)
    ahead = ((symmetric, clipped), (symmetric, quadratic), (quadratic, clipped))
    return (
        *(effect("geometry", pair) for pair in ahead),
        effect("boundary", (1, 0)),
        *(effect("interaction", pair, 1, 0) for pair in ahead),
    )
