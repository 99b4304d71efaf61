"""Probe environments, trained by each of the three objectives at once."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.config import Config
from marsrl.envs.flat import flat
from marsrl.learner.algorithm import make_algorithm
from marsrl.learner.networks import ActorCritic, Networks
from marsrl.objectives import TrustRegion, make_objective
from marsrl.types import Box, MultiDiscrete
from probes.environments import Probe

OBJECTIVES = ("mars", "maspo", "mappo")


def cue(cue, t):
    return cue


def cue_at_first(cue, t):
    return jnp.where(t == 0, cue, 0.0)


def matches(cue, t, action):
    """1 if every agent's action is the cue's sign, else 0."""
    return jnp.all(action == (cue > 0)).astype(jnp.float32)


class Chosen:
    """One of the three objectives, by a traced index, so that one program trains all of them."""

    region = TrustRegion.additive(0.2)

    def __init__(self, which):
        self.which = which

    def within(self, low, high):
        return self  # of one size

    def __call__(self, log_ratio, advantage):
        surrogates = [make_objective(name, 0.2)(log_ratio, advantage) for name in OBJECTIVES]
        return jnp.stack(surrogates)[self.which]


class Trained(NamedTuple):
    networks: Networks
    weights: ActorCritic  # (3, ...), one entry per objective
    score: np.ndarray  # (3,), mean return of 64 evaluation episodes

    def value(self, seen: float, t: int) -> np.ndarray:
        """(3,), what the team critics say of one step."""
        global_state = jnp.array([[[seen, t]]], jnp.float32)
        obs = jnp.zeros((1, 1, self.networks.spec.num_agents, 1))
        args = ((), obs, global_state, jnp.ones((1, 1), bool))
        value = jax.vmap(lambda critic: self.networks.value(critic, *args)[1])
        return np.asarray(value(self.weights.critic)).reshape(3)


def train(env: Probe, updates: int = 40, **changes) -> Trained:
    """Trains with all three objectives."""
    settings = {
        "core": "ff",
        "num_envs": 32,
        "rollout_length": 8,
        "width": 16,
        "num_minibatches": 2,
        "actor_lr": 1e-2,
        "critic_lr": 1e-2,
        "ent_coef": 0.0,
        "max_grad_norm": 5.0,
        "anneal_lr": False,
        "stagger": False,
    }
    algorithm = make_algorithm(Config(**(settings | changes)), env)

    @jax.jit
    @jax.vmap
    def run(which):
        chosen = dataclasses.replace(algorithm, objective=Chosen(which))
        start = chosen.init(jax.random.key(1))
        state, metrics = jax.lax.scan(lambda state, _: chosen.step(state), start, length=updates)
        weights = state.learner.weights
        episodes = chosen.evaluate(weights.actor, jax.random.split(jax.random.key(1), 64))
        return weights, episodes.episode_return.mean(), metrics["replay_error/max"].max()

    weights, score, replay_error = run(jnp.arange(len(OBJECTIVES)))
    assert replay_error.max() < 1e-5
    return Trained(algorithm.networks, weights, np.asarray(score))


def test_constant_reward():
    trained = train(Probe(lambda c, t, a: jnp.ones(())))
    assert trained.value(0, 0) == pytest.approx(1, abs=0.05)


def test_value_depends_on_the_observation():
    trained = train(Probe(lambda c, t, a: c, sees=cue))
    assert trained.value(1, 0) == pytest.approx(1, abs=0.1)
    assert trained.value(-1, 0) == pytest.approx(-1, abs=0.1)


def test_delayed_reward_is_discounted():
    env = Probe(lambda c, t, a: (t == 1).astype(jnp.float32), max_steps=2)
    trained = train(env, gamma=0.5)
    assert trained.value(0, 0) == pytest.approx(0.5, abs=0.1)
    assert trained.value(0, 1) == pytest.approx(1, abs=0.1)


def test_reward_depends_on_the_action():
    score = train(Probe(matches, sees=cue)).score
    assert (score > 0.95).all()


def test_agents_coordinate():
    def same(c, t, action):
        return jnp.where(jnp.all(action == action[0]), 1.0, -1.0)

    score = train(Probe(same, num_agents=3)).score
    assert (score > 0.9).all()


def test_dead_agents_neither_act_nor_disturb():
    # Agent 1 dies after the first step; from then on agent 0 alone decides. Were the dead
    # counted, their constant advantage-weighted samples would dilute the live ones'.
    def reward(c, t, action):
        return jnp.where(t == 0, matches(c, t, action), matches(c, t, action[:1]))

    env = Probe(reward, sees=cue, alive=lambda t, i: (t == 0) | (i == 0), num_agents=2,
                max_steps=3)  # fmt: skip
    score = train(env).score
    assert (score > 2.85).all()


@dataclass(frozen=True)
class Unequal(Probe):
    """Each of two agents is paid for its own match with the cue, the first 100 times as much."""

    @property
    def spec(self):
        return dataclasses.replace(super().spec, shared_reward=False)

    def step(self, key, state, action):
        after, now = super().step(key, state, action)
        return after, now._replace(reward=(action == (state.cue > 0)) * jnp.array([100.0, 1.0]))


@pytest.mark.parametrize("apart", [False, True])
def test_an_agent_learns_beside_one_with_a_hundred_times_its_rewards(apart):
    env = Unequal(matches, sees=cue, num_agents=2)
    trained = train(env, updates=12, advantage_per_agent=apart)
    seen = jnp.ones((1, 1, 2, 1))
    args = (), seen, jnp.ones((1, 1), bool), jnp.ones((1, 1, 2, 2), bool)
    policies = jax.vmap(lambda actor: trained.networks.act(actor, *args)[1])
    right = np.exp(policies(trained.weights.actor).log_prob(jnp.ones((3, 1, 1, 2), int)))
    strong, weak = np.moveaxis(right.reshape((3, 2)), -1, 0)
    assert (strong > 0.9).all()
    assert (weak > 0.9).all() == apart


def test_values_hold_while_nobody_lives():
    # The episode goes on for nine steps after the last agent's death, and pays for each. Were the
    # critic not trained there, its values would be extrapolations that raise those before them, and
    # so themselves: without any reward to -9000 and 9000 after 300 updates.
    dead = Probe(lambda c, t, a: 1.0 * (t >= 3), alive=lambda t, i: t + 0 * i < 3, num_agents=2,
                 max_steps=12)  # fmt: skip
    trained = train(dead, updates=250, rollout_length=24, gamma=0.9)
    for t in (0, 3, 11):
        paid = sum(0.9 ** (k - t) for k in range(max(t, 3), 12))
        assert trained.value(0, t) == pytest.approx(paid, abs=0.5)


def test_continuous_action_reaches_its_target():
    env = Probe(lambda c, t, a: -((a[0, 0] - 0.5 * c) ** 2), sees=cue, action=Box(1))
    score = train(env, updates=100).score
    assert (score > -0.05).all()


def test_several_choices_at_once_are_each_made_right():
    # one joint action of 2 x 3 x 2 pays, another for each cue
    def reward(c, t, action):
        wanted = jnp.where(c > 0, jnp.array([1, 2, 0]), jnp.array([0, 1, 1]))
        return jnp.mean(action == wanted) + jnp.all(action == wanted)

    env = Probe(reward, sees=cue, action=MultiDiscrete((2, 3, 2)), num_agents=2)
    score = train(env, updates=60).score
    assert (score > 1.8).all()


def test_time_limit_is_bootstrapped():
    # Reward 1 for ever, cut by a clock that the critic does not see: 1 / (1 - gamma) = 5. (If it
    # saw the clock, its value of the last time, at which nobody acts, would be untrained.)
    env = Probe(lambda c, t, a: jnp.ones(()), max_steps=4, truncates=True, shows_clock=False)
    trained = train(env, updates=120, gamma=0.8)
    assert trained.value(0, 0) == pytest.approx(5, abs=0.35)


def test_a_time_limit_is_bootstrapped_where_the_clock_is_in_view():
    # The final observation, which nobody has acted on, is then worth what a step is worth.
    env = Probe(lambda c, t, a: jnp.ones(()), max_steps=4, truncates=True)
    trained = train(env, updates=120, gamma=0.8)
    for t in range(4):
        assert trained.value(0, t) == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_a_floor_ends_the_drift_of_a_game_without_rewards(floor):
    # Advantages are the errors of the critic. Without a floor they are scaled to 1 however small,
    # and the policy of the clip comes to choose one action alone; what it has moved before the
    # critic knew that there is nothing stays.
    nothing = Probe(lambda c, t, a: jnp.zeros(()), max_steps=4)
    trained = train(nothing, updates=200, advantage_floor=floor)
    one, mask = jnp.ones((1, 1), bool), jnp.ones((1, 1, 1, 2), bool)
    seen = jnp.zeros((1, 1, 1, 1))
    policies = jax.vmap(lambda actor: trained.networks.act(actor, (), seen, one, mask)[1])
    entropy = np.ravel(policies(trained.weights.actor).entropy())[OBJECTIVES.index("mappo")]
    assert (entropy > 0.15) == (floor > 0)
    assert entropy < 0.05 or floor


def test_a_clock_in_the_state_does_not_let_the_critic_run_away():
    # Nobody acts at the final observation. Were its value an extrapolation, it would raise those
    # that are bootstrapped from it, and so itself: here to between -2 and 6 after 300 updates.
    zero = Probe(lambda c, t, a: jnp.zeros(()), max_steps=20, truncates=True)
    settings = {"rollout_length": 20, "gamma": 0.99, "actor_lr": 2e-3, "critic_lr": 2e-3}
    trained = train(zero, updates=250, **settings)
    for t in (0, 10, 19, 20):
        assert trained.value(0, t) == pytest.approx(0, abs=0.05)


def test_small_rewards_before_a_time_limit_with_a_clock_are_learned():
    # The value of the final observation must soon be small beside a reward of 0.01.
    env = Probe(lambda c, t, a: 0.01 * matches(c, t, a), sees=cue, max_steps=20, truncates=True)
    settings = {"rollout_length": 20, "actor_lr": 2e-3, "critic_lr": 2e-3}
    score = train(env, updates=150, **settings).score
    assert (score > 0.19).all()


def test_without_bootstrapping_the_time_limit_counts_as_the_end():
    env = Probe(lambda c, t, a: jnp.ones(()), max_steps=4, truncates=True)
    trained = train(env, gamma=0.8, bootstrap_truncated=False)
    assert trained.value(0, 3) == pytest.approx(1, abs=0.2)


def remember(c, t, action):
    """At the last of three steps only: act on the cue of the first."""
    return (t == 2) * (2 * matches(c, t, action) - 1)


@pytest.mark.parametrize("chunk_length", [None, 4])
def test_memory_is_learned_by_a_gru(chunk_length):
    env = Probe(remember, sees=cue_at_first, max_steps=3)
    # half the others' rate: at 1e-2 one objective is now and then still at a loss after 60 updates,
    # depending on the machine's rounding
    rates = {"actor_lr": 5e-3, "critic_lr": 5e-3}
    score = train(env, updates=90, core="gru", chunk_length=chunk_length, **rates).score
    assert (score > 0.9).all()


def test_memory_is_beyond_a_feed_forward_policy():
    score = train(Probe(remember, sees=cue_at_first, max_steps=3), updates=60).score
    assert (np.abs(score) < 0.4).all()


def test_far_and_large_observations_are_learned_once_they_are_standardised():
    env = Probe(matches, sees=lambda c, t: 1000 + c, num_agents=2)
    raw = {"actor_norm": "none", "critic_norm": "none"}
    assert (train(env, value_norm=True).score > 0.9).all()
    assert (train(env, **raw).score < 0.8).all()


def test_groups_learn_what_is_right_for_each():
    # two of the three see the same and have to do the opposite
    def opposed(c, t, action):
        wanted = jnp.stack([c > 0, c <= 0, c > 0])
        return jnp.all(action == wanted).astype(jnp.float32)

    env = Probe(opposed, sees=cue, num_agents=3, groups=("a", "b", "a"))
    score = train(env, share_parameters="groups", critic="obs").score
    assert (score > 0.9).all()


class Shown(Probe):
    """The cue is where the dot is in a picture."""

    @property
    def spec(self):
        return dataclasses.replace(super().spec, obs_shape=(4, 5, 1))

    def _time_step(self, state, reward):
        now = super()._time_step(state, reward)
        at_left = now.obs[..., None, None] > 0
        picture = jnp.zeros((self.num_agents, 4, 5, 1), jnp.uint8)
        left, right = picture.at[:, 1, 0].set(255), picture.at[:, 1, 4].set(255)
        return now._replace(obs=jnp.where(at_left, left, right))


class InRooms(Shown):
    """The picture is one of the things in a dictionary."""

    @property
    def spec(self):
        return dataclasses.replace(super().spec, obs_shape=())

    def _time_step(self, state, reward):
        now = super()._time_step(state, reward)
        return now._replace(obs={"door": jnp.zeros((self.num_agents, 2)), "view": now.obs})


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(Shown, {}), (InRooms, {}), (Shown, {"network": "own_networks:make_ff"})],
    ids=["pictures", "dictionaries", "own"],
)
def test_pictures_are_read(kind, changes):
    assert (train(flat(kind(matches, sees=cue, num_agents=2)), **changes).score > 0.9).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"share_parameters": False},
        {"critic": "obs"},
        {"critic": "both"},
        {"critic_norm": "layer"},
        {"value_norm": True, "huber_delta": 1.0, "kl_stop": 0.02},
        {"advantage_per_agent": True, "advantage_floor": 0.01},
    ],
    ids=str,
)
def test_every_kind_of_network_learns(changes):
    score = train(Probe(matches, sees=cue, num_agents=2), **changes).score
    assert (score > 0.9).all()
