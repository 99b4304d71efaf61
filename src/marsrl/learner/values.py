"""What steps are worth: one pass of the critic, bootstraps at time limits, and advantages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from marsrl.learner.advantages import Axes, gae, masked_mean
from marsrl.learner.experience import RolloutState, Steps, Transition
from marsrl.learner.modules import Carry
from marsrl.learner.networks import Networks, Weights
from marsrl.learner.schedule import Schedule
from marsrl.types import Array


@dataclass(frozen=True)
class Returns:
    """What the learner takes rewards and time limits for.

    Attributes:
        bootstrap_truncated: whether the final observation is valued where the clock ran out,
            instead of counting it as 0.
        reward_scale: what rewards are multiplied by before the learner sees them.
    """

    bootstrap_truncated: bool
    reward_scale: float


def valued(
    returns: Returns,
    schedule: Schedule,
    networks: Networks,
    critic: Weights,
    state: RolloutState,
    transition: Transition,
    axes: Axes,
) -> tuple[Steps, Carry, Carry]:
    """Values all steps in one pass of the critic, then estimates advantages.

    Returns:
        The steps; and the critic's carries before `state`, (E, ...), and before each step,
        (T, E, ...).
    """
    now = state.vector.time_step
    carries, values = networks.value(
        critic,
        state.critic_carry,
        _append(transition.obs, now.obs),
        _append(transition.global_state, now.global_state),
        _append(transition.first, state.vector.first),
    )
    value, next_value = values[:-1], values[1:]
    # carries[t] is the carry after step t; `before[t]`, with T + 1 entries, the one before it
    before = jax.tree.map(
        lambda start, after: jnp.concatenate([start[None], after[:-1]]), state.critic_carry, carries
    )
    terminated, truncated = transition.terminated, transition.truncated
    if returns.bootstrap_truncated:
        acted = _acted_on(networks, transition, value, axes)
        next_value = _bootstrapped(networks, critic, transition, carries, next_value, acted, axes)
    else:
        terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)
    advantage, target = gae(
        transition.reward,
        value,
        next_value,
        terminated,
        truncated,
        schedule.gamma,
        schedule.gae_lambda,
    )
    steps = Steps(transition, value, advantage, target)
    after, before = (jax.tree.map(lambda c, part=part: c[part], before) for part in (-1, slice(-1)))
    return steps, after, before


class _ActedOn(NamedTuple):
    """Between what the steps of a rollout, on all devices, were: the least and the greatest.

    Attributes:
        inputs: (F,) each, of what the critic reads of those that live.
        of_all: (F,) each, of the dead too, whose values can be the team's all the same.
        values: (V,) each, of the values that belong to someone.
        mean: (V,) of those values.
    """

    inputs: tuple[Array, Array]
    of_all: tuple[Array, Array]
    values: tuple[Array, Array]
    mean: Array

    def nearest(self, x: Array, live: Array) -> Array:
        """Inputs (..., F) of agents that live or not, (..., 1), moved to the nearer bound."""
        return jnp.where(live, _within(self.inputs, x), _within(self.of_all, x))


def _acted_on(networks: Networks, transition: Transition, value: Array, axes: Axes) -> _ActedOn:
    x = networks.critic_input(transition.obs, transition.global_state)
    owned = owned_values(networks, transition.agent_mask)
    live = living(x, transition.agent_mask)
    bounds = _bounds(x, live), _bounds(x, jnp.ones_like(live)), _bounds(value, owned)
    least, greatest = zip(*bounds, strict=True)
    inputs, of_all, values = zip(
        jax.lax.pmin(least, axes), jax.lax.pmax(greatest, axes), strict=True
    )
    return _ActedOn(inputs, of_all, values, masked_mean(value, owned, axes, over=(0, 1)))


def _clocks(networks: Networks, transition: Transition, acted: _ActedOn, axes: Axes) -> Array:
    """(F,) bool: what most final observations have out of bounds, where the clock ran out.

    Of many numbers some are out of bounds by chance, but seldom the same ones. Where only one or
    two episodes of a rollout end so, chance is taken for a clock, which costs less than a clock
    that is taken for chance: then values run away.
    """
    x = networks.critic_input(transition.final_obs, transition.final_state)
    at_limit = transition.truncated.any(-1).reshape(
        (*transition.truncated.shape[:2], *[1] * (x.ndim - 2))
    )
    out = at_limit & (acted.nearest(x, living(x, transition.final_mask)) != x)
    over = tuple(range(x.ndim - 1))
    number = jnp.broadcast_to(at_limit, (*x.shape[:-1], 1)).sum(over)
    return 2 * jax.lax.psum(out.sum(over), axes) > jax.lax.psum(number, axes)


def _bounds(x: Array, owned: Array) -> tuple[Array, Array]:
    """Least and greatest of what belongs to someone, over all axes but the last."""
    over = tuple(range(x.ndim - 1))
    return jnp.where(owned, x, jnp.inf).min(over), jnp.where(owned, x, -jnp.inf).max(over)


def _within(bounds: tuple[Array, Array], x: Array) -> Array:
    """What lies outside is moved to the nearer bound; bounds of nothing change nothing."""
    low, high = bounds
    return jnp.where(low <= high, jnp.clip(x, low, high), x)


def _bootstrapped(
    networks: Networks,
    critic: Weights,
    transition: Transition,
    carries: Carry,
    next_value: Array,
    acted: _ActedOn,
    axes: Axes,
) -> Array:
    """`next_value` with what the true final observation is worth where the clock ran out.

    Nobody acts on a final observation, so the critic is not trained on it. If it is like others
    that is no matter. But if it tells the time it is like no other, and its value an extrapolation:
    the values before it are bootstrapped from it, and raise it in turn, without end. So one that
    tells the time, see `_clocks`, is worth what a step is worth on average; whatever else the
    critic reads is taken to be no further out than where somebody acted; and no value is more, or
    less, than all of those.

    An episode is rarely truncated but at its horizon, so the critic sees `M = ceil(T / max_steps)`
    steps of each environment again, not T; more often if there are more.
    """
    T, E, _ = transition.truncated.shape
    M = -(-T // networks.spec.max_steps)

    def some(state: tuple[Array, Array]) -> tuple[Array, Array]:
        next_value, left = state
        # the first M truncated steps of each environment, or others, which then stay as they are
        at = jnp.argsort(~left, axis=0, stable=True)[:M], jnp.arange(E)
        obs, global_state, carry = jax.tree.map(
            lambda x: x[at].reshape((1, M * E, *x.shape[2:])),
            (transition.final_obs, transition.final_state, carries),
        )
        carry = jax.tree.map(lambda c: c[0], carry)
        x = networks.critic_input(obs, global_state)
        live = living(x, transition.final_mask[at].reshape((1, M * E, -1)))
        near = acted.nearest(x, live)
        value = networks.value_of(critic, carry, near, jnp.zeros((1, M * E), bool))[1]
        late = ((near != x) & clocks).any(-1).reshape((1, M * E, -1))  # the team, or each agent
        value = jnp.where(late, acted.mean, _within(acted.values, value)).reshape((M, E, -1))
        wanted = transition.truncated[at] & left[at][..., None]
        next_value = next_value.at[at].set(jnp.where(wanted, value, next_value[at]))
        return next_value, left.at[at].set(False)

    left = transition.truncated.any(-1)
    clocks = _clocks(networks, transition, acted, axes)
    return jax.lax.while_loop(lambda state: state[1].any(), some, (next_value, left))[0]


def living(x: Array, agent_mask: Array) -> Array:
    """(..., [N,] 1) bool: inputs (..., [N,] F) of agents or the team are of some that live."""
    mask = agent_mask if x.ndim > agent_mask.ndim else agent_mask.any(-1)
    return mask[..., None]


def owned_values(networks: Networks, agent_mask: Array) -> Array:
    """(..., V) bool: the value stream belongs to someone, for agents (..., N) that live or not.

    Where the reward is shared, every stream is the team's, also while nobody lives: values before
    are bootstrapped from it, so the critic must be trained on it (see `_bootstrapped`).
    """
    if not networks.spec.shared_reward:
        return agent_mask
    return jnp.ones((*agent_mask.shape[:-1], networks.num_values), bool)


def _append(x: Array, last: Array) -> Array:
    return jnp.concatenate([x, last[None]])
