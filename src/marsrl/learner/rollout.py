"""Collecting experience, and the values and advantages that belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from marsrl.envs.vector import EpisodeStats, VectorEnv, VectorState, split_each
from marsrl.indexing import take
from marsrl.learner.advantages import gae
from marsrl.learner.modules import Carry
from marsrl.learner.networks import ActorCritic, Networks, Weights
from marsrl.types import Array, EnvSpec, Key, TimeStep


@dataclass(frozen=True)
class Sampling:
    """How experience is collected.

    Attributes:
        num_envs: `E`, environments of a seed, on all devices together.
        rollout_length: `T`, steps per environment and update.
        chunk_length: `L`, steps of back-propagation through time; divides `T`.
        reset_pool: starts that an environment draws at a time.
        stagger: whether environments start at random points of an episode.
    """

    num_envs: int
    rollout_length: int
    chunk_length: int
    reset_pool: int
    stagger: bool

    @property
    def num_chunks(self) -> int:
        """`K`, chunks per rollout."""
        return self.rollout_length // self.chunk_length


@dataclass(frozen=True)
class Returns:
    """What the future is worth.

    Attributes:
        gamma: discount per step.
        gae_lambda: trace decay of the advantage estimate.
        bootstrap_truncated: whether the final observation is valued where the clock ran out,
            instead of counting it as 0.
        reward_scale: what rewards are multiplied by before the learner sees them.
    """

    gamma: float
    gae_lambda: float
    bootstrap_truncated: bool
    reward_scale: float


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
        terminated: (V,) bool; where agents are rewarded apart, an agent's death ends its future.
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


class Finals(NamedTuple):
    """Observations at which the clock ran out, on which nobody acts, M for each environment.

    Attributes:
        obs: (M, E, N, *obs_shape).
        global_state: (M, E, *state_shape).
        carry: (M, E, ...) the critic's, before them, or ().
        there: (M, E, V) bool; the others are only padding.
    """

    obs: Array
    global_state: Array
    carry: Carry
    there: Array


class Steps(NamedTuple):
    """A rollout with its values, (T, E, ...), or a part of it.

    Attributes:
        transition: the steps.
        value: (V,).
        advantage: (V,).
        target: (V,).
    """

    transition: Transition
    value: Array
    advantage: Array
    target: Array


class Experience(NamedTuple):
    """What an update learns from.

    Attributes:
        steps: (T, E, ...).
        carries: (K, E, ...) before each chunk, the actor's and the critic's.
        finals: some of the observations at which the clock ran out, or `()` if they count as the
            end.
    """

    steps: Steps
    carries: ActorCritic
    finals: Finals | tuple[()]


def rollout(
    sampling: Sampling,
    returns: Returns,
    networks: Networks,
    weights: ActorCritic,
    env: VectorEnv,
    state: RolloutState,
) -> tuple[RolloutState, Experience, EpisodeStats]:
    """Plays `T` steps in every environment, then values them.

    Returns:
        The state after it, the experience, and the episodes that ended, (T, E).
    """
    played, transition, actor_carry, episodes = _play(sampling, networks, weights.actor, env, state)
    scaled = transition._replace(reward=returns.reward_scale * transition.reward)
    steps, critic_carry, critic_carries, finals = _valued(
        returns, networks, weights.critic, played, scaled
    )
    chunk_starts = jax.tree.map(lambda c: c[:: sampling.chunk_length], critic_carries)
    experience = Experience(steps, ActorCritic(actor_carry, chunk_starts), finals)
    return played._replace(critic_carry=critic_carry), experience, episodes


def _play(
    sampling: Sampling,
    networks: Networks,
    actor: Weights,
    env: VectorEnv,
    state: RolloutState,
) -> tuple[RolloutState, Transition, Carry, EpisodeStats]:
    """The environment loop: chunks of steps, storing the actor's carry once per chunk."""
    key, pool_key = split_each(state.key, 2)
    pool = env.empty_pool(pool_key, sampling.reset_pool)

    def step(playing: tuple, _: None) -> tuple[tuple, tuple[Transition, EpisodeStats]]:
        state, pool = playing
        key, action_key, env_key = split_each(state.key, 3)
        now, first = state.vector.time_step, state.vector.first
        actor_carry, dist = networks.act_once(actor, state.actor_carry, now, first)
        action = dist.sample(action_key)
        vector, outcome, episodes, pool = env.step(
            env_key, state.vector, dist.env_action(action), pool
        )
        reward, terminated, truncated = _per_value(networks, outcome)
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
        state = RolloutState(key, vector, actor_carry, state.critic_carry)
        return (state, pool), (transition, episodes)

    def chunk(playing: tuple, _: None) -> tuple[tuple, tuple]:
        after, steps = jax.lax.scan(step, playing, length=sampling.chunk_length)
        return after, (playing[0].actor_carry, steps)

    (state, _), (actor_carry, steps) = jax.lax.scan(
        chunk, (state._replace(key=key), pool), length=sampling.num_chunks
    )
    transition, episodes = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), steps)
    return state, transition, actor_carry, episodes


def _per_value(networks: Networks, outcome: TimeStep) -> tuple[Array, Array, Array]:
    """Reward, terminated and truncated, (E, V) each, of a time step (E, ...)."""
    terminated, truncated = outcome.terminated[:, None], outcome.truncated[:, None]
    if networks.num_values == 1:
        return outcome.reward.mean(-1, keepdims=True), terminated, truncated
    if networks.spec.shared_reward:  # what the team still earns is the dead agent's merit too
        terminated = jnp.broadcast_to(terminated, outcome.reward.shape)
    else:
        terminated = terminated | ~outcome.agent_mask
    return outcome.reward, terminated, truncated & ~terminated


def _valued(
    returns: Returns,
    networks: Networks,
    critic: Weights,
    state: RolloutState,
    transition: Transition,
) -> tuple[Steps, Carry, Carry, Finals | tuple[()]]:
    """Values all steps in one pass of the critic, then estimates advantages.

    Returns:
        The steps; the critic's carries before `state`, (E, ...), and before each step, (T, E, ...);
        and the final observations.
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
    finals: Finals | tuple[()] = ()
    if returns.bootstrap_truncated:
        M = most_truncations(networks.spec, len(truncated))
        there = truncated.any(-1)
        next_value = _bootstrapped(networks, critic, transition, carries, next_value, there, M)
        finals = _finals(transition, carries, _some(there, M))
    else:
        terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)
    advantage, target = gae(
        transition.reward,
        value,
        next_value,
        terminated,
        truncated,
        returns.gamma,
        returns.gae_lambda,
    )
    steps = Steps(transition, value, advantage, target)
    after, before = (jax.tree.map(lambda c, part=part: c[part], before) for part in (-1, slice(-1)))
    return steps, after, before, finals


def most_truncations(spec: EnvSpec, rollout_length: int) -> int:
    """How often the clock runs out in one environment during a rollout, if only at the horizon."""
    return -(-rollout_length // spec.max_steps)


Places = tuple[Array, Array]
"""Steps (M, E) and environments (E,), as an index of arrays (T, E, ...)."""


def _some(there: Array, number: int) -> Places:
    """The first `number` steps of each environment at which `there` (T, E) holds, or others."""
    steps = jnp.argsort(~there, axis=0, stable=True)[:number]
    return steps, jnp.arange(there.shape[1])


def _finals(transition: Transition, carries: Carry, at: Places) -> Finals:
    pick = (transition.final_obs, transition.final_state, carries, transition.truncated)
    return Finals(*jax.tree.map(lambda x: take(x, at), pick))


def _bootstrapped(
    networks: Networks,
    critic: Weights,
    transition: Transition,
    carries: Carry,
    next_value: Array,
    there: Array,
    number: int,
) -> Array:
    """`next_value` with that of the true final observation where the clock ran out.

    The critic sees `number` steps of each environment again, not all T, as often as it takes: once,
    unless episodes are truncated before their horizon.
    """

    def some(state: tuple[Array, Array]) -> tuple[Array, Array]:
        next_value, left = state
        at = _some(left, number)
        finals = _finals(transition, carries, at)
        value = value_of_finals(networks, critic, jax.tree.map(_flat, finals))
        value = value.reshape(finals.there.shape)
        wanted = finals.there & take(left, at)[..., None]
        next_value = next_value.at[at].set(jnp.where(wanted, value, take(next_value, at)))
        return next_value, left.at[at].set(False)

    return jax.lax.while_loop(lambda state: state[1].any(), some, (next_value, there))[0]


def value_of_finals(networks: Networks, critic: Weights, finals: Finals) -> Array:
    """(B, V), the values of finals (B, ...), which go on from their carries."""
    first = jnp.zeros((1, len(finals.there)), bool)
    inputs = finals.obs[None], finals.global_state[None], first
    return networks.value(critic, finals.carry, *inputs)[1][0]


def _flat(x: Array) -> Array:
    """(M, E, ...) as (M E, ...)."""
    return x.reshape((-1, *x.shape[2:]))


def _append(x: Array, last: Array) -> Array:
    return jnp.concatenate([x, last[None]])
