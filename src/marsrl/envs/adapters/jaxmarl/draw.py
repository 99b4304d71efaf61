"""Pictures of JaxMARL's environments: one state in, one image out.

Drawn here rather than by the library, whose viewers make films through matplotlib's global state,
and by brax's, which needs OpenGL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from marsrl.envs.palette import AGENT_COLOURS, INK, PAPER, Colour, font
from marsrl.extras import require

WIDTH = 480
HEADER = 24
# Drawn larger and shrunk, which smooths the edges.
_SCALE = 3

ALLY: Colour = (86, 180, 233)
ENEMY: Colour = (230, 159, 0)
GREY: Colour = (150, 150, 150)
GROUND: Colour = (240, 238, 230)
SHADE: Colour = (216, 213, 203)


def draw_particles(library: Any, state: Any, step: int, horizon: int, caption: str) -> np.ndarray:
    """Draws particles and landmarks in the colours that the library gives them.

    Args:
        library: a `SimpleMPE`.
        state: one state of it.
        step: transitions so far.
        horizon: of the episode.
        caption: a short text for the right end of the header.

    Returns:
        (504, 480, 3) uint8. Who is more than 2 from the centre is drawn at the edge.
    """
    canvas = _Canvas((-2.0, -2.0), (4.0, 4.0), GROUND)
    positions = np.clip(np.asarray(state.p_pos), -2, 2)
    # landmarks come last in the state, and belong below the agents
    for i in reversed(range(len(positions))):
        canvas.disc(positions[i], float(library.rad[i]), tuple(library.colour[i]))
        if i < library.num_agents:
            canvas.text(positions[i], str(i), INK)
    return canvas.picture(f"step {step}/{horizon}", caption)


def draw_battle(library: Any, state: Any, step: int, horizon: int, caption: str) -> np.ndarray:
    """Draws units with their type, health and shots; allies blue, enemies orange, the dead crossed.

    Args:
        library: a `HeuristicEnemySMAX`.
        state: one state of the `SMAX` in it.
        step: transitions so far.
        horizon: of the episode.
        caption: a short text for the right end of the header.

    Returns:
        (504, 480, 3) uint8.
    """
    allies, size = library.num_allies, (float(library.map_width), float(library.map_height))
    canvas = _Canvas((0.0, 0.0), size, GROUND)
    positions, alive = np.asarray(state.unit_positions), np.asarray(state.unit_alive)
    kinds = np.asarray(state.unit_types)
    health = np.asarray(state.unit_health) / np.asarray(library.unit_type_health)[kinds]
    radius = np.asarray(library.unit_type_radiuses)[kinds]
    shot = np.asarray(state.prev_attack_actions) - library.num_movement_actions
    for i in np.flatnonzero(alive & (shot >= 0)):
        # the enemies count their targets from the last ally to the first
        target = allies + shot[i] if i < allies else allies - 1 - shot[i]
        canvas.line(positions[i], positions[target], 0.1, ALLY if i < allies else ENEMY)
    for i in np.argsort(alive):
        at, colour = positions[i], ALLY if i < allies else ENEMY
        if not alive[i]:
            for slope in (1, -1):
                arm = 0.3 * np.array([1, slope])
                canvas.line(at - arm, at + arm, 0.12, colour)
            continue
        canvas.disc(at, float(radius[i]), colour)
        canvas.text(at, library.unit_type_shorthands[kinds[i]], INK)
        left, right, height = at[0] - 0.6, at[0] + 0.6, at[1] + radius[i] + 0.3
        canvas.line((left, height), (right, height), 0.25, GREY)
        canvas.line((left, height), (left + 1.2 * health[i], height), 0.25, colour)
    counts = f"allies {alive[:allies].sum()}/{allies}   enemies {alive[allies:].sum()}/"
    return canvas.picture(f"step {step}/{horizon}   {counts}{library.num_enemies}", caption)


def draw_robot(library: Any, state: Any, step: int, horizon: int, caption: str) -> np.ndarray:
    """Draws a robot from its spheres and capsules, each part in the colour of who moves it.

    The picture follows the robot over a floor marked every metre: from the side if it moves in a
    plane, from above and the side otherwise, without perspective.

    Args:
        library: a `MABraxEnv`.
        state: one pipeline state of brax.
        step: transitions so far.
        horizon: of the episode.
        caption: a short text for the right end of the header.

    Returns:
        (384, 480, 3) uint8.
    """
    mujoco = require("mujoco", "jaxmarl")
    model = library.env.sys.mj_model
    data = mujoco.MjData(model)
    data.qpos = np.asarray(state.q)
    mujoco.mj_kinematics(model, data)
    planar = model.jnt_type[0] == mujoco.mjtJoint.mjJNT_SLIDE
    right, up = _axes(0.0, 0.0) if planar else _axes(np.radians(30), np.radians(25))
    view = np.stack([right, up])
    root = data.xpos[1] * [1, 1, 0]
    canvas = _Canvas(view @ root + [-1.6, -0.4 if planar else -0.7], (3.2, 2.4), PAPER)
    _floor(canvas, view, root, planar)
    rods = [_rod(model, data, i) for i in range(model.ngeom) if model.geom_bodyid[i]]
    if not planar:
        for start, end, radius, _ in rods:
            canvas.line(view @ (start * [1, 1, 0]), view @ (end * [1, 1, 0]), 2 * radius, SHADE)
    colours = _part_colours(library, model)
    for start, end, radius, body in sorted(rods, key=lambda rod: np.cross(right, up) @ rod[0]):
        canvas.line(view @ start, view @ end, 2 * radius + 0.02, INK)
        canvas.line(view @ start, view @ end, 2 * radius, colours.get(body, GREY))
    return canvas.picture(f"step {step}/{horizon}   x {root[0]:z.1f} m", caption)


def _axes(azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture's right and up in the world; azimuth 0 looks along y."""
    right = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    ahead = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    return right, np.sin(elevation) * ahead + np.cos(elevation) * np.array([0, 0, 1])


def _floor(canvas: _Canvas, view: np.ndarray, root: np.ndarray, planar: bool) -> None:
    ticks = np.arange(-4, 5)
    x, y = np.floor(root[0]) + ticks, np.floor(root[1]) + ticks
    if planar:
        low, high = view @ [x[0], 0, -0.5], view @ [x[-1], 0, -0.5]
        canvas.line(low, high, 1.0, GROUND)
        for tick in x:
            canvas.line(view @ [tick, 0, 0], view @ [tick, 0, -0.15], 0.02, GREY)
        return
    for tick in x:
        canvas.line(view @ [tick, y[0], 0], view @ [tick, y[-1], 0], 0.015, SHADE)
    for tick in y:
        canvas.line(view @ [x[0], tick, 0], view @ [x[-1], tick, 0], 0.015, SHADE)


def _rod(model: Any, data: Any, geom: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Both ends, radius and body of a capsule, or of a sphere, which is one of length zero."""
    radius, half, _ = model.geom_size[geom]
    along = data.geom_xmat[geom].reshape(3, 3)[:, 2] * half
    centre = data.geom_xpos[geom]
    return centre - along, centre + along, float(radius), int(model.geom_bodyid[geom])


def _part_colours(library: Any, model: Any) -> dict[int, Colour]:
    """The colour of each body that an agent's joint moves."""
    bodies = model.jnt_bodyid[model.actuator_trnid[:, 0]]
    return {
        int(bodies[actuator]): AGENT_COLOURS[i % len(AGENT_COLOURS)]
        for i, joints in enumerate(library.agent_action_mapping.values())
        for actuator in np.asarray(joints)
    }


class _Canvas:
    """A part of a plane, `WIDTH` pixels wide, below a header; lengths in the plane's units."""

    def __init__(
        self, corner: np.ndarray | tuple[float, float], size: tuple[float, float], ground: Colour
    ) -> None:
        self._corner, self._size = np.asarray(corner), size
        self._unit = WIDTH * _SCALE / size[0]
        height = round(size[1] * self._unit)
        self._image = Image.new("RGB", (WIDTH * _SCALE, height + HEADER * _SCALE), ground)
        self._pen = ImageDraw.Draw(self._image)

    def _pixel(self, at: Any) -> np.ndarray:
        x, y = (np.asarray(at) - self._corner) * self._unit
        return np.array([x, self._image.height - y])

    def disc(self, at: Any, radius: float, colour: Colour) -> None:
        self._circle(self._pixel(at), radius * self._unit, colour, outline=INK, width=_SCALE)

    def line(self, start: Any, end: Any, width: float, colour: Colour) -> None:
        """A line with round ends."""
        first, last, pixels = self._pixel(start), self._pixel(end), width * self._unit
        self._pen.line([*first, *last], colour, round(pixels))
        for at in (first, last):
            self._circle(at, pixels / 2, colour)

    def text(self, at: Any, text: str, colour: Colour) -> None:
        x, y = self._pixel(at)
        self._pen.text((x, y), text, colour, font(12 * _SCALE), "mm")

    def picture(self, left: str, right: str) -> np.ndarray:
        self._pen.rectangle([0, 0, self._image.width, HEADER * _SCALE], PAPER)
        middle, edge = HEADER * _SCALE / 2, 6 * _SCALE
        self._pen.text((edge, middle), left, INK, font(12 * _SCALE), "lm")
        self._pen.text((self._image.width - edge, middle), right, INK, font(12 * _SCALE), "rm")
        return np.asarray(self._image.reduce(_SCALE))

    def _circle(self, at: np.ndarray, radius: float, colour: Colour, **options: Any) -> None:
        self._pen.ellipse([*(at - radius), *(at + radius)], colour, **options)
