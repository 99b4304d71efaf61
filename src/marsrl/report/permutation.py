"""Exact comparisons of few seeds: which differences of two methods on one task their runs exclude.

If a method's runs are another's, all `d` higher, then taking `d` off makes the two exchangeable:
each of the ways to deal the pooled runs out to two methods was as likely as the one that was seen.
So the share of ways whose difference of means is at least as large is an exact p value, at two
seeds as at twenty, whatever the distribution. (Fisher, 1935; Pitman, 1937.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marsrl.report.stats import Floats, full_grid

MOST_DEALS = 200_000
"""Ways to deal runs out that are all looked at; of more than these, `_SAMPLED` random ones."""
_SAMPLED = 20_000
_DECIMALS = 9  # of a difference; what differs in later digits is equal


class Shifts(NamedTuple):
    """By how much one method's runs may be shifted against another's.

    Attributes:
        difference: of the means.
        bounds: (D - 1,) ascending; one of D deals is at least as extreme as the one that was seen
            if the true difference is as large as its bound, or larger.
    """

    difference: float
    bounds: Floats

    def p_above(self, shift: float) -> float:
        """The p value of "the true difference is at most this", against "it is larger"."""
        found = np.searchsorted(self.bounds, round(shift, _DECIMALS), side="right")
        return float(1 + found) / (1 + len(self.bounds))

    def p_below(self, shift: float) -> float:
        """The p value of "the true difference is at least this", against "it is smaller"."""
        found = np.searchsorted(self.bounds, round(shift, _DECIMALS), side="left")
        return float(1 + len(self.bounds) - found) / (1 + len(self.bounds))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The differences that are not excluded; the widest there is if all deals are too few."""
        if not len(self.bounds):
            return -math.inf, math.inf
        deals = 1 + len(self.bounds)
        cut = max(0, math.floor(deals * (1 - confidence) / 2 + 1e-9) - 1)
        return float(self.bounds[cut]), float(self.bounds[-1 - cut])


def shifts(x: ArrayLike, y: ArrayLike) -> Shifts:
    """Compares the runs of two methods on one task.

    Args:
        x: (S,) scores of one method.
        y: (S',) scores of the other.

    Raises:
        ValueError: see `full_grid`.
    """
    x, y = full_grid("x", x, axes=1), full_grid("y", y, axes=1)
    chosen = _deals(len(x), len(y))
    pooled = np.concatenate([x, y])
    swapped = (chosen >= len(x)).sum(axis=1)
    first = pooled[chosen].sum(axis=1)
    dealt = first / len(x) - (pooled.sum() - first) / len(y)
    difference = x.mean() - y.mean()
    # a shift of x moves the seen difference by itself, and that of a deal by less: 1 - weight of it
    weight = swapped * (1 / len(x) + 1 / len(y))
    bounds = (difference - dealt[swapped > 0]) / weight[swapped > 0]
    return Shifts(float(difference), np.sort(np.round(bounds, _DECIMALS)))


def attainable(seeds: int) -> float:
    """The confidence of the interval of a single task, which few seeds keep below 95 %."""
    return min(0.95, max(0.0, 1 - 2 / math.comb(2 * seeds, seeds)))


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """P values corrected for their number (Holm, 1979).

    Rejecting all that are at most `a` errs with a probability of at most `a`, however many of the
    hypotheses are true.
    """
    corrected, worst = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = worst
    return tuple(corrected)


@lru_cache(maxsize=8)
def _deals(first: int, second: int) -> NDArray[np.int32]:
    """(D, first) which of the pooled runs the first method gets: every deal once, as it was first.

    Of too many, a random sample and the one that was seen.
    """
    total = first + second
    if math.comb(total, first) <= MOST_DEALS:
        every = chain.from_iterable(combinations(range(total), first))
        return np.fromiter(every, np.int32).reshape(-1, first)
    order = np.random.default_rng(0).random((_SAMPLED, total)).argsort(axis=1)
    return np.concatenate([np.arange(first)[None], order[:, :first]]).astype(np.int32)
