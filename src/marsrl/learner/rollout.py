"""Collecting experience: playing, then valuing what was played."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from marsrl.envs.vector import EpisodeStats, VectorEnv, split_each
from marsrl.learner.advantages import Axes
from marsrl.learner.experience import Experience, RolloutState, Transition
from marsrl.learner.modules import Carry
from marsrl.learner.networks import ActorCritic, Networks, Weights
from marsrl.learner.schedule import Schedule
from marsrl.learner.values import Returns, valued
from marsrl.types import Array, TimeStep


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


def rollout(
    sampling: Sampling,
    returns: Returns,
    schedule: Schedule,
    networks: Networks,
    weights: ActorCritic,
    env: VectorEnv,
    state: RolloutState,
    axes: Axes = (),
) -> tuple[RolloutState, Experience, EpisodeStats]:
    """Plays `T` steps in every environment, then values them.

    Args:
        sampling: how to play.
        returns: what rewards and time limits are taken for.
        schedule: with the discount and the trace decay.
        networks: actor and critic.
        weights: theirs.
        env: the environments.
        state: where the last rollout ended.
        axes: mesh axes over which the environments are spread.

    Returns:
        The state after it, the experience, and the episodes that ended, (T, E).
    """
    played, transition, actor_carry, episodes = _play(sampling, networks, weights.actor, env, state)
    scaled = transition._replace(reward=returns.reward_scale * transition.reward)
    steps, critic_carry, critic_carries = valued(
        returns, schedule, networks, weights.critic, played, scaled, axes
    )
    chunk_starts = jax.tree.map(lambda c: c[:: sampling.chunk_length], critic_carries)
    experience = Experience(steps, ActorCritic(actor_carry, chunk_starts))
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
            final_mask=outcome.agent_mask,
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
    reward, terminated = outcome.reward, outcome.terminated[:, None]
    if networks.num_values == 1:
        reward = reward.mean(-1, keepdims=True)
    if not networks.spec.shared_reward:  # else what the team still earns is the dead's merit too
        terminated = terminated | ~outcome.agent_mask
    terminated = jnp.broadcast_to(terminated, reward.shape)
    return reward, terminated, outcome.truncated[:, None] & ~terminated
