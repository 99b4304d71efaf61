"""What the agents and the critic see of an AeroJAX state."""

from __future__ import annotations

import jax.numpy as jnp

from marsrl.envs.aerojax.dynamics import MAX_BANK, MAX_CLIMB
from marsrl.envs.aerojax.rules import State
from marsrl.envs.aerojax.scenarios import Scenario
from marsrl.types import Array

OWN, MATE, TARGET = 9, 6, 6
"""Features of an aircraft, of a teammate and of a target."""
LIMIT = 2.0
"""Observations are clipped to this size."""

MIDDLE_HEIGHT, HEIGHT_SCALE = 180.0, 120.0
MIDDLE_SPEED, SPEED_SCALE = 20.0, 8.0


def observe(scenario: Scenario, state: State) -> Array:
    """Shows every agent itself, linked teammates and seen targets: (N, 9 + 6 (N - 1) + 6 M).

    Float32, clipped to [-2, 2], zeros for a disabled aircraft. In order:

    - itself: `x / L`, `y / L`, `(height - 180) / 120`, `(speed - 20) / 8`, cosine and sine of the
      heading, `bank / 40 deg`, `climb / 12 deg`, `step / max_steps`;
    - each teammate by number, zeros if not linked: 1, how far ahead and how far left it is over
      `comm_range`, height difference over 120, cosine and sine of its heading relative to mine;
    - each target, zeros unless I or a linked teammate detected it in this step: 1, ahead, left
      (as above), lock, share of the team's `N` aircraft that detected it as far as I know, and
      whether I did.
    """
    flight, targets = state.flight, state.targets
    cos, sin = jnp.cos(flight.heading), jnp.sin(flight.heading)

    def bearing(x: Array, y: Array) -> tuple[Array, Array]:
        dx, dy = x - flight.x[:, None], y - flight.y[:, None]
        ahead = cos[:, None] * dx + sin[:, None] * dy
        left = cos[:, None] * dy - sin[:, None] * dx
        return ahead / scenario.comm_range, left / scenario.comm_range

    time = jnp.full_like(cos, state.step.astype(jnp.float32) / scenario.max_steps)
    own = jnp.stack([*_aircraft(scenario, state, cos, sin), time], -1)

    linked = state.linked.astype(jnp.float32)
    mates = jnp.stack(
        [
            linked,
            *bearing(flight.x, flight.y),
            (flight.height - flight.height[:, None]) / HEIGHT_SCALE,
            cos[:, None] * cos + sin[:, None] * sin,
            cos[:, None] * sin - sin[:, None] * cos,
        ],
        -1,
    )

    detected = state.detected.astype(jnp.float32)
    known = detected + linked @ detected
    seen = jnp.stack(
        [
            jnp.ones_like(known),
            *bearing(targets.x, targets.y),
            jnp.broadcast_to(targets.lock, known.shape),
            known / scenario.num_agents,
            detected,
        ],
        -1,
    )
    N = scenario.num_agents
    obs = jnp.concatenate(
        [
            own,
            _others(mates * linked[..., None]).reshape(N, -1),
            jnp.where(known[..., None] > 0, seen, 0.0).reshape(N, -1),
        ],
        -1,
    )
    return jnp.where(state.alive[:, None], jnp.clip(obs, -LIMIT, LIMIT), 0.0)


def world_state(scenario: Scenario, state: State) -> Array:
    """Lists everything: (9 N + 6 M + 1,) float32.

    Each aircraft as it sees itself, with `alive` (0 or 1) for the time; each target as `x / L`,
    `y / L`, cosine and sine of the heading, lock, share of the `N` aircraft that detected it; the
    time `step / max_steps`.
    """
    flight, targets, L = state.flight, state.targets, scenario.half_side
    cos, sin = jnp.cos(flight.heading), jnp.sin(flight.heading)
    aircraft = [*_aircraft(scenario, state, cos, sin), state.alive.astype(jnp.float32)]
    ground = [
        targets.x / L,
        targets.y / L,
        jnp.cos(targets.heading),
        jnp.sin(targets.heading),
        targets.lock,
        state.detected.sum(0, dtype=jnp.float32) / scenario.num_agents,
    ]
    time = state.step.astype(jnp.float32) / scenario.max_steps
    return jnp.concatenate(
        [jnp.stack(aircraft, -1).ravel(), jnp.stack(ground, -1).ravel(), time[None]]
    )


def _aircraft(scenario: Scenario, state: State, cos: Array, sin: Array) -> list[Array]:
    """The features of all aircraft themselves, (N,) each."""
    flight = state.flight
    return [
        flight.x / scenario.half_side,
        flight.y / scenario.half_side,
        (flight.height - MIDDLE_HEIGHT) / HEIGHT_SCALE,
        (flight.speed - MIDDLE_SPEED) / SPEED_SCALE,
        cos,
        sin,
        flight.bank / MAX_BANK,
        flight.climb / MAX_CLIMB,
    ]


def _others(pairs: Array) -> Array:
    """Drops the diagonal of (N, N, F), which leaves (N, N - 1, F), by slices alone."""
    N, _, F = pairs.shape
    rows = pairs.reshape(N * N, F)[1:].reshape(N - 1, N + 1, F)
    return rows[:, :-1].reshape(N, N - 1, F)
