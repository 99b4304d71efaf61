"""What a compiled program takes as an input, and how it changes in the course of a run.

One program thus serves every value of these settings, and seeds with different ones can train side
by side in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp

from marsrl.config import INPUTS, Config
from marsrl.errors import UserError, shown
from marsrl.objectives import OBJECTIVES, Objective
from marsrl.types import Array

LEAST_SIZE, MOST_SIZE = 1e-3, 1e2
"""Between which `target_kl` keeps the upper width of a trust region."""
_GAIN = 0.25
"""Share of the error of log KL that one update answers; KL grows like the square of the size."""
_LONGEST_STEP = 0.1
"""Most that one update changes the logarithm of the size."""


class Linear(NamedTuple):
    """A setting that moves evenly from its start to its end over the run."""

    start: Array | float
    end: Array | float

    def at(self, progress: Array) -> Array:
        """The value at `progress`, the share of the updates that are done."""
        return self.start + (self.end - self.start) * progress


class Hyperparameters(NamedTuple):
    """The settings that are inputs; () each, or (S,) for the seeds of a run.

    Attributes:
        num_updates: of the whole run.
        actor_lr: Adam's step size for the actor.
        critic_lr: likewise for the critic.
        ent_coef: weight of the entropy bonus.
        eps_low: lower width of the trust region.
        eps_high: upper width.
        target_kl: `update_kl` that the size of the region is steered to (nats); if at all.
        gamma: discount per step.
        gae_lambda: trace decay of the advantage estimate.
    """

    num_updates: Array | float
    actor_lr: Linear
    critic_lr: Linear
    ent_coef: Linear
    eps_low: Linear
    eps_high: Linear
    target_kl: Array | float
    gamma: Array | float
    gae_lambda: Array | float

    def scheduled(self, updates: Array, log_size: Array | float) -> Schedule:
        """What holds in the update after so many, in a region of `exp(log_size)` times its size.

        Beyond the run's end it is what holds there.
        """
        progress = jnp.minimum(updates / self.num_updates, 1.0)
        size = jnp.exp(log_size)
        return Schedule(
            self.actor_lr.at(progress),
            self.critic_lr.at(progress),
            self.ent_coef.at(progress),
            self.eps_low.at(progress) * size,
            self.eps_high.at(progress) * size,
            self.gamma,
            self.gae_lambda,
        )


class Schedule(NamedTuple):
    """The hyperparameters of one rollout and its update; () each."""

    actor_lr: Array | float
    critic_lr: Array | float
    ent_coef: Array | float
    eps_low: Array | float
    eps_high: Array | float
    gamma: Array | float
    gae_lambda: Array | float


def hyperparameters(config: Config, objective: Objective) -> Hyperparameters:
    """The inputs that a configuration asks for, with an objective in its trust region."""

    def to(end: float | None, start: float) -> Linear:
        return Linear(start, start if end is None else end)

    rest = 0.0 if config.anneal_lr else None
    low, high = objective.region.widths
    last = 1.0 if config.eps_end is None else config.eps_end / high
    return Hyperparameters(
        num_updates=float(config.num_updates),
        actor_lr=to(rest, config.actor_lr),
        critic_lr=to(rest, config.critic_lr),
        ent_coef=to(config.ent_coef_end, config.ent_coef),
        eps_low=Linear(low, low * last),
        eps_high=Linear(high, high * last),
        target_kl=math.inf if config.target_kl is None else config.target_kl,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )


def check_shared(config: Config, other: Config, passed: bool = False) -> None:
    """Refuses two configurations that cannot share a program.

    Args:
        config: the one.
        other: the other.
        passed: whether both have one objective that was passed as an object.

    Raises:
        UserError: names what they differ in.
    """
    if not passed and config.objective not in OBJECTIVES:  # whose formula may hold eps itself
        raise UserError(f"{config.objective} has a program for each eps, and cannot share one")
    for name, mine in config.to_dict().items():
        theirs = getattr(other, name)
        if name in INPUTS or name == "seeds":
            if name == "target_kl" and (mine is None) != (theirs is None):
                raise UserError("target_kl must be given for all that share a program, or for none")
        elif mine != theirs:
            raise UserError(
                f"{name} is {shown(mine)} and {shown(theirs)}, but what shares a program must have "
                f"it alike; it may differ in {', '.join(INPUTS)}"
            )


def steered(log_size: Array, schedule: Schedule, kl: Array, target_kl: Array | float) -> Array:
    """The size of the trust region for the next update, by how far this one has moved the policy.

    A controller in log space: whatever the geometry, a wider region lets the policy move further,
    by a KL that grows about like the square of the width.

    Args:
        log_size: () log of the size, relative to the schedule's, in this update.
        schedule: of this update.
        kl: () its `update_kl`; one that is not finite changes nothing.
        target_kl: what it is to be.
    """
    error = jnp.log(target_kl) - jnp.log(jnp.maximum(kl, 1e-12))
    step = jnp.clip(_GAIN * error / 2, -_LONGEST_STEP, _LONGEST_STEP)
    width = jnp.log(schedule.eps_high)
    moved = jnp.clip(width + step, math.log(LEAST_SIZE), math.log(MOST_SIZE)) - width
    return jnp.where(jnp.isfinite(kl), log_size + moved, log_size)
