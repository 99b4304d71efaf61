"""The rules of AeroJAX as pure functions of arrays: targets, sensors, links, locks, losses."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.aerojax.dynamics import MAX_HEIGHT, MIN_HEIGHT, STEP, Flight, fly
from marsrl.envs.aerojax.scenarios import Scenario
from marsrl.types import Array, Key

COLLISION_RADIUS, COLLISION_HEIGHT = 15.0, 10.0
"""Two aircraft closer than both, m, are lost."""
START_AREA, TARGET_AREA, TARGET_FENCE = 0.6, 0.85, 0.9
"""Shares of `L`: where aircraft start, where targets appear, where targets turn back."""
START_HEIGHT, START_SPACING = 120.0, 20.0
"""Lowest start height and distance between start heights, m."""
WANDER = 0.15
"""Standard deviation of a target's change of heading in one step, rad."""
EVADE_RADIUS, EVADE_TURN, EVADE_SPEED = 120.0, 0.3, 1.6
"""How near an aircraft is fled from, m; largest turn away in one step, rad; speed-up factor."""
MISS_AT_MAX_HEIGHT = 0.7
"""Probability to miss a target in the footprint from 300 m; proportional to the height above 60."""
LOCK_GAIN, LOCK_DECAY, PARTIAL_LOCK = 0.125, 0.05, 0.5
"""Largest rise and fall of a lock in one step; the lock that `n < k` detectors hold is the third
number times `n / k`."""
LOCK_REWARD, LOSS_PENALTY = 0.2, 1.0
"""What the team gets for a whole lock, besides 1 for the capture, and pays for an aircraft."""


class Targets(NamedTuple):
    """Targets on the ground.

    Attributes:
        x: (M,) float32, m east.
        y: (M,) float32, m north.
        heading: (M,) float32, rad, counterclockwise from east, not wrapped.
        lock: (M,) float32 in [0, 1).
    """

    x: Array
    y: Array
    heading: Array
    lock: Array


class State(NamedTuple):
    """One mission.

    Attributes:
        flight: the aircraft, (N,) float32 each.
        alive: (N,) bool; the others are disabled and stay where they are.
        targets: (M,) float32 each.
        detected: (N, M) bool, which aircraft detected which target in this step.
        linked: (N, N) bool, symmetric, False on the diagonal.
        captures: () int32, so far.
        step: () int32, steps taken in this episode.
    """

    flight: Flight
    alive: Array
    targets: Targets
    detected: Array
    linked: Array
    captures: Array
    step: Array


class Noise(NamedTuple):
    """The random numbers of one step: independent uniforms in (-1, 1), float32.

    Attributes:
        detection: (N, M).
        link: (N, N), of which the part above the diagonal counts; empty if links never fail.
        wander: (M,).
        respawn: (3, M).
    """

    detection: Array
    link: Array
    wander: Array
    respawn: Array


def draw_noise(scenario: Scenario, key: Key) -> Noise:
    """Draws all random numbers of a step at once, which is far cheaper than one by one."""
    N, M = scenario.num_agents, scenario.num_targets
    shapes = (N, M), (N, N) if scenario.link_loss else (0, 0), (M,), (3, M)
    sizes = [int(np.prod(shape)) for shape in shapes]
    low = float(
        np.nextafter(np.float32(-1), np.float32(0))
    )  # the normal quantile of -1 is infinite
    draw = jax.random.uniform(key, (sum(sizes),), jnp.float32, low, 1.0)
    parts = jnp.split(draw, np.cumsum(sizes)[:-1])
    return Noise(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def initial_state(scenario: Scenario, key: Key) -> State:
    """Draws a start: aircraft in level flight at distinct heights, targets with lock 0."""
    N, M, L = scenario.num_agents, scenario.num_targets, scenario.half_side
    place_key, height_key, target_key, noise_key = jax.random.split(key, 4)
    place = jax.random.uniform(place_key, (3, N), jnp.float32, -1.0, 1.0)
    rank = jax.random.permutation(height_key, jnp.arange(N, dtype=jnp.float32))
    level = jnp.zeros(N, jnp.float32)
    flight = Flight(
        x=START_AREA * L * place[0],
        y=START_AREA * L * place[1],
        height=START_HEIGHT + START_SPACING * rank,
        speed=jnp.asarray(scenario.trim_speed),
        heading=jnp.pi * place[2],
        bank=level,
        climb=level,
    )
    targets = _place_targets(
        scenario, jax.random.uniform(target_key, (3, M), jnp.float32, -1.0, 1.0)
    )
    alive = jnp.ones(N, bool)
    noise = draw_noise(scenario, noise_key)
    zero = jnp.zeros((), jnp.int32)
    return State(
        flight=flight,
        alive=alive,
        targets=targets,
        detected=detect(scenario, flight, alive, targets, noise.detection),
        linked=link(scenario, flight, alive, noise.link),
        captures=zero,
        step=zero,
    )


def transition(
    scenario: Scenario, key: Key, state: State, bank_command: Array, climb_command: Array
) -> tuple[State, Array]:
    """Moves one step on.

    Args:
        scenario: the task.
        key: PRNG key.
        state: before the step.
        bank_command: (N,) float32 in [-1, 1].
        climb_command: (N,) float32 in [-1, 1].

    Returns:
        The next state, and the team's reward, () float32: captures, plus 0.2 times the sum of the
        changes of all locks (before captured targets are replaced), minus the aircraft lost.
    """
    noise = draw_noise(scenario, key)
    moved = fly(state.flight, bank_command, climb_command, scenario.trim_speed)
    flight = Flight(
        *(jnp.where(state.alive, x, y) for x, y in zip(moved, state.flight, strict=True))
    )
    alive = survive(scenario, flight, state.alive)
    targets = move_targets(scenario, flight, alive, state.targets, noise.wander)
    detected = detect(scenario, flight, alive, targets, noise.detection)
    lock = update_lock(scenario, targets.lock, detected)
    captured = lock >= 1.0
    captures = captured.sum(dtype=jnp.int32)
    reward = (
        captures.astype(jnp.float32)
        + LOCK_REWARD * (lock - targets.lock).sum()
        - LOSS_PENALTY * (state.alive & ~alive).sum(dtype=jnp.float32)
    )
    fresh = _place_targets(scenario, noise.respawn)
    kept = targets._replace(lock=lock)
    next_state = State(
        flight=flight,
        alive=alive,
        targets=Targets(*(jnp.where(captured, x, y) for x, y in zip(fresh, kept, strict=True))),
        detected=detected & ~captured,  # else the new target would be seen, wherever it is
        linked=link(scenario, flight, alive, noise.link),
        captures=state.captures + captures,
        step=state.step + 1,
    )
    return next_state, reward


def survive(scenario: Scenario, flight: Flight, alive: Array) -> Array:
    """Which aircraft, (N,) bool, are alive, inside the arena and clear of live aircraft."""
    near = _squared_distance(flight, flight) < COLLISION_RADIUS**2
    level = jnp.abs(flight.height[:, None] - flight.height) < COLLISION_HEIGHT
    other = ~np.eye(scenario.num_agents, dtype=bool)
    collided = (near & level & alive & other).any(-1)
    inside = jnp.maximum(jnp.abs(flight.x), jnp.abs(flight.y)) <= scenario.half_side
    return alive & inside & ~collided


def move_targets(
    scenario: Scenario, flight: Flight, alive: Array, targets: Targets, wander: Array
) -> Targets:
    """Moves the targets for one step; `wander` is (M,) uniform in (-1, 1)."""
    heading = targets.heading + WANDER * np.sqrt(2.0).item() * jax.lax.erf_inv(wander)
    distance = scenario.target_speed * STEP
    if scenario.evade:
        heading, fleeing = _turn_away(flight, alive, targets, heading)
        distance = jnp.where(fleeing, EVADE_SPEED * distance, distance)
    fence = TARGET_FENCE * scenario.half_side
    x = targets.x + distance * jnp.cos(heading)
    y = targets.y + distance * jnp.sin(heading)
    heading = jnp.where(jnp.abs(x) > fence, jnp.pi - heading, heading)
    heading = jnp.where(jnp.abs(y) > fence, -heading, heading)
    return Targets(_reflect(x, fence), _reflect(y, fence), heading, targets.lock)


def detect(
    scenario: Scenario, flight: Flight, alive: Array, targets: Targets, noise: Array
) -> Array:
    """Which aircraft detects which target, (N, M) bool; `noise` is (N, M) uniform in (-1, 1)."""
    radius = flight.height * scenario.sensor_slope
    inside = _squared_distance(flight, targets) <= (radius**2)[:, None]
    miss = MISS_AT_MAX_HEIGHT * (flight.height - MIN_HEIGHT) / (MAX_HEIGHT - MIN_HEIGHT)
    return inside & alive[:, None] & (noise < 1.0 - 2.0 * miss[:, None])


def link(scenario: Scenario, flight: Flight, alive: Array, noise: Array) -> Array:
    """Which aircraft are linked, (N, N) bool; `noise` is (N, N) uniform in (-1, 1)."""
    linked = _squared_distance(flight, flight) <= scenario.comm_range**2
    linked = linked & alive & alive[:, None] & ~np.eye(scenario.num_agents, dtype=bool)
    if scenario.link_loss:
        kept = jnp.triu(noise > 2.0 * scenario.link_loss - 1.0, 1)
        linked = linked & (kept | kept.T)
    return linked


def update_lock(scenario: Scenario, lock: Array, detected: Array) -> Array:
    """The next lock, (M,) float32 in [0, 1], from the lock so far and detections (N, M) bool.

    Let `n` aircraft that can lock detect the target. If `n >= k` the lock rises by 0.125. Else it
    moves towards `0.5 n / k`, up by at most 0.125 and down by at most 0.05.
    """
    count = (detected & ~scenario.is_scout[:, None]).sum(0, dtype=jnp.float32)
    ceiling = PARTIAL_LOCK / scenario.quorum * count
    change = jnp.where(
        count >= scenario.quorum, LOCK_GAIN, jnp.clip(ceiling - lock, -LOCK_DECAY, LOCK_GAIN)
    )
    return jnp.clip(lock + change, 0.0, 1.0)


def _place_targets(scenario: Scenario, noise: Array) -> Targets:
    """Fresh targets from (3, M) uniforms in (-1, 1)."""
    x, y = TARGET_AREA * scenario.half_side * noise[:2]
    return Targets(x, y, heading=jnp.pi * noise[2], lock=jnp.zeros_like(x))


def _turn_away(
    flight: Flight, alive: Array, targets: Targets, heading: Array
) -> tuple[Array, Array]:
    """New headings, and whether the nearest live aircraft is near enough to flee from."""
    squared = jnp.where(alive[:, None], _squared_distance(flight, targets), jnp.inf)
    nearest = squared.argmin(0)
    away_x, away_y = targets.x - flight.x[nearest], targets.y - flight.y[nearest]
    cos, sin = jnp.cos(heading), jnp.sin(heading)
    angle = jnp.arctan2(cos * away_y - sin * away_x, cos * away_x + sin * away_y)
    fleeing = squared.min(0) < EVADE_RADIUS**2
    return heading + jnp.where(fleeing, jnp.clip(angle, -EVADE_TURN, EVADE_TURN), 0.0), fleeing


def _reflect(position: Array, fence: float) -> Array:
    return jnp.where(jnp.abs(position) > fence, jnp.sign(position) * 2 * fence - position, position)


def _squared_distance(a: Flight | Targets, b: Flight | Targets) -> Array:
    """Horizontal distances squared, (len(a), len(b))."""
    return (a.x[:, None] - b.x) ** 2 + (a.y[:, None] - b.y) ** 2
