"""Statistics over seeds: arrays in, arrays out, NumPy alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """The ends of a confidence interval, each with the shape of the estimate."""

    low: Floats
    high: Floats


class Band(NamedTuple):
    """A mean over seeds and its interval at every step, (T,) each."""

    mean: Floats
    low: Floats
    high: Floats


def bootstrap_mean_interval(
    x: ArrayLike, seed: int = 0, confidence: float = 0.95, resamples: int = 10_000
) -> Interval:
    """Percentile bootstrap interval of the mean over seeds (Efron, 1979).

    A resample draws S seeds with replacement, the same ones in every column. The interval of a
    single seed is its value itself, which says nothing about the spread between seeds.

    Args:
        x: (S, ...) one row per seed.
        seed: of the resampling; the same seed gives the same interval.
        confidence: nominal coverage, between 0 and 1. With few seeds the true one is lower.
        resamples: how many.

    Returns:
        The two ends, (...) each.

    Raises:
        ValueError: `x` has no seeds or is not finite, or a setting is out of range.
    """
    x = np.asarray(x, np.float64)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"x has shape {x.shape}, expected a first axis of at least one seed")
    if not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))[0].tolist()
        raise ValueError(f"x{bad} = {x[tuple(bad)]}, expected finite numbers alone")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must be between 0 and 1, such as 0.95")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples} must be at least 1")
    seeds = x.shape[0]
    # how often each seed is drawn is all that a mean depends on
    drawn = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
    means = np.tensordot(drawn, x, axes=1) / seeds
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return Interval(low, high)


def mean_band(x: Floats, resamples: int = 2_000) -> Band:
    """The mean over seeds of a curve, with its 95 % bootstrap interval.

    Args:
        x: (S, T) one curve per seed; NaN where a seed has no value.
        resamples: of the bootstrap.

    Returns:
        (T,) each; NaN where any seed has no value, since a mean over fewer is not comparable.
    """
    complete = np.isfinite(x).all(axis=0)
    band = np.full((3, x.shape[1]), np.nan)
    known = x[:, complete]
    band[:, complete] = (known.mean(axis=0), *bootstrap_mean_interval(known, resamples=resamples))
    return Band(*band)


def mean_present(x: Floats, axis: int) -> Floats:
    """The mean along `axis` of the values that are not NaN; NaN where there are none."""
    known = np.isfinite(x)
    count = known.sum(axis=axis)
    total = np.where(known, x, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def probability_of_improvement(x: Floats, y: Floats) -> float:
    """The share of seed pairs in which `x` wins, a tie counting half: P(X > Y) + P(X = Y) / 2.

    Args:
        x: (S,) scores of one method.
        y: (S',) scores of the other.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError(f"scores {x} and {y} hold NaN, expected numbers alone")
    return float((np.sign(np.subtract.outer(x, y)).mean() + 1) / 2)
