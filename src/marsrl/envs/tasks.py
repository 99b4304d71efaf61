"""The 47 tasks of the benchmark in eight families: one literal table, readable without JAX.

Listing them imports no environment; a test holds every row against the real one.
"""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from marsrl.errors import UserError, near_misses, shown
from marsrl.loading import HOST_LIBRARIES

ENTRY_POINTS = "marsrl.envs"
"""Group in which a package offers tasks: name "family/task", value "module:factory"."""

BOUNDS_VERSION = 1
"""Raised whenever a `low` or `high` changes: scores normalised by different versions do not mix."""


class Bounds(NamedTuple):
    """The mean returns of a task that count as scores of 0 and 1.

    Attributes:
        low: that of the random policy.
        high: a reference for a good one.
    """

    low: float
    high: float


class Family(NamedTuple):
    """What the tasks of one environment have in common.

    Attributes:
        factory: "module:function" that makes the environment from a task's settings.
        reward: the rule of the team's reward, in words.
        ends: when an episode ends, and by which flag.
        high: where the high references come from.
    """

    factory: str
    reward: str
    ends: str
    high: str


class Task(NamedTuple):
    """One task.

    Attributes:
        settings: keyword arguments of the family's factory.
        num_agents: `N`.
        obs_size: of one agent, without its id.
        state_size: of the global state.
        num_actions: `A`; of dimensions, if continuous.
        max_steps: the horizon.
        memory: True if an agent must remember, so that the preset is recurrent.
        low: mean return of the random policy, measured (see docs/tasks.md).
        high: reference for a good return; `Family.high` says from where.
        continuous: whether actions are.
    """

    settings: dict[str, Any]
    num_agents: int
    obs_size: int
    state_size: int
    num_actions: int
    max_steps: int
    memory: bool
    low: float
    high: float
    continuous: bool = False

    @property
    def action(self) -> str:
        """The action space: a number of choices, or a box of so many dimensions."""
        return f"box {self.num_actions}" if self.continuous else str(self.num_actions)


FAMILIES: dict[str, Family] = {
    "rware": Family(
        factory="marsrl.envs.adapters.jumanji:rware",
        reward="1 for every requested shelf delivered, to all",
        ends="terminated by a collision; truncated at the horizon",
        high="a scripted robot with full information, alone, times the number of robots",
    ),
    "lbf": Family(
        factory="marsrl.envs.adapters.jumanji:lbf",
        reward="share of the food's levels eaten, summed over agents, to all",
        ends="terminated when all food is eaten; truncated at the horizon",
        high="all food",
    ),
    "connector": Family(
        factory="marsrl.envs.adapters.jumanji:connector",
        reward="per agent 1 on connecting and -0.03 per step begun unconnected; the sum, to all",
        ends="terminated when every agent is connected or blocked; truncated at the horizon",
        high="upper bound: every agent by its shortest way, mean over 1,024 boards",
    ),
    "mpe": Family(
        factory="marsrl.envs.adapters.jaxmarl:mpe_spread",
        reward="-(distance of each landmark to its nearest agent) and collisions; the mean, to all",
        ends="truncated at the horizon",
        high="scripted team with full information: one agent to each landmark",
    ),
    "smax": Family(
        factory="marsrl.envs.adapters.jaxmarl:smax",
        reward="share of the enemies' health taken, and 1 for a win, to all",
        ends="terminated when one side is dead; truncated at the horizon",
        high="all damage done, and the win",
    ),
    "mabrax": Family(
        factory="marsrl.envs.adapters.jaxmarl:mabrax",
        reward="that of the brax robot, to all",
        ends="terminated by a fall (not halfcheetah); truncated at the horizon",
        high="axes of brax's training notebook: one agent that moves all joints",
    ),
    "paxmen": Family(
        factory="marsrl.envs.paxmen:PaxMen",
        reward="1 for every dot eaten, -0.025 for every agent that ate none, summed, to all",
        ends="truncated at the horizon",
        high="scripted team with full information: one agent to each room",
    ),
    "aerojax": Family(
        factory="marsrl.envs.aerojax:aerojax",
        reward="captures + 0.2 x change of locks - aircraft lost, to all",
        ends="terminated when too few aircraft that can lock are left; truncated at the horizon",
        high="the scripted team marsrl.envs.aerojax.heuristic",
    ),
}


def _rware(
    shelf_rows: int, shelf_columns: int, agents: int, requests: int, low: float, high: float
) -> Task:
    settings = {
        "shelf_rows": shelf_rows,
        "shelf_columns": shelf_columns,
        "num_agents": agents,
        "request_queue_size": requests,
    }
    return Task(settings, agents, 66, 66 * agents, 5, 500, False, low, high)


def _lbf(
    grid_size: int, agents: int, food: int, low: float, fov: int | None = None, coop: bool = False
) -> Task:
    settings = {
        "grid_size": grid_size,
        "fov": fov or grid_size,
        "num_agents": agents,
        "num_food": food,
        "force_coop": coop,
    }
    obs_size = 3 * (agents + food)
    return Task(settings, agents, obs_size, obs_size * agents, 6, 100, fov is not None, low, 1.0)


def _connector(grid_size: int, agents: int, low: float, high: float) -> Task:
    settings = {"grid_size": grid_size, "num_agents": agents}
    return Task(settings, agents, 54, 54 * agents, 5, grid_size**2, False, low, high)


def _mpe(agents: int, low: float, high: float) -> Task:
    settings = {"num_agents": agents}
    return Task(settings, agents, 6 * agents, 6 * agents**2, 5, 26, False, low, high, True)


def _smax(scenario: str, agents: int, enemies: int, low: float) -> Task:
    units = agents + enemies
    sizes = (13 * (units - 1) + 10, 12 * units, 5 + enemies)
    return Task({"scenario": scenario}, agents, *sizes, 101, True, low, 2.0)


def _mabrax(
    robot: str, agents: int, obs: int, state: int, dims: int, low: float, high: float
) -> Task:
    return Task({"robot": robot}, agents, obs, state, dims, 1000, False, low, high, True)


def _paxmen(agents: int, state: int, max_steps: int, low: float, high: float) -> Task:
    return Task({"num_agents": agents}, agents, 25, state, 5, max_steps, False, low, high)


def _aerojax(scenario: str, agents: int, targets: int, low: float, high: float) -> Task:
    sizes = (9 + 6 * (agents - 1) + 6 * targets, 9 * agents + 6 * targets + 1)
    return Task({"scenario": scenario}, agents, *sizes, 9, 200, True, low, high)


TASKS: dict[str, Task] = {
    "rware/tiny-2ag": _rware(1, 3, 2, 2, 0.016, 32.66),
    "rware/tiny-2ag-hard": _rware(1, 3, 2, 1, 0.008, 30.33),
    "rware/tiny-4ag": _rware(1, 3, 4, 4, 0.027, 68.02),
    "rware/tiny-4ag-hard": _rware(1, 3, 4, 2, 0.023, 65.31),
    "rware/small-4ag": _rware(2, 3, 4, 4, 0.012, 46.64),
    "rware/small-4ag-hard": _rware(2, 3, 4, 2, 0.008, 45.27),
    "rware/medium-4ag": _rware(2, 5, 4, 4, 0.008, 43.45),
    "rware/medium-4ag-hard": _rware(2, 5, 4, 2, 0.000, 41.53),
    "rware/medium-6ag": _rware(2, 5, 6, 6, 0.012, 66.19),
    "rware/large-4ag": _rware(3, 5, 4, 4, 0.000, 34.98),
    "rware/large-8ag": _rware(3, 5, 8, 8, 0.004, 71.47),
    "lbf/8x8-2p-2f-coop": _lbf(8, 2, 2, 0.014, coop=True),
    "lbf/2s-8x8-2p-2f-coop": _lbf(8, 2, 2, 0.014, fov=2, coop=True),
    "lbf/10x10-3p-3f": _lbf(10, 3, 3, 0.163),
    "lbf/2s-10x10-3p-3f": _lbf(10, 3, 3, 0.163, fov=2),
    "lbf/15x15-3p-5f": _lbf(15, 3, 5, 0.076),
    "lbf/15x15-4p-3f": _lbf(15, 4, 3, 0.134),
    "lbf/15x15-4p-5f": _lbf(15, 4, 5, 0.128),
    "connector/5x5x3a": _connector(5, 3, 0.167, 2.687),
    "connector/7x7x5a": _connector(7, 5, -1.053, 4.376),
    "connector/10x10x10a": _connector(10, 10, -3.523, 8.629),
    "connector/15x15x23a": _connector(15, 23, -12.18, 19.70),
    "mpe/simple_spread_v3-3ag": _mpe(3, -26.73, -5.243),
    "mpe/simple_spread_v3-5ag": _mpe(5, -34.16, -7.215),
    "mpe/simple_spread_v3-10ag": _mpe(10, -54.64, -17.13),
    "smax/2s3z": _smax("2s3z", 5, 5, 0.206),
    "smax/3s5z": _smax("3s5z", 8, 8, 0.205),
    "smax/5m_vs_6m": _smax("5m_vs_6m", 5, 6, 0.140),
    "smax/10m_vs_11m": _smax("10m_vs_11m", 10, 11, 0.164),
    "smax/3s_vs_5z": _smax("3s_vs_5z", 3, 5, 0.217),
    "smax/6h_vs_8z": _smax("6h_vs_8z", 6, 8, 0.326),
    "smax/3s5z_vs_3s6z": _smax("3s5z_vs_3s6z", 8, 9, 0.174),
    "smax/smacv2_5_units": _smax("smacv2_5_units", 5, 5, 0.245),
    "smax/smacv2_10_units": _smax("smacv2_10_units", 10, 10, 0.274),
    "mabrax/hopper_3x1": _mabrax("hopper_3x1", 3, 12, 11, 1, 98.73, 2500.0),
    "mabrax/halfcheetah_6x1": _mabrax("halfcheetah_6x1", 6, 15, 17, 1, -110.8, 8000.0),
    "mabrax/walker2d_2x3": _mabrax("walker2d_2x3", 2, 12, 17, 3, 270.7, 5000.0),
    "mabrax/ant_4x2": _mabrax("ant_4x2", 4, 22, 27, 2, -165.7, 8000.0),
    "mabrax/humanoid_9_8": _mabrax("humanoid_9|8", 2, 250, 244, 9, 419.6, 13000.0),
    "paxmen/4ag": _paxmen(4, 101, 100, -9.339, 91.76),
    "paxmen/5ag": _paxmen(5, 140, 115, -13.75, 130.0),
    "paxmen/6ag": _paxmen(6, 187, 130, -18.65, 172.2),
    "aerojax/track-3ag": _aerojax("track-3ag", 3, 3, -1.628, 7.924),
    "aerojax/track-5ag": _aerojax("track-5ag", 5, 4, -2.322, 10.74),
    "aerojax/pincer-4ag": _aerojax("pincer-4ag", 4, 2, -2.984, 3.263),
    "aerojax/pincer-6ag": _aerojax("pincer-6ag", 6, 3, -4.893, 4.207),
    "aerojax/hetero-8ag": _aerojax("hetero-8ag", 8, 4, -5.015, 7.552),
}
"""The benchmark's tasks by name, "family/task"."""


def library_of(task: str) -> tuple[str, str] | None:
    """The library that a task is from and needs installed, and the extra that installs it.

    None for those of this package and those of other people.
    """
    library = task.partition(":")[0]
    if task.startswith(("jaxmarl:", *(f"{name}:" for name in HOST_LIBRARIES))):
        return library, "jaxmarl" if library == "jaxmarl" else "pettingzoo"
    family = FAMILIES.get(family_of(task))
    module = family.factory.partition(":")[0] if family else ""
    adapter = module.partition("adapters.")[2]
    return (adapter, adapter) if adapter else None


def family_of(task: str) -> str:
    """The family of a task, also of one outside the benchmark, whose name alone is looked at.

    That of `family/task` is `family`, that of `module:factory` its module, or the task itself where
    a module is called like a family of the benchmark.
    """
    module, colon, _ = task.rpartition(":")
    if colon:
        return task if module in FAMILIES else module
    return task.partition("/")[0]


def installed_tasks() -> dict[str, EntryPoint]:
    """Tasks that other installed packages offer, by name; those of a taken name are not reached."""
    points = entry_points(group=ENTRY_POINTS)
    return {point.name: point for point in points if point.name not in TASKS}


def hidden_tasks() -> list[EntryPoint]:
    """Tasks of other packages whose name is taken: by the benchmark, or by another of them."""
    reached = installed_tasks()
    return [p for p in entry_points(group=ENTRY_POINTS) if reached.get(p.name) != p]


def check_named(task: str) -> None:
    """Refuses a name without a colon that no environment has; the others are not looked at.

    Raises:
        UserError: see `unknown`.
    """
    if ":" not in task and task not in TASKS and task not in installed_tasks():
        raise unknown(task)


def unknown(task: str) -> UserError:
    """The error about a name that no environment has."""
    if os.path.isfile(f"{task}.py"):  # noqa: PTH113 (False for any name that is none of a file)
        return UserError(f"{shown(task)} is no task; for a factory in {task}.py: {task}:FACTORY")
    names = [*TASKS, *installed_tasks()]
    family = family_of(task)
    siblings = [known for known in names if known.startswith(f"{family}/")]
    if siblings:
        return UserError(f"unknown task {shown(task)}{near_misses(task, siblings)}")
    families = list(dict.fromkeys(map(family_of, names)))
    return UserError(f"task {shown(task)} is of no known family{near_misses(family, families)}")
