"""Collecting experience, and the values and advantages that belong to it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from marsrl.config import Config
from marsrl.envs.vector import EpisodeStats, VectorEnv, VectorState, split_each
from marsrl.indexing import take
from marsrl.learner.advantages import gae
from marsrl.learner.networks import Carry, Networks, Params
from marsrl.types import Array, Key, PyTree, TimeStep


class RolloutState(NamedTuple):
    """What one rollout hands to the next.

    Attributes:
        key: (E,) PRNG keys, one stream for each environment.
        vector: the environments.
        actor_carry: (E, N, H) or (), before `vector.time_step`.
        critic_carry: (E, H) or (E, N, H) or (), likewise.
    """

    key: Key
    vector: VectorState
    actor_carry: Carry
    critic_carry: Carry


class Transition(NamedTuple):
    """Steps as the learner needs them, (T, E, ...); V value streams: 1 for a team critic, else N.

    Attributes:
        obs: (N, *obs_shape).
        global_state: (*state_shape,).
        action_mask: (N, A) bool.
        agent_mask: (N,) bool, of the step that was acted on.
        first: () bool, an episode begins here.
        action: (N,) or (N, A), raw (see `distributions`).
        log_prob: (N,).
        reward: (V,).
        terminated: (V,) bool; where each agent has its own critic, its death ends its future.
        truncated: (V,) bool.
        final_obs: (N, *obs_shape), of the step that followed, before any restart.
        final_state: (*state_shape,), likewise.
    """

    obs: Array
    global_state: Array
    action_mask: Array
    agent_mask: Array
    first: Array
    action: Array
    log_prob: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_obs: Array
    final_state: Array


class Experience(NamedTuple):
    """A rollout with its values, ready to be cut into minibatches.

    Attributes:
        transition: (T, E, ...).
        value: (T, E, V).
        advantage: (T, E, V).
        target: (T, E, V).
        actor_carry: (K, E, N, H) before each chunk, or ().
        critic_carry: (K, E, ...) likewise.
    """

    transition: Transition
    value: Array
    advantage: Array
    target: Array
    actor_carry: Carry
    critic_carry: Carry


def rollout(
    config: Config,
    networks: Networks,
    params: Params,
    env: VectorEnv,
    state: RolloutState,
) -> tuple[RolloutState, Experience, EpisodeStats]:
    """Plays `T` steps in every environment, then values them.

    Returns:
        The state after it, the experience, and the episodes that ended, (T, E).
    """
    played, transition, actor_carry, episodes = _play(config, networks, params.actor, env, state)
    played, experience = _add_values(
        config, networks, params.critic, played, transition, actor_carry
    )
    return played, experience, episodes


def _play(
    config: Config,
    networks: Networks,
    params: PyTree,
    env: VectorEnv,
    state: RolloutState,
) -> tuple[RolloutState, Transition, Carry, EpisodeStats]:
    """The environment loop: chunks of steps, storing the actor's carry once per chunk."""
    key, pool_key = split_each(state.key, 2)
    pool = env.fresh(pool_key, config.pool_size(env.spec.max_steps))
    restarts = jnp.zeros_like(state.vector.restarts)
    state = state._replace(key=key, vector=state.vector._replace(restarts=restarts))

    def step(state: RolloutState, _: None) -> tuple[RolloutState, tuple[Transition, EpisodeStats]]:
        key, action_key, env_key = split_each(state.key, 3)
        now, first = state.vector.time_step, state.vector.first
        actor_carry, dist = networks.act_once(params, state.actor_carry, now, first)
        action = dist.sample(action_key)
        vector, outcome, episodes = env.step(env_key, state.vector, dist.env_action(action), pool)
        reward, terminated, truncated = _per_value(networks.num_values, outcome)
        transition = Transition(
            obs=now.obs,
            global_state=now.global_state,
            action_mask=now.action_mask,
            agent_mask=now.agent_mask,
            first=first,
            action=action,
            log_prob=dist.log_prob(action),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_obs=outcome.obs,
            final_state=outcome.global_state,
        )
        return RolloutState(key, vector, actor_carry, state.critic_carry), (transition, episodes)

    def chunk(state: RolloutState, _: None) -> tuple[RolloutState, tuple]:
        after, steps = jax.lax.scan(step, state, length=config.sequence_length)
        return after, (state.actor_carry, steps)

    state, (actor_carry, steps) = jax.lax.scan(chunk, state, length=config.num_chunks)
    transition, episodes = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), steps)
    return state, transition, actor_carry, episodes


def _per_value(num_values: int, outcome: TimeStep) -> tuple[Array, Array, Array]:
    """Reward, terminated and truncated, (E, V) each, of a time step (E, ...)."""
    terminated, truncated = outcome.terminated[:, None], outcome.truncated[:, None]
    if num_values == 1:
        return outcome.reward.mean(-1, keepdims=True), terminated, truncated
    terminated = terminated | ~outcome.agent_mask
    return outcome.reward, terminated, truncated & ~terminated


def _add_values(
    config: Config,
    networks: Networks,
    params: PyTree,
    state: RolloutState,
    transition: Transition,
    actor_carry: Carry,
) -> tuple[RolloutState, Experience]:
    """Values all steps in one pass of the critic, then estimates advantages."""
    now = state.vector.time_step
    carries, values = networks.value(
        params,
        state.critic_carry,
        _append(transition.obs, now.obs),
        _append(transition.global_state, now.global_state),
        _append(transition.first, state.vector.first),
    )
    value, next_value = values[:-1], values[1:]
    terminated, truncated = transition.terminated, transition.truncated
    if config.bootstrap_truncated:
        next_value = _bootstrap_truncated(networks, params, carries, transition, next_value)
    else:
        terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)
    advantage, target = gae(
        transition.reward,
        value,
        next_value,
        terminated,
        truncated,
        config.gamma,
        config.gae_lambda,
    )
    # carries[t] is the carry after step t; `before[t]`, with T + 1 entries, the one before it
    before = jax.tree.map(
        lambda start, after: jnp.concatenate([start[None], after[:-1]]), state.critic_carry, carries
    )
    chunk_starts = jax.tree.map(lambda c: c[: -1 : config.sequence_length], before)
    experience = Experience(transition, value, advantage, target, actor_carry, chunk_starts)
    return state._replace(critic_carry=jax.tree.map(lambda c: c[-1], before)), experience


def _bootstrap_truncated(
    networks: Networks, params: PyTree, carries: Carry, transition: Transition, next_value: Array
) -> Array:
    """Puts the value of the true final observation where the clock ran out.

    An episode is truncated at its horizon only, so each environment has at most
    `M = ceil(T / max_steps)` such steps in a rollout: the critic sees M steps again, not T.
    """
    truncated = transition.truncated
    T, E, _ = truncated.shape
    M = -(-T // networks.spec.max_steps)
    # the first M truncated steps of each environment, or others, which are then left as they are
    steps = jnp.argsort(~truncated.any(-1), axis=0, stable=True)[:M]
    at = (steps, jnp.arange(E))
    obs, global_state, carry = jax.tree.map(
        lambda x: take(x, at).reshape((1, M * E, *x.shape[2:])),
        (transition.final_obs, transition.final_state, carries),
    )
    carry = jax.tree.map(lambda c: c[0], carry)
    _, value = networks.value(params, carry, obs, global_state, jnp.zeros((1, M * E), bool))
    value = jnp.where(take(truncated, at), value.reshape((M, E, -1)), take(next_value, at))
    return next_value.at[at].set(value)


def _append(x: Array, last: Array) -> Array:
    return jnp.concatenate([x, last[None]])
