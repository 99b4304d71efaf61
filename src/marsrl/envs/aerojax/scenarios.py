"""The scenarios of AeroJAX: what differs from task to task, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marsrl.errors import check_bool, check_int, check_number

TRIM_SPEED, SCOUT_TRIM_SPEED, TRACKER_TRIM_SPEED = 20.0, 25.0, 17.0
"""Speed of level flight, m/s: of a team of one kind; of scouts and trackers in a mixed one."""
SENSOR_ANGLE, SCOUT_SENSOR_ANGLE, TRACKER_SENSOR_ANGLE = 35.0, 45.0, 30.0
"""Half angle of the sensor's cone, degrees, for the same."""


@dataclass(frozen=True)
class Scenario:
    """One task. Distances in m, speeds in m/s.

    Attributes:
        num_agents: `N`, 1 to 10 (so many start heights are free).
        num_targets: `M`, 1 to 16.
        half_side: `L`; the arena is `[-L, L]^2`.
        target_speed: of a target that does not flee.
        quorum: `k`, aircraft that must detect a target in the same step to lock it.
        comm_range: reach of a link.
        link_loss: probability that a link within reach fails in a step.
        evade: whether targets flee from aircraft.
        num_scouts: the first so many agents are scouts, which are fast and see far but cannot
            lock; the others then are trackers. 0: all aircraft are alike.
        max_steps: the horizon, steps of 0.5 s.

    Raises:
        UserError: a value is of the wrong type or out of range.
    """

    num_agents: int
    num_targets: int
    half_side: float
    target_speed: float
    quorum: int = 1
    comm_range: float = 400.0
    link_loss: float = 0.0
    evade: bool = False
    num_scouts: int = 0
    max_steps: int = 200

    def __post_init__(self) -> None:
        check_int("num_agents", self.num_agents, 1, 10)
        check_int("num_targets", self.num_targets, 1, 16)
        check_number("half_side", self.half_side, 200, 5000)
        check_number("target_speed", self.target_speed, 0, 14)
        check_number("comm_range", self.comm_range, 1, 20_000)
        check_number("link_loss", self.link_loss, 0, 1)
        check_bool("evade", self.evade)
        check_int("max_steps", self.max_steps, 1, 100_000)
        # Last, as their limits follow from values that are checked by now.
        check_int("num_scouts", self.num_scouts, 0, self.num_agents - 1)
        check_int("quorum", self.quorum, 1, self.num_agents - self.num_scouts)

    @property
    def is_scout(self) -> np.ndarray:
        """(N,) bool."""
        return np.arange(self.num_agents) < self.num_scouts

    @property
    def trim_speed(self) -> np.ndarray:
        """Speed of level flight, (N,) float32, m/s."""
        return self._by_kind(TRIM_SPEED, SCOUT_TRIM_SPEED, TRACKER_TRIM_SPEED)

    @property
    def sensor_slope(self) -> np.ndarray:
        """Radius of the sensor's footprint over height, (N,) float32."""
        angle = self._by_kind(SENSOR_ANGLE, SCOUT_SENSOR_ANGLE, TRACKER_SENSOR_ANGLE)
        return np.tan(np.deg2rad(angle))

    def _by_kind(self, plain: float, scout: float, tracker: float) -> np.ndarray:
        mixed = np.where(self.is_scout, np.float32(scout), np.float32(tracker))
        return mixed if self.num_scouts else np.full_like(mixed, plain)


SCENARIOS: dict[str, Scenario] = {
    "track-3ag": Scenario(3, 3, half_side=500.0, target_speed=3.0),
    "track-5ag": Scenario(5, 4, half_side=650.0, target_speed=5.0),
    "pincer-4ag": Scenario(4, 2, half_side=500.0, target_speed=3.0, quorum=2),
    "pincer-6ag": Scenario(
        6, 3, half_side=650.0, target_speed=5.0, quorum=2, link_loss=0.2, evade=True
    ),
    "hetero-8ag": Scenario(8, 4, half_side=800.0, target_speed=5.0, comm_range=500.0, num_scouts=4),
}
"""The tasks of the benchmark, by name."""
