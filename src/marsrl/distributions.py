"""Action distributions: masked categoricals and tanh-normal, with one interface.

All are trees of arrays, with bounds as part of the structure, so they cross `jit`, `vmap` and
`scan`. `sample` and `mode` return *raw* actions, `log_prob` takes them, and `env_action` turns them
into what an environment expects. Raw actions are others for the tanh-normal only: replaying the
stored pre-tanh value gives exactly the stored log-probability, where inverting the tanh of a
saturated action would not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.types import Array, Bound, Box, Discrete, Key, Space

ILLEGAL_LOGIT = -1e9  # finite, so that neither log-probabilities nor gradients meet inf - inf
# tanh(x) as a mean of erf(scale x), right to 1.2e-5 as is its integral, log cosh: a minimax fit,
# after the normal mixtures for the logistic of Monahan and Stefanski (1992)
_TANH_WEIGHTS = (0.0547240588169265, 0.3634475180789074, 0.4686941288738775, 0.1131342942302887)
_TANH_SCALES = (0.4480975778181232, 0.6629586182515241, 0.9775620257043183, 1.4363558965462069)


class Distribution(Protocol):
    """A batch of action distributions; shapes below are per batch element."""

    def sample(self, key: Key) -> Array:
        """Draws one raw action each.

        Args:
            key: one for all, or (B,), one for each entry of the first axis: what is drawn for an
                entry then depends on its own key alone.
        """
        ...

    def mode(self) -> Array:
        """The most probable raw action (for the tanh-normal: of the underlying normal)."""
        ...

    def log_prob(self, action: Array) -> Array:
        """Log-probability (density) of a raw action, summed over action dimensions; shape ()."""
        ...

    def entropy(self) -> Array:
        """Entropy in nats, summed over action dimensions; shape ()."""
        ...

    def env_action(self, action: Array) -> Array:
        """The action that the environment receives for a raw action."""
        ...


class Categorical(NamedTuple):
    """One of A actions, illegal ones with probability zero.

    Attributes:
        logits: (..., A) float, unnormalised, before masking.
        mask: (..., A) bool, True = legal; at least one per row.
    """

    logits: Array
    mask: Array

    @property
    def masked_logits(self) -> Array:
        """(..., A), `ILLEGAL_LOGIT` where an action is illegal."""
        return jnp.where(self.mask, self.logits, ILLEGAL_LOGIT)

    def _log_probs(self) -> Array:
        return jax.nn.log_softmax(self.masked_logits)

    def sample(self, key: Key) -> Array:
        """(...) int32."""
        noise = _draw(jax.random.gumbel, key, self.logits.shape)
        return jnp.argmax(self.masked_logits + noise, axis=-1)

    def mode(self) -> Array:
        """(...) int32."""
        return jnp.argmax(self.masked_logits, axis=-1)

    def log_prob(self, action: Array) -> Array:
        """(...) for (...) int actions."""
        return jnp.take_along_axis(self._log_probs(), action[..., None], axis=-1)[..., 0]

    def entropy(self) -> Array:
        """(...), `-sum p log p` over the legal actions."""
        log_probs = self._log_probs()
        return -jnp.sum(jnp.where(self.mask, jnp.exp(log_probs) * log_probs, 0.0), axis=-1)

    def env_action(self, action: Array) -> Array:
        """The action itself."""
        return action


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MultiCategorical:
    """Several choices at once, independent of each other: K categoricals, the choices' own.

    Attributes:
        logits: (..., A) float, those of one choice after those of another; see `Categorical`.
        mask: (..., A) bool, True = legal; at least one per choice.
        num_actions: of each choice; they add up to A.
    """

    logits: Array
    mask: Array
    num_actions: tuple[int, ...] = field(metadata={"static": True})

    @property
    def choices(self) -> tuple[Categorical, ...]:
        """The K categoricals."""
        return tuple(map(Categorical, self._split(self.logits), self._split(self.mask)))

    @property
    def masked_logits(self) -> Array:
        """(..., A), `ILLEGAL_LOGIT` where an action is illegal."""
        return Categorical(self.logits, self.mask).masked_logits

    def sample(self, key: Key) -> Array:
        """(..., K) int32."""
        noise = _draw(jax.random.gumbel, key, self.logits.shape)
        return self._best(self.masked_logits + noise)

    def mode(self) -> Array:
        """(..., K) int32."""
        return self._best(self.masked_logits)

    def log_prob(self, action: Array) -> Array:
        """(...) for (..., K) int actions: the sum over the choices."""
        return sum(
            (c.log_prob(action[..., k]) for k, c in enumerate(self.choices)), start=jnp.zeros(())
        )

    def entropy(self) -> Array:
        """(...), the sum over the choices."""
        return sum((choice.entropy() for choice in self.choices), start=jnp.zeros(()))

    def env_action(self, action: Array) -> Array:
        """The action itself."""
        return action

    def _split(self, x: Array) -> list[Array]:
        return jnp.split(x, np.cumsum(self.num_actions)[:-1], axis=-1)

    def _best(self, scores: Array) -> Array:
        return jnp.stack([jnp.argmax(x, axis=-1) for x in self._split(scores)], axis=-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TanhNormal:
    """A diagonal normal squashed by tanh into the box from `low` to `high`.

    Attributes:
        mean: (..., A) float, of the normal before the tanh.
        log_std: (..., A) float, likewise.
        mask: (..., A) bool; dimensions that are False do not exist for this agent and count
            neither in `log_prob` nor in `entropy`.
        low: one for all dimensions, or one for each.
        high: likewise.
    """

    mean: Array
    log_std: Array
    mask: Array
    low: Bound = field(metadata={"static": True})
    high: Bound = field(metadata={"static": True})

    def sample(self, key: Key) -> Array:
        """(..., A) float, before the tanh."""
        noise = _draw(jax.random.normal, key, self.mean.shape)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Array:
        """(..., A) float, before the tanh."""
        return self.mean

    def log_prob(self, action: Array) -> Array:
        """(...) for (..., A) raw actions: normal density over the Jacobian of the squashing."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        normal = -0.5 * z**2 - self.log_std - 0.5 * np.log(2 * np.pi)
        squashing = self._log_scale() + _log_slope(action)
        return jnp.sum(jnp.where(self.mask, normal - squashing, 0.0), axis=-1)

    def entropy(self) -> Array:
        """(...): entropy of the normal plus the mean log Jacobian, right to 3e-5 per dimension.

        In closed form, unlike the usual one-sample estimate, so that the entropy bonus adds no
        noise to the gradient.
        """
        squashing = self._log_scale() - 2.0 * self._mean_log_cosh()
        normal = self.log_std + 0.5 * np.log(2 * np.pi * np.e)
        return jnp.sum(jnp.where(self.mask, normal + squashing, 0.0), axis=-1)

    def _mean_log_cosh(self) -> Array:
        """(..., A), of `log cosh` over the normal.

        The second derivative of erf's integral is a normal density, whose mean over a normal is
        another one: the mean of the integral is the integral at a wider scale.
        """
        variance = jnp.exp(2.0 * self.log_std)
        total = jnp.full_like(self.mean, -np.log(2.0))
        for weight, scale in zip(_TANH_WEIGHTS, _TANH_SCALES, strict=True):
            wider = scale * jax.lax.rsqrt(1.0 + 2.0 * scale**2 * variance)
            x = wider * self.mean
            peak = jnp.exp(-jnp.square(x)) / (np.sqrt(np.pi) * wider)
            total += weight * (self.mean * jax.lax.erf(x) + peak)
        return total

    def env_action(self, action: Array) -> Array:
        """(..., A) in `[low, high]`; dimensions that do not exist are at the centre."""
        unit = jnp.where(self.mask, jnp.tanh(action), 0.0)
        return _within(self.low, self.high, (unit + 1.0) / 2.0)

    def _log_scale(self) -> Array:
        """() or (A,), log of half the width of the box."""
        return jnp.asarray(np.log(_width(self.low, self.high) / 2.0), self.mean.dtype)


def _log_slope(x: Array) -> Array:
    # log(1 - tanh(x)^2), in the form that does not cancel for large |x|
    return 2.0 * (np.log(2.0) - x - jax.nn.softplus(-2.0 * x))


def _width(low: Bound, high: Bound) -> np.ndarray:
    return np.asarray(high, np.float64) - np.asarray(low, np.float64)


def _within(low: Bound, high: Bound, share: Array) -> Array:
    """The points (..., A) that lie `share`, 0 to 1, of the way from `low` to `high`."""
    start, end, width = (jnp.asarray(x, share.dtype) for x in (low, high, _width(low, high)))
    return jnp.clip(start + width * share, start, end)  # rounding may lead out of it


ActionParams = tuple[Array, ...]
"""What a policy network puts out: `(logits,)` or `(mean, log_std)`, each (..., A)."""


def distribution(space: Space, action_params: ActionParams, action_mask: Array) -> Distribution:
    """The distribution over `space` with the given parameters; action_mask (..., A)."""
    if isinstance(space, Box):
        mean, log_std = action_params
        return TanhNormal(mean, log_std, action_mask, space.low, space.high)
    (logits,) = action_params
    if isinstance(space, Discrete):
        return Categorical(logits, action_mask)
    return MultiCategorical(logits, action_mask, space.num_actions)


def random_action(key: Key, space: Space, action_mask: Array) -> Array:
    """A uniformly random legal environment action per agent.

    Args:
        key: PRNG key, or one for each entry of the first axis.
        space: the action space.
        action_mask: (..., N, A) bool.

    Returns:
        (..., N) int32 for `Discrete`, (..., N, K) int32 for `MultiDiscrete`, (..., N, A) float32
        for `Box`.
    """
    if isinstance(space, Box):
        return _within(space.low, space.high, _draw(jax.random.uniform, key, action_mask.shape))
    return distribution(space, (jnp.zeros(action_mask.shape),), action_mask).sample(key)


def _draw(draw: Callable[..., Array], key: Key, shape: tuple[int, ...]) -> Array:
    """`draw(key, shape)`, or entry by entry with a key (B,) for each of the first axis."""
    if key.ndim == 0:
        return draw(key, shape)
    return jax.vmap(lambda key: draw(key, shape[1:]))(key)
