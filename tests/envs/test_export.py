"""Our environments behind JaxMARL's and PettingZoo's interfaces, judged by their own tools."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import NEVER, Furnished, Scripted
from marsrl.distributions import random_action
from marsrl.envs.aerojax import aerojax
from marsrl.envs.export import to_jaxmarl, to_pettingzoo
from marsrl.envs.flat import flat
from marsrl.envs.paxmen import PaxMen
from marsrl.envs.vector import select
from marsrl.errors import UserError
from marsrl.extras import require
from marsrl.types import Box, Discrete, MultiDiscrete

DYING = Scripted(num_agents=3, death=(2, NEVER, 1))
TERMINATES, TRUNCATES = 0, 2  # seeds of starts below and above 0.5, see `start_of`


@dataclass(frozen=True)
class Recording(Scripted):
    """Its global state is the team's last action."""

    def step(self, key, state, action):
        state, time_step = super().step(key, state, action)
        return state, time_step._replace(global_state=action.ravel()[:3].astype(jnp.float32))


# --- JaxMARL --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baselines():
    return require("jaxmarl.wrappers.baselines", "jaxmarl")


def side_by_side(ours, wrapped, num_steps):
    """Random play of both, with JaxMARL's restarts; every step, as NumPy arrays."""

    @jax.jit
    def play(key):
        key, reset_key = jax.random.split(key)

        def step(carry, key):
            theirs, state, time_step = carry
            key, action_key = jax.random.split(key)
            action = random_action(action_key, ours.spec.action, time_step.action_mask)
            actions = dict(zip(wrapped.agents, action, strict=True))
            obs, theirs, rewards, dones, infos = wrapped.step(key, theirs, actions)
            step_key, again_key = jax.random.split(key)  # as JaxMARL's `step` does
            state, outcome = ours.step(step_key, state, action)
            fresh = ours.reset(again_key)
            state, time_step = select(outcome.done, fresh, (state, outcome))
            masks = wrapped.get_avail_actions(getattr(theirs, "env_state", theirs))
            seen = (obs, masks, rewards, dones, infos, outcome, time_step)
            return (theirs, state, time_step), seen

        _, theirs = wrapped.reset(reset_key)
        return jax.lax.scan(
            step, (theirs, *ours.reset(reset_key)), jax.random.split(key, num_steps)
        )[1]

    return jax.device_get(play(jax.random.key(0)))


def assert_same(env, obs, masks, rewards, dones, outcome, time_step):
    for i, agent in enumerate(env.agents):
        # compiled as parts of different operations, these may round differently
        np.testing.assert_allclose(rewards[agent], outcome.reward[:, i], atol=1e-6)
        np.testing.assert_allclose(obs[agent], time_step.obs[:, i], atol=1e-6)
        np.testing.assert_array_equal(masks[agent], time_step.action_mask[:, i])
        np.testing.assert_array_equal(dones[agent], outcome.done | ~outcome.agent_mask[:, i])
    np.testing.assert_allclose(obs["world_state"], time_step.global_state, atol=1e-6)
    np.testing.assert_array_equal(dones["__all__"], outcome.done)


def test_random_play_under_the_log_wrapper_equals_ours(baselines):
    wrapped = baselines.LogWrapper(to_jaxmarl(PaxMen(4)))
    # past the horizon of 100
    obs, masks, rewards, dones, infos, outcome, time_step = side_by_side(PaxMen(4), wrapped, 105)
    assert_same(wrapped, obs, masks, rewards, dones, outcome, time_step)
    assert np.flatnonzero(dones["__all__"]).tolist() == [99]
    assert all(dones[agent][99] for agent in wrapped.agents)
    assert infos["truncated"][99].tolist() == [True] * 4
    total = outcome.reward[:100].sum(0)
    assert total[0] < 0
    np.testing.assert_allclose(infos["returned_episode_returns"][99], total, rtol=1e-5)
    assert infos["returned_episode_lengths"][99].tolist() == [100] * 4


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
def test_random_play_with_deaths_and_several_episodes_equals_ours(continuous):
    ours = aerojax("track-3ag", continuous=continuous, half_side=200, max_steps=60)
    env = to_jaxmarl(ours)
    obs, masks, rewards, dones, infos, outcome, time_step = side_by_side(ours, env, 150)
    assert_same(env, obs, masks, rewards, dones, outcome, time_step)
    assert dones["__all__"].sum() >= 2
    assert outcome.terminated.any()
    dead = ~outcome.agent_mask & ~outcome.done[:, None]
    assert dead.any()  # and the others play on
    if not continuous:
        legal = np.stack([masks[agent] for agent in env.agents], 1)[dead]
        assert (legal == (np.arange(9) == 4)).all()
    np.testing.assert_array_equal(infos["lost"][:, 0], outcome.metrics["lost"])
    np.testing.assert_array_equal(infos["truncated"][:, 0], outcome.truncated)


def test_exporting_needs_no_brax():
    # in a process of its own: JaxMARL remembers what it has missed
    program = """
import sys
sys.modules["brax.envs"] = None
from marsrl.envs.export import to_jaxmarl
from marsrl.envs.paxmen import PaxMen
assert to_jaxmarl(PaxMen(4)).num_agents == 4
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_sizes_and_spaces():
    env = to_jaxmarl(PaxMen(4))
    assert (env.name, env.num_agents, env.state_size) == ("PaxMen", 4, 101)
    assert env.agents == ["agent_0", "agent_1", "agent_2", "agent_3"]
    assert env.agent_classes == {"agent": env.agents}
    assert (env.action_space("agent_3").n, env.observation_space("agent_3").shape) == (5, (25,))
    box = to_jaxmarl(Scripted(action=Box(2, 0.0, 3.0))).action_space("agent_0")
    assert (box.low, box.high, box.shape) == (0.0, 3.0, (2,))


def test_deaths_masks_and_infos_as_the_training_scripts_read_them(baselines):
    wrapped = baselines.LogWrapper(to_jaxmarl(DYING))

    @jax.jit
    def play(keys):
        def step(state, _):
            avail = jax.vmap(wrapped.get_avail_actions)(state.env_state)
            actions = {agent: jnp.zeros(8, jnp.int32) for agent in wrapped.agents}
            _, state, _, dones, infos = jax.vmap(wrapped.step)(keys, state, actions)
            return state, (avail, dones, infos)

        return jax.lax.scan(step, jax.vmap(wrapped.reset)(keys)[1], None, 5)[1]

    avail, dones, infos = jax.device_get(play(jax.random.split(jax.random.PRNGKey(0), 8)))
    # agent 1's illegal action moves on by one each step, from 1 % 3 at the start
    assert avail["agent_1"][:3, 0].tolist() == [[1, 0, 1], [1, 1, 0], [0, 1, 1]]
    ended = dones["__all__"]
    assert set(np.argmax(ended, axis=0)) == {2, 4}  # terminated at 3, truncated at 5
    for i, death in enumerate(DYING.death):
        alive_until = np.minimum(death, np.argmax(ended, axis=0) + 1)
        assert (np.argmax(dones[f"agent_{i}"], axis=0) + 1).tolist() == alive_until.tolist()
    np.testing.assert_array_equal(infos["truncated"][4], ended[4][:, None].repeat(3, 1))
    np.testing.assert_array_equal(infos["won"][2], ended[2][:, None].repeat(3, 1))
    assert {x.shape for x in jax.tree.leaves(infos)} == {(5, 8, 3)}


def test_the_rollout_manager_of_the_q_learning_scripts(baselines):
    manager = baselines.CTRolloutManager(to_jaxmarl(DYING), batch_size=2)
    _, state = manager.batch_reset(jax.random.key(0))
    actions = {agent: jnp.zeros(2, jnp.int32) for agent in manager.agents}
    obs, state, rewards, dones, _ = manager.batch_step(jax.random.key(1), state, actions)
    assert obs["__all__"].shape == (2, 9)
    assert obs["agent_0"].shape == (2, 3 + 3)
    np.testing.assert_allclose(rewards["__all__"], 3 * rewards["agent_0"], rtol=1e-6)
    assert dones["agent_2"].all()  # dead at step 1
    assert not obs["agent_2"].any()


def test_either_kind_of_key_and_a_given_reset_state():
    env = to_jaxmarl(Scripted(terminates_at=1))
    typed, raw = (env.reset(make(3))[1] for make in (jax.random.key, jax.random.PRNGKey))
    assert typed.env == raw.env
    state = typed._replace(env=typed.env._replace(start=jnp.float32(0.2)))
    actions = dict.fromkeys(env.agents, jnp.int32(0))
    obs, state, _, dones, _ = env.step(jax.random.key(0), state, actions, reset_state=typed)
    assert dones["__all__"]
    assert state.env == typed.env
    np.testing.assert_array_equal(obs["world_state"], typed.time_step.global_state)
    assert not state.done


SEVERAL = MultiDiscrete((3, 2))


@pytest.mark.parametrize(
    "action", [Discrete(3), Box(1), Box(2), SEVERAL], ids=["discrete", "one", "two", "choices"]
)
def test_actions_may_have_the_shapes_that_jaxmarls_scripts_give_them(action):
    """Their MAPPO scripts stack a batch of discrete actions as (batch, 1) for each agent."""
    ours = Recording(action=action, num_agents=3)
    env = to_jaxmarl(ours)
    key = jax.random.key(0)
    _, state = env.reset(key)
    legal = random_action(key, action, state.time_step.action_mask)
    _, expected = ours.step(key, state.env, legal)
    for shape in [(1,), (), (1, 1)] if action == Discrete(3) else [action.shape]:
        batch = {a: legal[i].reshape(1, *shape) for i, a in enumerate(env.agents)}
        step = jax.jit(jax.vmap(env.step_env, in_axes=(None, None, 0)))
        obs, after, rewards, *_ = step(key, state, batch)
        np.testing.assert_array_equal(after.time_step.global_state[0], expected.global_state)
        np.testing.assert_array_equal(obs["agent_1"][0], expected.obs[1])
        assert {x.shape for x in rewards.values()} == {(1,)}
        alone = jax.eval_shape(env.step_env, key, state, {a: x[0] for a, x in batch.items()})
        assert jax.tree.map(jnp.shape, alone[1]) == jax.tree.map(jnp.shape, state)


def test_bounds_of_each_dimension():
    low, high = (-1.0, 0.0), (1.0, 5.0)
    env = Scripted(action=Box(2, low, high))
    theirs = to_jaxmarl(env).action_space("agent_0")
    space = to_pettingzoo(env).action_space("agent_0")
    for box in (theirs, space):
        assert (tuple(box.low), tuple(box.high), box.shape) == (low, high, (2,))


def test_dictionaries_are_rows_there_too():
    furnished = Furnished(num_agents=2)
    size = (flat(furnished).spec.obs_shape[0],)
    assert to_jaxmarl(furnished).observation_space("agent_0").shape == size
    assert to_pettingzoo(furnished).observation_space("agent_0").shape == size


@dataclass(frozen=True)
class Typed(Scripted):
    """`Scripted` with observations and a state of another type."""

    dtype: str = "uint8"

    def at(self, clock):
        now = super().at(clock)
        obs, state = ((abs(x) * 100).astype(self.dtype) for x in (now.obs, now.global_state))
        return now._replace(obs=obs, global_state=state)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("bool", 0, 1), ("int32", -(2**31), 2**31 - 1), ("float32", None, None)],
)
def test_spaces_are_of_the_type_that_is_seen(dtype, low, high):
    env, inside = to_pettingzoo(Typed(dtype=dtype)), to_jaxmarl(Typed(dtype=dtype))
    obs, _ = env.reset(seed=0)
    space = env.observation_space("agent_0")
    assert space.contains(obs["agent_0"])
    assert env.state_space.contains(env.state())
    theirs = inside.observation_space("agent_0")
    assert space.dtype == env.state_space.dtype == theirs.dtype == np.dtype(dtype)
    if low is not None:
        assert (space.low.min(), space.high.max()) == (theirs.low, theirs.high) == (low, high)


# --- PettingZoo -----------------------------------------------------------------------------------

ENVIRONMENTS = {
    "paxmen": PaxMen(4),
    "aerojax": aerojax("track-3ag"),
    "dying": DYING,
    "continuous": Scripted(action=Box(2, 0.5, 3.0), num_agents=2, shared_reward=False),
    "choices": Scripted(action=SEVERAL, num_agents=2),
}


@pytest.fixture(scope="module", params=ENVIRONMENTS, ids=ENVIRONMENTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def zoo(name):
    """One exported environment of each kind, compiled once."""
    return to_pettingzoo(ENVIRONMENTS[name])


def test_pettingzoo_api(zoo):
    from pettingzoo.test import parallel_api_test

    parallel_api_test(zoo, num_cycles=110)


def test_pettingzoo_seed(name):
    from pettingzoo.test import parallel_seed_test

    parallel_seed_test(lambda: to_pettingzoo(ENVIRONMENTS[name]), num_cycles=20)


def test_observations_belong_to_their_spaces(zoo):
    obs, infos = zoo.reset(seed=0)
    for agent in zoo.agents:
        assert zoo.observation_space(agent).contains(obs[agent])
        if "action_mask" in infos[agent]:
            action = zoo.action_space(agent).sample(mask=infos[agent]["action_mask"])
            mask = infos[agent]["action_mask"]
            if isinstance(mask, tuple):  # of several choices
                assert all(m[a] for m, a in zip(mask, action, strict=True))
            else:
                assert mask[action]
    assert zoo.state_space.contains(zoo.state())


def start_of(env, seed):
    """Where a scripted episode begins after `reset(seed)`."""
    env.reset(seed=seed)
    return float(env.state()[0])


@pytest.fixture(scope="module")
def dying():
    return to_pettingzoo(DYING)


@pytest.mark.parametrize(("seed", "last"), [(TERMINATES, 3), (TRUNCATES, 5)])
def test_the_dead_leave_and_the_ends_are_told_apart(dying, seed, last):
    start = start_of(dying, seed)
    assert (start < 0.5) == (seed == TERMINATES)
    acted = {1: [0, 1, 2], 2: [0, 1], 3: [1], 4: [1], 5: [1]}
    for t in range(1, last + 1):
        assert dying.agents == [f"agent_{i}" for i in acted[t]]
        actions = dict.fromkeys(dying.agents, 0)
        obs, rewards, terminations, truncations, infos = dying.step(actions)
        for part in (obs, rewards, terminations, truncations, infos):
            assert list(part) == [f"agent_{i}" for i in acted[t]]
        for i in acted[t]:
            agent = f"agent_{i}"
            phase = 5 * start + t + 2 * i
            expected = [np.sin(phase), np.cos(phase), np.sin(3 * phase)]
            np.testing.assert_allclose(obs[agent], expected, atol=1e-5)
            np.testing.assert_allclose(rewards[agent], np.cos(5 * start + t), atol=1e-5)
            died, over = t == DYING.death[i], t == last
            assert terminations[agent] is (died or (over and seed == TERMINATES))
            assert truncations[agent] is (over and seed == TRUNCATES)
            assert infos[agent]["action_mask"].tolist() == [int(x != (t + i) % 3) for x in range(3)]
            assert infos[agent]["won"] == float(over and seed == TERMINATES)
    assert dying.agents == []
    with pytest.raises(UserError, match=r"cannot step Scripted: no agent is left; call reset\(\)"):
        dying.step({})


def test_an_agent_that_left_plays_a_legal_action():
    env = to_pettingzoo(Recording(num_agents=3, death=(1, NEVER, NEVER)))
    env.reset(seed=TRUNCATES)
    env.step({"agent_0": 2, "agent_1": 2, "agent_2": 1})
    assert env.state().tolist() == [2, 2, 1]
    for first_legal in (0, 0, 1):  # of agent 0 at steps 1, 2, 3: illegal is 1, 2, 0
        env.step({"agent_1": 2, "agent_2": 1})
        assert env.state().tolist() == [first_legal, 2, 1]


def test_the_action_nearest_to_zero_where_actions_are_continuous():
    recording = Recording(action=Box(2, 0.5, 3.0), num_agents=2, death=(1, NEVER))
    env = to_pettingzoo(recording)
    env.reset(seed=TRUNCATES)
    for expected in ([1.5, 2.5, 2.0], [0.5, 0.5, 2.0]):
        env.step({"agent_0": np.array([1.5, 2.5]), "agent_1": np.array([2.0, 1.0])})
        assert env.state().tolist() == expected


def test_random_numbers(dying):
    starts = [start_of(dying, seed) for seed in (3, None, None)]
    again = [start_of(dying, seed) for seed in (3, None, None)]
    assert starts == again
    assert len(set(starts)) == 3
    other = to_pettingzoo(DYING, seed=3)
    assert start_of(other, None) == starts[0]


def test_without_a_seed_every_copy_has_random_numbers_of_its_own():
    env = to_pettingzoo(DYING)
    copies = [env, to_pettingzoo(DYING), copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    assert len({start_of(copy, None) for copy in copies}) == 4
    seeded = to_pettingzoo(DYING, seed=3)
    assert start_of(pickle.loads(pickle.dumps(seeded)), None) == start_of(seeded, None)


@pytest.mark.parametrize("env", [PaxMen(4), DYING], ids=["paxmen", "dying"])
def test_a_pickled_environment_goes_on_where_it_was(env):
    original = to_pettingzoo(env)
    original.reset(seed=5)
    for _ in range(2):
        twin = pickle.loads(pickle.dumps(original))
        assert twin.agents == original.agents
        actions = {a: int(np.argmax(info["action_mask"])) for a, info in now(original).items()}
        found, expected = twin.step(actions), original.step(actions)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(np.testing.assert_array_equal, twin.reset(), original.reset())


def now(env):
    return env._infos(env.agents)


NO_DEVICE = """
import multiprocessing
from marsrl.envs.export import to_pettingzoo
from marsrl.envs.paxmen import PaxMen
from environments import Scripted
from jax._src import xla_bridge

def play(env):
    obs, _ = env.reset(seed=1)
    return float(env.state().sum())

envs = [to_pettingzoo(PaxMen(4)), to_pettingzoo(Scripted(num_agents=3))]
assert not xla_bridge.backends_are_initialized()
with multiprocessing.get_context("fork").Pool(1) as pool:
    played = pool.map_async(play, envs, 1).get(timeout=300)
assert played == [play(env) for env in envs], played
"""


def test_no_device_before_the_first_reset_so_that_processes_can_be_forked():
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, *sys.path])
    process = subprocess.run(
        [sys.executable, "-c", NO_DEVICE],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_before_the_first_reset():
    env = to_pettingzoo(DYING)
    with pytest.raises(UserError, match=r"Scripted has not started; call reset\(\)"):
        env.state()
    with pytest.raises(UserError, match=r"cannot step Scripted: no agent is left; call reset"):
        env.step({})


def test_a_missing_action_is_named(dying):
    dying.reset(seed=0)
    with pytest.raises(UserError, match="cannot step Scripted: the actions lack agent_1"):
        dying.step({"agent_0": 0, "agent_2": 0})


def test_pictures(dying):
    env = to_pettingzoo(PaxMen(4))
    env.reset()
    assert env.metadata["render_modes"] == ["rgb_array"]
    assert env.render().shape == (41 * 12 + 24, 41 * 12, 3)
    with pytest.raises(UserError, match="Scripted has no draw method"):
        dying.render()
