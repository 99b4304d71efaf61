"""The 47 tasks of the benchmark in eight families: one literal table, readable without JAX.

Listing them imports no environment; a test holds every row against the real one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BOUNDS_VERSION = 1
"""Raised whenever a `low` or `high` changes: scores normalised by different versions do not mix."""


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
        """The action space, in words."""
        return f"{self.num_actions} continuous" if self.continuous else str(self.num_actions)


FAMILIES: dict[str, Family] = {
    "rware": Family(
        factory="marsrl.envs.adapters.jumanji:rware",
        reward="1 for every requested shelf delivered, to all",
        ends="terminated by a collision; truncated at the horizon",
        high="",
    ),
    "lbf": Family(
        factory="marsrl.envs.adapters.jumanji:lbf",
        reward="share of the food's levels eaten, summed over agents, to all",
        ends="terminated when all food is eaten; truncated at the horizon",
        high="",
    ),
    "connector": Family(
        factory="marsrl.envs.adapters.jumanji:connector",
        reward="per agent 1 on connecting and -0.03 per step begun unconnected; the sum, to all",
        ends="terminated when every agent is connected or blocked; truncated at the horizon",
        high="",
    ),
    "mpe": Family(
        factory="marsrl.envs.adapters.jaxmarl:mpe_spread",
        reward="-(distance of each landmark to its nearest agent) and collisions; the mean, to all",
        ends="truncated at the horizon",
        high="",
    ),
    "smax": Family(
        factory="marsrl.envs.adapters.jaxmarl:smax",
        reward="share of the enemies' health taken, and 1 for a win, to all",
        ends="terminated when one side is dead; truncated at the horizon",
        high="",
    ),
    "mabrax": Family(
        factory="marsrl.envs.adapters.jaxmarl:mabrax",
        reward="that of the brax robot, to all",
        ends="terminated by a fall (not halfcheetah); truncated at the horizon",
        high="",
    ),
    "paxmen": Family(
        factory="marsrl.envs.paxmen:PaxMen",
        reward="1 for every dot eaten, -0.025 for every agent that ate none, summed, to all",
        ends="truncated at the horizon",
        high="",
    ),
    "aerojax": Family(
        factory="marsrl.envs.aerojax:aerojax",
        reward="captures + 0.2 x change of locks - aircraft lost, to all",
        ends="terminated when too few aircraft that can lock are left; truncated at the horizon",
        high="",
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
    return Task(settings, agents, 66, 66 * agents, 5, 500, True, low, high)


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
    return Task({"num_agents": agents}, agents, 25, state, 5, max_steps, True, low, high)


def _aerojax(scenario: str, agents: int, targets: int, low: float, high: float) -> Task:
    sizes = (9 + 6 * (agents - 1) + 6 * targets, 9 * agents + 6 * targets + 1)
    return Task({"scenario": scenario}, agents, *sizes, 9, 200, True, low, high)


_UNKNOWN = float("nan")

TASKS: dict[str, Task] = {
    "rware/tiny-2ag": _rware(1, 3, 2, 2, _UNKNOWN, _UNKNOWN),
    "rware/tiny-2ag-hard": _rware(1, 3, 2, 1, _UNKNOWN, _UNKNOWN),
    "rware/tiny-4ag": _rware(1, 3, 4, 4, _UNKNOWN, _UNKNOWN),
    "rware/tiny-4ag-hard": _rware(1, 3, 4, 2, _UNKNOWN, _UNKNOWN),
    "rware/small-4ag": _rware(2, 3, 4, 4, _UNKNOWN, _UNKNOWN),
    "rware/small-4ag-hard": _rware(2, 3, 4, 2, _UNKNOWN, _UNKNOWN),
    "rware/medium-4ag": _rware(2, 5, 4, 4, _UNKNOWN, _UNKNOWN),
    "rware/medium-4ag-hard": _rware(2, 5, 4, 2, _UNKNOWN, _UNKNOWN),
    "rware/medium-6ag": _rware(2, 5, 6, 6, _UNKNOWN, _UNKNOWN),
    "rware/large-4ag": _rware(3, 5, 4, 4, _UNKNOWN, _UNKNOWN),
    "rware/large-8ag": _rware(3, 5, 8, 8, _UNKNOWN, _UNKNOWN),
    "lbf/8x8-2p-2f-coop": _lbf(8, 2, 2, _UNKNOWN, coop=True),
    "lbf/2s-8x8-2p-2f-coop": _lbf(8, 2, 2, _UNKNOWN, fov=2, coop=True),
    "lbf/10x10-3p-3f": _lbf(10, 3, 3, _UNKNOWN),
    "lbf/2s-10x10-3p-3f": _lbf(10, 3, 3, _UNKNOWN, fov=2),
    "lbf/15x15-3p-5f": _lbf(15, 3, 5, _UNKNOWN),
    "lbf/15x15-4p-3f": _lbf(15, 4, 3, _UNKNOWN),
    "lbf/15x15-4p-5f": _lbf(15, 4, 5, _UNKNOWN),
    "connector/5x5x3a": _connector(5, 3, _UNKNOWN, _UNKNOWN),
    "connector/7x7x5a": _connector(7, 5, _UNKNOWN, _UNKNOWN),
    "connector/10x10x10a": _connector(10, 10, _UNKNOWN, _UNKNOWN),
    "connector/15x15x23a": _connector(15, 23, _UNKNOWN, _UNKNOWN),
    "mpe/simple_spread_v3-3ag": _mpe(3, _UNKNOWN, _UNKNOWN),
    "mpe/simple_spread_v3-5ag": _mpe(5, _UNKNOWN, _UNKNOWN),
    "mpe/simple_spread_v3-10ag": _mpe(10, _UNKNOWN, _UNKNOWN),
    "smax/2s3z": _smax("2s3z", 5, 5, _UNKNOWN),
    "smax/3s5z": _smax("3s5z", 8, 8, _UNKNOWN),
    "smax/5m_vs_6m": _smax("5m_vs_6m", 5, 6, _UNKNOWN),
    "smax/10m_vs_11m": _smax("10m_vs_11m", 10, 11, _UNKNOWN),
    "smax/3s_vs_5z": _smax("3s_vs_5z", 3, 5, _UNKNOWN),
    "smax/6h_vs_8z": _smax("6h_vs_8z", 6, 8, _UNKNOWN),
    "smax/3s5z_vs_3s6z": _smax("3s5z_vs_3s6z", 8, 9, _UNKNOWN),
    "smax/smacv2_5_units": _smax("smacv2_5_units", 5, 5, _UNKNOWN),
    "smax/smacv2_10_units": _smax("smacv2_10_units", 10, 10, _UNKNOWN),
    "mabrax/hopper_3x1": _mabrax("hopper_3x1", 3, 12, 11, 1, _UNKNOWN, _UNKNOWN),
    "mabrax/halfcheetah_6x1": _mabrax("halfcheetah_6x1", 6, 15, 17, 1, _UNKNOWN, _UNKNOWN),
    "mabrax/walker2d_2x3": _mabrax("walker2d_2x3", 2, 12, 17, 3, _UNKNOWN, _UNKNOWN),
    "mabrax/ant_4x2": _mabrax("ant_4x2", 4, 22, 27, 2, _UNKNOWN, _UNKNOWN),
    "mabrax/humanoid_9_8": _mabrax("humanoid_9|8", 2, 250, 244, 9, _UNKNOWN, _UNKNOWN),
    "paxmen/4ag": _paxmen(4, 101, 100, _UNKNOWN, 91.0),
    "paxmen/5ag": _paxmen(5, 140, 115, _UNKNOWN, 130.0),
    "paxmen/6ag": _paxmen(6, 187, 130, _UNKNOWN, 176.0),
    "aerojax/track-3ag": _aerojax("track-3ag", 3, 3, _UNKNOWN, _UNKNOWN),
    "aerojax/track-5ag": _aerojax("track-5ag", 5, 4, _UNKNOWN, _UNKNOWN),
    "aerojax/pincer-4ag": _aerojax("pincer-4ag", 4, 2, _UNKNOWN, _UNKNOWN),
    "aerojax/pincer-6ag": _aerojax("pincer-6ag", 6, 3, _UNKNOWN, _UNKNOWN),
    "aerojax/hetero-8ag": _aerojax("hetero-8ag", 8, 4, _UNKNOWN, _UNKNOWN),
}
"""The benchmark's tasks by name, "family/task"."""
