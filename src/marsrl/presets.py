"""Hyperparameters per family: one setting for all tasks of an environment, and for all objectives.

Found on small machines (two cores): budgets are what clearly leaves the random policy there. The
ranges around them are those of Mava, MAGPO and JaxMARL (see docs/tasks.md). Networks are recurrent
where hidden things must be remembered, feed-forward elsewhere and where that learns as far for a
fraction of the time (RWARE, Connector, PaxMen).
"""

from __future__ import annotations

from typing import Any

from marsrl.config import Config
from marsrl.envs.tasks import TASKS

_FAMILIES: dict[str, dict[str, Any]] = {
    "rware": {
        "total_steps": 4_000_000,
        "ent_coef": 0.01,  # the reward is rare
        "actor_lr": 1e-3,
        "critic_lr": 1e-3,
    },
    "lbf": {
        "total_steps": 1_000_000,
        "gamma": 0.95,  # with 0.99 it learns more slowly (docs/tasks.md)
        "kernel_init": "orthogonal",  # more seeds find that foods want several (docs/learner.md)
    },
    "connector": {"total_steps": 1_000_000},
    "mpe": {"total_steps": 3_000_000},
    "smax": {"total_steps": 1_000_000, "num_envs": 64},
    "mabrax": {
        "total_steps": 1_000_000,
        "num_envs": 64,
        "num_evaluations": 10,  # of 1000 steps each episode
        "actor_norm": "none",  # with running moments the hopper learned less (docs/learner.md)
        "critic_norm": "none",
    },
    "paxmen": {
        "total_steps": 1_500_000,
        "update_epochs": 8,  # with 4 more seeds never begin to learn (docs/tasks.md)
        "actor_norm": "none",  # its inputs are of size 1 already (docs/learner.md)
        "critic_norm": "none",
        "ent_coef": 0.01,  # with less, more seeds never find that each room wants an agent
    },
    "aerojax": {"total_steps": 2_000_000, "num_envs": 64, "actor_lr": 1e-3, "critic_lr": 1e-3},
}


def preset(task: str, **settings: Any) -> Config:
    """The configuration for a task: its family's preset, with `settings` in place of its own.

    A task outside the benchmark gets the defaults of `Config`.

    Raises:
        UserError: a setting that `Config` does not have (near misses named) or refuses.
    """
    values: dict[str, Any] = {"task": task}
    if isinstance(task, str) and task in TASKS:
        values["core"] = "gru" if TASKS[task].memory else "ff"
        values |= _FAMILIES.get(task.partition("/")[0], {})
    return Config.from_dict(values | settings)
