"""Evaluation: whole episodes, each counted once, until every one of them has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from marsrl.distributions import random_action
from marsrl.envs.base import Environment
from marsrl.envs.vector import EpisodeStats, select
from marsrl.networks import Networks
from marsrl.types import Array, EnvSpec, Key, PyTree, TimeStep

Act = Callable[[Any, TimeStep, Array, Key], tuple[Any, Array]]
"""A policy of a batch: (carry, time step (B, ...), first (B,) bool, key) -> (carry, action)."""


class Team(Protocol):
    """A team in one unbatched environment: a trained `Policy`, or a scripted one."""

    def initial_carry(self) -> Any:
        """What it knows at the start of an episode."""
        ...

    def act(self, carry: Any, time_step: TimeStep, key: Key) -> tuple[Any, Array]:
        """Chooses the agents' actions: the next carry, and (N,) or (N, A)."""
        ...


def evaluate(
    networks: Networks,
    params: PyTree,
    env: Environment,
    key: Key,
    num_episodes: int,
    greedy: bool = False,
) -> EpisodeStats:
    """Plays `num_episodes` episodes of a trained team side by side; see `play`.

    Args:
        networks: actor and critic.
        params: the actor's.
        env: the environment.
        key: determines starts, transitions and sampled actions.
        num_episodes: how many.
        greedy: the mode of the policy instead of a sample.

    Returns:
        One entry per episode, (num_episodes,).
    """

    def act(carry: Any, now: TimeStep, first: Array, key: Key) -> tuple[Any, Array]:
        carry, dist = networks.act_once(params, carry, now, first)
        return carry, dist.env_action(dist.mode() if greedy else dist.sample(key))

    return play(env, act, networks.initial_carries(num_episodes)[0], key, num_episodes)


def random_policy(spec: EnvSpec) -> Act:
    """Uniformly random legal actions; its carry is `()`."""

    def act(carry: Any, now: TimeStep, first: Array, key: Key) -> tuple[Any, Array]:
        return carry, random_action(key, spec.action, now.action_mask)

    return act


def play(env: Environment, act: Act, carry: Any, key: Key, num_episodes: int) -> EpisodeStats:
    """Plays `num_episodes` episodes side by side, from reset to end.

    A scan of fixed length with a mask of the episodes still running: none is dropped for being
    long, none is counted twice.

    Args:
        env: the environment.
        act: the policy.
        carry: its carry before the first step, for all episodes.
        key: determines starts, transitions and actions.
        num_episodes: how many.

    Returns:
        One entry per episode, (num_episodes,).
    """
    reset_key, key = jax.random.split(key)
    env_state, time_step = jax.vmap(env.reset)(jax.random.split(reset_key, num_episodes))
    first = jnp.ones(num_episodes, bool)
    stats = EpisodeStats(
        ended=jnp.zeros(num_episodes, bool),
        episode_return=jnp.zeros(num_episodes),
        length=jnp.zeros(num_episodes, jnp.int32),
        metrics=time_step.metrics,
    )

    def step(state: tuple[Any, ...], key: Key) -> tuple[tuple[Any, ...], None]:
        env_state, now, carry, first, stats = state
        action_key, env_key = jax.random.split(key)
        carry, action = act(carry, now, first, action_key)
        keys = jax.random.split(env_key, num_episodes)
        env_state, outcome = jax.vmap(env.step)(keys, env_state, action)
        stats = _count(stats, outcome.reward.mean(-1), outcome.done, outcome.metrics)
        return (env_state, outcome, carry, jnp.zeros_like(first), stats), None

    state = (env_state, time_step, carry, first, stats)
    return jax.lax.scan(step, state, jax.random.split(key, env.spec.max_steps))[0][-1]


def play_policy(env: Environment, policy: Team, key: Key, num_episodes: int) -> EpisodeStats:
    """Plays `num_episodes` episodes of a team side by side; see `play`.

    Args:
        env: the environment.
        policy: the team; its `act` is vmapped over episodes.
        key: determines starts, transitions and actions.
        num_episodes: how many.

    Returns:
        One entry per episode, (num_episodes,).
    """

    def act(carry: Any, now: TimeStep, first: Array, key: Key) -> tuple[Any, Array]:
        return jax.vmap(policy.act)(carry, now, jax.random.split(key, num_episodes))

    carry = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_episodes, *leaf.shape)), policy.initial_carry()
    )
    return play(env, act, carry, key, num_episodes)


def _count(
    stats: EpisodeStats, reward: Array, done: Array, metrics: dict[str, Array]
) -> EpisodeStats:
    running = ~stats.ended
    return EpisodeStats(
        ended=stats.ended | done,
        episode_return=stats.episode_return + jnp.where(running, reward, 0.0),
        length=stats.length + running,
        metrics=select(running, metrics, stats.metrics),
    )
