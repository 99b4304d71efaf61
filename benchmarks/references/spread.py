"""Simple spread with one agent for each landmark and full information."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from playing import Decide

STEP = 0.1
"""Seconds."""
KEPT = 0.75
"""Share of the velocity that is left after a step without a force."""
PUSH = 0.5
"""Change of the velocity in a step by the greatest force, along one axis."""
CLEARANCE = 0.31
"""Agents nearer than 0.3 to each other collide."""


def best(away: np.ndarray) -> np.ndarray:
    """(B, N), a landmark for each agent, with the least total distance (of distances (B, N, N))."""
    return np.stack([linear_sum_assignment(cost)[1] for cost in away])


def same(away: np.ndarray) -> np.ndarray:
    """(B, N), likewise, but the same in all episodes."""
    return np.broadcast_to(np.arange(away.shape[1]), away.shape[:2])


def script(start: Any, choose: Callable[[np.ndarray], np.ndarray] = best) -> Decide:
    """Gives every agent a landmark; it drives there and brakes.

    Where landmarks are too near to each other for two agents, they stop on either side.

    Args:
        start: states of B episodes at their start.
        choose: who goes where, from distances of agents from landmarks (B, N, N).
    """
    num_agents = start.library.c.shape[1]
    agents, landmarks = np.split(start.library.p_pos, [num_agents], 1)
    places = move_apart(landmarks)
    away = np.linalg.norm(agents[:, :, None] - places[:, None], axis=-1)
    goal = np.take_along_axis(places, choose(away)[..., None], 1)

    def policy(state: Any) -> np.ndarray:
        """(B, N, 5) actions: nothing, left, right, down, up."""
        place = state.library.p_pos[:, :num_agents]
        velocity = state.library.p_vel[:, :num_agents]
        force = drive(goal - place, velocity)
        pair = np.maximum(np.stack([-force, force], -1), 0.0)
        return np.pad(pair.reshape(*place.shape[:2], 4), [(0, 0), (0, 0), (1, 0)])

    return policy


def move_apart(places: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Pushes points (B, N, 2) from each other, little by little, until they are clear."""
    for _ in range(rounds):
        offset = places[:, :, None] - places[:, None]
        distance = np.linalg.norm(offset, axis=-1, keepdims=True)
        missing = np.maximum(CLEARANCE - distance, 0.0)
        # A point's offset from itself is zero, whatever it is divided by.
        places = places + 0.4 * (offset * missing / np.maximum(distance, 1e-6)).sum(2)
    return places


def drive(offset: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """The force, -1 to 1, for each axis that leads soonest to rest at the goal.

    In a step the position moves by `0.1 v`, and then `v` becomes `0.75 v + 0.5 force`. Under full
    braking, `v` falls to rest within one, two or three steps over the distances

        0.1 v,  0.1 (1.75 v - 0.5),  0.1 (2.3125 v - 1.375),

    the largest of which counts; the velocity wanted is the one that needs just what is left.

    Args:
        offset: (...) from the agent to the goal.
        velocity: (...) now.
    """
    left = offset / STEP - velocity
    size = np.abs(left)
    wanted = np.minimum(np.minimum(size, (size + 0.5) / 1.75), (size + 1.375) / 2.3125)
    return np.clip((np.sign(left) * wanted - KEPT * velocity) / PUSH, -1.0, 1.0).astype(np.float32)
