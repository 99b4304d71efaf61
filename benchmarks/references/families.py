"""Which high reference each family has, and how it is found."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from marsrl.envs import registry
from marsrl.envs.tasks import TASKS
from playing import play, scripted
from references import aerojax, connector, paxmen, rware, spread

BOARDS = 1024
"""Boards of Connector, whose bound needs no play."""

PUBLISHED = {
    "mabrax/hopper_3x1": 2500.0,
    "mabrax/halfcheetah_6x1": 8000.0,
    "mabrax/walker2d_2x3": 5000.0,
    "mabrax/ant_4x2": 8000.0,
    "mabrax/humanoid_9_8": 13000.0,
}
"""Upper ends of the reward axes in brax's training notebook: one agent that moves all joints."""


class Reference(NamedTuple):
    """A high reference.

    Attributes:
        kind: `scripted` play, an upper `bound`, or `published`.
        returns: (M,) of M episodes; one entry for a known number.
    """

    kind: str
    returns: np.ndarray


def reference(task: str, episodes: int, seed: int) -> Reference:
    """Finds the high reference of one of the 47 tasks; `episodes` for those that are played."""
    family = task.partition("/")[0]
    if family == "lbf":  # all food eaten
        return Reference("bound", np.array([1.0]))
    if family == "smax":  # all damage done, and the win
        return Reference("bound", np.array([2.0]))
    if family == "mabrax":
        return Reference("published", np.array([PUBLISHED[task]]))
    if family == "connector":
        keys = jax.random.split(jax.random.key(seed), BOARDS)
        start, _ = jax.jit(jax.vmap(registry.make(task).reset))(keys)
        return Reference("bound", connector.bound(jax.tree.map(np.asarray, start)))
    if family == "aerojax":
        return Reference("scripted", aerojax.returns(registry.make(task), episodes, seed))
    if family == "rware":
        # N robots that never hinder each other: one that has the warehouse to itself, N times.
        env = registry.make(task, num_agents=1)
        alone = play(env, scripted(partial(rware.script, env.game)), episodes, seed).returns
        return Reference("scripted", TASKS[task].num_agents * alone)
    env = registry.make(task)
    script = spread.script if family == "mpe" else partial(paxmen.script, env.layouts)
    return Reference("scripted", play(env, scripted(script), episodes, seed).returns)
