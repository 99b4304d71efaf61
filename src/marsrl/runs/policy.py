"""A trained team in one line: `marsrl.load_policy(run)`."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax

from marsrl.config import Config
from marsrl.devices.distributed import from_first
from marsrl.distributions import Distribution
from marsrl.envs.base import Environment
from marsrl.envs.check import check_interface
from marsrl.envs.flat import flat, name_of
from marsrl.envs.registry import make
from marsrl.errors import Notice, UserError, int_of, near_misses, shown
from marsrl.files import path_of
from marsrl.learner.algorithm import networks_of
from marsrl.learner.modules import Carry
from marsrl.learner.networks import Networks, Weights
from marsrl.runs import acting, actors
from marsrl.runs.checkpoint import CheckpointError, Checkpoints
from marsrl.runs.folder import CONFIG, RunFolder, check_not_passed
from marsrl.runs.lock import writer_of
from marsrl.runs.scores import Scores, best_seed, named_update
from marsrl.trust import check_trusted
from marsrl.types import Array, Key, Observation, TimeStep


@dataclass(frozen=True, eq=False)
class Policy:
    """The actors of one seed of a run.

    Attributes:
        networks: the networks.
        actor: the actor's weights.
        layout: what they read and put out.
        config: the run's.
        seed: which training.
        step: environment steps that the parameters were trained for.
    """

    networks: Networks
    actor: Weights
    layout: actors.Layout
    config: Config
    seed: int
    step: int
    make_env: Callable[[], Environment] = field(repr=False)

    @cached_property
    def env(self) -> Environment:
        """The environment that they were trained on, made when it is first asked for.

        Raises:
            UserError: it cannot be made here, is code that is not trusted, or is another one now.
        """
        with jax.ensure_compile_time_eval():  # it may be asked for first while a program is traced
            env = self.make_env()
        check_trained_on(env, self.layout, self.config)
        return env

    def initial_carry(self, batch: int | tuple[int, ...] = ()) -> Carry:
        """The recurrent state at the start of an episode, (*batch, N, H); `()` if feed-forward."""
        sizes = batch if isinstance(batch, tuple | list) else (batch,)
        batch = tuple(int_of("batch", size, 0) for size in sizes)
        carry = self.networks.initial_carries(math.prod(batch))[0]
        return acting.with_batch(carry, batch)

    def act(
        self,
        carry: Carry,
        time_step: TimeStep | Observation,
        key: Key | None = None,
        greedy: bool = False,
        first: Array | None = None,
    ) -> tuple[Carry, Array]:
        """Chooses the agents' actions in one environment, or in each of a batch of them.

        Args:
            carry: from `initial_carry` or the last call.
            time_step: what the environment returned, with leading axes of a batch, or none; `obs`
                and `action_mask` are used, so a `marsrl.Observation` serves, of lists too. `obs`
                must be uint8 if it was in training, and else not: networks divide it by 255. If
                it was a dictionary, it may be one, or its row.
            key: PRNG key for sampling, or one for each environment of the batch; not needed for the
                mode.
            greedy: the mode instead of a sample.
            first: (*batch,) bool, where an episode begins, so that the carry restarts; default:
                nowhere.

        Returns:
            The next carry, and the action that the environment expects, (*batch, N) or
            (*batch, N, A).

        Raises:
            UserError: shapes or types are not those that the team was trained on, or there is no
                key, or another number of them.
        """
        return self._act(self.actor, carry, time_step, key, greedy, first)

    def distribution(
        self, carry: Carry, time_step: TimeStep | Observation, first: Array | None = None
    ) -> tuple[Carry, Distribution]:
        """The next carry, and the policy over (B, N), B the product of the axes of a batch.

        Arguments are those of `act`.
        """
        return acting.distribution(self.networks, self.layout, self.actor, carry, time_step, first)

    @cached_property
    def _act(self) -> Callable[..., tuple[Carry, Array]]:
        """`acting.act`, compiled for these networks; goes when this policy does."""
        act = partial(acting.act, self.networks, self.layout)
        return jax.jit(act, static_argnums=4)  # greedy


def check_trained_on(env: Environment, layout: actors.Layout, config: Config) -> None:
    """Refuses an environment that a team could not act in.

    Args:
        env: it.
        layout: of the team's actors.
        config: how it was trained.
    """
    groups = ("groups",) if config.share_parameters == "groups" else ()
    names = ("num_agents", "obs_shape", "obs_parts", "action", *groups)
    pairs = [(name, getattr(env.spec, name), getattr(layout.spec, name)) for name in names]
    differ = [
        f"{name} is {shown(now)}, expected {shown(then)}"
        for name, now, then in pairs
        if now != then
    ]
    dtype = actors.layout_for(env).obs_dtype
    if not layout.reads_alike(dtype):
        differ.append(f"obs is {dtype}, expected {layout.obs_dtype}")
    if differ:
        kind = name_of(env)
        raise UserError(f"{kind} is not what this team was trained on: {differ[0]}")


def load_policy(
    run: str | Path,
    seed: int | None = None,
    checkpoint: str | int = "best",
    env: Environment | None = None,
    trust: bool = False,
) -> Policy:
    """Loads a trained team from a run folder, with all the processes that train together.

    The environment is made when `Policy.env` is asked for, and not before: to act, neither it nor
    the package that it is from is needed.

    Args:
        run: the run folder.
        seed: which training; default: the one whose evaluation was best.
        checkpoint: "best" (by evaluation return), "latest", or a number of environment steps.
        env: the environment, if it was not one that the run's configuration names.
        trust: whether to run code that the folder names: a task or network `module:factory`.

    Raises:
        UserError: not a run folder, a network that is not trusted, no such seed or checkpoint, an
            environment that does not keep to the interface, or another than the team was trained
            on.
    """
    run = path_of(run, "run")
    folder = RunFolder.open(run)
    config = folder.config()
    seed = None if seed is None else int_of("seed", seed, 0, 2**32 - 1)
    if seed is not None and seed not in config.seeds:
        known = [str(s) for s in config.seeds]
        raise UserError(f"{run} has no seed {seed}{near_misses(str(seed), known)}")
    if env is not None:
        env = flat(env)
        check_interface(env)

    def make_env() -> Environment:
        if env is not None:
            return env
        check_not_passed("task", config.task, run, "load_policy(run, env=...)")
        check_trusted("task", config.task, run / CONFIG, trust)
        return make(config.task, **config.task_settings)

    check_trusted("network", config.network or "", run / CONFIG, trust)
    layout = saved_layout(folder)
    if layout is not None and env is not None:
        check_trained_on(env, layout, config)
    if layout is None:  # a run of an old version, or without a checkpoint
        env = make_env()
        layout = actors.layout_for(env)
    networks = networks_of(config, layout.spec)
    update, seed, actor = _restore(folder, config, networks, seed, str(checkpoint))
    step = update * config.steps_per_update
    return Policy(networks, actor, layout, config, seed, step, make_env)


def saved_layout(folder: RunFolder) -> actors.Layout | None:
    """What the run's actors read and put out, as the newest checkpoint that can tell has it."""
    checkpoints = Checkpoints(folder.checkpoints)
    for update in reversed(checkpoints.steps()):
        with contextlib.suppress(CheckpointError):
            content = checkpoints.file(update, actors.FILE)
            found = None if content is None else actors.layout(content)
            if found is not None:
                return found
    return None


def _restore(
    folder: RunFolder,
    config: Config,
    networks: Networks,
    seed: int | None,
    checkpoint: str,
) -> tuple[int, int, Weights]:
    """Update, seed and actor of a checkpoint, or of the next best if it is damaged."""
    checkpoints = Checkpoints(folder.checkpoints)
    template = jax.eval_shape(networks.init, jax.random.key(0)).actor
    refused: set[int] = set()
    while True:
        saved, scores = from_first(lambda: _known(checkpoints, refused))
        scores = {u: {int(s): x for s, x in of_seeds.items()} for u, of_seeds in scores}
        if not scores:
            raise UserError(f"{folder.path} holds no evaluated checkpoint yet")
        mine = best_seed(scores, config.seeds) if seed is None else seed
        steps = config.steps_per_update
        update = named_update(checkpoint, scores, saved, mine, steps, folder.path)
        if checkpoint == "best":
            _tell_if_better(folder, scores, mine, update, steps)
        try:
            content = checkpoints.file(update, actors.FILE)
            if content is None:
                path = checkpoints.path(update)
                raise CheckpointError(f"checkpoint {path} has no {actors.FILE}")
            return update, mine, actors.unpack(content, template, config.seeds.index(mine))
        except CheckpointError as error:
            there = from_first(lambda update=update: checkpoints.path(update).exists())
            if checkpoint not in ("best", "latest") and there:
                raise
            if there:  # or the run, which goes on, has deleted it
                warnings.warn(f"{error}; the next best is used", Notice, stacklevel=4)
            refused.add(update)


def _known(checkpoints: Checkpoints, refused: set[int]) -> tuple[list[int], list[Any]]:
    """The updates that have a checkpoint, and the scores of those that were evaluated."""
    scores = [(u, x) for u, x in checkpoints.scores().items() if u not in refused]
    return [u for u in checkpoints.complete() if u not in refused], scores


def _tell_if_better(
    folder: RunFolder, scores: Scores, seed: int, update: int, steps_per_update: int
) -> None:
    """Warns if the log knows of a better evaluation, whose checkpoint is gone."""
    logged = [
        (row["return"], row["step"])
        for row in folder.rows()
        if row["kind"] == "eval" and row["seed"] == seed and row.get("return") is not None
    ]
    score, step = max(logged, default=(-math.inf, 0))
    better = score > scores[update][seed] and step // steps_per_update not in scores
    if better and writer_of(folder.path) is None:  # one who trains saves a moment later
        warnings.warn(
            f"{folder.path}: the best evaluation of seed {seed}, {score:.4g} at step {step:,}, has "
            f"no sound checkpoint any more; the best that has one is that of step "
            f"{update * steps_per_update:,}, {scores[update][seed]:.4g}",
            Notice,
            stacklevel=5,
        )


def record_episode(policy: Policy, key: Key, greedy: bool = False) -> tuple[list[Any], float]:
    """Plays one episode: the environment's states, first to last, and the return."""
    step = jax.jit(policy.env.step)
    key, reset_key = jax.random.split(key)
    state, time_step = jax.jit(policy.env.reset)(reset_key)
    states, total, carry = [state], 0.0, policy.initial_carry()
    for _ in range(policy.env.spec.max_steps):
        key, action_key, env_key = jax.random.split(key, 3)
        carry, action = policy.act(carry, time_step, action_key, greedy)
        state, time_step = step(env_key, state, action)
        states.append(state)
        total += float(time_step.reward.mean())
        if time_step.done:
            break
    return states, total
