"""Many environments at once: vmap, the only auto-reset in the project, and episode accounting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from marsrl.distributions import random_action
from marsrl.envs.base import Environment
from marsrl.envs.limits import LONGEST_STAGGER
from marsrl.errors import UserError
from marsrl.types import Array, Key, TimeStep


class Pool(NamedTuple):
    """Fresh starts of each environment, some drawn ahead of time.

    Start number k of an environment follows from its key and k alone, and lies at k modulo P while
    it is drawn but not used.

    Attributes:
        key: (E,) PRNG keys.
        starts: (E, P, ...) states and time steps.
        drawn: (E,) int32, starts drawn so far.
        used: (E,) int32, starts used so far.
    """

    key: Key
    starts: tuple[Any, TimeStep]
    drawn: Array
    used: Array


class VectorState(NamedTuple):
    """E environments between two steps.

    Attributes:
        env: the environments' own states, (E, ...).
        time_step: (E, ...) what the agents see now; after an ending, the fresh start.
        first: (E,) bool, an episode begins at `time_step`.
        episode_return: (E,) sum of the team reward (mean over agents) of the episode so far.
        episode_length: (E,) int32.
        counted: (E,) bool, the learner has played the episode from its start, so that its return
            tells something.
    """

    env: Any
    time_step: TimeStep
    first: Array
    episode_return: Array
    episode_length: Array
    counted: Array


class EpisodeStats(NamedTuple):
    """What is known of the episodes that ended; the other entries are meaningless.

    Attributes:
        ended: (E,) bool; not set where somebody else has begun the episode.
        episode_return: (E,) sum of the team reward over the episode.
        length: (E,) int32, transitions.
        metrics: (E,) each, the environment's own at the last step.
    """

    ended: Array
    episode_return: Array
    length: Array
    metrics: dict[str, Array]


class OnHost:
    """An environment outside of JAX, of which the library asks more than of others.

    It is these alone that are asked: an environment of one's own may have such names for something
    else.

    Attributes:
        task: what messages call it.
        notes: what was converted, a sentence each.
    """

    task: str
    notes: tuple[str, ...]

    def vectorized(self) -> VectorEnv:
        """Copies of it for training."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises what has gone wrong; compiled programs cannot raise it."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what it holds."""
        raise NotImplementedError


class VectorEnv:
    """Copies of an environment, stepped together.

    Under `vmap` an environment that resets itself computes a whole reset at every step. Here fresh
    starts come from a pool, and all environments draw new ones together when the first of them
    has used up its own: an ending costs one gather, and no start is used twice.

    Every environment has random keys of its own, so that what happens in it does not depend on how
    many others there are, nor on which device they are.

    Attributes:
        on_host: the environments are outside of JAX: all are moved by one device, none of their
            states can be saved, copied or returned to.
    """

    on_host = False

    def __init__(self, env: Environment) -> None:
        """Takes an environment in JAX.

        Raises:
            UserError: it is outside of JAX, or wraps one that is.
        """
        if isinstance(env, OnHost) and not self.on_host:
            raise UserError(
                f"{env.task} is played outside of JAX, expected an environment in JAX; copies of "
                "it are made by marsrl.envs.vector.vectorize"
            )
        if found := _wrapper_of_host(env):
            wrapper, host = found
            raise UserError(
                f"{type(wrapper).__name__} wraps {host.task}, which is played outside of JAX, so "
                "nothing in JAX can be around it; expected a wrapper of its own library, within it"
            )
        self.env = env
        self.spec = env.spec

    def empty_pool(self, key: Key, size: int) -> Pool:
        """A pool without starts, which draws `size` at a time for each of the keys (E,)."""
        starts = jax.eval_shape(jax.vmap(self.env.reset), key)
        none = jnp.zeros(key.shape, jnp.int32)

        def blank(leaf: jax.ShapeDtypeStruct) -> Array:
            return jnp.zeros((*key.shape, size, *leaf.shape[1:]), leaf.dtype)

        return Pool(key, jax.tree.map(blank, starts), none, none)

    def _filled(self, pool: Pool, needed: Array) -> Pool:
        """The pool with a start at least for each environment that needs one, (E,) bool."""

        def draw(turn: tuple[Array, Pool]) -> tuple[Array, Pool]:
            before, pool = turn
            P = jax.tree.leaves(pool.starts)[0].shape[1]
            slot = jnp.arange(P)
            number = before + pool.used[:, None] + (slot - pool.used[:, None]) % P
            keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(pool.key, number)
            # one vmap, not two: the rules are batched once less
            starts = jax.vmap(self.env.reset)(keys.ravel())
            starts = jax.tree.map(lambda x: x.reshape(*keys.shape, *x.shape[1:]), starts)
            return before + 1, pool._replace(starts=starts, drawn=pool.used + P)

        def lacking(turn: tuple[Array, Pool]) -> Array:
            return (needed & (turn[1].used == turn[1].drawn)).any()

        # A loop of one turn or none: unlike `cond`, it does not always draw under `vmap`. What is
        # drawn depends on the turn, or XLA would move it out of the loop, and draw at every step.
        return jax.lax.while_loop(lacking, draw, (jnp.int32(0), pool))[1]

    def reset(self, key: Key) -> VectorState:
        """Starts an episode for each of the keys (E,)."""
        env_state, time_step = jax.vmap(self.env.reset)(key)
        return VectorState(
            env=env_state,
            time_step=time_step,
            first=jnp.ones(key.shape, bool),
            episode_return=jnp.zeros(key.shape),
            episode_length=jnp.zeros(key.shape, jnp.int32),
            counted=jnp.ones(key.shape, bool),
        )

    def step(
        self, key: Key, state: VectorState, action: Array, pool: Pool
    ) -> tuple[VectorState, TimeStep, EpisodeStats, Pool]:
        """Moves every environment one step on and restarts those that ended.

        Args:
            key: (E,) PRNG keys.
            state: where the environments are.
            action: (E, N) int32 or (E, N, A) float32.
            pool: fresh starts.

        Returns:
            The next state; the time step that each action led to, *before* any restart, with the
            true final observation; the episodes that ended; and the pool without the starts used.
        """
        moved, start, pool = self._moved(key, state.env, action, pool)
        outcome = moved[1]
        done = outcome.done
        episode_return = state.episode_return + outcome.reward.mean(-1)
        episode_length = state.episode_length + 1
        env_state, time_step = select(done, start, moved)
        next_state = VectorState(
            env=env_state,
            time_step=time_step,
            first=done,
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
            counted=state.counted | done,
        )
        episodes = EpisodeStats(
            done & state.counted, episode_return, episode_length, outcome.metrics
        )
        return next_state, outcome, episodes, pool._replace(used=pool.used + done)

    def _moved(
        self, key: Key, state: Any, action: Array, pool: Pool
    ) -> tuple[tuple[Any, TimeStep], tuple[Any, TimeStep], Pool]:
        """The step of every environment, a start for those that it has ended, and the pool."""
        moved = jax.vmap(self.env.step)(key, state, action)
        pool = self._filled(pool, moved[1].done)
        E, P = jax.tree.leaves(pool.starts)[0].shape[:2]
        own = (jnp.arange(E), pool.used % P)
        return moved, jax.tree.map(lambda leaf: leaf[own], pool.starts), pool

    def check(self) -> None:
        """Raises what has gone wrong in environments outside of JAX; programs cannot raise it."""

    def close(self) -> None:
        """Ends what environments outside of JAX hold."""

    def stagger(self, key: Key, state: VectorState, pool_size: int) -> VectorState:
        """Brings each environment to a random point of an episode, by random steps; keys (E,).

        Environments of fixed length that start together stay in one phase for ever, and a rollout
        shorter than the episode then sees early or late steps only. Each is played to a random
        point below the horizon, or below `LONGEST_STAGGER`; one whose episode ends before that, to
        a random point below the length of that episode in the next one.
        """
        target_key, pool_key, key = split_each(key, 3)
        horizon = jnp.full(key.shape, min(self.spec.max_steps, LONGEST_STAGGER), jnp.int32)
        pool = self.empty_pool(pool_key, pool_size)

        def point(key: Key, below: Array) -> Array:
            return jax.vmap(lambda key, top: jax.random.randint(key, (), 0, top))(key, below)

        def step(carry: tuple[VectorState, Key, Array, Pool]) -> tuple[Any, ...]:
            state, key, target, pool = carry
            key, action_key, step_key, target_key = split_each(key, 4)
            action = random_action(action_key, self.spec.action, state.time_step.action_mask)
            moved, _, _, after = self.step(step_key, state, action, pool)
            going = state.episode_length < target
            ended = going & moved.first
            target = jnp.where(ended, point(target_key, state.episode_length + 1), target)
            pool = after._replace(used=jnp.where(going, after.used, pool.used))
            return select(going, moved, state), key, target, pool

        start = (state, key, point(target_key, horizon), pool)
        staggered = jax.lax.while_loop(lambda c: (c[0].episode_length < c[2]).any(), step, start)[0]
        return staggered._replace(counted=staggered.episode_length == 0)


def _wrapper_of_host(env: object) -> tuple[object, OnHost] | None:
    """Somebody's wrapper, however deep, that holds an environment outside of JAX; and that one."""
    for value in getattr(env, "__dict__", {}).values():
        if isinstance(value, OnHost):
            return env, value
        if hasattr(type(value), "step") and (found := _wrapper_of_host(value)):
            return found
    return None


def vectorize(env: Environment) -> VectorEnv:
    """Copies of an environment for training, in JAX or outside of it."""
    return env.vectorized() if isinstance(env, OnHost) else VectorEnv(env)


@contextmanager
def opened(env: Any) -> Iterator[None]:
    """Ends with the context what an environment outside of JAX holds, and raises its own fault."""
    held = env if isinstance(env, OnHost | VectorEnv) else None
    try:
        yield
        if held is not None:
            held.check()
    finally:
        if held is not None:
            held.close()


def split_each(key: Key, num: int) -> tuple[Key, ...]:
    """Splits each of the keys (E,) in `num`: that many arrays of keys (E,)."""
    keys = jax.vmap(lambda key: jax.random.split(key, num))(key)
    return tuple(keys[:, i] for i in range(num))


def select(mask: Array, on_true: Any, on_false: Any) -> Any:
    """`where` over two equal trees, with `mask` (E,) broadcast over each leaf's further axes."""

    def choose(x: Array, y: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y)

    return jax.tree.map(choose, on_true, on_false)
