"""Autopilot of the scripted AeroJAX teams: from where to go to bank and climb commands.

Everything is for one aircraft; units are m, s, rad, headings as in `dynamics`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from marsrl.envs.aerojax.dynamics import GRAVITY, MAX_BANK, MAX_CLIMB, STEP
from marsrl.types import Array

ORBIT = 1.15
"""Radius of an orbit over that of the tightest turn."""
MARGIN = 20.0
"""What a turn in front of the arena's edge leaves, m."""

_LAG = 0.25
"""The turn or climb of this time is still to come when the command ends, s."""
_LOOKAHEAD = 0.75
"""How far the edge is looked for beyond the turn that avoids it, s."""
_TIGHTEST = GRAVITY * float(np.tan(MAX_BANK))
"""Turn rate times speed at full bank, m/s^2."""


class Pose(NamedTuple):
    """One aircraft as it knows itself.

    Attributes:
        place: (2,), x and y.
        height: ().
        speed: ().
        ahead: (2,), unit vector of the heading.
        bank: ().
        climb: ().
    """

    place: Array
    height: Array
    speed: Array
    ahead: Array
    bank: Array
    climb: Array


def turn_radius(speed: Array | np.ndarray) -> Array:
    """Radius of the tightest level turn, m."""
    return jnp.asarray(speed) ** 2 / _TIGHTEST


def bearing(pose: Pose, points: Array) -> tuple[Array, Array]:
    """Distance and angle to the left of the nose of points (..., 2)."""
    offset = points - pose.place
    ahead = offset @ pose.ahead
    left = offset @ _left(pose.ahead)
    return jnp.hypot(ahead, left), jnp.arctan2(left, ahead)


def steer(pose: Pose, goal: Array, orbit: Array) -> Array:
    """Bank command in [-1, 1] to reach `goal` (2,), and to circle it if `orbit` (() bool)."""
    distance, angle = bearing(pose, goal)
    ratio = distance / (ORBIT * turn_radius(pose.speed))
    # Outside fly along a tangent of the orbit; inside open the turn the more, the nearer.
    beside = jnp.where(ratio > 1, jnp.arcsin(1 / jnp.maximum(ratio, 1)), jnp.pi / 2 + 1 - ratio)
    beside = jnp.where(orbit, beside, 0.0) * jnp.where(angle >= 0, 1.0, -1.0)
    error = angle - beside - _LAG * _turn_rate(pose)
    error = jnp.arctan2(jnp.sin(error), jnp.cos(error))
    return jnp.clip(error * pose.speed / (_TIGHTEST * STEP), -1.0, 1.0)


def stay_inside(pose: Pose, bank_command: Array, half_side: float) -> Array:
    """The bank command, or a full turn if soon neither a left nor a right turn would stay inside.

    Args:
        pose: the aircraft.
        bank_command: () in [-1, 1].
        half_side: `L` of the arena, m.
    """
    angle = _LOOKAHEAD * _turn_rate(pose)
    later = jnp.cos(angle) * pose.ahead + jnp.sin(angle) * _left(pose.ahead)
    place = pose.place + _LOOKAHEAD * pose.speed * (pose.ahead + later) / 2
    radius = turn_radius(pose.speed)

    def room(place: Array, ahead: Array) -> Array:
        centres = place + jnp.array([[1.0], [-1.0]]) * radius * _left(ahead)
        return half_side - radius - jnp.abs(centres).max(-1)  # of the left and the right turn

    left, right = room(pose.place, pose.ahead)
    emergency = jnp.where(left > right, 1.0, -1.0)
    return jnp.where((room(place, later) < MARGIN).all(), emergency, bank_command)


def hold_height(pose: Pose, height: Array) -> Array:
    """Climb command in [-1, 1] that leads to a height, m, and keeps it."""
    error = height - pose.height - _LAG * pose.speed * pose.climb
    return jnp.clip(error / (2 * STEP * pose.speed * MAX_CLIMB), -1.0, 1.0)


def _turn_rate(pose: Pose) -> Array:
    return GRAVITY * jnp.tan(pose.bank) / pose.speed


def _left(ahead: Array) -> Array:
    return jnp.stack([-ahead[1], ahead[0]])
