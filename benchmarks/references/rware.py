"""RWARE with one robot that has the warehouse to itself and sees all of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from playing import Decide
from references.graphs import steps_to

FORWARD, TOGGLE = 1, 4
"""Actions; between them are turns to the left and to the right."""
_AHEAD = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
"""Row and column change of a step forward, facing up, right, down, left."""


class Route(NamedTuple):
    """How to get somewhere from every node: a cell and a direction, `4 cell + direction`.

    Attributes:
        steps: (..., V) float, actions needed.
        action: (..., V) int, the first of them; `TOGGLE` where one has arrived.
    """

    steps: np.ndarray
    action: np.ndarray


def script(game: Any, start: Any) -> Decide:
    """Fetches the nearest requested shelf, carries it to a goal, and brings it back to its place.

    A robot with a shelf cannot pass under others, so that it keeps to the highways but for the
    place of its own shelf.

    Args:
        game: jumanji's environment for one robot, in which all shelves always stand in their own
            places, except the one that is carried.
        start: its states at the start of B episodes; they do not matter.
    """
    highway = np.asarray(game.highways, bool)
    anywhere = np.ones_like(highway)
    places = np.argwhere(~highway)
    width = highway.shape[1]
    homes = [_nodes(place[None], width) for place in places]
    fetch = _stack(_successors(anywhere, anywhere), homes)
    deliver = route(_successors(anywhere, highway), _nodes(np.asarray(game.goals)[:, ::-1], width))
    bring_back = _stack(_successors(highway, anywhere), homes)

    def policy(state: Any) -> np.ndarray:
        """(B, 1) actions."""
        robot = state.agents
        row, column = robot.position.x[:, 0], robot.position.y[:, 0]
        node = 4 * (row * width + column) + robot.direction[:, 0]
        episode = np.arange(len(node))
        requested = state.shelves.is_requested == 1
        away = np.where(requested, fetch.steps[:, node].T, np.inf)
        carried = state.grid[episode, 0, row, column] - 1  # nonsense where there is none
        action = np.where(
            requested[episode, carried], deliver.action[node], bring_back.action[carried, node]
        )
        action = np.where(robot.is_carrying[:, 0] == 1, action, fetch.action[away.argmin(1), node])
        return action[:, None].astype(np.int32)

    return policy


def route(successor: np.ndarray, goals: np.ndarray) -> Route:
    """The shortest route from everywhere to any of the goal nodes (K,)."""
    steps = steps_to(successor, goals)
    action = FORWARD + steps[successor].argmin(0)
    return Route(steps, np.where(steps == 0, TOGGLE, action))


def _stack(successor: np.ndarray, goals: list[np.ndarray]) -> Route:
    """The routes to each of S sets of goal nodes, (S, V)."""
    routes = [route(successor, nodes) for nodes in goals]
    return Route(*map(np.stack, zip(*routes, strict=True)))


def _nodes(cells: np.ndarray, width: int) -> np.ndarray:
    """All nodes in the cells (K, 2): (4K,) int."""
    return (4 * (cells @ [width, 1])[:, None] + np.arange(4)).ravel()


def _successors(leave: np.ndarray, enter: np.ndarray) -> np.ndarray:
    """(3, V) int: where forward, left and right lead, with the cells that may be left and entered.

    Args:
        leave: (H, W) bool, cells from which a step forward is possible.
        enter: (H, W) bool, cells into which one is.
    """
    height, width = leave.shape
    row, column, direction = np.indices((height, width, 4)).reshape(3, -1)
    here = np.arange(row.size)
    ahead = np.stack([row, column]) + _AHEAD[direction].T
    there = np.clip(ahead, 0, [[height - 1], [width - 1]])
    moves = (there == ahead).all(0) & leave[row, column] & enter[*there]
    forward = np.where(moves, 4 * (there[0] * width + there[1]) + direction, here)
    left, right = (here - direction + (direction + turn) % 4 for turn in (-1, 1))
    return np.stack([forward, left, right])
