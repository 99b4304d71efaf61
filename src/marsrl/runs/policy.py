"""A trained team in one line: `marsrl.load_policy(run)`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from marsrl.devices.sharding import fit_devices, gather
from marsrl.envs.base import Environment
from marsrl.envs.registry import make
from marsrl.errors import UserError, near_misses
from marsrl.learner.networks import Carry, Networks
from marsrl.learner.trainer import Program
from marsrl.objectives import mars
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import RunFolder
from marsrl.trust import check_trusted
from marsrl.types import Array, Key, PyTree, TimeStep


@dataclass(frozen=True, eq=False)
class Policy:
    """The actors of one seed of a run, with the environment that they were trained on.

    Attributes:
        networks: the networks.
        params: the actor's parameters.
        env: the environment.
        step: environment steps that the parameters were trained for.
    """

    networks: Networks
    params: PyTree
    env: Environment
    step: int

    def initial_carry(self) -> Carry:
        """The recurrent state at the start of an episode."""
        return self.networks.initial_carries(1)[0]

    @partial(jax.jit, static_argnums=(0, 4))  # the policy itself, greedy
    def act(
        self, carry: Carry, time_step: TimeStep, key: Key, greedy: bool = False
    ) -> tuple[Carry, Array]:
        """Chooses the agents' actions in one unbatched environment.

        Args:
            carry: from `initial_carry` or the last call.
            time_step: what the environment returned; `obs` and `action_mask` are used.
            key: PRNG key for sampling.
            greedy: the mode instead of a sample.

        Returns:
            The next carry, and the action that the environment expects, (N,) or (N, A).
        """
        batch = jax.tree.map(lambda x: x[None], time_step)
        carry, dist = self.networks.act_once(self.params, carry, batch, jnp.zeros(1, bool))
        action = dist.mode() if greedy else dist.sample(key[None])
        return carry, dist.env_action(action)[0]


def load_policy(
    run: str | Path,
    seed: int | None = None,
    checkpoint: str = "best",
    env: Environment | None = None,
    trust: bool = False,
) -> Policy:
    """Loads a trained team from a run folder, with all the processes that train together.

    Args:
        run: the run folder.
        seed: which training; default: the one whose evaluation was best.
        checkpoint: "best" (by evaluation return), "latest", or a number of environment steps.
        env: the environment, if it was not one that the run's configuration names.
        trust: whether to run code that the folder names, if its task is a `module:factory`.

    Raises:
        UserError: not a run folder, a task that is not trusted, or no such seed or checkpoint.
    """
    folder = RunFolder.open(Path(run))
    config = folder.config()
    if env is None:
        check_trusted("task", config.task, Path(run) / "config.json", trust)
    scores = {(r["seed"], r["step"]): r["return"] for r in folder.rows() if r["kind"] == "eval"}
    checkpoints = Checkpoints(folder.checkpoints, config.seeds, config.keep_checkpoints)
    saved = [update * config.steps_per_update for update in checkpoints.steps()]
    scores = {key: score for key, score in scores.items() if key[1] in saved}
    if not scores:
        raise UserError(f"{run} holds no evaluated checkpoint yet")
    if seed is None:
        seed = max(scores, key=lambda key: scores[key])[0]
    if seed not in config.seeds:
        known = [str(s) for s in config.seeds]
        raise UserError(f"{run} has no seed {seed}{near_misses(str(seed), known)}")
    step = _find_step(checkpoint, {at: x for (s, at), x in scores.items() if s == seed}, saved)
    env = make(config.task, **config.task_settings) if env is None else env
    program = Program(fit_devices(config), env, mars())  # no objective is needed to play
    state = checkpoints.restore(step // config.steps_per_update, program.template)
    checkpoints.close()
    index = config.seeds.index(seed)
    params = jax.tree.map(lambda x: jnp.asarray(x[index]), gather(state.learner.params.actor))
    return Policy(program.networks, params, program.env, step)


def _find_step(checkpoint: str, scores: dict[int, float], saved: list[int]) -> int:
    if checkpoint == "latest":
        return saved[-1]
    if checkpoint == "best":
        return max(scores, key=lambda step: scores[step])
    if checkpoint.isdigit() and int(checkpoint) in saved:
        return int(checkpoint)
    raise UserError(
        f"no checkpoint {checkpoint!r}; expected best, latest or one of "
        f"{', '.join(map(str, saved))}"
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
