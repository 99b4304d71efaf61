"""An upper bound for Connector."""

from __future__ import annotations

from typing import Any

import numpy as np

STEP_REWARD = -0.03


def bound(start: Any) -> np.ndarray:
    """What a board pays at most: every agent connects by the shortest way that it can have.

    On that way it may cross the paths of others but not their starts and targets, which are never
    free. An agent pays 0.03 for each step that it begins unconnected, the last one included.

    Args:
        start: jumanji's states at the start of B episodes.

    Returns:
        (B,) sums over agents.
    """
    steps = shortest(start.grid, start.agents.position, start.agents.target)
    return (1.0 + STEP_REWARD * steps).sum(-1)


def shortest(grid: np.ndarray, position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least steps from start to target, (B, N) float; infinite where there is no way.

    Args:
        grid: (B, G, G) int32, 0 where free.
        position: (B, N, 2) int32, row and column.
        target: (B, N, 2) int32.
    """
    board, agent = np.indices(position.shape[:2])
    reached = np.zeros((*position.shape[:2], *grid.shape[1:]), bool)
    reached[board, agent, position[..., 0], position[..., 1]] = True
    goal = board, agent, target[..., 0], target[..., 1]
    enterable = np.repeat(grid[:, None] == 0, position.shape[1], 1)
    enterable[goal] = True
    steps = np.full(position.shape[:2], np.inf)
    for step in range(1, grid[0].size):
        spread = np.zeros_like(reached)
        spread[..., 1:, :] |= reached[..., :-1, :]
        spread[..., :-1, :] |= reached[..., 1:, :]
        spread[..., 1:] |= reached[..., :-1]
        spread[..., :-1] |= reached[..., 1:]
        reached |= spread & enterable
        steps = np.where(reached[goal], np.minimum(steps, step), steps)
        if np.isfinite(steps).all():
            break
    return steps
