"""Confidence intervals by resampling seeds: arrays in, arrays out, NumPy alone.

Legend: T tasks, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from marsrl.report.stats import Floats, full_grid, mean

_CHUNK = 1 << 18
"""Scores that are resampled at a time: 2 MB, and a statistic may need a hundred times as much."""


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
        widen: make up for few seeds, see `widened`.

    Returns:
        The two ends, (...) each. With one seed both are the statistic itself.

    Raises:
        ValueError: a setting is out of range; see also `full_grid`.
    """
    values = bootstrap(statistic, *arrays, seed=seed, resamples=resamples)
    if widen:
        values = widened(values, statistic(*arrays), *(np.shape(array)[:2] for array in arrays))
    return percentiles(values, confidence)


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


def widened(values: Floats, value: Floats, *shapes: tuple[int, int]) -> Floats:
    """Resampled values, spread further around the statistic to make up for few seeds.

    A resample of S seeds has the variance of S - 1: the standard error is too small by
    `sqrt((S - 1) / S)`. And it is itself an estimate, with about T (S - 1) degrees of freedom per
    array, so that quantiles are Student's rather than the normal's: at 95 % larger by
    `1 + 1.21 / v + 1.44 / v^2` (Cornish and Fisher, 1938).

    Args:
        values: (R, ...) as of `bootstrap`.
        value: (...) the statistic itself.
        *shapes: (T, S) of each array. One seed has no spread to widen.
    """
    seeds = min(seeds for _, seeds in shapes)
    if seeds == 1:
        return values
    freedom = sum(tasks * (seeds - 1) for tasks, seeds in shapes)
    factor = (seeds / (seeds - 1)) ** 0.5 * (1 + 1.21 / freedom + 1.44 / freedom**2)
    return value + factor * (values - value)


def percentiles(values: Floats, confidence: float = 0.95) -> Interval:
    """The interval between the percentiles of resampled values (R, ...) that enclose `confidence`.

    Raises:
        ValueError: the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must be between 0 and 1, such as 0.95")
    tail = (1 - confidence) / 2
    return Interval(*np.quantile(values, [tail, 1 - tail], axis=0))


def bootstrap_mean_interval(
    x: ArrayLike, seed: int = 0, confidence: float = 0.95, resamples: int = 10_000
) -> Interval:
    """`stratified_interval` of the mean over the seeds of one task.

    Args:
        x: (S, ...) one row per seed; all columns are resampled alike.
        seed: of the resampling.
        confidence: nominal coverage.
        resamples: how many.

    Returns:
        The two ends, (...) each.

    Raises:
        ValueError: `x` has no seeds or is not finite, or a setting is out of range.
    """
    one_task = full_grid("x", x, axes=1)[None]
    return stratified_interval(
        mean, one_task, seed=seed, confidence=confidence, resamples=resamples
    )


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
    band[:, complete] = (known.mean(axis=0), *bootstrap_mean_interval(known, resamples=2_000))
    return Estimate(*band)


def _resample(grid: Floats, rng: np.random.Generator, count: int) -> Floats:
    """(T, S, ...) -> (T, S, count, ...), the seeds of each task drawn with replacement."""
    tasks, seeds = grid.shape[:2]
    drawn = rng.integers(seeds, size=(count, tasks, seeds))
    return grid[np.arange(tasks)[:, None, None], np.moveaxis(drawn, 0, 2)]
