"""Scripted teams for AeroJAX: every aircraft acts on its own observations and memory alone.

They have the interface of `marsrl.runs.policy.Policy`: `initial_carry()` and `act(...)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.aerojax import views
from marsrl.envs.aerojax.dynamics import MAX_BANK, MAX_CLIMB, STEP
from marsrl.envs.aerojax.env import NEUTRAL, AeroJAX
from marsrl.envs.aerojax.guidance import (
    Pose,
    bearing,
    hold_height,
    stay_inside,
    steer,
    turn_radius,
)
from marsrl.envs.aerojax.rules import START_HEIGHT, START_SPACING, TARGET_AREA
from marsrl.envs.aerojax.scenarios import Scenario
from marsrl.envs.vector import select
from marsrl.types import Array, Key, TimeStep

SLOT_HEIGHT, SLOT_SPACING = 160.0, 15.0
"""Lowest cruising height and distance between two, m: nobody ever crosses another's height."""
MEMORY = 12
"""A target that was not seen for more steps is forgotten."""
GRID = 8
"""The arena is searched in GRID x GRID cells."""
MATE_NEARER = 50.0
"""Steps by which a cell is less urgent for each linked teammate that is nearer to it."""
TENDED = 120.0
"""A scout leaves a target once a linked tracker is this near to it, m."""


@dataclass(frozen=True)
class Loiter:
    """Everyone circles to the left at the start height: what a team gets without any search."""

    env: AeroJAX

    def initial_carry(self) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def act(
        self, carry: tuple[()], time_step: TimeStep, key: Key, greedy: bool = False
    ) -> tuple[tuple[()], Array]:
        """Chooses the agents' actions in one unbatched environment; not random."""
        level = jnp.zeros(self.env.scenario.num_agents, jnp.float32)
        return carry, _action(self.env, time_step, level + 1.0, level)


class Memory(NamedTuple):
    """What aircraft remember, (N, ...) for a team.

    Attributes:
        slot: () float32, own rank among the start heights.
        place: (M, 2) float32, where each target was last seen, m.
        age: (M,) float32, steps since then, infinite if never.
        covered: (C,) float32, step in which each cell was last seen to be in a footprint.
    """

    slot: Array
    place: Array
    age: Array
    covered: Array


class Role(NamedTuple):
    """What aircraft know of the team, (N, ...) for a team.

    Attributes:
        trim_speed: () float32, own, m/s.
        sensor_slope: () float32, own footprint's radius over height.
        is_scout: () bool.
        mate_slope: (N - 1,) float32, the teammates'.
        mate_is_scout: (N - 1,) bool.
    """

    trim_speed: np.ndarray
    sensor_slope: np.ndarray
    is_scout: np.ndarray
    mate_slope: np.ndarray
    mate_is_scout: np.ndarray


class Sight(NamedTuple):
    """One observation in world coordinates.

    Attributes:
        pose: own.
        step: () float32, steps so far.
        linked: (N - 1,) bool.
        mate_place: (N - 1, 2) float32, m; meaningless if not linked.
        mate_height: (N - 1,) float32, m; likewise.
        seen: (M,) bool.
        target_place: (M, 2) float32, m; meaningless if not seen.
    """

    pose: Pose
    step: Array
    linked: Array
    mate_place: Array
    mate_height: Array
    seen: Array
    target_place: Array


@dataclass(frozen=True)
class Heuristic:
    """A team that searches the arena, shares out the targets it knows and circles them.

    - Each aircraft keeps a cruising height of its own, in the order of the start heights.
    - It goes to the nearest target seen in the last steps to which fewer than `2 k - 1` (scouts:
      one) linked teammates of its kind are nearer, and circles it. A scout leaves once a tracker
      has come.
    - Otherwise it goes to the cell of the arena that is nearest, longest unseen, and not nearer
      to a linked teammate.
    - A turn that keeps it inside the arena goes before all else.
    """

    env: AeroJAX

    def initial_carry(self) -> Memory:
        """The memory at the start of an episode."""
        scenario = self.env.scenario
        N, M = scenario.num_agents, scenario.num_targets
        return Memory(
            slot=jnp.zeros(N, jnp.float32),
            place=jnp.zeros((N, M, 2), jnp.float32),
            age=jnp.full((N, M), jnp.inf, jnp.float32),
            covered=jnp.full((N, GRID**2), -scenario.max_steps, jnp.float32),
        )

    @partial(jax.jit, static_argnums=(0, 4))  # the policy itself, greedy
    def act(
        self, carry: Memory, time_step: TimeStep, key: Key, greedy: bool = False
    ) -> tuple[Memory, Array]:
        """Chooses the agents' actions in one unbatched environment; not random.

        Args:
            carry: from `initial_carry` or the last call; at the start of an episode it is renewed.
            time_step: `obs` is used, and `agent_mask` for the form of the action.
            key: ignored.
            greedy: ignored.

        Returns:
            The next carry, and the action, (N,) int32 or (N, 2) float32.
        """
        scenario = self.env.scenario
        own_time = time_step.obs[:, views.OWN - 1]
        carry = select(own_time == 0, self.initial_carry(), carry)
        decide = jax.vmap(partial(_decide, scenario))
        carry, bank, climb = decide(_roles(scenario), carry, time_step.obs)
        return carry, _action(self.env, time_step, bank, climb)


def _action(env: AeroJAX, time_step: TimeStep, bank: Array, climb: Array) -> Array:
    """Commands (N,) in [-1, 1] as an action of the environment."""
    if env.continuous:
        return jnp.stack([bank, climb], -1)
    action = (3 * jnp.round(bank) + jnp.round(climb)).astype(jnp.int32) + NEUTRAL
    return jnp.where(time_step.agent_mask, action, NEUTRAL)


def _roles(scenario: Scenario) -> Role:
    def mates(values: np.ndarray) -> np.ndarray:
        return np.array([np.delete(values, i) for i in range(len(values))])

    slope, scout = scenario.sensor_slope, scenario.is_scout
    return Role(scenario.trim_speed, slope, scout, mates(slope), mates(scout))


def _decide(
    scenario: Scenario, role: Role, memory: Memory, obs: Array
) -> tuple[Memory, Array, Array]:
    """The memory and the bank and climb commands of one aircraft."""
    sight = _read(scenario, obs)
    memory = _remember(scenario, role, memory, sight)
    target, chase = _choose_target(scenario, role, memory, sight)
    goal = jnp.where(chase, target, _choose_cell(scenario, role, memory, sight))
    bank = stay_inside(sight.pose, steer(sight.pose, goal, chase), scenario.half_side)
    return memory, bank, hold_height(sight.pose, SLOT_HEIGHT + SLOT_SPACING * memory.slot)


def _read(scenario: Scenario, obs: Array) -> Sight:
    """Turns `views.observe` back into metres."""
    own, mates, targets = jnp.split(
        obs, np.cumsum([views.OWN, views.MATE * (scenario.num_agents - 1)])
    )
    mates, targets = mates.reshape(-1, views.MATE), targets.reshape(-1, views.TARGET)
    ahead = own[4:6]
    pose = Pose(
        place=own[:2] * scenario.half_side,
        height=own[2] * views.HEIGHT_SCALE + views.MIDDLE_HEIGHT,
        speed=own[3] * views.SPEED_SCALE + views.MIDDLE_SPEED,
        ahead=ahead,
        bank=own[6] * MAX_BANK,
        climb=own[7] * MAX_CLIMB,
    )
    to_world = scenario.comm_range * jnp.stack([ahead, jnp.stack([-ahead[1], ahead[0]])])
    return Sight(
        pose=pose,
        step=own[8] * scenario.max_steps,
        linked=mates[:, 0] > 0,
        mate_place=pose.place + mates[:, 1:3] @ to_world,
        mate_height=pose.height + mates[:, 3] * views.HEIGHT_SCALE,
        seen=targets[:, 0] > 0,
        target_place=pose.place + targets[:, 1:3] @ to_world,
    )


def _remember(scenario: Scenario, role: Role, memory: Memory, sight: Sight) -> Memory:
    rank = jnp.round((sight.pose.height - START_HEIGHT) / START_SPACING)
    cells = _cells(scenario)
    mine = _distance(cells, sight.pose.place) < role.sensor_slope * sight.pose.height
    theirs = _distance(cells[:, None], sight.mate_place) < role.mate_slope * sight.mate_height
    covered = mine | (theirs & sight.linked).any(-1)
    return Memory(
        slot=jnp.where(sight.step == 0, rank, memory.slot),
        place=jnp.where(sight.seen[:, None], sight.target_place, memory.place),
        age=jnp.where(sight.seen, 0.0, memory.age + 1.0),
        covered=jnp.where(covered, sight.step, memory.covered),
    )


def _choose_target(
    scenario: Scenario, role: Role, memory: Memory, sight: Sight
) -> tuple[Array, Array]:
    """The place of the target to go to, (2,), and whether there is one, () bool."""
    mate_distance = _distance(memory.place[:, None], sight.mate_place)
    peers = sight.linked & (role.mate_is_scout == role.is_scout)
    nearer = mate_distance < _distance(memory.place, sight.pose.place)[:, None]
    enough = jnp.where(role.is_scout, 1, 2 * scenario.quorum - 1)
    tended = (sight.linked & ~role.mate_is_scout & (mate_distance < TENDED)).any(-1)
    wanted = (
        (memory.age <= MEMORY) & ((peers & nearer).sum(-1) < enough) & ~(role.is_scout & tended)
    )
    cost = jnp.where(wanted, _flight_time(role, sight.pose, memory.place), jnp.inf)
    return memory.place[cost.argmin()], wanted.any()


def _choose_cell(scenario: Scenario, role: Role, memory: Memory, sight: Sight) -> Array:
    """The middle of the cell to search next, (2,)."""
    cells = _cells(scenario)
    nearer = (
        _distance(cells[:, None], sight.mate_place) < _distance(cells, sight.pose.place)[:, None]
    )
    urgency = (
        sight.step
        - memory.covered
        - _flight_time(role, sight.pose, cells)
        - MATE_NEARER * (nearer & sight.linked).sum(-1)
    )
    return cells[urgency.argmax()]


def _flight_time(role: Role, pose: Pose, points: Array) -> Array:
    """About how many steps it takes to points (..., 2), the turn included."""
    distance, angle = bearing(pose, points)
    turn = turn_radius(role.trim_speed) * jnp.abs(angle)
    return (distance + turn) / (role.trim_speed * STEP)


def _cells(scenario: Scenario) -> Array:
    """Middles of the cells of the area where targets appear, (C, 2)."""
    line = np.float32(TARGET_AREA * scenario.half_side) * np.linspace(
        1 / GRID - 1, 1 - 1 / GRID, GRID, dtype=np.float32
    )
    return jnp.asarray(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2))


def _distance(a: Array, b: Array) -> Array:
    return jnp.sqrt(((a - b) ** 2).sum(-1))
