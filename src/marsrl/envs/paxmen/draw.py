"""Pictures of PaxMen: one state in, one image out."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from marsrl.envs.palette import AGENT_COLOURS, INK, PAPER, Colour, font
from marsrl.envs.paxmen.layout import HORIZON, build_layouts
from marsrl.envs.paxmen.rules import State

CELL = 12
HEADER = 2 * CELL
# Drawn larger and shrunk, which smooths the discs.
_SCALE = 4

WALL: Colour = (52, 56, 64)
CORRIDOR: Colour = (222, 221, 216)
HUB: Colour = (204, 212, 220)
ROOM: Colour = (250, 248, 240)


def draw(state: State, caption: str = "") -> np.ndarray:
    """Draws one unbatched state, 12 pixels a cell, below a line of text.

    Rooms are brightest, the hub is bluish, walls are dark. Dots still to be eaten are black; the
    agents are coloured discs with their number, split where several stand in one cell, and a dot
    shows through the agent on it.

    Args:
        state: one state of 4, 5 or 6 agents, without leading axes.
        caption: a short text for the right end of the header.

    Returns:
        (12 G + 24, 12 G, 3) uint8.
    """
    agent_pos, dot_pos = np.asarray(state.agent_pos), np.asarray(state.dot_pos)
    dot_active = np.asarray(state.dot_active)
    num_agents = len(agent_pos)
    image = _map(num_agents, int(state.layout)).copy()
    pen = ImageDraw.Draw(image)
    for pos in np.unique(agent_pos, axis=0):
        _disc(pen, pos, [i for i in range(num_agents) if (agent_pos[i] == pos).all()])
    for pos in dot_pos[dot_active]:
        _circle(pen, _centre(pos), 2.6, fill=INK)
    for i in range(num_agents):  # a legend, in a corner that is wall in every layout
        corner = np.array([1 + 1.5 * i, 1])
        _disc(pen, corner, [i])
        _text(pen, _centre(corner + np.array([0, 1])), str(i), "lm", PAPER)
    left = f"step {int(state.step)}/{HORIZON[num_agents]}   dots {dot_active.sum()}/{len(dot_pos)}"
    _text(pen, (CELL / 2, HEADER / 2), left, "lm")
    _text(pen, (image.width / _SCALE - CELL / 2, HEADER / 2), caption, "rm")
    return np.asarray(image.reduce(_SCALE))


@lru_cache(maxsize=4)  # an episode has one, which takes most of a picture's time
def _map(num_agents: int, layout: int) -> Image.Image:
    """The empty grid below a blank header, `_SCALE` times too large."""
    layouts = build_layouts(num_agents)
    side = layouts.grid_size
    colours = np.full((side, side, 3), WALL, np.uint8)
    for cells, colour in (
        (layouts.cells[layout], CORRIDOR),
        (layouts.hub, HUB),
        (layouts.rooms[layout].reshape(-1, 2), ROOM),
    ):
        colours[cells[:, 0], cells[:, 1]] = colour
    pixels = colours.repeat(CELL * _SCALE, 0).repeat(CELL * _SCALE, 1)
    edge = np.arange(len(pixels)) % (CELL * _SCALE) < _SCALE // 2
    grid = edge[:, None] | edge
    pixels[grid] = pixels[grid] * 0.9
    header = np.full((HEADER * _SCALE, pixels.shape[1], 3), PAPER, np.uint8)
    return Image.fromarray(np.concatenate([header, pixels]))


def _disc(pen: ImageDraw.ImageDraw, pos: np.ndarray, agents: list[int]) -> None:
    """One disc for all agents in a cell, an equal slice for each."""
    centre, radius = _centre(pos), 0.54 * CELL
    _circle(pen, centre, radius + 1, fill=INK)
    box = _box(centre, radius)
    angles = np.linspace(-90, 270, len(agents) + 1)
    for agent, (start, end) in zip(agents, pairwise(angles), strict=True):
        pen.pieslice(box, start, end, fill=AGENT_COLOURS[agent])


def _circle(
    pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, fill: Colour
) -> None:
    pen.ellipse(_box(centre, radius), fill=fill)


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    anchor: str,
    fill: Colour = INK,
) -> None:
    pen.text((at[0] * _SCALE, at[1] * _SCALE), text, fill, font(CELL * _SCALE), anchor)


def _centre(pos: np.ndarray) -> tuple[float, float]:
    """Middle of a cell in pixels, x and y."""
    return (pos[1] + 0.5) * CELL, (pos[0] + 0.5) * CELL + HEADER


def _box(centre: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    low_x, low_y, high_x, high_y = x - radius, y - radius, x + radius, y + radius
    return low_x * _SCALE, low_y * _SCALE, high_x * _SCALE, high_y * _SCALE
