"""The 3 x 2 of a benchmark's objectives: is it the geometry of the barrier, or its boundary?"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from marsrl.objectives import OBJECTIVES
from marsrl.report.bootstrap import Estimate, percentiles, widened_bootstrap
from marsrl.report.grids import Grid, diverged_as_lowest
from marsrl.report.stats import Floats, iqm
from marsrl.report.verdict import FEWEST_SEEDS, Verdict, evidence, groups, verdicts

GEOMETRIES = ("clipped", "quadratic", "symmetric")
BOUNDARIES = ("additive", "geometric")
_AHEAD = (("symmetric", "clipped"), ("symmetric", "quadratic"), ("quadratic", "clipped"))
EFFECTS = (
    *(("geometry", *pair) for pair in _AHEAD),
    ("boundary", *reversed(BOUNDARIES)),
    *(("interaction", *pair) for pair in _AHEAD),
)
"""The kind of each effect, what the difference is taken of, and what is subtracted."""

Direction = Literal["higher", "lower", "equal", "not settled"]
DIRECTIONS: dict[Verdict, Direction] = {"exceeds": "higher", "behind": "lower"}


class Effect(NamedTuple):
    """One effect of the factorial, a difference of IQMs.

    Attributes:
        kind: geometry, boundary, or the interaction of the two.
        first: what the difference is taken of: a geometry or a boundary.
        second: what is subtracted. For an interaction, the two geometries with which the
            boundary's effect is compared.
        estimate: the difference.
        verdict: corrected for the effects of its factorial.
    """

    kind: str
    first: str
    second: str
    estimate: Estimate
    verdict: Direction


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
    found = []
    for name, tasks in groups(grid.complete(names)).items():
        scores, _ = diverged_as_lowest(grid.scores_of(names, tasks))
        found.append(Factorial(name, tasks, *factorial(scores)))
    return tuple(found)


def factorial(scores: Floats, resamples: int = 10_000) -> tuple[Estimate, tuple[Effect, ...]]:
    """The IQMs (3, 2) of the cells, and what geometry and boundary do to them.

    Each cell's seeds are resampled on their own, within each task; all effects are taken on the
    same resamples. The verdicts are corrected for the number of effects (Holm), see `verdicts`.

    Args:
        scores: (6, T, S) by geometry, then boundary.
        resamples: how many.
    """
    weights = np.array([_weights(*effect) for effect in EFFECTS])

    def table(*cells: Floats) -> Floats:
        """(..., 6 + E): the cells, then the effects."""
        values = np.stack([iqm(cell) for cell in cells], axis=-1)
        return np.concatenate([values, values @ weights.T], axis=-1)

    # equal scores differ by nothing
    value = np.round(table(*scores), 9)
    values = np.round(widened_bootstrap(table, *scores, resamples=resamples), 9)
    ends = percentiles(values)
    shape, settles = (len(GEOMETRIES), len(BOUNDARIES)), scores.shape[-1] >= FEWEST_SEEDS
    cells = Estimate(*(x[:6].reshape(shape) for x in (value, *ends)))
    effects = [Estimate(*x) for x in zip(value[6:], ends.low[6:], ends.high[6:], strict=True)]
    words = verdicts([evidence(x, margin=0.0) for x in values[:, 6:].T])
    return cells, tuple(
        Effect(kind, first, second, found, _direction(word, found) if settles else "not settled")
        for (kind, first, second), found, word in zip(EFFECTS, effects, words, strict=True)
    )


def _weights(kind: str, first: str, second: str) -> Floats:
    """(6,) of the cells in an effect, which is their weighted sum."""
    # means over what an effect is not about; an interaction is about both
    geometry, boundary = np.full(len(GEOMETRIES), 1 / 3), np.full(len(BOUNDARIES), 1 / 2)
    if kind == "boundary":
        boundary = _difference(BOUNDARIES, first, second)
    else:
        geometry = _difference(GEOMETRIES, first, second)
    if kind == "interaction":
        boundary = _difference(BOUNDARIES, *reversed(BOUNDARIES))
    return np.outer(geometry, boundary).ravel()


def _difference(names: tuple[str, ...], first: str, second: str) -> Floats:
    return np.array([float(name == first) - float(name == second) for name in names])


def _direction(verdict: Verdict, estimate: Estimate) -> Direction:
    """In words of an effect; without any spread there is nothing to settle."""
    if estimate.low == estimate.high == 0:
        return "equal"
    return DIRECTIONS.get(verdict, "not settled")
