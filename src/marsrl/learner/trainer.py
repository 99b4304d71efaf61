"""The training program: initial states, the compiled update of all seeds, compiled evaluation."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from marsrl.config import Config
from marsrl.devices.sharding import (
    ENVS,
    SEEDS,
    SEEDS_AND_ENVS,
    free_memory,
    gather,
    make_mesh,
    place,
    put,
    spread,
)
from marsrl.envs.base import Environment
from marsrl.envs.vector import EpisodeStats, VectorEnv, split_each
from marsrl.errors import UserError
from marsrl.learner.advantages import Axes
from marsrl.learner.evaluate import evaluate
from marsrl.learner.networks import Networks
from marsrl.learner.rollout import RolloutState, rollout
from marsrl.learner.update import Learner, Metrics, init_learner, update
from marsrl.objectives import Objective
from marsrl.types import Array, EnvSpec, Key, PyTree

FINAL_BATCHES = 10
"""The final score of a seed is taken on this many times the episodes of an evaluation."""


class TrainState(NamedTuple):
    """Everything that the future of a run depends on; with a leading axis S in the trainer.

    Attributes:
        learner: parameters and optimiser states.
        rollout: environments and recurrent carries.
        keys: (env_blocks,) PRNG keys that shuffle minibatches, one for each block of environments.
        updates: () int32, updates done.
        diverged: () int32, the update whose loss or parameters were not finite, or -1. A diverged
            seed keeps the state that it had before that update.
    """

    learner: Learner
    rollout: RolloutState
    keys: Key
    updates: Array
    diverged: Array


def make_networks(config: Config, spec: EnvSpec) -> Networks:
    """The networks that a configuration asks for on an environment."""
    return Networks(spec, config.width, config.core, config.critic, config.share_parameters)


PLACEMENT = TrainState._make((SEEDS, SEEDS_AND_ENVS, SEEDS_AND_ENVS, SEEDS, SEEDS))
"""Which axes of each part of the states (S, ...) are spread over devices."""


def init_state(
    config: Config, networks: Networks, env: VectorEnv, seed: Array, index: Array
) -> TrainState:
    """The state of one seed before its first update, with the environments `index` (E,) of it."""
    params_key, env_key, shuffle_key = jax.random.split(jax.random.key(seed), 3)
    fold_in = jax.vmap(jax.random.fold_in, (None, 0))
    reset_key, stagger_key, key = split_each(fold_in(env_key, index), 3)
    vector = env.reset(reset_key)
    if config.stagger:
        vector = env.stagger(stagger_key, vector)
    return TrainState(
        learner=init_learner(config, networks.init(params_key)),
        rollout=RolloutState(key, vector, *networks.initial_carries(len(index))),
        keys=fold_in(shuffle_key, index[:: config.num_envs // config.env_blocks]),
        updates=jnp.int32(0),
        diverged=jnp.int32(-1),
    )


def train_step(
    config: Config,
    networks: Networks,
    env: VectorEnv,
    objective: Objective,
    state: TrainState,
    axes: Axes = (),
) -> tuple[TrainState, Metrics]:
    """One rollout and one update of one seed; a seed that has diverged stays as it is."""
    keys, update_keys = split_each(state.keys, 2)
    played, experience, episodes = rollout(
        config, networks, state.learner.params, env, state.rollout
    )
    learner, metrics = update(
        config, networks, objective, state.learner, experience, update_keys, axes
    )
    next_state = TrainState(learner, played, keys, state.updates + 1, state.diverged)
    judged = (learner.params, metrics["actor/loss"], metrics["critic/loss"])
    healthy = jnp.isfinite(ravel_pytree(judged)[0]).all() & (state.diverged < 0)
    frozen = state._replace(
        diverged=jnp.where(state.diverged < 0, state.updates + 1, state.diverged)
    )
    next_state = jax.tree.map(partial(jnp.where, healthy), next_state, frozen)
    metrics |= episode_metrics(episodes, axes) | {"diverged": next_state.diverged}
    return next_state, metrics


def episode_metrics(episodes: EpisodeStats, axes: Axes = ()) -> Metrics:
    """Means over the episodes that ended (NaN if none did), and their number."""
    count = jax.lax.psum(episodes.ended.sum(), axes)

    def mean(x: Array) -> Array:
        total = jax.lax.psum(jnp.where(episodes.ended, x, 0).sum(), axes)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    return {
        "episode/count": count,
        "episode/return": mean(episodes.episode_return),
        "episode/length": mean(episodes.length),
        **{f"episode/{name}": mean(x) for name, x in episodes.metrics.items()},
    }


class _TracedOnce:
    """An environment whose functions are traced once, however many programs use them."""

    def __init__(self, env: Environment) -> None:
        self.spec = env.spec
        self.reset = jax.jit(env.reset)
        self.step = jax.jit(env.step)


class Program:
    """The compiled functions of a run: every array has a leading axis S, one entry per seed.

    Attributes:
        config: the run's.
        env: the environment, unbatched.
        networks: actor and critic.
    """

    def __init__(
        self, config: Config, env: Environment, objective: Objective | None = None
    ) -> None:
        self.config = config
        self.env = env
        self.networks = make_networks(config, env.spec)
        self._mesh = mesh = make_mesh(config)
        self._seeds = put(mesh, np.asarray(config.seeds, np.uint32), SEEDS)
        self._index = put(mesh, np.arange(config.num_envs), ENVS)
        self._rules = _TracedOnce(env)
        shared = (config, self.networks, VectorEnv(self._rules))
        objective = objective or config.make_objective()
        step = partial(train_step, *shared, objective, axes=("envs",))
        init = partial(init_state, *shared)
        self._init = spread(mesh, init, (SEEDS, ENVS), PLACEMENT, once=True)
        self._step = spread(mesh, step, (PLACEMENT,), (PLACEMENT, SEEDS), donate=True)
        self._evaluate = spread(mesh, self._evaluate_some, (SEEDS, SEEDS, ENVS), SEEDS_AND_ENVS)

    def compile(self) -> int:
        """Compiles everything now, side by side, instead of each program at its first call.

        Returns:
            Bytes that the run needs on each device.

        Raises:
            UserError: the run would need more memory than its devices have free.
        """
        batch, episodes = self._evaluation_args(0)
        with _no_garbage_collection(), ThreadPoolExecutor() as pool:
            template = self.template  # a compiled program has no shapes to offer
            programs = {
                "_step": (template,),  # takes longest
                "_init": (self._seeds, self._index),
                "_evaluate": (template.learner.params.actor, batch, episodes),
            }
            tasks = [
                pool.submit(getattr(self, name).lower(*args).compile)
                for name, args in programs.items()
            ]
            compiled = [task.result() for task in tasks]
        for name, program in zip(programs, compiled, strict=True):
            setattr(self, name, program)
        memory, free = _peak_memory(compiled), free_memory(self._mesh)
        if free is not None and memory > free:
            raise UserError(
                f"this configuration needs {memory / 1e9:,.1f} GB on each of its "
                f"{self._mesh.size} devices, which have {free / 1e9:,.1f} GB free; lower num_envs, "
                "rollout_length, width or the number of seeds"
            )
        return memory

    def init(self) -> TrainState:
        """The states before the first update."""
        return self._init(self._seeds, self._index)

    @cached_property
    def template(self) -> TrainState:
        """Shapes, types and placement of the states, without computing them."""
        shapes = jax.eval_shape(self._init, self._seeds, self._index)
        return place(self._mesh, shapes, PLACEMENT)

    def step(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One rollout and update of every seed; `state` is consumed."""
        return self._step(state)

    def evaluate(self, actor: PyTree, batch: int = 0) -> EpisodeStats:
        """Plays one batch of evaluation episodes, (S, eval_episodes).

        Args:
            actor: parameters, (S, ...).
            batch: which episodes: 0 are those of every evaluation, the others are for the final
                score, so that one compiled program serves both.

        Returns:
            NumPy arrays, the same on every process.
        """
        stats = self._evaluate(actor, *self._evaluation_args(batch))
        return jax.tree.map(lambda x: x[:, : self.config.eval_episodes], gather(stats))

    def _evaluation_args(self, batch: int) -> tuple[Array, Array]:
        """The batch for each seed, and the episodes: as many for each device."""
        num_devices = self._mesh.shape["envs"]
        num_episodes = -(-self.config.eval_episodes // num_devices) * num_devices
        return (
            put(self._mesh, np.full(len(self.config.seeds), batch), SEEDS),
            put(self._mesh, np.arange(num_episodes), ENVS),
        )

    def _evaluate_some(self, actor: PyTree, batch: Array, index: Array) -> EpisodeStats:
        # another stream than any training seed's, and the same episodes every time
        key = jax.random.fold_in(jax.random.key(self.config.eval_seed), batch)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        return evaluate(self.networks, actor, self._rules, keys, self.config.eval_greedy)


def _peak_memory(programs: list[jax.stages.Compiled]) -> int:
    """Bytes on one device: the states, and what the hungriest program needs besides.

    0 for a backend that does not tell.
    """
    uses = [use for program in programs if (use := program.memory_analysis())]
    needs = [
        use.temp_size_in_bytes + use.output_size_in_bytes - use.alias_size_in_bytes for use in uses
    ]
    return uses[0].output_size_in_bytes + max(needs) if uses else 0


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Tracing makes many objects that stay; searching them takes a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
