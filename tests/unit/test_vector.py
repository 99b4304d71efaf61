import re
from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Scripted
from marsrl.envs.vector import VectorEnv, split_each

T = 14


@cache
def play(env, num_envs, pool_size):
    """The starting state, fresh starts (E, T), and what each of T steps returned, (T, E, ...)."""
    vector = VectorEnv(env)
    action = jnp.zeros((num_envs, env.num_agents), jnp.int32)

    @jax.jit
    def run(key):
        reset_key, pool_key, key = split_each(key, 3)

        def step(playing, _):
            state, pool = playing
            state, outcome, episodes, pool = vector.step(key, state, action, pool)
            return (state, pool), (state, outcome, episodes)

        def fresh(key):  # as the pool promises: the k-th start follows from the key and k
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(T))
            return jax.vmap(env.reset)(keys)

        playing = vector.reset(reset_key), vector.empty_pool(pool_key, pool_size)
        played = jax.lax.scan(step, playing, length=T)[1]
        return playing[0], jax.vmap(fresh)(pool_key), played

    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(3), num_envs)))


@pytest.fixture(
    scope="module",
    params=[(3, 2, 14), (3, 2, 1), (1, 1, 2)],
    ids=["large-pool", "small-pool", "one-env-one-agent"],
)
def game(request):
    num_envs, num_agents, pool_size = request.param
    env = Scripted(num_agents=num_agents, shared_reward=False)
    return env, *play(env, num_envs, pool_size)


def replay(env, start, pool):
    """The same game, environment by environment in plain Python: yields rows (E,) of facts."""
    starts = start.env.start.tolist()
    clock, total, taken = [0] * len(starts), [0.0] * len(starts), [0] * len(starts)
    for _ in range(T):
        rows = []
        for e in range(len(starts)):
            played, clock[e] = starts[e], clock[e] + 1
            total[e] += np.cos(5 * played + clock[e] + np.arange(env.num_agents)).mean()
            terminated = played < 0.5 and clock[e] == env.terminates_at
            truncated = clock[e] == env.max_steps
            rows.append((played, clock[e], terminated, truncated, total[e]))
            if terminated or truncated:
                starts[e] = pool[0].start[e, taken[e] % pool[0].start.shape[1]]
                clock[e], total[e], taken[e] = 0, 0.0, taken[e] + 1
        yield np.array(rows).T, np.array(starts), np.array(clock)


def test_steps_are_those_of_independent_episodes(game):
    env, start, pool, (state, outcome, episodes) = game
    assert outcome.terminated.any()
    assert outcome.truncated.any()
    for t, (played, next_start, next_clock) in enumerate(replay(env, start, pool)):
        episode, clock, terminated, truncated, total = played
        done = (terminated + truncated) > 0
        # the true final observation, not that of the fresh start
        np.testing.assert_allclose(outcome.global_state[t, :, 0], episode)
        np.testing.assert_array_equal(outcome.global_state[t, :, 1], clock)
        np.testing.assert_array_equal(outcome.terminated[t], terminated)
        np.testing.assert_array_equal(outcome.truncated[t], truncated)
        # episode accounting
        np.testing.assert_array_equal(episodes.ended[t], done)
        np.testing.assert_allclose(episodes.episode_return[t], total, atol=1e-5)
        np.testing.assert_array_equal(episodes.length[t], clock)
        np.testing.assert_array_equal(episodes.metrics["won"][t], terminated)
        # fresh starts from its own pool in order, where an episode ended and nowhere else
        np.testing.assert_array_equal(state.first[t], done)
        np.testing.assert_allclose(state.env.start[t], next_start)
        np.testing.assert_array_equal(state.env.t[t], next_clock)
        np.testing.assert_array_equal(state.time_step.global_state[t, :, 0], state.env.start[t])
        np.testing.assert_array_equal(state.time_step.global_state[t, :, 1], state.env.t[t])
        np.testing.assert_array_equal(state.episode_length[t], next_clock)
        assert (state.episode_return[t][done] == 0).all()


def test_observations_belong_to_the_state_that_agents_are_in(game):
    env, _, _, (state, outcome, _) = game
    shown = jax.jit(jax.vmap(jax.vmap(env.at)))(state.env)
    np.testing.assert_allclose(state.time_step.obs, shown.obs, atol=1e-5)
    np.testing.assert_array_equal(state.time_step.action_mask, shown.action_mask)
    ended = outcome.done
    assert np.abs(outcome.obs - state.time_step.obs)[ended].max() > 0.1
    np.testing.assert_array_equal(outcome.obs[~ended], state.time_step.obs[~ended])


@pytest.mark.parametrize("pool_size", [1, 14])
def test_no_start_is_used_twice(pool_size):
    _, pool, (state, _, _) = play(Scripted(shared_reward=False), 3, pool_size)
    begun = state.env.start[state.first]
    assert len(begun) > 6
    assert len(np.unique(begun)) == len(begun)
    assert np.isin(begun, pool[0].start).all()


def test_a_pool_holds_keys_of_the_kind_that_the_state_has():
    env = Scripted()
    odd = SimpleNamespace(
        spec=env.spec, reset=lambda key: (jax.random.key(3, impl="rbg"), env.reset(key)[1])
    )
    pool = VectorEnv(odd).empty_pool(jax.random.split(jax.random.key(0), 3), 2)
    assert str(pool.starts[0].dtype) == "key<rbg>"
    assert pool.starts[0].shape == (3, 2)


@pytest.mark.parametrize("seeds", [1, 2])
def test_starts_are_not_drawn_at_every_step(seeds):
    env, scope = Scripted(), jax.named_scope("drawing")
    vector = VectorEnv(SimpleNamespace(spec=env.spec, step=env.step, reset=scope(env.reset)))
    key = jax.vmap(jax.random.split, (0, None))(jax.random.split(jax.random.key(3), seeds), 3)

    def run(state, pool, key):
        def step(playing, _):
            state, pool = playing
            state, _, _, pool = vector.step(key, state, jnp.zeros((3, 2), jnp.int32), pool)
            return (state, pool), None

        return jax.lax.scan(step, (state, pool), length=T)[0]

    args = (
        jax.vmap(vector.reset)(key),
        jax.vmap(lambda key: vector.empty_pool(key, 2))(key),
        key,
    )
    program = jax.jit(jax.vmap(run)).lower(*args).compile().as_text()
    # XLA moves out of the inner loop, and into each step, what no turn of it changes
    bodies = dict(re.findall(r"%(\S+) \(.*\{\n((?: .*\n)*)\}", program))
    (steps,) = re.findall(rf'body=%(\S+),.*"known_trip_count":{{"n":"{T}"}}', program)
    drawing = {name for name, body in bodies.items() if re.search(r"fusion\(.*drawing", body)}
    assert drawing
    assert steps not in drawing


def test_a_reset_starts_different_episodes():
    start, _, _ = play(Scripted(shared_reward=False), 3, 14)
    assert len(np.unique(start.env.start)) == 3
    assert start.first.all()
    np.testing.assert_array_equal(start.episode_length, 0)
    np.testing.assert_array_equal(start.time_step.reward, 0.0)


@pytest.fixture(scope="module")
def staggered():
    env, num_envs = Scripted(max_steps=6, terminates_at=4), 64
    vector = VectorEnv(env)

    @jax.jit
    def run(key):
        reset_key, key = split_each(key, 2)
        return vector.stagger(key, vector.reset(reset_key), 2)

    state = run(jax.random.split(jax.random.key(0), num_envs))
    return env, state, jax.vmap(env.at)(state.env)


def test_stagger_mixes_the_phases_below_the_horizon(staggered):
    env, state, _ = staggered
    never_ended = np.asarray(state.env.t)[np.asarray(state.env.start) >= 0.5]
    assert set(never_ended) == set(range(env.max_steps))
    assert not state.time_step.done.any()


def test_stagger_leaves_consistent_states(staggered):
    env, state, shown = staggered
    np.testing.assert_array_equal(state.episode_length, state.env.t)
    np.testing.assert_array_equal(state.first, state.env.t == 0)
    # random steps are no episode of the learner's
    np.testing.assert_array_equal(state.counted, state.env.t == 0)
    np.testing.assert_allclose(state.time_step.obs, shown.obs, atol=1e-5)
    steps = np.arange(1, env.max_steps)
    for start, t, total in zip(state.env.start, state.env.t, state.episode_return, strict=True):
        expected = np.cos(5 * start + steps[: int(t)]).sum()
        np.testing.assert_allclose(total, expected, atol=1e-5)
