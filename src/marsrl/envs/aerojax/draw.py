"""Pictures of AeroJAX: one state in, one image out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from marsrl.envs.aerojax.dynamics import GRAVITY
from marsrl.envs.aerojax.rules import State
from marsrl.envs.aerojax.scenarios import Scenario
from marsrl.envs.palette import AGENT_COLOURS, INK, PAPER, Colour, font

Points = Iterable[Iterable[float]]

SIDE = 560
"""Side of the arena, pixels."""
BAR = 26
"""Height of the header and of the legend, pixels."""
# Drawn larger and shrunk, which smooths all edges.
_SCALE = 3

DISABLED: Colour = (150, 150, 150)
GROUND: Colour = (250, 248, 240)
GRID: Colour = (234, 231, 222)
LINK: Colour = (150, 152, 158)
RING: Colour = (205, 203, 196)

GRID_SPACING = 100.0
"""Between grid lines, m."""
TAIL = 3.0
"""Length of an aircraft's tail, s of flight."""

# Outlines from above with the nose to the right, pixels.
_PLANE = ((11, 0), (2, 3), (-3, 11), (-7, 11), (-4, 2), (-9, 0))
_WING = ((9, 0), (-7, 14), (-10, 12), (-4, 0))


def draw(scenario: Scenario, state: State, caption: str = "") -> np.ndarray:
    """Draws one unbatched state from above, north up, between a header and a legend.

    The disc around an aircraft is what its sensor covers, the tail its path of the last 3 s at
    the present bank and speed. Grey lines are links, coloured ones detections. A target is black
    if it is detected, else hollow; the ring around it fills as its lock rises.

    Args:
        scenario: the task.
        state: one state, without leading axes.
        caption: a short text for the right end of the header.

    Returns:
        (612, 560, 3) uint8.
    """
    flight, targets = state.flight, state.targets
    alive, detected = np.asarray(state.alive), np.asarray(state.detected)
    planes = _pixels(scenario, np.stack([flight.x, flight.y], -1))
    spots = _pixels(scenario, np.stack([targets.x, targets.y], -1))
    radii = np.asarray(flight.height) * scenario.sensor_slope * SIDE / 2 / scenario.half_side

    image = Image.new("RGB", (SIDE * _SCALE, (SIDE + 2 * BAR) * _SCALE), GROUND)
    pen = ImageDraw.Draw(image, "RGBA")  # blends translucent colours
    _grid(pen, scenario)
    for i in np.flatnonzero(alive).tolist():
        _disc(pen, planes[i], radii[i], (*_colour(i), 45), outline=(*_colour(i), 160))
    for i, j in np.argwhere(np.triu(state.linked)).tolist():
        _line(pen, planes[[i, j]], LINK, 1)
    for i, j in np.argwhere(detected).tolist():
        _line(pen, (planes[i], spots[j]), _colour(i), 2)
    for j in range(scenario.num_targets):
        _target(pen, spots[j], float(targets.lock[j]), bool(detected[:, j].any()))
    for i in range(scenario.num_agents):
        if alive[i]:
            _line(pen, _pixels(scenario, _tail(state, i)), _colour(i), 2)
        outline = _WING if scenario.is_scout[i] else _PLANE
        colour = _colour(i) if alive[i] else DISABLED
        _aircraft(pen, planes[i], float(flight.heading[i]), outline, colour)
        if not alive[i]:
            _cross(pen, planes[i])
        _text(pen, planes[i] + (0, -19), str(i), "mm")
    left = f"step {int(state.step)}/{scenario.max_steps}   captures {int(state.captures)}   "
    _header(pen, f"{left}lost {(~alive).sum()}", caption)
    _legend(pen, scenario)
    return np.asarray(image.reduce(_SCALE))


def _colour(agent: int) -> Colour:
    return AGENT_COLOURS[agent % len(AGENT_COLOURS)]


def _pixels(scenario: Scenario, places: np.ndarray) -> np.ndarray:
    """Metres (..., 2) to pixels of the final image."""
    half = SIDE / 2
    return places * (1, -1) * half / scenario.half_side + (half, half + BAR)


def _tail(state: State, agent: int) -> np.ndarray:
    """Where an aircraft came from if bank and speed were as they are, (13, 2) m."""
    x, y, _, speed, heading, bank, _ = (float(leaf[agent]) for leaf in state.flight)
    time = np.linspace(0, TAIL, 13)
    past = heading - time * GRAVITY * np.tan(bank) / speed
    middle = (past[1:] + past[:-1]) / 2
    steps = np.diff(time)[:, None] * speed * np.stack([np.cos(middle), np.sin(middle)], -1)
    return (x, y) - np.concatenate([np.zeros((1, 2)), steps.cumsum(0)])


def _grid(pen: ImageDraw.ImageDraw, scenario: Scenario) -> None:
    end = scenario.half_side
    count = int(end // GRID_SPACING)
    for at in GRID_SPACING * np.arange(-count, count + 1):
        _line(pen, _pixels(scenario, np.array([[at, -end], [at, end]])), GRID, 1)
        _line(pen, _pixels(scenario, np.array([[-end, at], [end, at]])), GRID, 1)


def _target(pen: ImageDraw.ImageDraw, at: np.ndarray, lock: float, seen: bool) -> None:
    _disc(pen, at, 9, (*PAPER, 200))
    box = _scaled([at - 9, at + 9])
    pen.arc(box, 0, 360, RING, 3 * _SCALE)
    pen.arc(box, -90, -90 + 360 * lock, INK, 3 * _SCALE)
    diamond = at + 4.5 * np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])
    pen.polygon(_scaled(diamond), INK if seen else PAPER, INK, _SCALE)


def _aircraft(
    pen: ImageDraw.ImageDraw, at: np.ndarray, heading: float, half: tuple, colour: Colour
) -> None:
    """An aircraft from one half of its outline; the heading is counterclockwise from the right."""
    right = np.array(half, float)
    points = np.concatenate([right, right[::-1] * (1, -1)])
    cos, sin = np.cos(heading), np.sin(heading)
    turned = points @ np.array([[cos, -sin], [sin, cos]])
    pen.polygon(_scaled(at + turned), colour, INK, _SCALE)


def _cross(pen: ImageDraw.ImageDraw, at: np.ndarray) -> None:
    for slope in (1, -1):
        arm = np.array([10, 10 * slope])
        _line(pen, (at - arm, at + arm), INK, 3)


def _header(pen: ImageDraw.ImageDraw, left: str, right: str) -> None:
    pen.rectangle(_scaled([(0, 0), (SIDE, BAR)]), PAPER)
    _text(pen, (8, BAR / 2), left, "lm")
    _text(pen, (SIDE - 8, BAR / 2), right, "rm")


def _legend(pen: ImageDraw.ImageDraw, scenario: Scenario) -> None:
    pen.rectangle(_scaled([(0, SIDE + BAR), (SIDE, SIDE + 2 * BAR)]), PAPER)
    row = SIDE + 1.5 * BAR
    kinds = [("tracker", _PLANE), ("scout", _WING)] if scenario.num_scouts else []
    for column, (name, outline) in enumerate([*kinds, ("disabled", _PLANE)]):
        at = np.array([20 + 85 * column, row])
        _aircraft(pen, at, np.pi / 2, outline, DISABLED if name == "disabled" else PAPER)
        if name == "disabled":
            _cross(pen, at)
        _text(pen, (at[0] + 16, row), name, "lm")
    for column, (name, lock, seen) in enumerate(
        [("target", 0.0, False), ("detected", 0.0, True), ("lock", 0.7, True)]
    ):
        at = np.array([310 + 90 * column, row])
        _target(pen, at, lock, seen)
        _text(pen, (at[0] + 16, row), name, "lm")


def _disc(
    pen: ImageDraw.ImageDraw,
    at: np.ndarray,
    radius: float,
    fill: Colour,
    outline: Colour | None = None,
) -> None:
    pen.ellipse(_scaled([at - radius, at + radius]), fill, outline, _SCALE)


def _line(pen: ImageDraw.ImageDraw, points: Points, colour: Colour, width: int) -> None:
    pen.line(_scaled(points), colour, width * _SCALE, joint="curve")


def _text(pen: ImageDraw.ImageDraw, at: Iterable[float], text: str, anchor: str) -> None:
    (spot,) = _scaled([at])
    halo = {"stroke_width": 2 * _SCALE, "stroke_fill": (*PAPER, 160)}
    pen.text(spot, text, INK, font(12 * _SCALE), anchor, **halo)


def _scaled(points: Points) -> list[tuple[float, float]]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]
