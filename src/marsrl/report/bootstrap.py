"""Confidence intervals by resampling seeds: arrays in, arrays out, NumPy alone.

Legend: T tasks, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marsrl.report.stats import Floats, full_grid, mean

_CHUNK = 1 << 18
"""Scores that are resampled at a time: 2 MB, and a statistic may need a hundred times as much."""
_NEXT = 4
"""Other seeds that each is compared with for degrees of freedom; all, if there are five seeds."""


class Interval(NamedTuple):
    """The ends of a confidence interval, each with the shape of the estimate."""

    low: Floats
    high: Floats


class Estimate(NamedTuple):
    """A value and the ends of its confidence interval, of one shape."""

    value: Floats
    low: Floats
    high: Floats


def stratified_interval(
    statistic: Callable[..., Floats],
    *arrays: ArrayLike,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 10_000,
    widen: bool = False,
) -> Interval:
    """Percentile interval of a statistic by the stratified bootstrap; see `bootstrap`.

    Args:
        statistic: takes each array as (T, S, R, ...) and returns (R, ...), as those of `stats`
            do.
        *arrays: (T, S, ...) scores, one array per method.
        seed: of the resampling; the same seed gives the same interval.
        confidence: nominal coverage, between 0 and 1. With few seeds the true one is lower.
        resamples: how many; 2,000 will do for the band of a curve.
        widen: make up for few seeds, see `widened_bootstrap`.

    Returns:
        The two ends, (...) each. With one seed both are the statistic itself.

    Raises:
        ValueError: a setting is out of range; see also `full_grid`.
    """
    resampled = widened_bootstrap if widen else bootstrap
    return percentiles(resampled(statistic, *arrays, seed=seed, resamples=resamples), confidence)


def bootstrap(
    statistic: Callable[..., Floats], *arrays: ArrayLike, seed: int = 0, resamples: int = 10_000
) -> Floats:
    """Values (R, ...) of a statistic on resampled seeds (Efron, 1979), stratified by task.

    A resample draws S seeds with replacement anew within each task and each array; tasks are never
    resampled, since they are not a sample of anything. Further axes of an array, such as the steps
    of a curve, move with their seed.

    Args:
        statistic: takes each array as (T, S, R, ...) and returns (R, ...).
        *arrays: (T, S, ...) scores, one array per method.
        seed: of the resampling.
        resamples: R.

    Raises:
        ValueError: there are no resamples, or the statistic returned another number of them; see
            also `full_grid`.
    """
    if resamples < 1:
        raise ValueError(f"resamples = {resamples} must be at least 1")
    grids = [full_grid(f"arrays[{i}]", array) for i, array in enumerate(arrays)]
    # a stream for each array, so that values do not depend on where chunks end
    streams = np.random.default_rng(seed).spawn(len(grids))
    chunk = max(1, _CHUNK // max(1, sum(grid.size for grid in grids)))
    values = []
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        pairs = zip(grids, streams, strict=True)
        value = statistic(*(_resample(grid, stream, count) for grid, stream in pairs))
        if np.shape(value)[:1] != (count,):
            raise ValueError(
                f"the statistic of {count} resamples has shape {np.shape(value)}, expected "
                f"({count}, ...)"
            )
        values.append(value)
    return np.concatenate(values)


def widened_bootstrap(
    statistic: Callable[..., Floats], *arrays: ArrayLike, seed: int = 0, resamples: int = 10_000
) -> Floats:
    """Values of `bootstrap`, `widened` by the `degrees_of_freedom` that the tasks have."""
    values = bootstrap(statistic, *arrays, seed=seed, resamples=resamples)
    grids = [np.asarray(array, np.float64) for array in arrays]
    shapes = [(len(grid), grid.shape[1]) for grid in grids]
    if min(seeds for _, seeds in shapes) == 1:
        return values
    freedom = degrees_of_freedom(statistic, *grids)
    return widened(values, np.asarray(statistic(*grids)), *shapes, freedom=freedom)


def widened(
    values: Floats, value: Floats, *shapes: tuple[int, int], freedom: Floats | None = None
) -> Floats:
    """Resampled values, spread further around the statistic to make up for few seeds.

    A resample of S seeds has the variance of S - 1: the standard error is too small by
    `sqrt((S - 1) / S)`. And it is itself an estimate, so that quantiles are Student's rather than
    the normal's: each value is moved out by the ratio of the two at its own rank. A ratio of the
    95 % interval alone would leave the far tails, where corrected p values are, too short.

    Args:
        values: (R, ...) as of `bootstrap`.
        value: (...) the statistic itself.
        *shapes: (T, S) of each array. One seed has no spread to widen.
        freedom: (...) see `degrees_of_freedom`; default: T (S - 1) per array, which a mean has if
            all tasks have one variance.
    """
    seeds = min(seeds for _, seeds in shapes)
    if seeds == 1:
        return values
    if freedom is None:
        freedom = np.array(sum(tasks * (seeds - 1) for tasks, seeds in shapes), np.float64)
    rank = values.argsort(axis=0, kind="stable").argsort(axis=0)
    factor = (seeds / (seeds - 1)) ** 0.5 * _student(_normal(len(values))[rank], freedom)
    return value + factor * (values - value)


def degrees_of_freedom(statistic: Callable[..., Floats], *arrays: Floats) -> Floats:
    """Degrees of freedom (...) of a statistic's standard error, whichever tasks it comes from.

    `(sum a)^2 / sum(a^2 / (S - 1))` over all tasks of all arrays (Satterthwaite, 1946), where `a`
    is what the seeds of one task add to the variance of the statistic: where few tasks carry it,
    it is known from their few seeds alone.

    `a` is S / 2 times the mean square of what it changes that one seed scores what another one
    does. Of a mean these are all differences of two seeds, and it is exact. The jackknife would
    leave gaps in rows.

    Args:
        statistic: see `bootstrap`.
        *arrays: (T, S, ...) each, S of at least 2. Without any spread it is T (S - 1) of each.
    """
    value = np.asarray(statistic(*arrays))
    chunk = max(1, _CHUNK // max(1, sum(array.size for array in arrays)))
    shares, known = [], []
    for place, grid in enumerate(arrays):
        tasks, seeds = grid.shape[:2]
        pairs = _pairs(seeds)
        for task in range(tasks):
            squares = np.zeros_like(value)
            for some in np.array_split(pairs, -(-len(pairs) // chunk)):
                copies = [_copies(array, len(some)) for array in arrays]
                copies[place] = _exchanged(grid, task, some)
                squares += ((statistic(*copies) - value) ** 2).sum(axis=0)
            shares.append(seeds / 2 * squares / len(pairs))
            known.append(seeds - 1)
    a, known = np.stack(shares), np.array(known, np.float64)
    squares = np.tensordot(1 / known, a**2, axes=1)
    spread = squares > 0
    return np.where(spread, a.sum(axis=0) ** 2 / np.where(spread, squares, 1), known.sum())


def percentiles(values: Floats, confidence: float = 0.95) -> Interval:
    """The interval between the percentiles of resampled values (R, ...) that enclose `confidence`.

    Raises:
        ValueError: the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must be between 0 and 1, such as 0.95")
    tail = (1 - confidence) / 2
    return Interval(*np.quantile(values, [tail, 1 - tail], axis=0))


def mean_band(x: Floats) -> Estimate:
    """The mean over seeds of a curve, with its 95 % bootstrap interval.

    Args:
        x: (S, T) one curve per seed; NaN where a seed has no value.

    Returns:
        (T,) each; NaN where any seed has no value, since a mean over fewer is not comparable.
    """
    complete = np.isfinite(x).all(axis=0)
    band = np.full((3, x.shape[1]), np.nan)
    known = x[:, complete]
    interval = stratified_interval(mean, known[None], resamples=2_000)
    band[:, complete] = (known.mean(axis=0), *interval)
    return Estimate(*band)


def _resample(grid: Floats, rng: np.random.Generator, count: int) -> Floats:
    """(T, S, ...) -> (T, S, count, ...), the seeds of each task drawn with replacement."""
    tasks, seeds = grid.shape[:2]
    drawn = rng.integers(seeds, size=(count, tasks, seeds))
    return grid[np.arange(tasks)[:, None, None], np.moveaxis(drawn, 0, 2)]


def _copies(grid: Floats, count: int) -> Floats:
    """(T, S, ...) -> (T, S, count, ...), all alike."""
    tasks, seeds, *rest = grid.shape
    return np.broadcast_to(grid[:, :, None], (tasks, seeds, count, *rest))


def _pairs(seeds: int) -> NDArray[np.int_]:
    """(P, 2) each seed with every other, or with the `_NEXT` after it if there are more."""
    step = np.arange(1, min(seeds, _NEXT + 1))
    each = np.arange(seeds)[:, None]
    others = (each + step) % seeds
    return np.stack([np.broadcast_to(each, others.shape), others], axis=-1).reshape(-1, 2)


def _exchanged(grid: Floats, task: int, pairs: NDArray[np.int_]) -> Floats:
    """(T, S, ...) -> (T, S, P, ...): with one seed of a task scoring as another, pair by pair."""
    copies = _copies(grid, len(pairs)).copy()
    copies[task, pairs[:, 0], np.arange(len(pairs))] = grid[task, pairs[:, 1]]
    return copies


@lru_cache(maxsize=8)
def _normal(count: int) -> Floats:
    """(count,) the normal's quantiles at the ranks of so many values."""
    return np.array([NormalDist().inv_cdf((rank + 0.5) / count) for rank in range(count)])


def _student(z: Floats, freedom: Floats) -> Floats:
    """By what the normal's quantiles are multiplied to be Student's (Wallace, 1959).

    At 95 % and 2 degrees of freedom 4 % too much, at 3 1 %, and ever closer beyond.

    Args:
        z: (R, ...) quantiles of the normal.
        freedom: (...).
    """
    stretch = (8 * freedom + 3) / (8 * freedom + 1)
    t = np.sqrt(freedom * np.expm1((stretch * z) ** 2 / freedom))
    return np.where(z == 0, stretch, t / np.where(z == 0, 1, np.abs(z)))
