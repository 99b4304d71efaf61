"""AeroJAX against hand-built states, frequencies of its random events, and its own symmetries."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.envs.aerojax import SCENARIOS, AeroJAX, State, aerojax, rules, views
from marsrl.envs.aerojax.dynamics import Flight
from marsrl.envs.aerojax.rules import Targets
from marsrl.errors import UserError
from marsrl.types import Box, Discrete

NEUTRAL, TASKS = 4, list(SCENARIOS)
FAR = [(-400, -400), (0, -400), (400, -400)]
"""Places far from each other and from the middle."""


def mission(scenario, aircraft, targets=FAR, lock=0.0, dead=(), step=0):
    """A state from `(x, y, height, degrees)` and `(x, y)`; nothing is detected or linked."""
    x, y, height, heading = np.array(aircraft, np.float32).T
    target_x, target_y = np.array(targets, np.float32).T
    zero, rest = np.zeros_like(x), np.zeros_like(target_x)
    N, M = len(x), len(rest)
    flight = Flight(x, y, height, scenario.trim_speed, np.radians(heading), zero, zero)
    state = State(
        flight=flight,
        alive=~np.isin(np.arange(N), dead),
        targets=Targets(target_x, target_y, rest, np.broadcast_to(np.float32(lock), M)),
        detected=np.zeros((N, M), bool),
        linked=np.zeros((N, N), bool),
        captures=np.int32(0),
        step=np.int32(step),
    )
    return jax.tree.map(jnp.asarray, state)


def spread(height=60):
    """Three aircraft out of each other's way, in the upper half."""
    return [(-300, 300, height, 0), (0, 300, height, 0), (300, 300, height, 90)]


@cache
def compiled(env):
    return jax.jit(env.step)


def step(state, action=None, env=None, key=0):
    env = env or aerojax("track-3ag")
    if action is None:
        action = jnp.full(env.spec.num_agents, NEUTRAL)
    return compiled(env)(jax.random.key(key), state, jnp.asarray(action))


TRACK = SCENARIOS["track-3ag"]
PINCER = SCENARIOS["pincer-4ag"]
HETERO = SCENARIOS["hetero-8ag"]


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "dead", "alive"),
    [
        ((14, 0, 109), [], [False, False, True]),
        ((16, 0, 100), [], [True, True, True]),
        ((0, 14, 111), [], [True, True, True]),
        ((11, 11, 100), [], [True, True, True]),  # 15.6 m
        ((0, 0, 100), [1], [True, False, True]),  # who is disabled hits nobody
    ],
    ids=["both near", "beside", "above", "diagonal", "wreck"],
)
def test_collision(second, dead, alive):
    state = mission(TRACK, [(0, 0, 100, 0), (*second, 0), (200, 200, 100, 0)], dead=dead)
    assert rules.survive(TRACK, state.flight, state.alive).tolist() == alive


def test_leaving_the_arena():
    state = mission(TRACK, [(500, -500, 100, 0), (500.1, 0, 100, 0), (0, -501, 100, 0)])
    assert rules.survive(TRACK, state.flight, state.alive).tolist() == [True, False, False]


def test_disabled_aircraft_stay_are_masked_and_cost_one_each_once():
    # 0 and 1 meet head-on, 2 leaves over the right edge.
    state = mission(TRACK, [(-15, 0, 100, 0), (15, 0, 100, 180), (495, 300, 100, 0)])
    first, after = step(state)
    assert not first.alive.any()
    np.testing.assert_allclose(after.reward, [-3] * 3)
    assert after.terminated
    state = state._replace(alive=jnp.array([True, False, True]))
    first, after = step(state)
    assert first.alive.tolist() == [True, False, False]
    np.testing.assert_allclose(after.reward, [-1] * 3)
    assert after.metrics["lost"] == 2
    assert after.agent_mask.tolist() == [True, False, False]
    assert after.action_mask.sum(-1).tolist() == [9, 1, 1]
    assert after.action_mask[1:, NEUTRAL].all()
    assert not after.obs[1:].any()
    assert after.obs[0].any()
    second, later = step(first, [2, 8, 8])
    np.testing.assert_allclose(later.reward, [0] * 3)
    for now, before in zip(second.flight, first.flight, strict=True):
        np.testing.assert_array_equal(now[1:], before[1:])
    assert second.flight.x[0] != first.flight.x[0]


# --- locks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quorum", "detectors", "lock", "expected"),
    [
        (1, 1, 0.0, 0.125),
        (1, 3, 0.5, 0.625),  # more than enough is no faster
        (1, 1, 0.95, 1.0),
        (1, 0, 0.5, 0.45),
        (1, 0, 0.02, 0.0),
        (2, 2, 0.25, 0.375),
        (2, 1, 0.0, 0.125),  # towards 0.25
        (2, 1, 0.2, 0.25),
        (2, 1, 0.25, 0.25),
        (2, 1, 0.27, 0.25),
        (2, 1, 0.9, 0.85),
        (2, 0, 0.9, 0.85),
        (3, 2, 0.3, 1 / 3),
        (3, 1, 0.3, 0.25),
    ],
)
def test_lock_arithmetic(quorum, detectors, lock, expected):
    scenario = replace(PINCER, quorum=quorum)
    detected = np.zeros((4, 2), bool)
    detected[:detectors, 1] = True
    updated = rules.update_lock(scenario, jnp.array([0.0, lock]), jnp.asarray(detected))
    np.testing.assert_allclose(updated, [0, expected], rtol=1e-6)


def test_scouts_do_not_lock():
    detected = np.zeros((8, 4), bool)
    detected[:4, 0] = detected[4, 1] = True
    updated = rules.update_lock(HETERO, jnp.full(4, 0.5), jnp.asarray(detected))
    np.testing.assert_allclose(updated, [0.45, 0.625, 0.45, 0.45])


def test_capture_pays_and_replaces_the_target_unseen():
    # Aircraft 0 flies right above target 0; from 60 m it cannot miss.
    targets = [(-290, 300), *FAR[1:]]
    state, now = step(mission(TRACK, spread(), targets, lock=[0.9, 0.3, 0.0]))
    np.testing.assert_allclose(now.reward, [1 + 0.2 * (0.1 - 0.05)] * 3, rtol=1e-5)
    assert (state.captures, now.metrics["captures"]) == (1, 1)
    np.testing.assert_allclose(state.targets.lock, [0, 0.25, 0], atol=1e-6)
    moved = np.hypot(*(np.array(state.targets[:2]) - np.array(targets).T))
    assert moved[0] > 10
    np.testing.assert_allclose(moved[1:], 1.5, rtol=1e-3)
    # The detection was of the old target: nobody learns where the new one is.
    assert not state.detected.any()
    assert not now.obs[:, -18:].any()


def test_a_lock_without_capture_pays_for_its_change():
    state, now = step(mission(TRACK, spread(), [(-290, 300), *FAR[1:]], lock=[0.5, 0.5, 0.0]))
    np.testing.assert_allclose(now.reward, [0.2 * (0.125 - 0.05)] * 3, rtol=1e-4)
    assert state.detected.tolist() == [[True, False, False], [False] * 3, [False] * 3]
    assert state.captures == 0


def test_new_targets_are_uniform():
    start = mission(TRACK, spread(), [(-290, 300), *FAR[1:]], lock=[0.9, 0.0, 0.0])
    env = aerojax("track-3ag")
    run = jax.jit(jax.vmap(lambda key: env.step(key, start, jnp.full(3, NEUTRAL))[0].targets))
    targets = run(jax.random.split(jax.random.key(1), 2000))
    for value, limit in ((targets.x, 425), (targets.y, 425), (targets.heading, np.pi)):
        counts, _ = np.histogram(value[:, 0], 10, (-limit, limit))
        assert counts.sum() == 2000
        assert np.abs(counts - 200).max() < 5 * np.sqrt(200 * 0.9)


# --- sensors and links ----------------------------------------------------------------------------


def uniforms(*shape):
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, shape), jnp.float32)


def test_detection_is_surer_from_below():
    # Footprints at 60, 180 and 300 m have radii of 42.0, 126.0 and 210.1 m.
    state = mission(TRACK, [(0, 0, h, 0) for h in (60, 180, 300)], [(0, 41), (0, 125), (0, 210)])
    detect = jax.vmap(lambda z: rules.detect(TRACK, state.flight, state.alive, state.targets, z))
    rate = detect(uniforms(4000, 3, 3)).mean(0)
    inside = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    expected = np.array([[1.0], [0.65], [0.3]]) * inside
    assert (np.asarray(rate)[expected == 0] == 0).all()
    np.testing.assert_allclose(rate, expected, atol=5 * np.sqrt(0.25 / 4000))
    assert (rate[0] == expected[0]).all()


def test_scouts_see_further_than_trackers():
    # At 60 m: 60.0 m for scouts, 34.6 m for trackers.
    state = mission(HETERO, [(0, 0, 60, 0)] * 8, [(34, 0), (0, 35), (59, 0), (61, 0)])
    seen = rules.detect(HETERO, state.flight, state.alive, state.targets, uniforms(8, 4))
    assert seen.tolist() == [[True, True, True, False]] * 4 + [[True, False, False, False]] * 4


def test_disabled_aircraft_neither_detect_nor_link():
    state = mission(TRACK, [(0, 0, 60, 0), (0, 5, 90, 0), (0, 9, 120, 0)], [(0, 0)] * 3, dead=[0])
    none = jnp.full((3, 3), -0.99)
    assert rules.detect(TRACK, state.flight, state.alive, state.targets, none).sum(1)[0] == 0
    linked = rules.link(TRACK, state.flight, state.alive, none)
    assert linked.tolist() == [[False] * 3, [False, False, True], [False, True, False]]


def test_links_reach_the_range_and_fail_as_often_as_stated():
    scenario = replace(TRACK, link_loss=0.2)
    state = mission(TRACK, [(0, 0, 60, 0), (399, 0, 90, 0), (399, 399, 120, 0)])
    sure = rules.link(TRACK, state.flight, state.alive, jnp.zeros((0, 0)))
    expected = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    np.testing.assert_array_equal(sure, expected)
    link = jax.vmap(lambda z: rules.link(scenario, state.flight, state.alive, z))
    linked = np.asarray(link(uniforms(4000, 3, 3)))
    np.testing.assert_array_equal(linked, linked.transpose(0, 2, 1))
    np.testing.assert_allclose(linked.mean(0), 0.8 * expected, atol=5 * np.sqrt(0.16 / 4000))
    together = (linked[:, 0, 1] & linked[:, 1, 2]).mean()
    assert together == pytest.approx(0.64, abs=0.04)  # independent of each other


def test_links_fail_in_whole_steps_too():
    env = aerojax("track-3ag", link_loss=0.5)
    state = mission(env.scenario, [(0, 0, 60, 0), (50, 0, 90, 0), (0, 50, 120, 0)])
    linked = np.array([step(state, env=env, key=k)[0].linked for k in range(8)])
    assert 0 < linked.sum() < 8 * 6
    np.testing.assert_array_equal(linked, linked.transpose(0, 2, 1))


# --- targets --------------------------------------------------------------------------------------


def test_targets_wander():
    state = mission(TRACK, spread(), [(0, 0)] * 3)
    move = jax.vmap(
        lambda z: rules.move_targets(TRACK, state.flight, state.alive, state.targets, z)
    )
    moved = move(uniforms(4000, 3))
    np.testing.assert_allclose(np.hypot(moved.x, moved.y), 1.5, rtol=1e-4)
    np.testing.assert_allclose(np.arctan2(moved.y, moved.x), moved.heading, atol=1e-4)
    assert np.mean(moved.heading) == pytest.approx(0, abs=0.01)
    assert np.std(moved.heading) == pytest.approx(0.15, rel=0.03)


def test_targets_turn_back_at_the_fence():
    # The fence is at 450; both targets head straight for it, at 1.5 m a step.
    state = mission(TRACK, spread(), [(449, 0), (0, -449.5), (-300, 0)])
    heading = jnp.array([0.0, -np.pi / 2, np.pi])
    targets = state.targets._replace(heading=heading)
    moved = rules.move_targets(TRACK, state.flight, state.alive, targets, jnp.zeros(3))
    np.testing.assert_allclose(moved.x, [449.5, 0, -301.5], atol=1e-3)
    np.testing.assert_allclose(moved.y, [0, -449, 0], atol=1e-3)
    np.testing.assert_allclose(np.cos(moved.heading), [-1, 0, -1], atol=1e-6)
    np.testing.assert_allclose(np.sin(moved.heading), [0, 1, 0], atol=1e-6)


def test_evading_targets_turn_away_from_the_nearest_live_aircraft():
    scenario = replace(TRACK, evade=True)
    # All head east. 0: aircraft 100 m behind, slightly left; 1: 100 m ahead; 2: 121 m away.
    aircraft = [(-100, 10, 60, 0), (100, 300, 60, 0), (-121, -300, 60, 0)]
    state = mission(scenario, aircraft, [(0, 0), (0, 300), (0, -300)])
    moved = rules.move_targets(scenario, state.flight, state.alive, state.targets, jnp.zeros(3))
    away = np.arctan2(-10, 100)
    np.testing.assert_allclose(moved.heading, [away, 0.3, 0], atol=1e-5)
    speed = np.hypot(moved.x, np.array(moved.y) - [0, 300, -300])
    np.testing.assert_allclose(speed, [2.4, 2.4, 1.5], 1e-4)
    dead = mission(scenario, aircraft, [(0, 0), (0, 300), (0, -300)], dead=[0, 1, 2])
    calm = rules.move_targets(scenario, dead.flight, dead.alive, dead.targets, jnp.zeros(3))
    np.testing.assert_allclose(calm.heading, [0, 0, 0])
    np.testing.assert_allclose(calm.x, [1.5] * 3)


# --- what agents see ------------------------------------------------------------------------------


def test_observation_layout():
    # 0 flies north in the middle; 1 is 200 m ahead, 24 m higher, and flies west; 2 is not linked.
    state = mission(
        TRACK,
        [(0, 0, 120, 90), (0, 200, 144, 180), (100, 100, 180, 0)],
        [(-80, 40), (0, 280), (10, 10)],
        lock=[0.5, 0.25, 0.75],
        step=50,
    )
    linked = jnp.zeros((3, 3), bool).at[[0, 1], [1, 0]].set(True)
    detected = jnp.zeros((3, 3), bool).at[[0, 1, 1, 2], [0, 0, 1, 2]].set(True)
    flight = state.flight._replace(
        speed=jnp.full(3, 24.0),
        bank=jnp.radians(20.0) * jnp.ones(3),
        climb=jnp.radians(-6) * jnp.ones(3),
    )
    state = state._replace(linked=linked, detected=detected, flight=flight)
    obs = np.asarray(views.observe(TRACK, state))
    third = 1 / 3
    expected = [
        *[0, 0, -0.5, 0.5, 0, 1, 0.5, -0.5, 0.25],  # itself
        *[1, 0.5, 0, 0.2, 0, 1],  # 1: ahead, heading 90 degrees to the left of mine
        *[0] * 6,  # 2: not linked
        *[1, 0.1, 0.2, 0.5, 2 * third, 1],  # target 0: detected by me and 1
        *[1, 0.7, 0, 0.25, third, 0],  # target 1: by 1 alone
        *[0] * 6,  # target 2: by 2 alone, who is not linked
    ]
    np.testing.assert_allclose(obs[0], expected, atol=1e-6)
    # 1 flies west: 0 is 200 m to its left, and teammates are listed by number.
    np.testing.assert_allclose(obs[1, 9:15], [1, 0, 0.5, -0.2, 0, -1], atol=1e-6)
    assert not obs[1, 15:21].any()
    # 2 sees target 2 only, to its left and behind: (10, 10) from (100, 100) flying east.
    np.testing.assert_allclose(obs[2, 9:33], 0)
    np.testing.assert_allclose(obs[2, 33:], [1, -0.225, -0.225, 0.75, third, 1], atol=1e-6)


def test_observations_are_clipped():
    state = mission(TRACK, spread(), [(480, -480), *FAR[1:]])
    state = state._replace(detected=jnp.ones((3, 3), bool))
    obs = views.observe(replace(TRACK, comm_range=100.0), state)
    assert (obs.min(), obs.max()) == (-2, 2)


def test_world_state_layout():
    state = mission(
        TRACK,
        [(250, -100, 300, 90), (0, 0, 60, 0), (0, 0, 180, 180)],
        [(-250, 50), (0, 0), (450, -450)],
        lock=[0.5, 0.0, 0.25],
        dead=[2],
        step=150,
    )
    state = state._replace(detected=jnp.zeros((3, 3), bool).at[:2, 0].set(True))
    world = np.asarray(views.world_state(TRACK, state))
    expected = [
        *[0.5, -0.2, 1, 0, 0, 1, 0, 0, 1],
        *[0, 0, -1, 0, 1, 0, 0, 0, 1],
        *[0, 0, 0, 0, -1, 0, 0, 0, 0],
        *[-0.5, 0.1, 1, 0, 0.5, 2 / 3],
        *[0, 0, 1, 0, 0, 0],
        *[0.9, -0.9, 1, 0, 0.25, 0],
        0.75,
    ]
    np.testing.assert_allclose(world, expected, atol=1e-6)


def scrambled(leaf, hidden):
    """Other values where `hidden`."""
    return jnp.where(hidden, leaf * -0.7 + 0.123, leaf)


def busy():
    """0 and 1 are linked; 0 detects target 0, 1 nothing, 2 targets 1 and 2."""
    aircraft = [(0, 0, 120, 30), (90, 50, 150, 200), (-300, 200, 180, 0)]
    state = mission(TRACK, aircraft, [(30, 30), (-300, 210), (-280, 200)], lock=[0.3, 0.4, 0.5])
    return state._replace(
        linked=jnp.zeros((3, 3), bool).at[[0, 1], [1, 0]].set(True),
        detected=jnp.zeros((3, 3), bool).at[[0, 2, 2], [0, 1, 2]].set(True),
    )


def test_nothing_is_seen_of_unseen_targets_and_unlinked_mates():
    state = busy()
    obs = np.asarray(views.observe(TRACK, state))
    mate, target = jnp.arange(3) == 2, jnp.arange(3) != 0
    hidden = state._replace(
        flight=jax.tree.map(lambda leaf: scrambled(leaf, mate), state.flight),
        targets=jax.tree.map(lambda leaf: scrambled(leaf, target), state.targets),
        # also what the unlinked one detects of the target that the others see
        detected=state.detected.at[2, 0].set(True).at[2, 1].set(False),
    )
    changed = np.asarray(views.observe(TRACK, hidden))
    np.testing.assert_array_equal(changed[:2], obs[:2])
    assert (changed[2] != obs[2]).any()
    assert (views.world_state(TRACK, hidden) != views.world_state(TRACK, state)).any()
    # The same change of what is seen shows.
    target = jnp.arange(3) == 0
    shown = jax.tree.map(lambda leaf: scrambled(leaf, target), state.targets)
    assert (views.observe(TRACK, state._replace(targets=shown))[:2] != obs[:2]).any(1).all()


def test_a_hidden_target_does_not_show_through_a_step():
    one = mission(TRACK, spread(), [(-290, 300), (0, -400), (400, -400)])
    two = mission(TRACK, spread(), [(-290, 300), (-100, -300), (200, 0)], lock=[0, 0.5, 0.6])
    (first, seen), (_, other) = step(one), step(two)
    assert first.detected[0, 0]
    np.testing.assert_array_equal(seen.obs, other.obs)
    assert (seen.global_state != other.global_state).any()


def test_body_frame_features_do_not_depend_on_north():
    state, angle = busy(), 2.1
    cos, sin = np.cos(angle), np.sin(angle)

    def rotated(group):
        return group._replace(
            x=cos * group.x - sin * group.y,
            y=sin * group.x + cos * group.y,
            heading=group.heading + angle,
        )

    turned = state._replace(flight=rotated(state.flight), targets=rotated(state.targets))
    before, after = (np.asarray(views.observe(TRACK, s)) for s in (state, turned))
    assert np.abs(before[:, 9:]).sum() > 5
    np.testing.assert_allclose(after[:, 9:], before[:, 9:], atol=1e-5)
    np.testing.assert_allclose(after[:, [2, 3, 6, 7, 8]], before[:, [2, 3, 6, 7, 8]], atol=1e-6)
    assert (np.abs(after[:, [0, 4]] - before[:, [0, 4]]) > 0.1).any()


# --- endings --------------------------------------------------------------------------------------


def test_truncated_exactly_at_the_horizon():
    for before, ends in ((0, False), (198, False), (199, True)):
        state, now = step(mission(TRACK, spread(), step=before))
        assert state.step == before + 1
        assert (bool(now.truncated), bool(now.terminated)) == (ends, False)


@pytest.mark.parametrize(
    ("scenario", "dead", "ends"),
    [
        ("track-3ag", [0, 1], False),
        ("track-3ag", [0, 1, 2], True),
        ("pincer-4ag", [0, 1], False),
        ("pincer-4ag", [0, 1, 3], True),
        ("hetero-8ag", [0, 1, 2, 3, 4, 5, 6], False),
        ("hetero-8ag", [4, 5, 6, 7], True),  # four scouts are left
    ],
)
def test_terminated_when_too_few_can_lock(scenario, dead, ends):
    env = aerojax(scenario)
    N, M = env.scenario.num_agents, env.scenario.num_targets
    aircraft = [(-400 + 100 * i, 200, 100, 0) for i in range(N)]
    targets = [(0, -300)] * M
    _, now = step(mission(env.scenario, aircraft, targets, dead=dead, step=199), env=env)
    # Never both, and at the horizon the termination goes before.
    assert (bool(now.terminated), bool(now.truncated)) == (ends, not ends)


# --- the interface --------------------------------------------------------------------------------


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_spec_and_types(task, continuous):
    env = aerojax(task, continuous=continuous)
    N, M = env.scenario.num_agents, env.scenario.num_targets
    spec = env.spec
    assert spec.action == (Box(2) if continuous else Discrete(9))
    assert (spec.num_agents, spec.max_steps, spec.shared_reward) == (N, 200, True)
    action = jnp.zeros((N, 2)) if continuous else jnp.zeros(N, jnp.int32)

    def both(key):
        state, first = env.reset(key)
        return (state, first), env.step(key, state, action)

    with jax.numpy_dtype_promotion("strict"):
        start, after = jax.eval_shape(both, jax.random.key(0))
    with jax.enable_x64(True):
        wide, _ = jax.eval_shape(both, jax.random.key(0))
    assert start == after == wide
    state, now = start
    shapes = [(leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(state)]
    assert shapes == [
        *[((N,), "float32")] * 7,
        ((N,), "bool"),
        *[((M,), "float32")] * 4,
        ((N, M), "bool"),
        ((N, N), "bool"),
        ((), "int32"),
        ((), "int32"),
    ]
    assert spec.obs_shape == (9 + 6 * (N - 1) + 6 * M,)
    assert spec.state_shape == (9 * N + 6 * M + 1,)
    assert [(leaf.shape, leaf.dtype.name) for leaf in now[:-1]] == [
        ((N, *spec.obs_shape), "float32"),
        (spec.state_shape, "float32"),
        ((N, spec.action.size), "bool"),
        ((N,), "bool"),
        ((N,), "float32"),
        ((), "bool"),
        ((), "bool"),
    ]
    assert tuple(now.metrics) == spec.metrics == ("captures", "lost")


def test_scouts_and_trackers_are_groups():
    assert aerojax("hetero-8ag").spec.groups == ("scout",) * 4 + ("tracker",) * 4
    assert aerojax("track-3ag").spec.groups == ()


def test_start():
    env = aerojax("hetero-8ag")
    states, now = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 64))
    flight, targets = states.flight, states.targets
    np.testing.assert_array_equal(
        np.sort(flight.height, -1), [[120 + 20 * i for i in range(8)]] * 64
    )
    assert len(np.unique(flight.height, axis=0)) > 60  # in no fixed order
    for value, limit in (
        (flight.x, 480),
        (flight.y, 480),
        (flight.heading, np.pi),
        (targets.x, 680),
        (targets.y, 680),
        (targets.heading, np.pi),
    ):
        assert 0.9 * limit < np.abs(value).max() <= limit
        assert abs(np.mean(value)) < limit * 5 / np.sqrt(3 * value.size)
    np.testing.assert_array_equal(flight.speed, [[25] * 4 + [17] * 4] * 64)
    for zero in (flight.bank, flight.climb, targets.lock, states.step, now.reward, now.done):
        assert not zero.any()
    assert states.alive.all()
    assert now.action_mask.all()
    assert states.linked.any()
    assert states.detected.any()  # the first observation shows what is below


def test_actions_are_bank_and_climb():
    # Four at a time: with the same key, the discrete and the continuous command do the same.
    env, real = aerojax("pincer-4ag"), aerojax("pincer-4ag", continuous=True)
    aircraft = [(-300 + 200 * i, 0, 100 + 20 * i, 45) for i in range(4)]
    state = mission(PINCER, aircraft, FAR[:2])
    grid = [(bank, climb) for bank in (-1, 0, 1) for climb in (-1, 0, 1)]
    for first in (0, 4, 5):
        numbers = np.arange(first, first + 4)
        command = jnp.array(grid[first : first + 4], jnp.float32)
        outcome, expected = step(state, numbers, env), step(state, command, real)
        jax.tree.map(np.testing.assert_array_equal, outcome[0], expected[0])
        np.testing.assert_allclose(outcome[0].flight.bank, np.radians(40) * command[:, 0], 1e-6)
        np.testing.assert_allclose(outcome[0].flight.climb, np.radians(12) * command[:, 1], 1e-6)
    assert expected[1].action_mask.shape == (4, 2)
    assert expected[1].action_mask.all()
    wild = jnp.array([[7.0, -1.0], [-7.0, 1.0], [1.0, 7.0], [0.0, -7.0]])
    jax.tree.map(
        np.testing.assert_array_equal, step(state, wild, real), step(state, wild.clip(-1, 1), real)
    )


def test_jit_equals_eager_and_vmap():
    env = aerojax("pincer-6ag")
    key, action = jax.random.key(4), jnp.array([0, 8, 4, 5, 1, 7])
    state, _ = jax.jit(env.reset)(key)
    eager, jitted = env.step(key, state, action), step(state, action, env, key=4)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (state, action))
    batched = jax.jit(jax.vmap(env.step))(jax.random.split(key).at[1].set(key), *many)
    vmapped = jax.tree.map(lambda leaf: leaf[1], batched)
    for other in (eager, vmapped):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), other, jitted)


def test_a_step_depends_on_its_key_alone():
    state = mission(TRACK, spread(150), [(-290, 300), (0, 300), (300, 310)])
    once, again, other = (step(state, key=k) for k in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, once, again)
    assert (once[0].targets.heading != other[0].targets.heading).all()
    np.testing.assert_array_equal(once[0].flight.x, other[0].flight.x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scenario": "trak-3ag"},
            "scenario is 'trak-3ag', expected one of track-3ag, track-5ag, pincer-4ag, pincer-6ag, "
            "hetero-8ag; did you mean track-3ag",
        ),
        ({"scenario": ["track-3ag"]}, "scenario is ['track-3ag'], expected one of track-3ag"),
        ({"num_agent": 4}, "track-3ag has no setting 'num_agent'; did you mean num_agents"),
        ({"continous": True}, "track-3ag has no setting 'continous'; did you mean continuous?"),
        ({"num_agents": 11}, "num_agents is 11, expected 1 to 10; nearest: 10"),
        ({"num_agents": 2.5}, "num_agents is 2.5, expected a whole number, 1 to 10; nearest: 2"),
        ({"num_targets": 0}, "num_targets is 0, expected 1 to 16; nearest: 1"),
        ({"half_side": 50}, "half_side is 50, expected 200 to 5000; nearest: 200"),
        ({"comm_range": "far"}, "comm_range is 'far', expected a number, 1 to 20000"),
        ({"comm_range": 0}, "comm_range is 0, expected 1 to 20000; nearest: 1"),
        ({"target_speed": float("nan")}, "target_speed is nan, expected 0 to 14"),
        ({"link_loss": 1.5}, "link_loss is 1.5, expected 0 to 1; nearest: 1"),
        ({"evade": 1}, "evade is 1, expected True or False"),
        ({"quorum": True}, "quorum is True, expected a whole number, 1 to 3"),
        ({"quorum": 4}, "quorum is 4, expected 1 to 3; nearest: 3"),
        ({"num_scouts": 3}, "num_scouts is 3, expected 0 to 2; nearest: 2"),
        ({"max_steps": 0}, "max_steps is 0, expected 1 to"),
        ({"continuous": "yes"}, "continuous is 'yes', expected True or False"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(UserError) as error:
        aerojax(**changes)
    assert message in str(error.value)


def test_variants():
    env = aerojax("track-3ag", num_agents=1, num_targets=1, link_loss=0.5, max_steps=7)
    assert isinstance(env, AeroJAX)
    assert env.spec.max_steps == 7
    shape = jax.eval_shape(env.reset, jax.random.key(0))[1].obs.shape
    assert shape == (1, 15) == (1, *env.spec.obs_shape)
    assert SCENARIOS["track-3ag"].num_agents == 3


# --- pictures and imports -------------------------------------------------------------------------


def test_picture():
    from marsrl.envs.aerojax.draw import AGENT_COLOURS, BAR, DISABLED, INK, LINK, SIDE, draw

    aircraft = [(-250, 250, 150, 0), (250, 250, 150, 90), (250, -250, 150, 45)]
    targets = [(-250, 200), (0, 0), (250, -100)]
    state = mission(TRACK, aircraft, targets, lock=[0.5, 0.0, 0.0], dead=[2])
    state = state._replace(
        detected=jnp.zeros((3, 3), bool).at[0, 0].set(True),
        linked=jnp.zeros((3, 3), bool).at[[0, 1], [1, 0]].set(True),
    )
    image = draw(TRACK, state, "caption")
    assert (image.dtype, image.shape) == (np.uint8, (SIDE + 2 * BAR, SIDE, 3))

    def pixel(x, y):
        """The pixel at a place in metres, x to the right, y up."""
        column, row = round((x + 500) * SIDE / 1000), round((500 - y) * SIDE / 1000) + BAR
        return tuple(image[row, column])

    assert pixel(-250, 250) == AGENT_COLOURS[0]
    assert pixel(250, 250) == AGENT_COLOURS[1]
    shown = image[BAR + 400 : BAR + 440, 400:440].reshape(-1, 3)  # around the disabled one
    assert (shown == DISABLED).all(-1).any()
    assert not (image == AGENT_COLOURS[2]).all(-1).any()
    assert pixel(-250, 200) == INK  # detected
    assert pixel(0, 0) == (255, 255, 255)  # not
    assert pixel(0, 250) != pixel(0, 245)  # the link, a thin line
    np.testing.assert_allclose(pixel(0, 250), LINK, atol=60)
    assert pixel(-235, 200) == INK  # the right half of the ring is locked, the left is not
    assert pixel(-265, 200) != INK
    assert pixel(-250, 150) != pixel(0, -250)  # inside a footprint
    assert (draw(TRACK, state)[:BAR] != image[:BAR]).any()  # the caption
    hetero = mission(HETERO, [(50 * i, 0, 100, 0) for i in range(8)], [(0, 300)] * 4)
    assert AeroJAX(HETERO).draw(hetero).shape == image.shape


def test_import_is_light_and_starts_no_backend():
    code = (
        "import sys\n"
        "from marsrl.envs.aerojax import aerojax\n"
        "aerojax('hetero-8ag').spec\n"
        "import marsrl.envs.aerojax.heuristic\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
        "loaded = {'jaxmarl', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
