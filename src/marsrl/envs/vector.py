"""Many environments at once: vmap, the only auto-reset in the project, and episode accounting."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from marsrl.distributions import random_action
from marsrl.envs.base import Environment
from marsrl.types import Array, Key, TimeStep

Pool = tuple[Any, TimeStep]
"""Fresh starts, (P, ...) in every leaf."""


class VectorState(NamedTuple):
    """E environments between two steps.

    Attributes:
        env: the environments' own states, (E, ...).
        time_step: (E, ...) what the agents see now; after an ending, the fresh start.
        first: (E,) bool, an episode begins at `time_step`.
        episode_return: (E,) sum of the team reward (mean over agents) of the episode so far.
        episode_length: (E,) int32.
        resets: () int32, starts drawn from the current pool.
    """

    env: Any
    time_step: TimeStep
    first: Array
    episode_return: Array
    episode_length: Array
    resets: Array


class EpisodeStats(NamedTuple):
    """What is known of the episodes that ended; the other entries are meaningless.

    Attributes:
        ended: (E,) bool.
        episode_return: (E,) sum of the team reward over the episode.
        length: (E,) int32, transitions.
        metrics: (E,) each, the environment's own at the last step.
    """

    ended: Array
    episode_return: Array
    length: Array
    metrics: dict[str, Array]


class VectorEnv:
    """`num_envs` copies of an environment, stepped together.

    Under `vmap` an environment that resets itself computes a whole reset at every step. Here the
    fresh starts come from a pool that is drawn once per rollout: an ending costs one gather.
    """

    def __init__(self, env: Environment, num_envs: int) -> None:
        self.env = env
        self.spec = env.spec
        self.num_envs = num_envs

    def fresh(self, key: Key, size: int) -> Pool:
        """Draws `size` starts."""
        return jax.vmap(self.env.reset)(jax.random.split(key, size))

    def reset(self, key: Key) -> VectorState:
        """Starts an episode in every environment."""
        env_state, time_step = self.fresh(key, self.num_envs)
        return VectorState(
            env=env_state,
            time_step=time_step,
            first=jnp.ones(self.num_envs, bool),
            episode_return=jnp.zeros(self.num_envs),
            episode_length=jnp.zeros(self.num_envs, jnp.int32),
            resets=jnp.int32(0),
        )

    def step(
        self, key: Key, state: VectorState, action: Array, pool: Pool
    ) -> tuple[VectorState, TimeStep, EpisodeStats]:
        """Moves every environment one step on and restarts those that ended.

        Args:
            key: PRNG key.
            state: where the environments are.
            action: (E, N) int32 or (E, N, A) float32.
            pool: fresh starts, handed out in order and from the beginning again if all are used.

        Returns:
            The next state; the time step that each action led to, *before* any restart, with the
            true final observation; and the episodes that ended.
        """
        keys = jax.random.split(key, self.num_envs)
        env_state, outcome = jax.vmap(self.env.step)(keys, state.env, action)
        done = outcome.done
        episode_return = state.episode_return + outcome.reward.mean(-1)
        episode_length = state.episode_length + 1

        drawn = state.resets + jnp.cumsum(done, dtype=jnp.int32)
        size = jax.tree.leaves(pool)[0].shape[0]
        start = jax.tree.map(lambda leaf: leaf[(drawn - 1) % size], pool)
        env_state, time_step = select(done, start, (env_state, outcome))
        next_state = VectorState(
            env=env_state,
            time_step=time_step,
            first=done,
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
            resets=drawn[-1],
        )
        return (
            next_state,
            outcome,
            EpisodeStats(done, episode_return, episode_length, outcome.metrics),
        )

    def stagger(self, key: Key, state: VectorState) -> VectorState:
        """Plays a random number of random steps, below the horizon, in each environment.

        Environments of fixed length that start together stay in one phase for ever, and a rollout
        shorter than the episode then sees early or late steps only.
        """
        count_key, pool_key, key = jax.random.split(key, 3)
        steps = jax.random.randint(count_key, (self.num_envs,), 0, self.spec.max_steps)
        pool = self.fresh(pool_key, self.num_envs)

        def step(state: VectorState, x: tuple[Array, Key]) -> tuple[VectorState, None]:
            t, key = x
            action_key, step_key = jax.random.split(key)
            action = random_action(action_key, self.spec.action, state.time_step.action_mask)
            moved, _, _ = self.step(step_key, state, action, pool)
            kept = select(t < steps, moved[:-1], state[:-1])
            return VectorState(*kept, resets=moved.resets), None

        keys = jax.random.split(key, self.spec.max_steps)
        return jax.lax.scan(step, state, (jnp.arange(self.spec.max_steps), keys))[0]


def select(mask: Array, on_true: Any, on_false: Any) -> Any:
    """`where` over two equal trees, with `mask` (E,) broadcast over each leaf's further axes."""

    def choose(x: Array, y: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y)

    return jax.tree.map(choose, on_true, on_false)
