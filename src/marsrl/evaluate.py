"""Evaluation: whole episodes, each counted once, until every one of them has ended."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from marsrl.envs.base import Environment
from marsrl.envs.vector import EpisodeStats, select
from marsrl.networks import Networks
from marsrl.types import Array, Key, PyTree


def evaluate(
    networks: Networks,
    params: PyTree,
    env: Environment,
    key: Key,
    num_episodes: int,
    greedy: bool = False,
) -> EpisodeStats:
    """Plays `num_episodes` episodes side by side, from reset to end.

    A scan of fixed length with a mask of the episodes still running: none is dropped for being
    long, none is counted twice.

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
        carry, dist = networks.act_once(params, carry, now, first)
        action = dist.env_action(dist.mode() if greedy else dist.sample(action_key))
        keys = jax.random.split(env_key, num_episodes)
        env_state, outcome = jax.vmap(env.step)(keys, env_state, action)
        stats = _count(stats, outcome.reward.mean(-1), outcome.done, outcome.metrics)
        return (env_state, outcome, carry, jnp.zeros_like(first), stats), None

    carry, _ = networks.initial_carries(num_episodes)
    state = (env_state, time_step, carry, first, stats)
    return jax.lax.scan(step, state, jax.random.split(key, env.spec.max_steps))[0][-1]


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
