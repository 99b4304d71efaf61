"""Running mean and variance of what a network reads or has to predict."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from marsrl.learner.advantages import Axes
from marsrl.types import Array

LIMIT = 10.0
"""Standardised inputs are clipped at this many standard deviations."""
_LEAST_VARIANCE = 1e-6  # of a feature that hardly ever changes


class Moments(NamedTuple):
    """Of all that was merged; of shape (F,) each, for features that are counted apart.

    Attributes:
        number: of samples.
        mean: of them; 0 before the first.
        variance: likewise; 1 before the first.
    """

    number: Array
    mean: Array
    variance: Array

    @property
    def scale(self) -> Array:
        """The standard deviation, never 0."""
        return jnp.sqrt(jnp.maximum(self.variance, _LEAST_VARIANCE))


def no_moments(size: int) -> Moments:
    """Of nothing: standardising by them changes nothing."""
    return Moments(jnp.zeros(size), jnp.zeros(size), jnp.ones(size))


def merge(moments: Moments, x: Array, mask: Array, axes: Axes = ()) -> Moments:
    """The moments of what was merged before and of the masked entries of `x`, of all devices.

    Args:
        moments: (F,).
        x: (..., F).
        mask: (..., F), or 1 in place of any axis.
        axes: mesh axes over which `x` is spread.
    """
    rows = tuple(range(x.ndim - 1))
    mask = jnp.broadcast_to(mask, x.shape)

    def total(values: Array) -> Array:
        return jax.lax.psum(jnp.where(mask, values, 0.0).sum(rows), axes)

    count = total(jnp.ones_like(x))
    mean = total(x) / jnp.maximum(count, 1.0)
    variance = total((x - mean) ** 2) / jnp.maximum(count, 1.0)
    # the two sets together (Chan et al. 1979); nothing new changes nothing
    share = count / jnp.maximum(moments.number + count, 1.0)
    shift = mean - moments.mean
    return Moments(
        moments.number + count,
        moments.mean + share * shift,
        (1 - share) * (moments.variance + share * shift**2) + share * variance,
    )


def standardize(x: Array, moments: Moments) -> Array:
    """`(x - mean) / scale`, clipped at `LIMIT`; x is (..., F)."""
    return jnp.clip((x - moments.mean) / moments.scale, -LIMIT, LIMIT)


def layer_standardize(x: Array) -> Array:
    """Each row (F,) of `x` with mean 0 and variance 1: layer norm (Ba et al. 2016).

    Without a gain and a bias of its own, which the layer that reads it has.
    """
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
