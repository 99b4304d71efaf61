"""Flight of a small fixed-wing aircraft: point mass, coordinated turns, first-order lags.

Units are metres, seconds and radians. All arrays have one shape, usually (N,).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.types import Array

STEP = 0.5
"""Time between two commands, s."""
SUBSTEPS = 2
"""Integration steps for each command."""
GRAVITY = 9.81
"""m/s^2."""
MAX_BANK = float(np.deg2rad(40.0))
"""Bank angle of a full command, rad."""
BANK_RATE = float(np.deg2rad(80.0))
"""Largest change of bank, rad/s."""
MAX_CLIMB = float(np.deg2rad(12.0))
"""Flight path angle of a full command, rad."""
CLIMB_RATE = float(np.deg2rad(24.0))
"""Largest change of the flight path angle, rad/s."""
MIN_SPEED, MAX_SPEED = 14.0, 28.0
"""m/s."""
SPEED_GAIN = 0.8
"""How fast the speed returns to trim, 1/s."""
MIN_HEIGHT, MAX_HEIGHT = 60.0, 300.0
"""m."""


class Flight(NamedTuple):
    """How aircraft move.

    Attributes:
        x: east, m.
        y: north, m.
        height: above ground, m.
        speed: through the air, m/s.
        heading: counterclockwise from east, rad, not wrapped.
        bank: rad; positive turns left, which raises the heading.
        climb: flight path angle, rad; positive gains height.
    """

    x: Array
    y: Array
    height: Array
    speed: Array
    heading: Array
    bank: Array
    climb: Array


def fly(
    flight: Flight,
    bank_command: Array,
    climb_command: Array,
    trim_speed: Array | np.ndarray,
    substeps: int = SUBSTEPS,
) -> Flight:
    """Integrates the motion over one control step of 0.5 s with constant commands.

    In each substep of `d` seconds, in this order, with the new value of what stands above:

    - bank and flight path angle move towards the command, at most `BANK_RATE d` and
      `CLIMB_RATE d`; a climb command that points out of the height limits counts as 0;
    - `speed += d (0.8 (trim - speed) - g sin(climb))`, kept in 14..28;
    - `heading += d g tan(bank) / speed`, the coordinated turn of radius `speed^2 / (g tan(bank))`;
    - the position follows heading and flight path; the height is kept in 60..300.

    Args:
        flight: before the step.
        bank_command: in [-1, 1], share of `MAX_BANK`; positive left.
        climb_command: in [-1, 1], share of `MAX_CLIMB`; positive up.
        trim_speed: speed of level flight, m/s.
        substeps: number of equal integration steps.
    """
    d = STEP / substeps

    def body(_: int, flight: Flight) -> Flight:
        return _substep(flight, bank_command, climb_command, trim_speed, d)

    # Unrolled to two, the loop of the default vanishes.
    return jax.lax.fori_loop(0, substeps, body, flight, unroll=min(substeps, SUBSTEPS))


def _substep(
    flight: Flight,
    bank_command: Array,
    climb_command: Array,
    trim_speed: Array | np.ndarray,
    d: float,
) -> Flight:
    x, y, height, speed, heading, bank, climb = flight
    bank = _approach(bank, bank_command * MAX_BANK, BANK_RATE * d)
    leaving = ((height >= MAX_HEIGHT) & (climb_command > 0)) | (
        (height <= MIN_HEIGHT) & (climb_command < 0)
    )
    climb = _approach(climb, jnp.where(leaving, 0.0, climb_command) * MAX_CLIMB, CLIMB_RATE * d)
    acceleration = SPEED_GAIN * (trim_speed - speed) - GRAVITY * jnp.sin(climb)
    speed = jnp.clip(speed + d * acceleration, MIN_SPEED, MAX_SPEED)
    heading = heading + d * GRAVITY * jnp.tan(bank) / speed
    ground = d * speed * jnp.cos(climb)
    height = jnp.clip(height + d * speed * jnp.sin(climb), MIN_HEIGHT, MAX_HEIGHT)
    return Flight(
        x=x + ground * jnp.cos(heading),
        y=y + ground * jnp.sin(heading),
        height=height,
        speed=speed,
        heading=heading,
        bank=bank,
        climb=climb,
    )


def _approach(value: Array, goal: Array, most: float) -> Array:
    return value + jnp.clip(goal - value, -most, most)
