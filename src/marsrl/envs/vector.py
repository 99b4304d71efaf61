"""Many environments at once: vmap, the only auto-reset in the project, and episode accounting."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from marsrl.distributions import random_action
from marsrl.envs.base import Environment
from marsrl.indexing import take
from marsrl.types import Array, Key, TimeStep

Pool = tuple[Any, TimeStep]
"""Fresh starts of each environment, (E, P, ...) in every leaf."""


class VectorState(NamedTuple):
    """E environments between two steps.

    Attributes:
        env: the environments' own states, (E, ...).
        time_step: (E, ...) what the agents see now; after an ending, the fresh start.
        first: (E,) bool, an episode begins at `time_step`.
        episode_return: (E,) sum of the team reward (mean over agents) of the episode so far.
        episode_length: (E,) int32.
        restarts: (E,) int32, starts taken from the current pool.
    """

    env: Any
    time_step: TimeStep
    first: Array
    episode_return: Array
    episode_length: Array
    restarts: Array


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
    """Copies of an environment, stepped together.

    Under `vmap` an environment that resets itself computes a whole reset at every step. Here the
    fresh starts come from a pool that is drawn once per rollout: an ending costs one gather.

    Every environment has random keys and a pool of its own, so that what happens in it does not
    depend on how many others there are, nor on which device they are.
    """

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.spec = env.spec

    def fresh(self, key: Key, size: int) -> Pool:
        """Draws `size` starts for each of the keys (E,)."""
        keys = jax.vmap(lambda key: jax.random.split(key, size))(key)
        # one vmap, not two: the rules are batched once less, and with size 1 as in `reset`
        starts = jax.vmap(self.env.reset)(keys.ravel())
        return jax.tree.map(lambda x: x.reshape(*keys.shape, *x.shape[1:]), starts)

    def reset(self, key: Key) -> VectorState:
        """Starts an episode for each of the keys (E,)."""
        env_state, time_step = jax.vmap(self.env.reset)(key)
        return VectorState(
            env=env_state,
            time_step=time_step,
            first=jnp.ones(key.shape, bool),
            episode_return=jnp.zeros(key.shape),
            episode_length=jnp.zeros(key.shape, jnp.int32),
            restarts=jnp.zeros(key.shape, jnp.int32),
        )

    def step(
        self, key: Key, state: VectorState, action: Array, pool: Pool
    ) -> tuple[VectorState, TimeStep, EpisodeStats]:
        """Moves every environment one step on and restarts those that ended.

        Args:
            key: (E,) PRNG keys.
            state: where the environments are.
            action: (E, N) int32 or (E, N, A) float32.
            pool: fresh starts; each environment takes its own in order, and from the beginning
                again if all are used.

        Returns:
            The next state; the time step that each action led to, *before* any restart, with the
            true final observation; and the episodes that ended.
        """
        env_state, outcome = jax.vmap(self.env.step)(key, state.env, action)
        done = outcome.done
        episode_return = state.episode_return + outcome.reward.mean(-1)
        episode_length = state.episode_length + 1

        E, P = jax.tree.leaves(pool)[0].shape[:2]
        own = (jnp.arange(E), state.restarts % P)
        start = jax.tree.map(lambda leaf: take(leaf, own), pool)
        env_state, time_step = select(done, start, (env_state, outcome))
        next_state = VectorState(
            env=env_state,
            time_step=time_step,
            first=done,
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
            restarts=state.restarts + done,
        )
        return (
            next_state,
            outcome,
            EpisodeStats(done, episode_return, episode_length, outcome.metrics),
        )

    def stagger(self, key: Key, state: VectorState) -> VectorState:
        """Plays a random number of random steps, below the horizon, in each; keys (E,).

        Environments of fixed length that start together stay in one phase for ever, and a rollout
        shorter than the episode then sees early or late steps only.
        """
        count_key, pool_key, key = split_each(key, 3)
        steps = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.spec.max_steps))(count_key)
        pool = self.fresh(pool_key, 1)

        def step(carry: tuple[VectorState, Key], t: Array) -> tuple[tuple[VectorState, Key], None]:
            state, key = carry
            key, action_key, step_key = split_each(key, 3)
            action = random_action(action_key, self.spec.action, state.time_step.action_mask)
            moved, _, _ = self.step(step_key, state, action, pool)
            return (select(t < steps, moved, state), key), None

        return jax.lax.scan(step, (state, key), jnp.arange(self.spec.max_steps))[0][0]


def split_each(key: Key, num: int) -> tuple[Key, ...]:
    """Splits each of the keys (E,) in `num`: that many arrays of keys (E,)."""
    keys = jax.vmap(lambda key: jax.random.split(key, num))(key)
    return tuple(keys[:, i] for i in range(num))


def select(mask: Array, on_true: Any, on_false: Any) -> Any:
    """`where` over two equal trees, with `mask` (E,) broadcast over each leaf's further axes."""

    def choose(x: Array, y: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y)

    return jax.tree.map(choose, on_true, on_false)
