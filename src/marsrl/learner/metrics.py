"""Means that can still be added up: over minibatches, devices and updates."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.learner.advantages import Axes
from marsrl.types import Array


class Tally(NamedTuple):
    """A mean as its two parts; of nothing, it has no value, and needs no NaN to say so.

    Attributes:
        total: the sum.
        number: of how many.
    """

    total: Array
    number: Array


Metrics = dict[str, Any]
"""Name -> `Tally`, or the extremes `*/min` and `*/max`, or else numbers of something."""


def one(x: Array) -> Tally:
    """A value as the mean of itself."""
    return Tally(x, jnp.ones_like(x))


def mean_over(number: Array | float, x: Array) -> Tally:
    """A value as the mean of so many; of nothing where it is NaN because nothing was there."""
    number = jnp.where(jnp.isnan(x), 0.0, number)
    return Tally(jnp.where(number > 0, x * number, 0.0), number)


def nothing(like: Metrics) -> Metrics:
    """Metrics of the same shapes that change nothing when they are added up with others."""

    def empty(name: str, x: Tally | Array) -> Tally | Array:
        if isinstance(x, Tally):
            return Tally(jnp.zeros(x.total.shape), jnp.zeros(x.number.shape))
        return jnp.full(x.shape, jnp.inf if name.endswith("/min") else -jnp.inf)

    return {name: empty(name, x) for name, x in like.items()}


def summed(metrics: Metrics, axes: Axes = ()) -> Metrics:
    """Over all axes of every metric, those of the mesh too."""
    extremes: Metrics = {}
    tallies = {}
    for name, x in metrics.items():
        if isinstance(x, Tally):
            tallies[name] = jnp.stack([x.total.sum(), x.number.sum().astype(x.total.dtype)])
        elif name.endswith("/min"):
            extremes[name] = jax.lax.pmin(x.min(), axes)
        else:
            extremes[name] = jax.lax.pmax(x.max(), axes)
    sums = jax.lax.psum(jnp.stack(list(tallies.values())), axes)  # one exchange for all
    return extremes | {name: Tally(*x) for name, x in zip(tallies, sums, strict=True)}


def merged(metrics: Metrics) -> dict[str, np.ndarray]:
    """The values of metrics whose last axis is of successive updates; NaN for a mean of nothing."""
    values = {}
    for name, x in metrics.items():
        if isinstance(x, Tally):
            with np.errstate(invalid="ignore", divide="ignore"):
                values[name] = np.sum(x.total, -1) / np.sum(x.number, -1)
        elif name.endswith("/min"):
            values[name] = np.min(x, -1)
        else:
            values[name] = np.max(x, -1) if name.endswith("/max") else np.sum(x, -1)
    return values
