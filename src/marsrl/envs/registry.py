"""Tasks by name: "family/task" -> a lazily imported environment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from marsrl.envs.base import Environment
from marsrl.errors import UserError, near_misses


def _paxmen(num_agents: int) -> Environment:
    from marsrl.envs.paxmen import PaxMen

    return PaxMen(num_agents)


TASKS: dict[str, Callable[[], Environment]] = {
    "paxmen/4ag": partial(_paxmen, 4),
    "paxmen/5ag": partial(_paxmen, 5),
    "paxmen/6ag": partial(_paxmen, 6),
}
"""Every task that `marsrl envs` lists."""


def make(task: str) -> Environment:
    """Makes the environment that `TASKS` lists under this name.

    Raises:
        UserError: the name is unknown; near misses are named.
    """
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}{near_misses(task, TASKS)}")
    return TASKS[task]()
