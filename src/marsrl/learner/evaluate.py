"""Evaluation: whole episodes, each counted once, until every one of them has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from marsrl.distributions import random_action
from marsrl.envs.base import Environment
from marsrl.envs.vector import EpisodeStats, select, split_each
from marsrl.learner.networks import Networks, Weights
from marsrl.types import Array, EnvSpec, Key, TimeStep

Act = Callable[[Any, TimeStep, Array, Key], tuple[Any, Array]]
"""A policy of a batch: (carry, time step (B, ...), first (B,), keys (B,)) -> (carry, action)."""


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
    actor: Weights,
    env: Environment,
    keys: Key,
    greedy: bool = False,
    longest: int | None = None,
) -> EpisodeStats:
    """Plays episodes of a trained team side by side; see `play`.

    Args:
        networks: actor and critic.
        actor: its weights.
        env: the environment.
        keys: (B,) one per episode.
        greedy: the mode of the policy instead of a sample.
        longest: see `play`.

    Returns:
        One entry per episode, (B,).
    """

    def act(carry: Any, now: TimeStep, first: Array, keys: Key) -> tuple[Any, Array]:
        carry, dist = networks.act_once(actor, carry, now, first)
        return carry, dist.env_action(dist.mode() if greedy else dist.sample(keys))

    return play(env, act, networks.initial_carries(len(keys))[0], keys, longest)


def random_policy(spec: EnvSpec) -> Act:
    """Uniformly random legal actions; its carry is `()`."""

    def act(carry: Any, now: TimeStep, first: Array, keys: Key) -> tuple[Any, Array]:
        return carry, random_action(keys, spec.action, now.action_mask)

    return act


def play(
    env: Environment, act: Act, carry: Any, keys: Key, longest: int | None = None
) -> EpisodeStats:
    """Plays as many episodes side by side as there are keys, from reset to end.

    It goes on until the last of them has ended, with a mask of those still running: none is dropped
    for being long, none is counted twice.

    Args:
        env: the environment.
        act: the policy.
        carry: its carry before the first step, for all episodes.
        keys: (B,) each determines the start, the transitions and the actions of one episode.
        longest: steps after which an episode is counted as it stands, not as ended; default: the
            horizon, at which every episode ends.

    Returns:
        One entry per episode, (B,).
    """
    reset_keys, keys = split_each(keys, 2)
    env_state, time_step = jax.vmap(env.reset)(reset_keys)
    stats = EpisodeStats(
        ended=jnp.zeros(keys.shape, bool),
        episode_return=jnp.zeros(keys.shape),
        length=jnp.zeros(keys.shape, jnp.int32),
        metrics=time_step.metrics,
    )

    def step(playing: _Playing) -> _Playing:
        keys, action_keys, env_keys = split_each(playing.keys, 3)
        now, first = playing.now, jnp.full(keys.shape, playing.t == 0)
        carry, action = act(playing.carry, now, first, action_keys)
        env_state, outcome = jax.vmap(env.step)(env_keys, playing.env_state, action)
        stats = _count(playing.stats, outcome.reward.mean(-1), outcome.done, outcome.metrics)
        return _Playing(playing.t + 1, keys, env_state, outcome, carry, stats)

    last = min(longest or env.spec.max_steps, env.spec.max_steps)
    start = _Playing(jnp.int32(0), keys, env_state, time_step, carry, stats)
    return jax.lax.while_loop(
        lambda playing: (playing.t < last) & ~playing.stats.ended.all(), step, start
    ).stats


class _Playing(NamedTuple):
    """Episodes in the middle of `play`."""

    t: Array
    keys: Key
    env_state: Any
    now: TimeStep
    carry: Any
    stats: EpisodeStats


def play_policy(env: Environment, policy: Team, keys: Key) -> EpisodeStats:
    """Plays episodes of a team side by side; see `play`.

    Args:
        env: the environment.
        policy: the team; its `act` is vmapped over episodes.
        keys: (B,) one per episode.

    Returns:
        One entry per episode, (B,).
    """

    def act(carry: Any, now: TimeStep, first: Array, keys: Key) -> tuple[Any, Array]:
        return jax.vmap(policy.act)(carry, now, keys)

    carry = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), policy.initial_carry()
    )
    return play(env, act, carry, keys)


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
