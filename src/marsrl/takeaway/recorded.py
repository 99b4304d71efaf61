"""Recorded steps, and what the trained actor does at each, to compare an exported one with."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.vector import VectorEnv, opened, split_each, vectorize
from marsrl.errors import UserError
from marsrl.learner.moments import Moments
from marsrl.runs.policy import Policy
from marsrl.takeaway.actor import actor_of, inputs_of
from marsrl.types import Array, Box, Key

BATCH = 4
"""Environments that are recorded side by side."""
_EPISODE = 50
"""Steps of an episode that is drawn, not played."""


class Seen(NamedTuple):
    """What teams saw: T steps of B environments.

    Attributes:
        obs: (T, B, N, *obs_shape).
        action_mask: (T, B, N, A) bool.
        first: (T, B) bool, an episode begins here.
    """

    obs: Array | np.ndarray
    action_mask: Array | np.ndarray
    first: Array | np.ndarray


class Recorded(NamedTuple):
    """Recorded steps.

    Attributes:
        seen: what was seen.
        expected: what the trained actor puts out, name -> (T, B, N, ...).
        source: where the steps are from.
    """

    seen: Seen
    expected: dict[str, np.ndarray]
    source: str


def record(policy: Policy, steps: int, seed: int = 0) -> Recorded:
    """Steps of the team in its environment, or drawn ones if that cannot be made here.

    Args:
        policy: the team.
        steps: of all environments together, rounded up to a multiple of `BATCH`.
        seed: of the episodes.
    """
    try:
        seen, source = play(policy, steps, seed), "played in the environment with sampled actions"
    except UserError as error:  # not installed, not trusted, or it fails
        seen, source = draw(policy, steps, seed), f"drawn at random: {error}"
    return Recorded(seen, expected(policy, seen), source)


def play(policy: Policy, steps: int, seed: int = 0) -> Seen:
    """Plays with sampled actions; arguments as `record`.

    Raises:
        UserError: the environment cannot be made here, or fails outside of JAX.
    """
    vector = vectorize(policy.env)
    keys = jax.random.split(jax.random.key(seed), BATCH)
    with opened(vector):
        return jax.device_get(_play(policy, vector, -(-steps // BATCH))(keys))


def _play(policy: Policy, vector: VectorEnv, length: int) -> Any:
    def step(playing: tuple, _: None) -> tuple[tuple, Seen]:
        keys, state, carry, pool = playing
        keys, action_keys, env_keys = split_each(keys, 3)
        now, first = state.time_step, state.first
        carry, dist = policy.networks.act_once(policy.actor, carry, now, first)
        action = dist.env_action(dist.sample(action_keys))
        moved = vector.step(env_keys, state, action, pool)
        return (keys, moved[0], carry, moved[3]), Seen(now.obs, now.action_mask, first)

    def play(keys: Key) -> Seen:
        reset_keys, pool_keys, keys = split_each(keys, 3)
        carry = policy.networks.initial_carries(BATCH)[0]
        start = keys, vector.reset(reset_keys), carry, vector.empty_pool(pool_keys, 1)
        return jax.lax.scan(step, start, length=length)[1]

    return jax.jit(play)


def draw(policy: Policy, steps: int, seed: int = 0) -> Seen:
    """Draws observations and masks instead, where there is no environment.

    Observations have the mean and deviation of those that the actor was trained on, if it knows
    them.
    """
    spec, rng = policy.layout.spec, np.random.default_rng(seed)
    shape = (-(-steps // BATCH), BATCH, spec.num_agents)
    obs = rng.normal(size=(*shape, int(np.prod(spec.obs_shape))))
    moments = policy.actor.inputs
    if isinstance(moments, Moments):
        obs = np.asarray(moments.mean) + np.asarray(moments.scale) * obs
    dtype = np.dtype(policy.layout.obs_dtype)
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        obs = np.clip(np.rint(obs), low, high)
    mask = rng.random((*shape, spec.action.size)) < 0.7
    starts = [0] if isinstance(spec.action, Box) else list(spec.action.starts)
    mask[..., starts] |= ~np.logical_or.reduceat(mask, starts, axis=-1)
    first = np.zeros(shape[:2], bool)
    first[::_EPISODE] = True
    return Seen(obs.astype(dtype).reshape(*shape, *spec.obs_shape), mask, first)


def expected(policy: Policy, seen: Seen) -> dict[str, np.ndarray]:
    """What the trained actor puts out, name -> (T, B, N, ...), step by step with its own carry."""
    actor = actor_of(policy)
    names = [f"next_{name}" for name in inputs_of(policy) if name.startswith("carry_")]

    def step(carry: list[Array], now: Seen) -> tuple[list[Array], dict[str, Array]]:
        outputs = actor(*now, *carry)
        return [outputs.pop(name) for name in names], outputs

    @jax.jit
    def replay(seen: Seen) -> dict[str, Array]:
        start = jax.tree.leaves(policy.networks.initial_carries(seen.first.shape[1])[0])
        return jax.lax.scan(step, start, jax.tree.map(jnp.asarray, seen))[1]

    return jax.device_get(replay(seen))
