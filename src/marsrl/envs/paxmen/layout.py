"""The maps of PaxMen as numpy constants: a hub, and arms that each end in a room."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

NUM_LAYOUTS = 4
ROOM_SIZE = 15
DOTS_PER_ROOM = 3
VIEW = 2
"""An agent sees this many cells in each direction."""
WINDOW = 2 * VIEW + 1
HORIZON = {4: 100, 5: 115, 6: 130}
"""Steps per episode, for each supported number of agents."""

_HUB_START = 19
_SIDES = {"N": (-1, 0), "S": (1, 0), "E": (0, 1), "W": (0, -1)}


class Arm(NamedTuple):
    """A corridor of `length` cells that leaves `side` of the hub `offset` cells off its middle."""

    side: str
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Layouts:
    """The four layouts for one number of agents, stacked on the first axis.

    The world state lists the `W = H^2 + 23 N` carved cells of a layout: the hub, then each arm's
    corridor and room, every part row by row. `G` is the side of the grid, `H` that of the hub.

    Attributes:
        num_agents: `N`, also the number of arms and rooms.
        arms: `N` arms for each layout; their order is that of the rooms and of the world state.
        hub: (H*H, 2) int32, row and column of the start cells.
        rooms: (4, N, 15, 2) int32, the cells of each room, row by row.
        cells: (4, W, 2) int32, the carved cells in the order of the world state.
        world_index: (4, G, G) int32, place of a cell in the world state; -1 for a wall.
        wall_bits: (4, G, G) int32, the walls of the 5x5 window around a cell: bit `5 r + c` is
            set where row `r`, column `c` of the window is a wall or off the grid.
    """

    num_agents: int
    arms: tuple[tuple[Arm, ...], ...]
    hub: np.ndarray
    rooms: np.ndarray
    cells: np.ndarray
    world_index: np.ndarray
    wall_bits: np.ndarray

    @property
    def grid_size(self) -> int:
        """`G`."""
        return self.wall_bits.shape[1]

    @property
    def world_size(self) -> int:
        """`W`."""
        return self.cells.shape[1]


@cache
def build_layouts(num_agents: int) -> Layouts:
    """Builds the layouts for 4, 5 or 6 agents."""
    hub_size = 2 * num_agents - 5
    grid_size = 2 * _HUB_START + hub_size
    hub = _rectangle(_HUB_START, _HUB_START, hub_size, hub_size)
    arms = _arms(num_agents)
    parts = [[_arm_cells(arm, hub_size) for arm in layout] for layout in arms]
    rooms = np.array([[room for _, room in layout] for layout in parts])
    cells = np.array(
        [np.concatenate([hub, *(part for arm in layout for part in arm)]) for layout in parts]
    )
    world_index = np.full((NUM_LAYOUTS, grid_size, grid_size), -1, np.int32)
    for index, order in zip(world_index, cells, strict=True):
        index[order[:, 0], order[:, 1]] = np.arange(len(order))
    layouts = Layouts(num_agents, arms, hub, rooms, cells, world_index, _wall_bits(world_index < 0))
    for array in (hub, rooms, cells, world_index, layouts.wall_bits):
        array.flags.writeable = False  # shared by every caller
    return layouts


def _arms(num_agents: int) -> tuple[tuple[Arm, ...], ...]:
    if num_agents == 4:
        lengths = ([12, 4, 8, 8], [4, 12, 8, 8], [8, 8, 12, 4], [8, 8, 4, 12])
        return tuple(
            tuple(Arm(side, 0, n) for side, n in zip(_SIDES, layout, strict=True))
            for layout in lengths
        )
    if num_agents == 5:
        return tuple(_doubled(side, near=4, others=8) for side in "NSEW")
    return tuple(_doubled(pair, near=8, others=4) for pair in ("NS", "EW", "NE", "SW"))


def _doubled(sides: str, near: int, others: int) -> tuple[Arm, ...]:
    """Two arms, of 12 and `near` cells, on each of `sides`; one of `others` on the rest."""
    twins = [arm for side in sides for arm in (Arm(side, -2, 12), Arm(side, 2, near))]
    return (*twins, *(Arm(side, 0, others) for side in _SIDES if side not in sides))


def _arm_cells(arm: Arm, hub_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The corridor and the room of an arm, each row by row."""
    direction = np.array(_SIDES[arm.side])
    across = np.abs(direction[::-1])
    centre = _HUB_START + hub_size // 2
    start = centre + across * arm.offset + direction * (hub_size // 2 + 1)
    end = start + direction * arm.length
    return _between(start, end - direction), _between(end - across, end + across + 4 * direction)


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cells of the rectangle with opposite corners `a` and `b`."""
    low, size = np.minimum(a, b), np.abs(a - b) + 1
    return _rectangle(*low, *size)


def _rectangle(row: int, column: int, height: int, width: int) -> np.ndarray:
    """(height*width, 2) int32 cells, row by row."""
    cells = np.indices((height, width), np.int32) + np.array([row, column], np.int32)[:, None, None]
    return cells.reshape(2, -1).T.copy()


def _wall_bits(walls: np.ndarray) -> np.ndarray:
    margin = (0, 0), (VIEW, VIEW), (VIEW, VIEW)
    padded = np.pad(walls, margin, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), (1, 2))
    weights = 1 << np.arange(WINDOW**2)
    return (windows.reshape(*walls.shape, -1) @ weights).astype(np.int32)
