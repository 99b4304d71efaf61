"""The program of a run: the algorithm compiled for all seeds, spread over devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.compiler import no_garbage_collection
from marsrl.config import Config
from marsrl.devices.sharding import (
    ENVS,
    EVERYWHERE,
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
from marsrl.envs.vector import EpisodeStats, OnHost
from marsrl.errors import UserError
from marsrl.learner.algorithm import TrainState, make_algorithm
from marsrl.learner.metrics import Metrics
from marsrl.learner.networks import ActorCritic, Weights
from marsrl.learner.schedule import Hyperparameters, check_shared, hyperparameters
from marsrl.objectives import Objective
from marsrl.types import Array

FINAL_BATCHES = 10
"""The final score of a seed is taken on this many times the episodes of an evaluation."""

PLACEMENT = TrainState._make((SEEDS, SEEDS_AND_ENVS, SEEDS_AND_ENVS, SEEDS, SEEDS, SEEDS))
"""Which axes of each part of the states (S, ...) are spread over devices."""


class _TracedOnce:
    """An environment whose functions are traced once, however many programs use them."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.spec = env.spec
        self.reset = jax.jit(env.reset)
        self.step = jax.jit(env.step)


class Program:
    """The compiled functions of a run, or of several that differ in inputs alone.

    Every array has a leading axis S, one entry per seed: those of the first configuration, then
    those of the second, and so on.

    Attributes:
        config: the run's, or the first one's.
        env: the environment, unbatched.
        layout: what may be spread over devices.
        algorithm: of one seed, with a device's share of its environments.
    """

    def __init__(
        self,
        config: Config,
        env: Environment,
        objective: Objective | None = None,
        others: Sequence[Config] = (),
    ) -> None:
        """Prepares the functions; nothing is compiled yet.

        Args:
            config: what to train.
            env: the environment.
            objective: in place of the one that the configuration names.
            others: more configurations to train side by side.

        Raises:
            UserError: the others need a program of their own, or there are not the devices that
                were asked for.
        """
        for other in others:
            check_shared(config, other, objective is not None)
        self.config = config
        self.env = env
        traced = env if isinstance(env, OnHost) else _TracedOnce(env)
        self.algorithm = make_algorithm(config, traced, objective, axes=("envs",))
        seeds = [seed for each in (config, *others) for seed in each.seeds]
        layout = dataclasses.replace(config.layout, num_seeds=len(seeds))
        if self.algorithm.env.on_host:
            layout = dataclasses.replace(layout, devices=_one_device(config))
        self.layout = layout
        self._mesh = mesh = make_mesh(layout)
        self._seeds = put(mesh, np.asarray(seeds, np.uint32), SEEDS)
        self._index = put(mesh, np.arange(config.num_envs), ENVS)
        inputs = [self.algorithm.hyperparameters] * len(config.seeds)
        for other in others:
            theirs = hyperparameters(other, objective or other.make_objective())
            inputs += [theirs] * len(other.seeds)
        self._inputs = jax.tree.map(lambda *x: put(mesh, np.asarray(x, np.float32), SEEDS), *inputs)
        init, steps, evaluate = self._init_one, self._step_one, self._evaluate_one
        self._init = spread(mesh, init, (SEEDS, ENVS), PLACEMENT, once=True)
        self._step = spread(
            mesh, steps, (PLACEMENT, SEEDS, EVERYWHERE), (PLACEMENT, SEEDS), donate=True
        )
        self._evaluate = spread(mesh, evaluate, (SEEDS, SEEDS, SEEDS, ENVS), SEEDS_AND_ENVS)
        self._restart = spread(mesh, self.algorithm.restarted, (PLACEMENT,), PLACEMENT, once=True)

    def compile(self) -> int:
        """Compiles everything now, side by side, instead of each program at its first call.

        Returns:
            Bytes that the run needs on each device.

        Raises:
            UserError: the run would need more memory than its devices have free.
        """
        with no_garbage_collection(), ThreadPoolExecutor() as pool:
            template = self.template  # a compiled program has no shapes to offer
            programs = {
                "_step": (template, self._inputs, self._number(1)),  # takes longest
                "_init": (self._seeds, self._index),
                "_evaluate": (template.learner.weights.actor, *self._evaluation_args(0)),
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
        """The states of all seeds before their first update.

        Raises:
            UserError: what the agents or the critic see at the start is not finite.
        """
        state = self._checked(self._init(self._seeds, self._index))
        start = state.rollout.vector.time_step
        for name, x in (("obs", start.obs), ("global_state", start.global_state)):
            # whole numbers are finite, and pictures of them large
            if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(gather(x)).all():
                raise UserError(
                    f"{self.config.task} begins with {name} that is not finite, expected numbers; "
                    "marsrl.check_env says more"
                )
        return state

    def restored(self, state: TrainState) -> TrainState:
        """The states out of a checkpoint, with fresh environments if those could not be saved."""
        if not self.algorithm.env.on_host:
            return state
        return self._checked(self._restart(state))

    def close(self) -> None:
        """Ends what environments outside of JAX hold."""
        self.algorithm.env.close()

    @cached_property
    def template(self) -> TrainState:
        """Shapes, types and placement of the states, without computing them."""
        shapes = jax.eval_shape(self._init, self._seeds, self._index)
        return place(self._mesh, shapes, PLACEMENT)

    def step(self, state: TrainState, number: int = 1) -> tuple[TrainState, Metrics]:
        """Some rollouts and updates of every seed, in one call; `state` is consumed.

        Args:
            state: of all seeds.
            number: updates, at most `config.log_interval`.

        Returns:
            The states, and the metrics of each update, (S, log_interval), of which the first
            `number` count; see `metrics.merged`.
        """
        return self._checked(self._step(state, self._inputs, self._number(number)))

    def evaluate(self, actor: Weights, batch: int = 0) -> EpisodeStats:
        """Plays one batch of evaluation episodes, (S, eval_episodes).

        Args:
            actor: weights, (S, ...), on the devices or NumPy arrays.
            batch: which episodes: 0 are those of every evaluation, the others are for the final
                score, so that one compiled program serves both.

        Returns:
            NumPy arrays, the same on every process.
        """
        actor = jax.tree.map(
            lambda x: put(self._mesh, x, SEEDS) if isinstance(x, np.ndarray) else x, actor
        )
        stats = self._checked(self._evaluate(actor, *self._evaluation_args(batch)))
        return jax.tree.map(lambda x: x[:, : self.config.eval_episodes], gather(stats))

    def with_weights(self, state: TrainState, weights: ActorCritic) -> TrainState:
        """The states with other weights, NumPy arrays (S, ...)."""
        placed = jax.tree.map(lambda x: put(self._mesh, x, SEEDS), weights)
        return state._replace(learner=state.learner._replace(weights=placed))

    def _init_one(self, seed: Array, index: Array) -> TrainState:
        return self.algorithm.init(jax.random.key(seed), index)

    def _step_one(
        self, state: TrainState, inputs: Hyperparameters, number: Array
    ) -> tuple[TrainState, Metrics]:
        """A loop whose length is an input, so that one program serves any number of updates."""
        shapes = jax.eval_shape(self.algorithm.step, state, inputs)[1]
        metrics = jax.tree.map(
            lambda x: jnp.zeros((self.config.log_interval, *x.shape), x.dtype), shapes
        )

        def once(done: tuple[Array, TrainState, Metrics]) -> tuple[Array, TrainState, Metrics]:
            i, state, metrics = done
            state, new = self.algorithm.step(state, inputs)
            return i + 1, state, jax.tree.map(lambda all, x: all.at[i].set(x), metrics, new)

        start = (jnp.int32(0), state, metrics)
        return jax.lax.while_loop(lambda done: done[0] < number, once, start)[1:]

    def _evaluate_one(
        self, actor: Weights, seed: Array, batch: Array, index: Array
    ) -> EpisodeStats:
        key = jax.random.fold_in(jax.random.key(self.config.eval_seed), _NOT_TRAINING)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.fold_in(jax.random.fold_in(key, seed), batch), index
        )
        config = self.config
        return self.algorithm.evaluate(actor, keys, config.eval_greedy, config.eval_longest)

    def _checked(self, result: Any) -> Any:
        """What a program returned, if no environment outside of JAX has failed meanwhile."""
        if self.algorithm.env.on_host:
            jax.block_until_ready(result)
            self.algorithm.env.check()
        return result

    def _number(self, number: int) -> Array:
        return put(self._mesh, np.asarray(number, np.int32), EVERYWHERE)

    def _evaluation_args(self, batch: int) -> tuple[Array, Array, Array]:
        """Seeds, the batch for each, and the episodes: as many for each device."""
        num_devices = self._mesh.shape["envs"]
        num_episodes = -(-self.config.eval_episodes // num_devices) * num_devices
        return (
            self._seeds,
            put(self._mesh, np.full(len(self._seeds), batch), SEEDS),
            put(self._mesh, np.arange(num_episodes), ENVS),
        )


_NOT_TRAINING = 2**31
"""Separates the keys of evaluations from those that training splits off an equal seed."""


def _one_device(config: Config) -> int:
    """1, on which environments outside of JAX are played; refuses more."""
    if config.devices not in (None, 1) or jax.process_count() > 1:
        what = f"devices = {config.devices}" if jax.process_count() == 1 else "several processes"
        raise UserError(
            f"{what}, but the environments of {config.task} are played by processes of their own "
            "beside one device; expected devices = 1",
            "devices",
        )
    return 1


def _peak_memory(programs: list[jax.stages.Compiled]) -> int:
    """Bytes on one device: the states, and what the hungriest program needs besides.

    0 for a backend that does not tell.
    """
    uses = [use for program in programs if (use := program.memory_analysis())]
    needs = [
        use.temp_size_in_bytes + use.output_size_in_bytes - use.alias_size_in_bytes for use in uses
    ]
    return uses[0].output_size_in_bytes + max(needs) if uses else 0
