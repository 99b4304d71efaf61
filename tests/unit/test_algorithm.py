"""The algorithm as a user calls it, and what follows from its settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from environments import NEVER, Scripted, prepare, random_weights, small_config
from marsrl.learner.algorithm import make_algorithm
from marsrl.learner.losses import statistics
from marsrl.learner.metrics import merged
from marsrl.learner.moments import Moments, merge
from marsrl.learner.networks import make_networks
from marsrl.learner.program import Program
from marsrl.learner.update import to_sequences
from marsrl.types import Box


@pytest.fixture(scope="module")
def algorithm():
    config = small_config(core="ff", total_steps=4 * 48, ent_coef_end=0.0, anneal_lr=True)
    return make_algorithm(config, Scripted())


def test_it_crosses_jit_vmap_and_scan(algorithm):
    keys = jax.random.split(jax.random.key(0), 3)
    start = jax.jit(jax.vmap(algorithm.init))(keys)

    @jax.jit
    def train(state):
        return jax.lax.scan(lambda state, _: jax.vmap(algorithm.step)(state), state, length=2)

    state, metrics = train(start)
    assert state.updates.tolist() == [2, 2, 2]
    assert metrics["entropy"].total.shape == (2, 3)
    # seed by seed, update by update: the same up to the order of additions
    alone = jax.jit(algorithm.init)(keys[1])
    step = jax.jit(algorithm.step)
    alone, _ = step(step(alone)[0])
    ours = jax.tree.map(lambda x: x[1], state.learner.weights)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), ours, alone.learner.weights
    )
    scores = jax.jit(jax.vmap(algorithm.evaluate, (0, None)))(state.learner.weights.actor, keys)
    assert scores.ended.all()
    assert scores.episode_return.shape == (3, 3)


def test_a_part_that_is_replaced_is_what_trains(algorithm):
    parts = {
        "hyperparameters": algorithm.hyperparameters._replace(gamma=0.5),
        "returns": dataclasses.replace(algorithm.returns, reward_scale=3.0),
        "losses": dataclasses.replace(algorithm.losses, huber_delta=0.01),
    }
    start = jax.jit(algorithm.init)(jax.random.key(0))

    def critic(made):
        after, _ = jax.jit(made.step)(start)
        return ravel_pytree(after.learner.weights.critic.params)[0]

    others = [critic(dataclasses.replace(algorithm, **{name: x})) for name, x in parts.items()]
    for other in others:
        assert abs(other - critic(algorithm)).max() > 1e-5


def test_schedules_run_from_start_to_end(algorithm):
    scheduled = algorithm.hyperparameters.scheduled
    values = [scheduled(jnp.int32(update), 0.0) for update in (0, 1, 4)]
    np.testing.assert_allclose([v.actor_lr for v in values], [2e-3, 1.5e-3, 0], atol=1e-9)
    np.testing.assert_allclose([v.ent_coef for v in values], [3e-3, 2.25e-3, 0], atol=1e-9)


@pytest.mark.parametrize("name", ["mars", "mappo", "mars-log"])
def test_the_trust_region_may_change_its_size(name):
    config = small_config(objective=name, eps=0.4, eps_end=0.1, total_steps=2 * 48)
    made = make_algorithm(config, Scripted())
    u, advantage = jnp.array([-0.7, 0.2, 0.5]), jnp.array([-1.0, 2.0, 1.0])

    @jax.jit
    def value(updates):
        schedule = made.hyperparameters.scheduled(updates, 0.0)
        return made.objective.within(schedule.eps_low, schedule.eps_high)(u, advantage)

    for updates, eps in ((0, 0.4), (1, 0.25), (2, 0.1)):
        expected = dataclasses.replace(config, eps=eps, eps_end=None).make_objective()
        np.testing.assert_allclose(value(updates), expected(u, advantage), rtol=1e-4)


def test_moments_are_of_what_live_agents_saw():
    config = small_config(core="ff", actor_norm="running", critic_norm="running")
    made = make_algorithm(config, Scripted(death=(2, NEVER)))
    start = jax.jit(made.init)(jax.random.key(3))
    before, now = start.learner.weights.actor.inputs, start.rollout.vector.time_step
    np.testing.assert_allclose(before.mean, now.obs.reshape((-1, 3)).mean(0), atol=1e-6)
    after = jax.jit(made.step)(start)[0].learner.weights
    _, experience, _ = jax.jit(
        lambda state: (
            prepare(config, Scripted(death=(2, NEVER)))
            ._replace(algorithm=made, learner=start.learner)
            .play(state)
        )
    )(start.rollout)
    steps = experience.steps.transition
    seen = np.concatenate([now.obs.reshape((-1, 3)), steps.obs[np.asarray(steps.agent_mask)]])
    assert not steps.agent_mask.all()
    np.testing.assert_allclose(after.actor.inputs.number, len(seen))
    np.testing.assert_allclose(after.actor.inputs.mean, seen.mean(0), atol=1e-5)
    np.testing.assert_allclose(after.actor.inputs.variance, seen.var(0), atol=1e-5)
    assert (after.critic.inputs.number == 4 + 48).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shared_reward": False},
        {"critic": "obs"},
        {"critic": "obs", "share": False},
        {"critic": "obs", "share": "groups"},
    ],
    ids=str,
)
def test_new_moments_of_the_targets_leave_the_values_as_they_are(settings):
    env = Scripted(num_agents=3, groups=("a", "b", "a"))
    spec = dataclasses.replace(env, shared_reward=settings.get("shared_reward", True)).spec
    view, share = settings.get("critic", "state"), settings.get("share", True)
    networks = make_networks(spec, 8, "ff", view, share, value_norm=True)
    critic = random_weights(networks).critic
    rng = np.random.default_rng(0)
    obs, state = rng.normal(size=(2, 1, 1, 4, 3, 3)).astype(np.float32)[..., 0, :, :, :][:, 0]
    inputs = (), obs[None], state[None, :, 0], jnp.zeros((1, 4), bool)
    target = 50 * rng.normal(size=(6, 5, networks.num_values)).astype(np.float32) - 20
    streams = networks.target_streams(jnp.asarray(target))
    assert isinstance(critic.outputs, Moments)
    outputs = merge(critic.outputs, streams, jnp.ones_like(streams, bool))
    value = networks.value(critic, *inputs)[1]
    changed = networks.with_outputs(critic, outputs)
    np.testing.assert_allclose(networks.value(changed, *inputs)[1], value, rtol=1e-3, atol=1e-3)
    assert np.abs(changed.outputs.mean - critic.outputs.mean).max() > 1


def test_each_agents_advantage_by_its_own_deviation():
    env = Scripted(shared_reward=False)
    made = make_algorithm(small_config(core="ff", advantage_per_agent=True), env)
    _, experience, _ = jax.jit(prepare(small_config(core="ff"), env).play)(
        prepare(small_config(core="ff"), env).rollout
    )
    batch = to_sequences(experience, 12)
    large = batch.steps._replace(advantage=batch.steps.advantage * jnp.array([1.0, 100.0]))
    stats = statistics(made.networks, made.losses, batch._replace(steps=large))
    np.testing.assert_allclose(
        stats.advantage_std, np.asarray(large.advantage).std((0, 1)), rtol=1e-4
    )
    assert stats.advantage_std[1] > 20 * stats.advantage_std[0]


def test_the_spread_of_a_policy_is_each_agents_own_and_bounded():
    env = Scripted(Box(2))
    networks = make_networks(env.spec, 8, "ff")
    params = random_weights(networks).actor
    log_std = params.params["params"]["log_std"]
    assert log_std.shape == (2, 2)
    far = params._replace(params={"params": params.params["params"] | {"log_std": 1e3 * log_std}})
    now = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 1))[1]
    _, dist = networks.act_once(far, (), now, jnp.ones(1, bool))
    assert set(np.round(np.unique(dist.log_std), 3)) == {-5.0, 2.0}


@pytest.mark.parametrize("state_std", [False, True])
def test_the_spread_depends_on_what_is_seen_only_if_that_is_asked_for(state_std):
    env = Scripted(Box(2))
    networks = make_networks(env.spec, 8, "ff", state_std=state_std)
    seen = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 5))[1]
    _, dist = networks.act_once(random_weights(networks).actor, (), seen, jnp.ones(5, bool))
    log_std = jnp.broadcast_to(dist.log_std, (5, 2, 2))
    assert (log_std.std(0) > 1e-3).all() == state_std
    assert state_std or (log_std == log_std[0]).all()


# --- Episodes without a known end -----------------------------------------------------------------


def test_evaluation_ends_when_all_episodes_have():
    env = Scripted(max_steps=10**9, terminates_at=3, truncates_at=5)  # or this would last for days
    made = make_algorithm(small_config(core="ff", stagger=True), env)
    state = jax.jit(made.init)(jax.random.key(0))
    stats = jax.jit(made.evaluate)(
        state.learner.weights.actor, jax.random.split(jax.random.key(1), 8)
    )
    assert stats.ended.all()
    assert set(stats.length.tolist()) == {3, 5}
    # and so does the way to a random point of an episode
    clock = np.asarray(state.rollout.vector.env.t)
    assert (clock < 5).all()


def test_an_endless_episode_counts_as_it_stands_at_a_stated_step():
    env = Scripted(max_steps=10**9, terminates_at=10**9)
    made = make_algorithm(small_config(core="ff"), env)
    actor = random_weights(made.networks).actor
    keys = jax.random.split(jax.random.key(1), 4)
    stats = jax.jit(lambda keys: made.evaluate(actor, keys, longest=7))(keys)
    assert not stats.ended.any()
    assert stats.length.tolist() == [7] * 4


def test_evaluations_play_other_episodes_than_training_and_than_other_seeds():
    config = small_config(core="ff", seeds=(5, 6), eval_seed=5, eval_episodes=4)
    program = Program(config, Scripted())
    state = program.init()
    weights = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), state.learner.weights.actor)
    first, again, other = (program.evaluate(weights, batch) for batch in (0, 0, 1))
    np.testing.assert_array_equal(first.episode_return, again.episode_return)
    returns = [*np.ravel(first.episode_return), *np.ravel(other.episode_return)]
    assert len(np.unique(np.round(returns, 5))) == len(returns)


def test_several_updates_in_one_call_are_those_one_by_one():
    config = small_config(core="ff", seeds=(1, 2), log_interval=3)
    program = Program(config, Scripted())
    together, metrics = program.step(program.init(), 3)
    state, curve = program.init(), []
    for _ in range(3):
        state, one = program.step(state)
        curve.append(jax.tree.map(lambda x: np.asarray(x)[:, :1], one))
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(x, y),
        together.learner.weights,
        state.learner.weights,
    )
    one_by_one = merged(jax.tree.map(lambda *x: np.concatenate(x, axis=1), *curve))
    for name, value in merged(jax.tree.map(np.asarray, metrics)).items():
        np.testing.assert_array_equal(value, one_by_one[name])
