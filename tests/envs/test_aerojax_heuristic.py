"""The scripted teams of AeroJAX: their order, and that they act on what they may know alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.envs.aerojax import SCENARIOS, aerojax
from marsrl.envs.aerojax.guidance import Pose, hold_height, stay_inside, steer
from marsrl.envs.aerojax.heuristic import Heuristic, Loiter
from marsrl.learner.evaluate import play, play_policy, random_policy

EPISODES = 12
"""Of each team."""


def tournament(env):
    """Plays the same number of episodes of each team: (3, EPISODES) statistics."""

    @jax.jit
    def run(keys):
        return (
            play(env, random_policy(env.spec), (), keys),
            play_policy(env, Loiter(env), keys),
            play_policy(env, Heuristic(env), keys),
        )

    keys = jax.random.split(jax.random.key(0), EPISODES)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *run(keys))


@pytest.mark.parametrize("task", SCENARIOS)
def test_random_then_loiter_then_heuristic(task):
    stats = tournament(aerojax(task))
    assert stats.ended.all()
    random, loiter, heuristic = stats.episode_return.mean(-1)
    assert random < 0
    assert random + 1 < loiter
    assert loiter + 1.5 < heuristic
    lost = stats.metrics["lost"]
    assert lost[0].mean() > 1
    assert lost[1].sum() == 0
    assert lost[2].mean() <= 0.25
    assert stats.metrics["captures"][2].mean() > 1.5


@pytest.fixture(scope="module")
def team():
    env = aerojax("track-3ag")
    policy = Heuristic(env)
    _, now = jax.jit(env.reset)(jax.random.key(1))
    return policy, now


def test_every_aircraft_acts_on_its_own_observation(team):
    policy, now = team
    key, carry = jax.random.key(0), policy.initial_carry()
    memory, action = policy.act(carry, now, key)
    strange = now._replace(obs=now.obs.at[1:].set(now.obs[1:] * -0.9 + 0.05))
    other_memory, other = policy.act(carry, strange, key)
    assert action[0] == other[0]
    for mine, same in zip(memory, other_memory, strict=True):
        np.testing.assert_array_equal(mine[0], same[0])
    assert (memory.place[1:] != other_memory.place[1:]).any()
    hidden = now._replace(global_state=now.global_state * 0, reward=now.reward + 1)
    np.testing.assert_array_equal(policy.act(carry, hidden, key)[1], action)


def test_memory_begins_anew_with_an_episode(team):
    policy, now = team
    key, carry = jax.random.key(0), policy.initial_carry()
    stale = jax.tree.map(lambda leaf: jnp.full_like(leaf, 7.0), carry)
    jax.tree.map(
        np.testing.assert_array_equal, policy.act(stale, now, key), policy.act(carry, now, key)
    )
    later = now._replace(obs=now.obs.at[:, 8].set(0.5))
    assert (policy.act(stale, later, key)[0].slot == 7).all()


def test_a_target_is_remembered_for_a_while(team):
    policy, now = team
    key = jax.random.key(0)
    blank = now.obs.at[:, 9:].set(0.0).at[:, :9].set(jnp.array([0, 0, 0, 0, 1, 0, 0, 0, 0.5]))
    left = blank.at[0, 21:27].set(jnp.array([1, 0.0, 0.75, 0, 0, 0]))  # 300 m to the left
    memory, seen = policy.act(policy.initial_carry(), now._replace(obs=left), key)
    np.testing.assert_allclose(memory.place[0, 0], [0, 300], atol=1e-3)
    assert seen[0] // 3 == 2  # a turn to the left
    actions = []
    for _ in range(14):
        memory, action = policy.act(memory, now._replace(obs=blank), key)
        actions.append(int(action[0]))
    unknown = policy.act(policy.initial_carry(), now._replace(obs=blank), key)[1][0]
    assert unknown // 3 != 2
    assert [a // 3 for a in actions[:12]] == [2] * 12
    assert actions[-1] == unknown


def test_continuous_commands_and_the_mask_of_disabled_aircraft(team):
    policy, now = team
    key, carry = jax.random.key(0), policy.initial_carry()
    now = now._replace(agent_mask=jnp.array([True, False, True]))
    _, action = policy.act(carry, now, key)
    assert action[1] == 4
    real = Heuristic(aerojax("track-3ag", continuous=True))
    command = np.asarray(real.act(carry, now, key)[1])
    assert (command.shape, command.dtype) == ((3, 2), np.float32)
    assert (np.abs(command) <= 1).all()
    rounded = 3 * np.round(command[:, 0]) + np.round(command[:, 1]) + 4
    np.testing.assert_array_equal(rounded[[0, 2]], action[jnp.array([0, 2])])


# --- the autopilot --------------------------------------------------------------------------------


def pose(x=0.0, y=0.0, degrees=0.0, height=150.0, bank=0.0, climb=0.0):
    ahead = jnp.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    numbers = (jnp.float32(value) for value in (height, 20.0, bank, climb))
    height, speed, bank, climb = numbers
    return Pose(jnp.array([x, y]), height, speed, ahead, bank, climb)


@pytest.mark.parametrize(
    ("goal", "orbit", "bank"),
    [
        ((300, 0), False, 0),
        ((300, 300), False, 1),
        ((300, -300), False, -1),
        ((-300, 1), False, 1),
        # Circling at 55.9 m: there fly on, inside open the turn, ahead aim beside the goal.
        ((0, 55.8), True, 0),
        ((0, 30), True, -1),
        ((0, 200), True, 1),
        ((100, 1), True, -1),
    ],
)
def test_steering(goal, orbit, bank):
    command = steer(pose(), jnp.array(goal, jnp.float32), jnp.array(orbit))
    assert float(command) == pytest.approx(bank, abs=0.02)


def test_the_edge_is_avoided_in_time():
    for x, degrees, wanted, expected in (
        (0, 0, 0.3, 0.3),  # far from the edge the command passes
        (430, 10, -0.5, 1.0),  # head on: away to the side to which it points already
        (430, -10, 0.5, -1.0),
        (430, 180, 0.5, 0.5),  # on the way back
    ):
        command = stay_inside(pose(x=x, degrees=degrees), jnp.float32(wanted), 500.0)
        assert float(command) == pytest.approx(expected)


def test_heights_are_held():
    for height, climb, expected in ((100, 0, 1), (200, 0, -1), (150, 0, 0), (149, 0.2, 0)):
        command = hold_height(pose(height=height, climb=climb), jnp.float32(150))
        assert float(command) == pytest.approx(expected, abs=0.05)
