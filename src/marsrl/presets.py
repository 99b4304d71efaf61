"""Hyperparameters per family: one setting for all tasks of an environment, and for all objectives.

Starting points are what peers ship (Mava, MAGPO, JaxMARL; see docs/tasks.md), fitted to small
machines. Feed-forward where an agent sees all that it needs, a GRU where it must remember.
"""

from __future__ import annotations

from typing import Any

from marsrl.config import Config
from marsrl.envs.tasks import TASKS

_FAMILIES: dict[str, dict[str, Any]] = {
    # Sparse reward and sudden ends: more exploration, and fresh starts for many short episodes.
    "rware": {
        "total_steps": 4_000_000,
        "ent_coef": 0.01,
        "actor_lr": 1e-3,
        "critic_lr": 1e-3,
        "reset_pool": 512,
    },
    "lbf": {"total_steps": 1_000_000, "reset_pool": 256},
    "connector": {"total_steps": 1_000_000},
    "mpe": {"total_steps": 3_000_000},
    "smax": {"total_steps": 1_500_000, "num_envs": 64},
    # Episodes of 1000 steps make evaluations dear.
    "mabrax": {"total_steps": 1_000_000, "num_envs": 64, "num_evaluations": 10},
    "paxmen": {},
    "aerojax": {"total_steps": 2_000_000, "num_envs": 64, "actor_lr": 1e-3, "critic_lr": 1e-3},
}


def preset(task: str, **settings: Any) -> Config:
    """The configuration for a task: its family's preset, with `settings` in place of its own.

    A task outside the benchmark gets the defaults of `Config`.

    Raises:
        UserError: a setting that `Config` refuses.
    """
    values: dict[str, Any] = {"task": task}
    if task in TASKS:
        values["core"] = "gru" if TASKS[task].memory else "ff"
        values |= _FAMILIES.get(task.partition("/")[0], {})
    return Config(**(values | settings))
