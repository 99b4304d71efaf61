"""The flight physics of AeroJAX against formulas of flight mechanics and hand-worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.envs.aerojax.dynamics import Flight, fly

G = 9.81
BANK, CLIMB = np.deg2rad(40), np.deg2rad(12)


def level(speed, height=180.0):
    """One aircraft for each of the speeds, flying east from the origin."""
    speed = jnp.asarray(speed, jnp.float32)
    zero = jnp.zeros_like(speed)
    return Flight(zero, zero, zero + height, speed, zero, zero, zero)


def path(start, bank, climb, trim, substeps=2):
    """All states after constant or listed commands, time first."""

    def body(flight, command):
        flight = fly(flight, *command, jnp.asarray(trim, jnp.float32), substeps)
        return flight, flight

    commands = jnp.asarray(bank, jnp.float32), jnp.asarray(climb, jnp.float32)
    run = jax.jit(lambda start: jax.lax.scan(body, start, commands)[1])
    return jax.tree.map(lambda x: np.asarray(x, np.float64), run(start))


def circumradius(a, b, c):
    sides = [np.hypot(*(p - q)) for p, q in ((a, b), (b, c), (c, a))]
    area = abs((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]) / 2
    return np.prod(sides) / (4 * area)


def test_turn_radius_is_speed_squared_over_g_tan_bank():
    speeds = np.array([17.0, 20.0, 25.0])
    trail = path(level(speeds), np.ones(20), np.zeros(20), speeds, substeps=50)
    np.testing.assert_allclose(trail.bank[-1], BANK, rtol=1e-6)
    np.testing.assert_allclose(trail.speed[-1], speeds, rtol=1e-5)
    for i, speed in enumerate(speeds):
        points = np.stack([trail.x[:, i], trail.y[:, i]], -1)
        radius = circumradius(points[2], points[9], points[16])
        assert radius == pytest.approx(speed**2 / (G * np.tan(BANK)), rel=0.01)
    # Positive bank turns left: counterclockwise, the heading rises by g tan(bank) / speed.
    np.testing.assert_allclose(
        trail.heading[-1] - trail.heading[-2], 0.5 * G * np.tan(BANK) / speeds, rtol=1e-4
    )


def test_turns_to_the_right_mirror_those_to_the_left():
    commands = np.array([1.0, 1.0, 0.5, -1.0, 0.0]), np.array([0.0, 1.0, -1.0, 0.0, 0.3])
    left = path(level([20.0]), *commands, 20.0)
    right = path(level([20.0]), -commands[0], commands[1], 20.0)
    for name, sign in zip(Flight._fields, (1, -1, 1, 1, -1, -1, 1), strict=True):
        np.testing.assert_allclose(
            getattr(right, name), sign * getattr(left, name), atol=1e-4, err_msg=name
        )
    assert left.y[-1] > 1


def test_one_step_by_hand():
    # Two substeps of 0.25 s: bank 20, then 40 degrees; path angle 6, then 12 degrees.
    x = y = heading = 0.0
    height, speed = 100.0, 20.0
    for bank, climb in np.deg2rad([(20, 6), (40, 12)]):
        speed += 0.25 * (0.8 * (22 - speed) - G * np.sin(climb))
        heading += 0.25 * G * np.tan(bank) / speed
        x += 0.25 * speed * np.cos(climb) * np.cos(heading)
        y += 0.25 * speed * np.cos(climb) * np.sin(heading)
        height += 0.25 * speed * np.sin(climb)
    flight = fly(level(20.0, 100.0), jnp.float32(1), jnp.float32(1), 22.0)
    np.testing.assert_allclose(
        np.array(flight), [x, y, height, speed, heading, BANK, CLIMB], rtol=1e-5
    )


def test_bank_and_climb_move_at_limited_rates():
    one, half = jnp.float32(1), jnp.float32(0.5)
    banked = fly(level(20.0), -one, -one, 20.0)
    np.testing.assert_allclose([banked.bank, banked.climb], [-BANK, -CLIMB], rtol=1e-6)
    back = fly(banked, one, one, 20.0)  # 80 and 24 degrees away, of which half in one step
    np.testing.assert_allclose([back.bank, back.climb], [0, 0], atol=1e-6)
    partly = fly(level(20.0), half, half, 20.0)
    np.testing.assert_allclose([partly.bank, partly.climb], [BANK / 2, CLIMB / 2], rtol=1e-6)


@pytest.mark.parametrize("climb", [1, -1])
def test_height_stays_in_limits_and_levels_off_there(climb):
    trail = path(level([20.0]), np.zeros(120), np.full(120, climb), 20.0)
    limit = 300 if climb > 0 else 60
    assert trail.height.min() >= 60
    assert trail.height.max() <= 300
    assert trail.height[10, 0] != limit
    assert trail.height[-1, 0] == limit
    assert abs(trail.climb[-1, 0]) < 1e-6
    assert trail.speed[-1, 0] == pytest.approx(20, abs=1e-3)
    # At the limit the way back is open.
    back = fly(level(20.0, limit), jnp.float32(0), jnp.float32(-climb), 20.0)
    assert abs(float(back.height) - limit) > 1


def test_speed_settles_where_thrust_balances_the_climb_and_stays_in_limits():
    # 0.8 (trim - v) = g sin(12 deg)
    loss = G * np.sin(CLIMB) / 0.8
    trims = np.array([20.0, 14.0, 25.0])
    up = path(level(trims, 60.0), np.zeros(24), np.ones(24), trims)
    np.testing.assert_allclose(up.speed[-1], [20 - loss, 14, 25 - loss], rtol=1e-3)
    trims = np.array([20.0, 28.0, 25.0])
    down = path(level(trims, 300.0), np.zeros(16), -np.ones(16), trims)
    np.testing.assert_allclose(down.speed[-1], [20 + loss, 28, 25 + loss], rtol=1e-3)


def test_energy_changes_by_the_power_of_thrust_less_drag():
    rng = np.random.default_rng(0)
    bank, climb = rng.uniform(-1, 1, (2, 40))
    trail = path(level([20.0]), bank, climb, 20.0, substeps=100)
    energy = (trail.speed**2 / 2 + G * trail.height)[:, 0]
    power = (trail.speed * 0.8 * (20 - trail.speed))[:, 0]
    gained = np.cumsum((power[1:] + power[:-1]) / 2 * 0.5)  # trapezoids
    assert np.ptp(energy) > 50
    np.testing.assert_allclose(energy[1:] - energy[0], gained, atol=3)


def test_smaller_substeps_converge_at_first_order():
    bank = np.repeat([1.0, -1.0, 0.3, 0.0], 4)
    climb = np.repeat([0.0, 1.0, -1.0, 0.5], 4)
    places = {}
    for substeps in (2, 4, 8, 256):
        end = path(level([20.0]), bank, climb, 20.0, substeps)
        places[substeps] = np.array([end.x[-1, 0], end.y[-1, 0], end.height[-1, 0]])
    errors = [np.linalg.norm(places[n] - places[256]) for n in (2, 4, 8)]
    assert errors[0] < 6  # m, after 8 s of full manoeuvres, 160 m of flight
    assert 1.6 < errors[0] / errors[1] < 2.5
    assert 1.6 < errors[1] / errors[2] < 2.5
