"""Generalised advantage estimation and the one masked mean that every loss uses."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from marsrl.types import Array


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: Array | float,
    gae_lambda: Array | float,
) -> tuple[Array, Array]:
    """Generalised advantage estimation that tells termination from truncation.

    `delta_t = r_t + gamma (1 - terminated_t) next_value_t - value_t` and
    `A_t = delta_t + gamma lambda (1 - done_t) A_{t+1}` (Schulman et al. 2016): termination makes
    the future worthless, either end cuts the sum.

    Args:
        reward: (T, ...), paid for the transition out of step t.
        value: (T, ...), of the step that was acted on.
        next_value: (T, ...), of the step that followed, *before* any reset.
        terminated: (T, ...) bool.
        truncated: (T, ...) bool.
        gamma: discount per step.
        gae_lambda: 0 = one-step, 1 = Monte Carlo.

    Returns:
        `(advantage, target)`, both (T, ...), with `target = advantage + value`.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda)

    def backward(advantage: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(backward, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantage, advantage + value


Axes = tuple[str, ...]
"""Names of mesh axes over which a batch is spread; `()` if all of it is here."""


def masked_mean(
    x: Array, mask: Array, axes: Axes = (), over: tuple[int, ...] | None = None
) -> Array:
    """Mean of `x` where `mask` is True; 0 if it is nowhere True.

    Args:
        x: any shape.
        mask: of the same shape, or broadcastable to it.
        axes: mesh axes over which `x` is spread.
        over: the axes of `x` to average over; default: all.
    """
    weight = jnp.broadcast_to(mask, x.shape).astype(x.dtype)
    total, count = jax.lax.psum((jnp.sum(x * weight, over), jnp.sum(weight, over)), axes)
    return total / jnp.maximum(count, 1.0)


def mean_and_std(
    x: Array, mask: Array, axes: Axes = (), over: tuple[int, ...] | None = None
) -> tuple[Array, Array]:
    """Mean and standard deviation of `x` over the masked entries; arguments as `masked_mean`."""
    mean = masked_mean(x, mask, axes, over)
    # the leading axes are those that are averaged over, so the rest of `x` lines up with its mean
    return mean, jnp.sqrt(masked_mean((x - mean) ** 2, mask, axes, over))
