"""Environments outside of JAX: the same as in JAX where the rules are; faults; processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import marsrl
from environments import prepare, small_config, untrained_policy
from host_games import (
    Climb,
    ClimbInJax,
    Dials,
    Ending,
    Leaving,
    Returning,
    Robots,
    Signals,
    Simple,
    Stateless,
)
from marsrl import system
from marsrl.envs.check import NonconformingEnvironment, check_env
from marsrl.envs.export import to_jaxmarl, to_pettingzoo
from marsrl.envs.host import crew
from marsrl.envs.host.film import filmed
from marsrl.envs.host.game import Game
from marsrl.envs.host.layout import find_horizon, read_layout
from marsrl.envs.host.source import SingleAgent
from marsrl.envs.registry import make
from marsrl.envs.vector import VectorEnv, opened, split_each
from marsrl.errors import UserError
from marsrl.learner.evaluate import play, random_policy
from marsrl.learner.program import Program
from marsrl.runs.checkpoint import CheckpointWriter
from marsrl.runs.commands import Evaluate
from marsrl.runs.render import render
from marsrl.runs.runner import resume, train
from marsrl.takeaway.recorded import BATCH, record
from run_folders import Listener

CLIMB = "pettingzoo:host_games:Climb"
COUNTING = "pettingzoo:host_games:Counting"
SIGNALS = "pettingzoo:host_games:Signals"
STATELESS = "pettingzoo:host_games:Stateless"


@pytest.fixture(autouse=True)
def two_workers(monkeypatch):
    monkeypatch.setenv(crew.VARIABLE, "2")


@pytest.fixture
def processes(monkeypatch):
    """Those that are started from now on."""
    started, start = [], crew._start
    monkeypatch.setattr(crew, "_start", lambda orders: started.append(start(orders)) or started[-1])
    monkeypatch.setattr(crew, "_PATIENCE", 300.0)  # a busy machine must not have them killed
    return started


def equal(a, b):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), a, b)


# --- The same as in JAX ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("team_reward", "core", "max_cycles"),
    [("mean", "gru", 4), ("none", "ff", 6)],
    ids=["shared", "own-rewards"],
)
def test_a_rollout_is_that_of_the_same_game_in_jax(team_reward, core, max_cycles):
    config = small_config(core=core, num_envs=5, num_minibatches=1)
    host = make(CLIMB, team_reward=team_reward, max_cycles=max_cycles)
    twin = ClimbInJax(max_cycles, shared_reward=team_reward == "mean")
    assert host.spec == twin.spec

    def twice(env):
        """Two rollouts: everything that was stored of them, and the episodes that ended."""
        start = prepare(config, env)
        run = jax.jit(start.play)
        state, first, episodes = run(start.rollout)
        second, later = run(state)[1:]
        start.algorithm.env.check()
        start.algorithm.env.close()
        return first, episodes, second, later

    ours, theirs = twice(host), twice(twin)
    equal(ours, theirs)
    transition = theirs[0].steps.transition
    assert transition.terminated.any()
    assert transition.first.any()
    assert not transition.action_mask[..., 0, :].all()
    if core == "ff":  # an agent's own future ends with it while the other goes on
        assert transition.truncated.any()
        assert not transition.agent_mask.all()
        assert (transition.terminated[..., 1] & ~transition.terminated[..., 0]).any()


def test_episodes_are_those_of_the_same_game_in_jax():
    """For two seeds, of which one is through before the other."""
    host, twin = make(CLIMB, max_cycles=20), ClimbInJax(20)
    keys = jax.vmap(partial(jax.random.split, num=3))(jax.random.split(jax.random.key(1), 2))

    def run(env):
        act = random_policy(env.spec)
        return jax.jit(jax.vmap(lambda keys: play(env, act, (), keys)))(keys)

    with opened(host):
        played = run(host)
    lengths = np.asarray(played.length)
    assert lengths.max(1).tolist() != [lengths.max()] * 2
    equal(played, run(twin))
    with opened(host):
        equal(run(host), played)  # the episodes follow from the keys


def test_environments_start_at_random_points():
    env = make(CLIMB).vectorized()
    keys = jax.random.split(jax.random.key(0), 16)

    @jax.jit
    def start(keys):
        reset_key, stagger_key, key = split_each(keys, 3)
        state = env.stagger(stagger_key, env.reset(reset_key), 4)
        action = jnp.zeros((len(keys), 2), jnp.int32)
        return state, env.step(key, state, action, env.empty_pool(key, 4))[1]

    with opened(env):
        state, after = start(keys)
    length = np.asarray(state.episode_length)
    assert len(set(length.tolist())) > 3
    assert length.max() < 6
    np.testing.assert_array_equal(state.first, length == 0)
    np.testing.assert_array_equal(state.counted, length == 0)
    np.testing.assert_array_equal(state.time_step.global_state[:, 2] * 4, length)  # its clock
    np.testing.assert_array_equal(after.global_state[:, 2] * 4, length + 1)
    assert not state.time_step.done.any()


def test_a_state_cannot_be_used_twice():
    env = make(CLIMB)
    step = jax.jit(env.step)
    key, still = jax.random.key(0), jnp.zeros(2, jnp.int32)
    with opened(env):
        state, start = env.reset(key)
        after, now = step(key, state, still)
        again, same = step(key, state, still)  # the same call once more is the same result
        equal((after, now), (again, same))
        later, _ = step(key, after, still)
        env.check()
        assert int(later.moment) == int(start.done) + 3
    with opened(env):
        state, _ = env.reset(key)
        step(key, state, still)
        jax.block_until_ready(step(key, state, still + 1))
        with pytest.raises(UserError, match="used a second time"):
            env.check()


def test_a_state_from_before_a_new_start_cannot_be_used():
    env = make(COUNTING)
    key, still = jax.random.key(0), jnp.zeros(2, jnp.int32)
    with opened(env):
        state, _ = env.reset(key)
        jax.block_until_ready(env.reset(key))
        jax.block_until_ready(env.step(key, state, still))
        with pytest.raises(UserError, match="used a second time"):
            env.check()


@pytest.mark.parametrize("use", ["a step", "random steps"])
def test_a_state_from_before_random_steps_cannot_be_used(use):
    env = make(COUNTING).vectorized()
    keys = jax.random.split(jax.random.key(0), 3)
    with opened(env):
        before = env.reset(keys)
        jax.block_until_ready(env.stagger(keys, before, 1))
        if use == "a step":
            still, pool = jnp.zeros((3, 2), jnp.int32), env.empty_pool(keys, 1)
            jax.block_until_ready(env.step(keys, before, still, pool))
        else:
            jax.block_until_ready(env.stagger(keys, before, 1))
        with pytest.raises(UserError, match="used a second time"):
            env.check()


def test_where_an_environment_outside_of_jax_cannot_serve_is_said():
    env = make(COUNTING)
    with pytest.raises(UserError, match=r"Counting is played outside of JAX.*vectorize"):
        VectorEnv(env)
    pytest.importorskip("jaxmarl")
    with pytest.raises(UserError, match=r"pettingzoo:host_games:Counting.*to_pettingzoo"):
        to_jaxmarl(env)


class Wrapper:
    """What somebody puts around an environment in JAX, which passes on what it does not have."""

    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        if name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, key):
        return self.env.reset(key)

    def step(self, key, state, action):
        state, now = self.env.step(key, state, action)
        return state, now._replace(reward=2 * now.reward)


def test_a_wrapper_in_jax_of_what_is_outside_is_refused(tmp_path):
    env = make(COUNTING)
    for wrapper in (Wrapper(env), Wrapper(Wrapper(env))):
        with pytest.raises(UserError, match=rf"Wrapper wraps {COUNTING}, which is played outside"):
            train(config(), tmp_path / "run", env=wrapper)
    assert not (tmp_path / "run").exists()


# --- One game, without processes ------------------------------------------------------------------


def game(env, **changes):
    changes = {"horizon": None, "team_reward": False} | changes
    layout = read_layout("a game", env, **changes)
    now = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.outputs.items()}
    made = Game("a game", env, layout)
    made.reset(0, now)
    return made, now


def test_actions_are_rescaled_to_each_agents_bounds():
    made, now = game(robots := Robots())
    assert make("pettingzoo:host_games:Robots").spec.action == marsrl.Box(4, -1.0, 1.0)
    assert now["action_mask"].tolist() == [[True, False, False, False], [True] * 4]
    assert now["obs"].dtype == np.uint8
    made.step(np.array([[0.5, 9, 9, 9], [-1, 0, 1, np.nan]], np.float32), now)
    np.testing.assert_allclose(robots.actions["a"], [0.75])
    np.testing.assert_allclose(robots.actions["b"], [[-2, 1], [4, 0]])


def test_boxes_get_numbers_of_their_own_kind():
    """The environment itself refuses what its spaces do not contain."""
    made, now = game(dials := Dials())
    made.step(np.array([[-1, 0.3], [-1, 1]], np.float32), now)
    assert dials.actions["a"].tolist() == [0, 3]
    assert dials.actions["b"].tolist() == [0.1, 0.7]
    assert "rounded" in "".join(make("pettingzoo:host_games:Dials").notes)


@pytest.mark.parametrize(
    ("shown", "kept"), [([0.5], None), ([-7], None), ([np.nan], None), ([255.0], 255), ([True], 1)]
)
def test_bytes_hold_what_is_shown(monkeypatch, shown, kept):
    made, now = game(robots := Robots())
    seen = {agent: np.array(shown) for agent in robots.possible_agents}
    monkeypatch.setattr(Robots, "step", lambda self, _: (seen, *Simple.step(self, {})[1:]))
    action = np.zeros((2, 4), np.float32)
    if kept is None:
        with pytest.raises(UserError, match="at step 1, expected whole numbers from 0 to 255"):
            made.step(action, now)
    else:
        made.step(action, now)
        assert now["obs"].tolist() == [[kept]] * 2


def test_who_has_left_need_not_be_paid():
    made, now = game(Leaving())
    made.step(np.zeros(2, np.int32), now)
    assert now["agent_mask"].tolist() == [True, False]
    assert now["reward"].tolist() == [1.0, 0.0]


def test_a_horizon_of_ones_own_truncates():
    made, now = game(Climb(max_cycles=100), horizon=2)
    still = np.zeros(2, np.int32)
    assert not made.step(still, now)
    assert made.step(still, now)
    assert now["truncated"]
    assert not now["terminated"]
    assert now["agent_mask"].all()
    np.testing.assert_allclose(now["obs"][1], [0, 0.5, 0])  # the true last observation


@pytest.mark.parametrize(
    ("terminated", "truncated", "counts"),
    [
        ({"a", "b"}, set(), {"a", "b"}),
        ({"a", "b"}, {"a", "b"}, {"a", "b"}),  # as Gymnasium's TimeLimit tells it
        ({"a"}, {"a", "b"}, {"b"}),
        ({"a"}, {"b"}, {"b"}),
        (set(), {"a", "b"}, {"a", "b"}),
    ],
)
def test_who_terminates_as_the_clock_strikes_has_terminated(terminated, truncated, counts):
    made, now = game(Ending(terminated, truncated))
    assert made.step(np.zeros(2, np.int32), now)
    assert now["truncated"] == bool(truncated - terminated)
    assert now["terminated"] != now["truncated"]
    assert now["agent_mask"].tolist() == [agent in counts for agent in "ab"]


def test_an_agent_that_terminates_at_a_horizon_of_ones_own_does_not_remain():
    made, now = game(Ending({"a"}, {"a"}), horizon=1)
    assert made.step(np.zeros(2, np.int32), now)
    assert now["truncated"]
    assert now["agent_mask"].tolist() == [False, True]


def test_a_state_is_not_needed_where_an_episode_has_terminated():
    made, now = game(Stateless(dies=True))
    still = np.zeros(2, np.int32)
    assert not made.step(still, now)
    assert made.step(still, now)
    assert now["terminated"]
    assert now["global_state"].tolist() == [1.0]  # the last there was


def test_one_can_do_without_a_state():
    spec = make(STATELESS, global_state="observations").spec
    assert spec.state_shape == (2,)
    assert make(STATELESS, dies=True).spec.state_shape == (1,)


def test_a_clock_is_found_where_it_is():
    assert make("pettingzoo:host_games:Wrapped").spec.max_steps == 6


@pytest.mark.parametrize(("clock", "horizon"), [(np.int64(3), 3), (True, None), (3.0, None)])
def test_a_clock_is_any_whole_number(clock, horizon):
    env = Simple()
    env.max_cycles = clock
    assert find_horizon(env) == horizon
    assert type(find_horizon(env)) is type(horizon)


# --- Several choices at once ----------------------------------------------------------------------


def test_each_agent_is_given_its_own_choices():
    made, now = game(signals := Signals())
    a, b, c = ([1, 0, 1, 0, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0, 1, 1], [0, 1, 0, 1, 1, 0, 1, 0])
    assert now["action_mask"].astype(int).tolist() == [a, b, c]
    action = np.array([[2, 1, 0], [1, 0, 1], [3, 0, 0]], np.int32)
    made.step(action, now)
    given = signals.actions
    assert (given["a"].tolist(), given["b"].tolist(), given["c"]) == ([4, 0], [1, 0, 1], 4)
    assert (given["a"].dtype, given["b"].dtype, type(given["c"])) == (np.int64, np.int8, int)
    a, b, c = ([1, 1, 0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 1, 0, 0, 1], [0, 1, 1, 1, 1, 0, 1, 0])
    assert now["action_mask"].astype(int).tolist() == [a, b, c]


def test_several_choices_are_played_and_checked():
    env = make(SIGNALS)
    assert env.spec.action == marsrl.MultiDiscrete((4, 2, 2))
    said = "\n".join(check_env(env))  # the environment refuses what is illegal
    assert "an action is 3 choices at once, of 4 + 2 + 2 actions" in said
    assert "agents have 2 + 2 + 2 or 3 + 2 or 4 actions: what one lacks is masked" in said


def test_policies_choose_what_is_legal():
    """The environment refuses what is not, and shows what it was given."""
    config = small_config(core="ff", num_envs=5, num_minibatches=1)
    start = prepare(config, make(SIGNALS))
    steps = jax.jit(start.play)(start.rollout)[1].steps
    start.algorithm.env.check()
    start.algorithm.env.close()
    now = steps.transition
    given = np.asarray(now.action) + np.array([[2, -1, 0], [0, 0, 0], [1, 0, 0]])
    given[..., 0, 2:] = given[..., 2, 1:] = 0  # choices that they do not have
    seen, first = np.asarray(now.obs)[1:], np.asarray(now.first)[1:]
    assert first.any()
    assert np.ptp(seen, axis=(0, 1)).astype(int).tolist() == [[4, 1, 0], [1, 0, 1], [4, 0, 0]]
    np.testing.assert_array_equal(seen[~first], given[:-1][~first])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ((np.ones(2), np.ones(3)), r"2 \+ 3 entries at step 0, expected 3 \+ 2, and one"),
        (np.ones(4), r"4 entries at step 0, expected 3 \+ 2"),
        ((), " 0 entries at step 0, expected 3"),
        ((np.ones(3), np.zeros(2)), "no legal action at step 0.*in each choice"),
    ],
    ids=["order", "too-few", "none", "no-legal"],
)
def test_a_wrong_mask_of_choices(mask, expected, monkeypatch):
    legal = Signals.legal
    monkeypatch.setattr(Signals, "legal", lambda self: legal(self) | {"a": mask})
    with pytest.raises(UserError, match=expected):
        game(Signals())


# --- What a call returns --------------------------------------------------------------------------


def played(call, change):
    """The time step after one step."""
    made, now = game(Returning(call, change))
    made.step(np.zeros(2, np.int32), now)
    return now


def test_a_number_may_be_in_an_array_of_one():
    def change(seen, rewards, terminations, truncations, infos):
        return seen, {"a": np.array([2.0]), "b": np.float64(3)}, {"a": np.array([True])}, {}, infos

    now = played("step", change)
    assert now["reward"].tolist() == [2.0, 3.0]
    assert now["agent_mask"].tolist() == [False, True]


OF_STEP = "expected 5: observations, rewards, terminations, truncations, infos"


@pytest.mark.parametrize(
    ("call", "change", "expected"),
    [
        ("reset", lambda seen, infos: seen, "reset returns {.*}, expected 2: observations, infos"),
        ("reset", lambda seen, infos: (1, {}), "reset returns 1 as observations, expected a dict"),
        ("step", lambda *r: r[:4], f"step returns 4 values, {OF_STEP}"),
        ("step", lambda *r: None, f"step returns None, {OF_STEP}"),
        ("step", lambda s, r, *e: (s, 1.0, *e), "step returns 1.0 as rewards, expected a dict"),
        (
            "step",
            lambda s, r, *e: (s, r | {"b": "x"}, *e),
            "the reward of agent b is 'x' at step 1, expected a single number or bool",
        ),
        (
            "step",
            lambda s, r, *e: (s, r | {"b": np.ones(2)}, *e),
            r"the reward of agent b is array\(\[1., 1.\]\) at step 1, expected a single n",
        ),
        (
            "step",
            lambda s, r, t, *e: (s, r, t | {"a": np.zeros(2, bool)}, *e),
            r"the termination of agent a is array\(.* at step 1, expected a single number or bool",
        ),
        (
            "step",
            lambda s, r, *e: (s, r | {"b": -1e39}, *e),
            "agent b is paid -1e[+]39 at step 1, expected numbers of float32, which end at 3.4e38",
        ),
        (
            "step",
            lambda s, *e: (s | {"a": np.array([1e39])}, *e),
            "agent a observes 1e[+]39 at step 1, expected numbers of float32, which end at 3.4e38",
        ),
        (
            "step",
            lambda s, *e: (s | {"a": np.array(["x"])}, *e),
            r"agent a observes array\(\['x'\].* at step 1, expected numbers",
        ),
        (
            "step",
            lambda s, *e: (s | {"a": [[1], 2]}, *e),
            r"agent a observes \[\[1\], 2\] at step 1, expected what its space holds, Box",
        ),
    ],
)  # fmt: skip
def test_what_a_call_may_not_return_is_named(call, change, expected):
    with pytest.raises(UserError, match=f"^a game: {expected}"):
        played(call, change)


def test_an_observation_that_its_space_does_not_hold_is_named(monkeypatch):
    seen = {"walk": {"observation": np.zeros(3)}, "cart": np.zeros(2)}
    monkeypatch.setattr(Climb, "_seen", lambda self, agents=(): seen)
    expected = (
        r"agent walk observes {'observation': .* at step 0, .*Dict\(.*KeyError: 'action_mask'"
    )
    with pytest.raises(UserError, match=expected):
        game(Climb())


class Old(gymnasium.Env):
    """Of the time before Gymnasium."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, resets):
        self.resets = resets

    def reset(self, *, seed=None, options=None):
        seen = np.zeros(1, np.float32)
        return (seen, {}) if self.resets else seen

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, {"late": False}


@pytest.mark.parametrize(
    ("resets", "expected"),
    [
        (False, r"reset returns array\(.*\), expected 2: observation, info"),
        (
            True,
            "step returns 4 values, expected 5: observation, reward, terminated, truncated, inf",
        ),
    ],
)
def test_an_old_environment_of_gymnasium_is_told(resets, expected):
    with pytest.raises(UserError, match=expected):
        game(SingleAgent("old", Old(resets)))[0].step(np.zeros(1, np.int32), {})


# --- What cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "Joining": "agent 'b' joins an episode at step 1",
        "Strange": "agent 'c' is none of possible_agents",
        "Endless": "goes on after 3 steps.*horizon",
        "Boundless": "possible_agents is none",
        "Mixed": "some agents have discrete actions and some continuous",
        "Parameterised": r"actions Tuple\(.*\), expected Discrete, MultiDiscrete, MultiB",
        "Unbounded": "expected finite bounds",
        "Immense": "expected finite bounds that are less than 3.4e38 apart",
        "Overflowing": "agent a observes 300 at step 1, expected whole numbers from 0 to 255",
        "Unpaid": "no reward of agent b at step 1, expected one of every agent that has acted",
        "Blind": "agent a observes its action_mask alone, expected an observation beside it",
        "Growing": "which no array of one size can hold",
        "Stateless": r"at step 2 state\(\) raised ArithmeticError: gone \(.*observations",
        "Forbidding": "the action mask of agent a has no legal action at step 0",
        "no_environment": "expected a ParallelEnv: it has no method reset",
        "Nothing": "has no factory 'Nothing'",
    }.items(),
)
def test_what_cannot_be_trained_is_said_at_once(name, expected):
    with pytest.raises(UserError, match=expected) as caught:
        make(f"pettingzoo:host_games:{name}")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("call", ["making", "reset", "step"])
def test_what_an_environment_raises_at_once_is_told_with_its_traceback(call):
    with pytest.raises(UserError) as caught:
        make(task := "pettingzoo:host_games:Early", call=call)
    line, _, path = str(caught.value).partition("; traceback: ")
    made = "making " if call == "making" else ""
    where = r"\(host_games.py, line \d+, in raise_in\)"
    assert re.fullmatch(rf"{made}{task} raised KeyError: 'door' {where}", line)
    assert 'raise KeyError("door")' in Path(path).read_text()
    Path(path).unlink()


@pytest.mark.parametrize(
    ("task", "settings", "expected"),
    [
        ("pettingzoo:no_such_module", {}, "no_such_module"),
        ("pettingzoo:os:system", {}, "Python's own"),
        ("pettingzoo:not/a module", {}, "expected pettingzoo:MODULE with a parallel_env"),
        (CLIMB, {"max_cycle": 3}, "unexpected keyword argument 'max_cycle'"),
        (CLIMB, {"horizon": 0}, "horizon is 0, expected at least 1"),
        (CLIMB, {"team_reward": "sum"}, "team_reward is 'sum', expected one of mean, none"),
        (CLIMB, {"global_state": "none"}, "global_state is 'none', expected one of own, observ"),
        ("gymnasium:CartPol-v1", {}, "CartPol"),
    ],
)
def test_bad_names_and_settings(task, settings, expected):
    with pytest.raises(UserError, match=expected):
        make(task, **settings)


def test_what_was_converted_is_told():
    said = "\n".join(make("pettingzoo:host_games:Robots").notes)
    assert "2 agents: a, b" in said
    assert "Box uint8, read as (1,) uint8, which networks divide by 255" in said
    assert "agents have 1 or 4 dimensions: what one lacks is masked" in said
    assert "the global state is all observations in a row, not a state()" in said
    assert "policies act from -1 to 1" in said


def test_the_check_tells_it_all():
    env = make("gymnasium:CartPole-v1", horizon=2)
    assert env.notes[0] == "1 agent: agent_0"
    assert check_env(env)[: len(env.notes)] == env.notes


def test_the_check_finds_what_happens_later():
    with pytest.raises(UserError, match=r"Failing raised ArithmeticError: thirty is too much"):
        check_env(make("pettingzoo:host_games:Failing"))


def test_the_check_calls_an_environment_by_its_task():
    task = "pettingzoo:host_games:Blurred"
    expected = f"{task} does not keep to .*:\n- step: obs has values that are not finite"
    with pytest.raises(NonconformingEnvironment, match=expected):
        check_env(env := make(task))
    assert to_pettingzoo(env).metadata["name"] == task


def test_an_environment_of_gymnasium_is_a_team_of_one():
    env = make("gymnasium:CartPole-v1")
    spec = env.spec
    assert (spec.num_agents, spec.obs_shape, spec.state_shape) == (1, (4,), (4,))
    assert (spec.action, spec.max_steps, spec.shared_reward) == (marsrl.Discrete(2), 500, True)
    still = gymnasium.make("CartPole-v1")
    with opened(env):
        state, now = env.reset(key := jax.random.key(3))
        seed = int(jax.random.bits(key, (), jnp.uint32) >> 1)
        np.testing.assert_allclose(now.obs[0], still.reset(seed=seed)[0])
        for _ in range(3):
            state, now = env.step(key, state, jnp.ones(1, jnp.int32))
            obs, reward, terminated, truncated, _ = still.step(1)
            np.testing.assert_allclose(now.obs[0], obs)
            assert (now.reward[0], now.terminated, now.truncated) == (reward, terminated, truncated)


# --- Runs -----------------------------------------------------------------------------------------


def config(task=CLIMB, **changes):
    return small_config(
        task=task, total_steps=144, rollout_length=6, num_evaluations=3, eval_episodes=3,
        log_interval=1, core="ff", stagger=True, **changes,
    )  # fmt: skip


def rows(path):
    text = (path / "metrics.jsonl").read_text()
    noise = {"seconds", "steps_per_second", "check"}
    return [{k: v for k, v in json.loads(r).items() if k not in noise} for r in text.splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two seeds that has come to its end."""
    path = tmp_path_factory.mktemp("host") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(crew.VARIABLE, "2")
        train(config(), path)
    return path


def test_a_run_is_repeated_by_other_workers(run, tmp_path, monkeypatch, processes):
    monkeypatch.setenv(crew.VARIABLE, "3")
    train(config(), tmp_path / "again")
    assert rows(tmp_path / "again") == rows(run)
    assert len(processes) == 6  # for training, and for evaluations
    assert all(p.process.returncode == 0 for p in processes)


def test_the_first_replay_gives_the_stored_log_probabilities(run):
    errors = [row["replay_error/max"] for row in rows(run) if row["kind"] == "train"]
    assert len(errors) == 12
    assert max(errors) < 1e-5


@pytest.fixture(scope="module")
def program():
    program = Program(config(), make(CLIMB))
    yield program
    program.close()


def test_a_checkpoint_goes_on_with_fresh_environments(run, tmp_path, program):
    path = shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    saved = CheckpointWriter(path, 3).restore_newest(program.template)[1]
    restored = program.restored(saved)
    for part in ("learner", "keys", "updates", "diverged", "log_size"):
        pair = (_numbers(getattr(state, part)) for state in (saved, restored))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *pair)))
    vector = restored.rollout.vector
    np.testing.assert_array_equal(vector.first, vector.episode_length == 0)
    clock = np.asarray(vector.time_step.global_state)[..., 2] * 4
    np.testing.assert_array_equal(vector.episode_length, clock)


def test_a_seed_that_has_diverged_does_not_disturb_the_others(program):
    """Its environments are moved on and on, though its state stays as it is."""
    finals = []
    for diverged in ([-1, -1], [0, -1]):
        state = program.init()
        placed = jax.device_put(np.int32(diverged), state.diverged.sharding)
        state = program.step(state._replace(diverged=placed), 1)[0]
        finals.append(program.step(state, 1)[0])
    assert finals[1].updates.tolist() == [0, 2]
    healthy, beside = (_numbers(state.learner.weights) for state in finals)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), healthy, beside)


def test_a_run_goes_on_beyond_its_end(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    heard = Listener()
    resume(path, heard, trust=True, total_steps=192)
    expected = "the environments of pettingzoo:host_games:Climb could not be saved"
    assert any(message.startswith(expected) for message in heard.said)
    before, after = ([row for row in rows(p) if row["kind"] == "train"] for p in (run, path))
    assert after[: len(before)] == before
    assert after[-1]["step"] == 192


def _numbers(tree):
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        tree,
    )


def test_the_team_acts_and_is_evaluated(run, capsys):
    Evaluate(run, episodes=4, json=True, trust=True)()
    returns = json.loads(capsys.readouterr().out)["returns"]
    assert len(returns) == 4
    policy = marsrl.load_policy(run, trust=True)
    seen = marsrl.Observation(np.zeros((2, 3), np.float32), np.ones((2, 3), bool))
    _, action = policy.act(policy.initial_carry(), seen, jax.random.key(0))
    assert action.shape == (2,)
    render(policy, run / "episode.gif")
    with Image.open(run / "episode.gif") as picture:
        assert picture.size == (8, 6)


def test_what_is_recorded_of_an_exported_team_are_whole_episodes_of_each_environment(processes):
    policy = untrained_policy(make(COUNTING), small_config(core="ff"))
    recorded = record(policy, 30 * BATCH)
    assert recorded.source.startswith("played")
    (step, *episode), first = np.moveaxis(recorded.seen.obs[:, :, 0], -1, 0), recorded.seen.first
    np.testing.assert_array_equal(step == 0, first)
    assert (first.sum(0) > 1).all()
    goes_on = ~first[1:]
    np.testing.assert_array_equal(step[1:][goes_on], step[:-1][goes_on] + 1)
    assert all((of[1:] == of[:-1])[goes_on].all() for of in episode)
    np.testing.assert_array_equal(step[:-1][~goes_on] + 1, episode[0][:-1][~goes_on])
    assert processes
    assert all(p.process.returncode == 0 for p in processes)


def test_a_fault_while_a_team_is_recorded_is_told():
    policy = untrained_policy(make("pettingzoo:host_games:Failing"), small_config(core="ff"))
    assert "thirty is too much" in record(policy, 40 * BATCH).source


def test_an_environment_that_cannot_draw_is_not_rendered():
    with pytest.raises(UserError, match=r"Simple cannot be rendered.*render_mode='rgb_array'"):
        filmed(make("pettingzoo:host_games:Simple"))


def test_a_fault_ends_the_run_with_one_line(tmp_path, processes):
    path = tmp_path / "run"
    task = "pettingzoo:host_games:Failing"
    expected = rf"{task} raised ArithmeticError: thirty is too much \(host_games.py, line \d+"
    with pytest.raises(UserError, match=expected) as caught:
        train(config(task), path)
    message = str(caught.value)
    assert "\n" not in message
    assert json.loads((path / "status.json").read_text())["status"] == "stopped"
    assert processes
    assert all(p.process.poll() is not None for p in processes)
    traceback = Path(message.partition("traceback: ")[2])
    assert 'raise ArithmeticError("thirty is too much")' in traceback.read_text()
    traceback.unlink()


def test_a_process_that_dies_is_named():
    env = make("pettingzoo:host_games:Exiting")
    playing = crew.Crew(env.source, env.layout, 3)
    playing.reset(np.arange(3))
    step = partial(playing.step, np.ones(3, bool), np.zeros((3, 2), np.int32))
    for _ in range(29):
        step()
    with pytest.raises(UserError, match=r"host_games:Exiting: its process ended with exit code 7"):
        step()
    playing.close()


def test_other_devices_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"devices = 2.*expected devices = 1"):
        train(config(devices=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


KILLED = """
import os, signal
import numpy as np
from marsrl.envs.host.crew import Crew
from marsrl.envs.host.layout import read_layout
from marsrl.envs.host.source import Source
source = Source("pettingzoo", "host_games:Climb")
crew = Crew(source, read_layout("climb", source.open(), None, True), 4)
crew.reset(np.arange(4))
print(*(p.process.pid for p in crew._processes), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_one_that_is_killed():
    path = os.pathsep.join(sys.path)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    workers = [int(pid) for pid in killed.stdout.split()]
    assert len(workers) == 2
    end = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"  # which nobody has collected yet


@pytest.mark.parametrize("asked", ["0", "many", "-1"])
def test_a_wrong_number_of_workers(monkeypatch, asked):
    monkeypatch.setenv(crew.VARIABLE, asked)
    with pytest.raises(UserError, match=crew.VARIABLE):
        crew.num_workers()


def test_as_many_workers_as_a_container_can_keep_busy(monkeypatch):
    monkeypatch.delenv(crew.VARIABLE, raising=False)
    monkeypatch.setattr(system, "core_ids", lambda: list(range(64)))
    monkeypatch.setattr(system, "cpu_quota", lambda: 1.5)
    assert crew.num_workers() == 2
