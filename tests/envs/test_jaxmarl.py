"""The JaxMARL adapters against the library's own transitions, and against states made by hand."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.distributions import random_action
from marsrl.envs.adapters.jaxmarl import any_jaxmarl, mabrax, mpe_spread, smax
from marsrl.envs.adapters.jaxmarl.base import JaxMARL
from marsrl.envs.adapters.jaxmarl.families import MABrax
from marsrl.errors import UserError
from marsrl.extras import require
from marsrl.types import Box, Discrete

KEY = jax.random.key(0)
STOP = 4  # of SMAX
SHOOT = 5  # the first enemy; 6 the second


def both(env):
    """One compiled step of ours and of the library's, for the same key, state and action."""

    def step(key, state, action):
        actions = dict(zip(env.library.agents, action, strict=True))
        ours = env.step(key, state, action)
        with warnings.catch_warnings(action="ignore"):
            return ours, env.library.step_env(key, state.library, actions)

    return step


def stacked(env, by_agent):
    return np.stack([by_agent[a] for a in env.library.agents])


def one(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


# --- imports --------------------------------------------------------------------------------------

QUIET = """
import contextlib, io, logging, os, sys, warnings

from marsrl.envs.adapters.jaxmarl import mabrax
from marsrl.envs.export import to_jaxmarl
from marsrl.envs.paxmen import PaxMen

real, filters = (sys.__stdout__, sys.__stderr__), list(warnings.filters)
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    {first}
    assert (sys.stdout, sys.stderr) == (out, err)
assert (sys.stdout, sys.stderr) == (sys.__stdout__, sys.__stderr__) == real
assert out.getvalue() == err.getvalue() == "", (out.getvalue(), err.getvalue())
assert warnings.filters == filters
assert os.listdir() == [], os.listdir()

from absl import logging as absl_logging
from absl.logging import PythonHandler

absl_logging.use_absl_handler()
absl_logging.error("first")
kept = [ref() for ref in logging._handlerList if isinstance(ref(), logging.StreamHandler)]
assert any(isinstance(handler, PythonHandler) for handler in kept)
for handler in kept:
    if handler.stream is not None:
        print("second", file=handler.stream)
logging.getLogger("any").error("third")
print("printed")
"""


@pytest.mark.parametrize(
    "first",
    ['mabrax(robot="halfcheetah_6x1")', "to_jaxmarl(PaxMen(4))"],  # MuJoCo warns of the robot
    ids=["robot", "export"],
)
def test_imports_print_nothing_and_leave_streams_and_logging_alone(tmp_path, first):
    """In a process of its own: an import prints only once."""
    code = QUIET.replace("{first}", first)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "printed\n"
    for word in ("first", "second", "third"):
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert "object has no attribute" not in result.stderr


def test_a_missing_library_is_one_line_that_says_what_to_type():
    with pytest.raises(UserError) as caught:
        require("no_such_library.environments", "jaxmarl")
    assert str(caught.value) == (
        "no_such_library is not installed; type: pip install 'marsrl[jaxmarl]'"
    )


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: mpe_spread(num_agents=0), ["num_agents is 0", "at least 1"]),
        (lambda: mpe_spread(num_agents=2.5), ["num_agents is 2.5", "whole number"]),
        (lambda: mpe_spread(num_landmarks=-1), ["num_landmarks is -1"]),
        (lambda: mpe_spread(local_ratio=1.5), ["local_ratio is 1.5", "0 to 1; nearest: 1"]),
        (lambda: mpe_spread(local_ratio="abc"), ["local_ratio is 'abc'", "a number, 0 to 1"]),
        (lambda: mpe_spread(action_type="continous"), ["'continous'", "mean continuous?"]),
        (lambda: mpe_spread(team_reward="sum"), ["'sum'", "mean, none"]),
        (lambda: smax(scenario="2s3zz"), ["scenario is '2s3zz'", "mean 2s3z"]),
        (lambda: smax(scenario=3), ["scenario is 3", "2s3z"]),
        (lambda: smax(scenario="3m", see_enemy_actions="no"), ["see_enemy_actions is 'no'"]),
        (lambda: smax(scenario="3m", walls_cause_death=1), ["walls_cause_death is 1", "True or"]),
        (lambda: smax(scenario="3m", attack_mode="nearest"), ["'nearest'", "closest"]),
        (lambda: smax(scenario="3m", max_steps=0), ["max_steps is 0"]),
        (lambda: mabrax(robot="humanoid_9_8"), ["robot is 'humanoid_9_8'", "humanoid_9|8"]),
        (lambda: mabrax(robot="hopper_3x1", backend="mjx"), ["backend is 'mjx'", "positional"]),
        (lambda: mabrax(robot="hopper_3x1", episode_length=0), ["episode_length is 0"]),
        (lambda: any_jaxmarl("overcoked"), ["'overcoked'", "overcooked"]),
        (lambda: any_jaxmarl("overcooked", layout="ring"), ["layout is 'ring'", "mean coord_ring"]),
        (lambda: any_jaxmarl("overcooked", layout=3), ["layout is 3", "coord_ring"]),
        (lambda: any_jaxmarl("overcooked", max_steps="x"), ["max_steps is 'x'", "whole number"]),
        (lambda: any_jaxmarl("overcooked", max_steps=0), ["max_steps is 0", "nearest: 1"]),
        (lambda: any_jaxmarl("overcooked", name="x"), ["no setting 'name'", "layout"]),
        (lambda: any_jaxmarl("coin_game", num_inner_steps=2.5), ["num_inner_steps is 2.5"]),
        (lambda: any_jaxmarl("overcooked", max_step=9), ["'max_step'", "max_steps"]),
        (lambda: any_jaxmarl("MPE_simple_tag_v3", num_adverseries=1), ["num_adversaries"]),
        (lambda: any_jaxmarl("overcooked", horizon=500), ["horizon is 500", "400 steps"]),
        (lambda: any_jaxmarl("overcooked", horizon=0), ["horizon is 0"]),
        (lambda: any_jaxmarl("switch_riddle", num_agents=2), ["switch_riddle", "3"]),
        (lambda: any_jaxmarl("HeuristicEnemySMAX"), ["'scenario'"]),
        (lambda: any_jaxmarl("hopper_3x1", episode_lenth=5), ["episode_length"]),
        (lambda: any_jaxmarl("hopper_3x1", robot="ant_4x2"), ["no setting 'robot'", "backend"]),
        (lambda: any_jaxmarl("LearnedPolicyEnemySMAX"), ["LearnedPolicyEnemySMAX", "'policy'"]),
        (lambda: any_jaxmarl("JaxRobotarium_rware"), ["jaxrobotarium", "not installed"]),
        (lambda: any_jaxmarl("storm"), ["jaxmarl:storm", "does not fit"]),
    ],
)
def test_bad_input_is_one_line_that_names_it(make, parts):
    with pytest.raises(UserError) as caught:
        make()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


# --- MPE ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread():
    """28 steps, two beyond the horizon, of spread for three with random actions."""
    env = mpe_spread(num_agents=3, num_landmarks=2)

    def run(key):
        start_key, key = jax.random.split(key)
        start, first = env.reset(start_key)

        def step(state, key):
            action_key, key = jax.random.split(key)
            action = random_action(action_key, env.spec.action, first.action_mask)
            (after, ours), library = both(env)(key, state, action)
            # the first dimension must not matter
            twin, _ = env.step(key, state, action.at[:, 0].set(1 - action[:, 0]))
            return after, (ours, library, after, twin)

        return first, jax.lax.scan(step, start, jax.random.split(key, 28))[1]

    first, played = jax.jit(run)(KEY)
    return SimpleNamespace(env=env, first=first, played=played)


def test_spread_spec():
    spec = mpe_spread(num_agents=3).spec
    assert (spec.num_agents, spec.obs_shape, spec.state_shape) == (3, (18,), (54,))
    assert (spec.action, spec.max_steps, spec.shared_reward) == (Box(5, 0.0, 1.0), 26, True)
    assert mpe_spread(action_type="discrete").spec.action == Discrete(5)
    assert mpe_spread(team_reward="none", max_steps=3).spec.max_steps == 4
    assert not mpe_spread(team_reward="none").spec.shared_reward


def test_spread_matches_the_library(spread):
    ours, (obs, _, reward, _, _), _, _ = spread.played
    stack = stacked(spread.env, obs).swapaxes(0, 1)
    np.testing.assert_allclose(ours.obs, stack, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.global_state, ours.obs.reshape(28, -1))
    mean = stacked(spread.env, reward).mean(0)
    np.testing.assert_allclose(ours.reward, np.stack([mean] * 3, 1), rtol=1e-6)


def test_spread_pays_for_distance_and_collisions(spread):
    """The rule by hand, on every state that was met."""
    ours, _, states, _ = spread.played
    for p, reward in zip(states.library.p_pos, ours.reward, strict=True):
        agents, landmarks = np.asarray(p[:3]), np.asarray(p[3:])
        distance = sum(np.linalg.norm(agents - x, axis=1).min() for x in landmarks)
        apart = np.linalg.norm(agents[:, None] - agents, axis=-1)
        collisions = (apart < 0.3).sum(1) - 1
        expected = -0.5 * collisions.mean() - 0.5 * distance
        np.testing.assert_allclose(reward, expected, rtol=1e-5)


def test_spread_is_truncated_at_26_and_does_not_reset(spread):
    ours, (_, _, _, done, _), states, _ = spread.played
    steps = np.arange(1, 29)
    np.testing.assert_array_equal(ours.truncated, steps >= 26)
    np.testing.assert_array_equal(ours.truncated, done["__all__"])
    assert not ours.terminated.any()
    np.testing.assert_array_equal(states.library.step, steps)
    np.testing.assert_array_equal(states.step, steps)
    assert not spread.first.done
    assert not spread.first.reward.any()


def test_spread_masks_the_dimension_that_does_nothing(spread):
    _, _, states, twins = spread.played
    np.testing.assert_array_equal(spread.first.action_mask, [[False, True, True, True, True]] * 3)
    np.testing.assert_array_equal(states.library.p_pos, twins.library.p_pos)
    np.testing.assert_array_equal(states.library.p_vel, twins.library.p_vel)
    assert spread.first.agent_mask.all()


def test_own_rewards_differ_where_the_team_is_paid_the_mean():
    env = mpe_spread(num_agents=3, team_reward="none", action_type="discrete")
    state, _ = env.reset(KEY)
    # 0 and 1 collide; every landmark is 1 from its nearest agent
    positions = jnp.array([[0, 0], [0.1, 0], [0, 5], [0, -1], [-1, 0], [0, 6]], jnp.float32)
    state = state._replace(library=state.library.replace(p_pos=positions))
    _, after = env.step(KEY, state, jnp.zeros(3, jnp.int32))
    np.testing.assert_allclose(after.reward, [-2.0, -2.0, -1.5], rtol=1e-6)


# --- SMAX -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def battle():
    """SMAX 3m: its start, and one compiled step for four states at a time."""
    env = smax(scenario="3m")
    start, first = jax.jit(env.reset)(KEY)
    step = jax.jit(jax.vmap(both(env)))

    def run(states, actions, seed=0):
        keys = jax.random.split(jax.random.key(seed), len(states))
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        return step(keys, batch, jnp.array(actions, jnp.int32))

    return SimpleNamespace(env=env, start=start, first=first, run=run)


def scene(start, allies=(45, 45, 45), enemies=(45, 45, 45), apart=4.0, step=10):
    """Two columns of three marines each, `apart` from each other; range is 5."""
    health = jnp.array(allies + enemies, jnp.float32)
    x, y = jnp.repeat(jnp.array([16.0, 16.0 + apart]), 3), jnp.tile(jnp.array([14.0, 16, 18]), 2)
    units = start.library.state.replace(
        unit_positions=jnp.stack([x, y], 1),
        unit_health=health,
        unit_alive=health > 0,
        step=jnp.int32(step),
    )
    return start._replace(library=start.library.replace(state=units), step=jnp.int32(step))


@pytest.fixture(scope="module")
def fights(battle):
    """A win, a defeat, the clock, and a win as the clock strikes."""
    weak, dead = (1, 1, 1), (0, 45, 45)
    states = [
        scene(battle.start, enemies=weak),
        scene(battle.start, allies=weak),
        scene(battle.start, allies=dead, apart=14.0, step=100),
        scene(battle.start, enemies=weak, step=100),
    ]
    shots, stop = [SHOOT, SHOOT + 1, SHOOT + 2], [STOP] * 3
    return battle.run(states, [shots, stop, stop, shots])


def test_smax_spec(battle):
    spec = battle.env.spec
    assert (spec.num_agents, spec.obs_shape, spec.state_shape) == (3, (75,), (72,))
    assert (spec.action, spec.max_steps, spec.metrics) == (Discrete(8), 101, ("won",))
    assert spec.shared_reward
    assert spec.groups == ()
    assert smax(scenario="5m_vs_6m").spec.state_shape == (132,)


def test_units_of_one_type_are_a_group_unless_types_are_drawn():
    stalkers, zealots = ("stalker",) * 2, ("zealot",) * 3
    assert smax(scenario="2s3z").spec.groups == stalkers + zealots
    assert smax(scenario="smacv2_5_units").spec.groups == ()


def test_smax_ends_by_a_dead_side_before_the_clock(fights):
    (_, ours), _ = fights
    np.testing.assert_array_equal(ours.terminated, [True, True, False, True])
    np.testing.assert_array_equal(ours.truncated, [False, False, True, False])
    np.testing.assert_array_equal(ours.metrics["won"], [True, False, False, True])


def test_smax_pays_the_share_of_health_taken_and_one_for_a_win(fights):
    (_, ours), _ = fights
    win = 1 + 1 / 45
    expected = np.array([win, 0, 0, win])
    # the losers stop, but the enemies lose nothing either
    np.testing.assert_allclose(ours.reward, np.stack([expected] * 3, 1), rtol=1e-5)


def test_smax_matches_the_library(battle, fights):
    (after, ours), (obs, state, reward, done, _) = fights
    np.testing.assert_array_equal(ours.obs, stacked(battle.env, obs).swapaxes(0, 1))
    np.testing.assert_array_equal(ours.global_state, obs["world_state"])
    np.testing.assert_array_equal(ours.reward, stacked(battle.env, reward).T)
    np.testing.assert_array_equal(ours.done, done["__all__"])
    jax.tree.map(np.testing.assert_array_equal, after.library, state)


def test_smax_masks_the_dead_and_what_is_out_of_reach(battle, fights):
    (_, ours), _ = fights
    stop = np.arange(8) == STOP
    np.testing.assert_array_equal(ours.agent_mask[1], [False] * 3)
    np.testing.assert_array_equal(ours.agent_mask[2], [False, True, True])
    np.testing.assert_array_equal(ours.action_mask[2, 0], stop)
    np.testing.assert_array_equal(ours.obs[2, 0], np.zeros(75))
    # the living may move, but the enemies are beyond their range
    np.testing.assert_array_equal(ours.action_mask[2, 1], np.arange(8) <= STOP)
    assert battle.first.agent_mask.all()
    assert battle.first.action_mask[:, :SHOOT].all()


def test_smax_shows_whom_a_marine_can_reach(battle):
    """5.0 is the range: straight ahead is in it, and the diagonal across two rows is not."""
    states = [scene(battle.start, apart=4.0)] * 4
    (after, ours), _ = battle.run(states, [[STOP] * 3] * 4)
    at = np.asarray(after.library.state.unit_positions[0])
    reach = np.linalg.norm(at[:3, None] - at[None, 3:], axis=-1) < 5
    assert reach.any()
    assert not reach.all()
    np.testing.assert_array_equal(ours.action_mask[0, :, SHOOT:], reach)


def test_smax_depends_on_the_key_state_and_action_alone(battle):
    states, actions = [scene(battle.start)] * 4, [[SHOOT, STOP, 0]] * 4
    runs = [battle.run(states, actions, seed)[0] for seed in (1, 1, 2)]
    jax.tree.map(np.testing.assert_array_equal, runs[0], runs[1])
    cooldowns = [np.asarray(r[0].library.state.unit_weapon_cooldowns) for r in runs]
    assert (cooldowns[0] != cooldowns[2]).any()


def test_smax_goes_on_after_an_ending(battle, fights):
    (after, _), _ = fights
    (later, _), _ = battle.run([one(after, i) for i in range(4)], [[STOP] * 3] * 4)
    np.testing.assert_array_equal(later.step, [12, 12, 102, 102])
    assert not later.library.state.unit_alive[0, 3:].any()


# --- MABrax ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hopper():
    """A hopper that falls, and what happens when its clock is moved to the end."""
    env = mabrax(robot="hopper_3x1", episode_length=100)
    start, first = jax.jit(env.reset)(KEY)
    step = jax.jit(env.step)
    action = jnp.array([[1.0], [-1.0], [1.0]])

    def at(state, clock):
        info = state.library.info | {"steps": jnp.float32(clock)}
        return state._replace(library=state.library.replace(info=info), step=jnp.int32(clock))

    falling = [(start, first)]
    while len(falling) < 99 and not falling[-1][1].done:
        falling.append(step(KEY, falling[-1][0], action))
    return SimpleNamespace(
        env=env,
        falling=falling,
        late=step(KEY, at(start, 98), action)[1],
        last=step(KEY, at(start, 99), action)[1],
        fallen_last=step(KEY, at(falling[-2][0], 99), action)[1],
        beyond=step(KEY, falling[-1][0], action),
    )


def test_hopper_spec_and_start(hopper):
    spec, first = hopper.env.spec, hopper.falling[0][1]
    assert (spec.num_agents, spec.obs_shape, spec.state_shape) == (3, (12,), (11,))
    assert (spec.action, spec.max_steps, spec.shared_reward) == (Box(1, -1.0, 1.0), 100, True)
    assert first.action_mask.all()
    assert first.agent_mask.all()
    assert not first.done


def test_hopper_shows_and_pays_what_the_library_does(hopper):
    state, ours = hopper.falling[5]
    np.testing.assert_array_equal(
        ours.obs, stacked(hopper.env, hopper.env.library.get_obs(state.library))
    )
    np.testing.assert_array_equal(ours.global_state, state.library.obs)
    np.testing.assert_array_equal(ours.reward, [state.library.reward] * 3)
    assert ours.reward[0] != 0


def test_hopper_is_terminated_by_a_fall_and_truncated_by_the_clock(hopper):
    steps = [hopper.falling[-1][1], hopper.late, hopper.last, hopper.fallen_last]
    assert [bool(s.terminated) for s in steps] == [True, False, False, True]
    assert [bool(s.truncated) for s in steps] == [False, False, True, False]


def test_hopper_goes_on_lying_after_a_fall(hopper):
    before, (after, ours) = hopper.falling[-1][0], hopper.beyond
    assert after.step == before.step + 1
    assert ours.terminated
    height = [state.library.pipeline_state.q[1] for state in (before, after)]
    np.testing.assert_allclose(*height, atol=0.1)


def test_humanoid_masks_the_dimension_that_moves_no_joint():
    env = mabrax(robot="humanoid_9|8")
    expected = np.ones((2, 9), bool)
    expected[1, 8] = False
    np.testing.assert_array_equal(env.actions.exists, expected)
    # by the library's own mapping, every other dimension moves a joint of its own
    mapping = env.library.map_agents_to_global_action
    agents = env.library.agents
    moved = np.array(
        [
            [
                mapping({a: jnp.zeros(9).at[d].set(float(a == b)) for a in agents}).any()
                for d in range(9)
            ]
            for b in agents
        ]
    )
    np.testing.assert_array_equal(moved, expected)


def test_concatenated_robots_mask_the_other_agents_joints():
    space = require("jaxmarl.environments.spaces", "jaxmarl").Box(-1.0, 1.0, (4,))
    library = SimpleNamespace(
        agents=["a", "b"],
        action_space=lambda agent: space,
        agent_action_mapping={"a": jnp.array([0, 3]), "b": jnp.array([1, 2])},
        homogenisation_method="concat",
    )
    expected = [[True, False, False, True], [False, True, True, False]]
    np.testing.assert_array_equal(MABrax(library, horizon=9).actions.exists, expected)


@pytest.mark.parametrize(
    "make",
    [
        mpe_spread,
        lambda: smax(scenario="3m"),
        lambda: mabrax(robot="hopper_3x1"),
        lambda: any_jaxmarl("switch_riddle"),
    ],
    ids=["mpe", "smax", "mabrax", "other"],
)
def test_starts_and_later_states_are_of_one_type(make):
    """Weak types included: a difference would compile every training program twice."""
    env = make()

    def play():
        state, first = env.reset(KEY)
        action = random_action(KEY, env.spec.action, first.action_mask)
        return (state, first), env.step(KEY, state, action)

    start, after = jax.eval_shape(play)
    assert jax.tree.structure(start) == jax.tree.structure(after)
    for x, y in zip(jax.tree.leaves(start), jax.tree.leaves(after), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert not x.weak_type
        assert not y.weak_type


# --- any other ------------------------------------------------------------------------------------


def test_overcooked_keeps_its_images_and_its_clock():
    env = any_jaxmarl("overcooked", layout="coord_ring", max_steps=3)
    assert env.spec.obs_shape == (5, 5, 26)
    assert env.spec.state_shape == (2 * 5 * 5 * 26,)
    assert env.spec.action == Discrete(6)

    def run(key):
        state, _ = env.reset(key)

        def step(state, key):
            return env.step(key, state, jnp.array([4, 4]))

        return jax.lax.scan(step, state, jax.random.split(key, 3))[1]

    played = jax.jit(run)(KEY)
    np.testing.assert_array_equal(played.truncated, [False, False, True])
    assert not played.terminated.any()
    assert played.obs.dtype == jnp.float32


def test_adversaries_are_a_group():
    env = any_jaxmarl("MPE_simple_tag_v3")
    assert env.spec.groups == ("adversaries",) * 3 + ("agents",)


def test_speaker_and_listener_are_padded_to_one_shape():
    env = any_jaxmarl("MPE_simple_speaker_listener_v4", horizon=2)
    spec = env.spec
    assert (spec.obs_shape, spec.state_shape, spec.action) == ((11,), (14,), Discrete(5))
    assert (spec.max_steps, spec.shared_reward) == (2, True)
    state, first = env.reset(KEY)
    np.testing.assert_array_equal(first.action_mask, [[True] * 3 + [False] * 2, [True] * 5])
    np.testing.assert_array_equal(first.obs[0, 3:], np.zeros(8))
    np.testing.assert_array_equal(
        first.global_state, np.concatenate([first.obs[0, :3], first.obs[1]])
    )
    step = jax.jit(env.step)
    state, after = step(KEY, state, jnp.array([2, 1]))
    # the listener hears the speaker's word
    np.testing.assert_array_equal(after.obs[1, -3:], [0, 0, 1])
    assert not after.done
    _, last = step(KEY, state, jnp.array([0, 0]))
    assert last.truncated
    assert not last.terminated


def test_a_riddle_told_is_terminated_and_one_not_told_is_truncated():
    env = any_jaxmarl("switch_riddle")
    assert env.spec.max_steps == 6
    step = jax.jit(env.step)
    state, _ = env.reset(KEY)
    _, told = step(KEY, state, jnp.full(3, 2))
    assert told.terminated
    assert not told.truncated
    np.testing.assert_array_equal(told.reward, [-1] * 3)
    for t in range(1, 7):
        state, silent = step(KEY, state, jnp.zeros(3, jnp.int32))
        assert bool(silent.truncated) == (t == 6)
        assert not silent.terminated


def test_hanabi_has_a_bound_in_place_of_a_clock():
    env = any_jaxmarl("hanabi")
    assert (env.horizon, env.clock) == (99, None)


class Toy:
    """Two agents, one action bound each; it ends when told to, and agent "b" before."""

    agents = ("a", "b")

    def __init__(self, spaces):
        self.spaces = dict(zip(self.agents, spaces, strict=True))

    def action_space(self, agent):
        return self.spaces[agent]

    def get_avail_actions(self, state):
        raise NotImplementedError

    def reset(self, key):
        return {"a": {"x": jnp.ones(2, jnp.int32), "y": jnp.ones(())}, "b": jnp.ones(2)}, 0

    def step_env(self, key, state, actions):
        obs, _ = self.reset(key)
        done = {"b": state >= 1, "__all__": state >= 2}
        reward = {a: actions[a].sum() for a in self.agents}
        return obs, state + 1, reward, done, {}


@pytest.fixture(scope="module")
def toy():
    spaces = require("jaxmarl.environments.spaces", "jaxmarl")
    low, high = jnp.array([0.0, -2.0]), jnp.array([1.0, 2.0])
    return Toy([spaces.Box(low, high, (2,)), spaces.Box(-10.0, 0.0, (1,))])


def play(env, actions):
    state, _ = env.reset(KEY)
    steps = []
    for action in actions:
        state, after = env.step(KEY, state, jnp.array(action))
        steps.append(after)
    return steps


def test_actions_of_unequal_bounds_are_scaled(toy):
    env = JaxMARL(toy, horizon=9)
    assert env.spec.action == Box(2, -1.0, 1.0)
    np.testing.assert_array_equal(env.actions.exists, [[True, True], [True, False]])
    lowest, centre, highest = play(env, [np.full((2, 2), x, np.float32) for x in (-1, 0, 1)])
    np.testing.assert_allclose(lowest.reward, [-2, -10])
    np.testing.assert_allclose(centre.reward, [0.5, -5])
    np.testing.assert_allclose(highest.reward, [3, 0])
    assert not env.spec.shared_reward


def test_observations_of_unequal_structure_are_flattened_and_padded(toy):
    env = JaxMARL(toy, horizon=9)
    _, first = env.reset(KEY)
    np.testing.assert_array_equal(first.obs, [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(first.global_state, [1] * 5)


def test_an_agent_done_before_the_episode_is_masked(toy):
    steps = play(JaxMARL(toy, horizon=9), [np.zeros((2, 2), np.float32)] * 3)
    np.testing.assert_array_equal(
        [s.agent_mask for s in steps], [[True, True], [True, False], [True, True]]
    )


@pytest.mark.parametrize(
    ("horizon", "clock", "terminated", "truncated"),
    [
        (9, None, [False, False, True], [False, False, False]),
        (3, None, [False, False, True], [False, False, False]),
        (3, 3, [False, False, False], [False, False, True]),
        (2, 3, [False, False, False], [False, True, True]),
    ],
    ids=["early", "early, at the horizon", "clock", "horizon before the clock"],
)
def test_endings_are_told_apart_by_the_clock(toy, horizon, clock, terminated, truncated):
    steps = play(JaxMARL(toy, horizon, clock), [np.zeros((2, 2), np.float32)] * 3)
    assert [bool(s.terminated) for s in steps] == terminated
    assert [bool(s.truncated) for s in steps] == truncated


def test_mixed_and_unbounded_actions_are_refused():
    spaces = require("jaxmarl.environments.spaces", "jaxmarl")
    mixed = Toy([spaces.Discrete(2), spaces.Box(0.0, 1.0, (2,))])
    unbounded = Toy([spaces.Box(-jnp.inf, jnp.inf, (2,))] * 2)
    for library in (mixed, unbounded):
        with pytest.raises(UserError):
            _ = JaxMARL(library, horizon=9).spec


# --- pictures -------------------------------------------------------------------------------------


def check_pictures(env, states, shape):
    pictures = [env.draw(state, "caption") for state in states]
    for picture in pictures:
        assert picture.shape == shape
        assert picture.dtype == np.uint8
    assert (pictures[0] != pictures[1]).any()
    blank = env.draw(states[0])
    # the caption is all in the header, on the right
    differs = np.argwhere((blank != pictures[0]).any(-1))
    assert differs[:, 0].max() < 24
    assert differs[:, 1].min() > shape[1] // 2


def test_particles_are_drawn_where_they_are(spread):
    states = spread.played[2]
    check_pictures(spread.env, [one(states, 0), one(states, 5)], (504, 480, 3))
    state = one(states, 0)
    positions = jnp.array([[-1, 1], [5, 0], [1, 1], [0, -1], [1, -1]], jnp.float32)
    picture = spread.env.draw(state._replace(library=state.library.replace(p_pos=positions)))
    green, dark = (115, 243, 115), (64, 64, 64)
    # beside the number; 120 pixels to the unit below a header of 24
    for (x, y), colour in [((-1, 1), green), ((1, 1), green), ((0, -1), dark), ((1, -1), dark)]:
        offset = 10 if colour == green else 0
        pixel = picture[24 + (2 - y) * 120, (x + 2) * 120 + offset]
        np.testing.assert_array_equal(pixel, colour)
    np.testing.assert_array_equal(picture[24 + 240, 479 - 8], green)


def test_battles_are_drawn(battle, fights):
    (after, _), _ = fights
    check_pictures(battle.env, [battle.start, one(after, 0)], (504, 480, 3))


def test_robots_are_drawn(hopper):
    states = [hopper.falling[0][0], hopper.falling[-1][0]]
    check_pictures(hopper.env, states, (384, 480, 3))
