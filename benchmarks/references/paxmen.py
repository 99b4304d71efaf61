"""PaxMen with one agent for each room and full information."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from marsrl.envs.paxmen.layout import DOTS_PER_ROOM, ROOM_SIZE, Layouts
from marsrl.envs.paxmen.rules import EAT, MOVES, State
from playing import Decide
from references.graphs import steps_to


def script(layouts: Layouts, start: State) -> Decide:
    """Gives every agent a room, with the least total distance to the rooms' middles.

    Each walks to its room by the shortest way and eats the nearest dot of the room; when none is
    left it waits in the middle for the new ones.
    """
    successor = np.stack([_successors(index, layouts) for index in layouts.world_index], 1)
    steps = np.stack(
        [
            [steps_to(moves, np.array([goal])) for goal in range(layouts.world_size)]
            for moves in successor.swapaxes(0, 1)
        ]
    )  # (4, goal, from)
    layout = start.layout[:, None]
    middle = _cells(layouts, layout, layouts.rooms[start.layout, :, ROOM_SIZE // 2])
    here = _cells(layouts, layout, start.agent_pos)
    cost = steps[layout[..., None], middle[:, None, :], here[..., None]]
    room = np.stack([linear_sum_assignment(c)[1] for c in cost])

    def policy(state: State) -> np.ndarray:
        """(B, N) actions."""
        here = _cells(layouts, layout, state.agent_pos)
        dots = _cells(layouts, layout, state.dot_pos)
        dots = _of_room(dots.reshape(*room.shape, DOTS_PER_ROOM), room)
        active = _of_room(state.dot_active.reshape(dots.shape), room)
        away = np.where(active, steps[layout[..., None], dots, here[..., None]], np.inf)
        nearest = np.take_along_axis(dots, away.argmin(-1)[..., None], -1)[..., 0]
        goal = np.where(active.any(-1), nearest, np.take_along_axis(middle, room, 1))
        after = successor[:, layout, here]
        move = steps[layout, goal, after].argmin(0)
        return np.where(here == goal, EAT, move).astype(np.int32)

    return policy


def _successors(world_index: np.ndarray, layouts: Layouts) -> np.ndarray:
    """(4, W) int: the place in the world state to which each of the four moves leads."""
    row, column = np.nonzero(world_index >= 0)
    here = world_index[row, column]
    result = np.empty((len(MOVES) - 1, layouts.world_size), int)
    for move, (down, right) in zip(result, MOVES, strict=False):
        there = world_index[row + down, column + right]
        move[here] = np.where(there >= 0, there, here)
    return result


def _cells(layouts: Layouts, layout: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Places in the world state, (B, M), of positions (B, M, 2)."""
    return layouts.world_index[layout, pos[..., 0], pos[..., 1]]


def _of_room(values: np.ndarray, room: np.ndarray) -> np.ndarray:
    """What each agent's room holds, (B, N, 3), from values per room."""
    return np.take_along_axis(values, room[..., None], 1)
