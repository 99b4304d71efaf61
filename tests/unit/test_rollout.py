"""What the real rollout computes, against whole episodes written down without playing them."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import NEVER, Clock, Scripted, prepare, small_config


@dataclass(frozen=True)
class Blinding(Scripted):
    """`Scripted` with something else for the dead to see, and perhaps a clock in view."""

    unseen: float = 0.0
    clock: bool = False

    def at(self, clock):
        now = super().at(clock)
        obs = now.obs.at[:, 2].set(clock.t) if self.clock else now.obs
        return now._replace(obs=jnp.where(now.agent_mask[:, None], obs, self.unseen))


LONG = {"num_envs": 3, "rollout_length": 12, "num_minibatches": 1}  # more than two episodes
SHORT = {"num_envs": 3, "rollout_length": 2, "num_minibatches": 1}  # less than one
CASES = {
    "ff": (LONG | {"core": "ff"}, Scripted()),
    "gru-in-chunks": (LONG | {"chunk_length": 4}, Scripted()),
    "no-bootstrap": (LONG | {"bootstrap_truncated": False}, Scripted()),
    "short": (SHORT, Scripted()),
    "short-no-bootstrap": (SHORT | {"core": "ff", "bootstrap_truncated": False}, Scripted()),
    "own-rewards": (LONG, Scripted(shared_reward=False)),
    "own-critics": (LONG | {"critic": "obs"}, Scripted()),
    "own-critics-and-deaths": (
        LONG | {"critic": "both", "share_parameters": False},
        Scripted(num_agents=3, shared_reward=False, death=(2, 5, 10**6)),
    ),
    "own-critics-of-a-shared-reward-and-deaths": (
        LONG | {"critic": "obs"},
        Scripted(num_agents=3, death=(2, 4, 10**6)),
    ),
    "own-critics-of-a-shared-reward-and-deaths-unlike-life": (
        LONG | {"critic": "obs"},
        Blinding(num_agents=3, death=(2, 4, 10**6), unseen=99.0),
    ),
    "truncated-before-the-horizon": (
        LONG | {"chunk_length": 4},
        Scripted(terminates_at=2, truncates_at=3),
    ),
    "running-moments-and-scaled-values": (
        LONG | {"actor_norm": "running", "critic_norm": "running", "value_norm": True},
        Scripted(shared_reward=False),
    ),
    "layer-norm": (
        LONG | {"core": "ff", "actor_norm": "layer", "critic_norm": "layer"},
        Scripted(),
    ),
    "one-env-one-agent": (
        {"num_envs": 1, "rollout_length": 24, "num_minibatches": 1},
        Scripted(num_agents=1),
    ),
}


@pytest.fixture(scope="module", params=CASES)
def played(request):
    """Six rollouts in a row: config, environment, networks, parameters, experiences, episodes."""
    changes, env = CASES[request.param]
    config = small_config(**changes)
    start = prepare(config, env)
    step, state = jax.jit(start.play), start.rollout
    rounds = []
    for _ in range(6):
        state, experience, episodes = step(state)
        rounds.append(jax.tree.map(np.asarray, (experience, episodes)))
    return config, env, start.algorithm.networks, start.learner.weights, rounds


def whole_episodes(env, networks, weights, starts):
    """Time steps 0 .. horizon of episodes, the carries after each, and values, (T, B, V)."""

    @jax.jit
    def run(starts):
        t = jnp.arange(env.max_steps + 1)
        grid = jnp.meshgrid(starts, t)
        steps = jax.vmap(jax.vmap(env.at))(Clock(*grid))
        _, carry = networks.initial_carries(len(starts))
        inputs = (steps.obs, steps.global_state, jnp.broadcast_to(t[:, None] == 0, grid[0].shape))
        return steps, *networks.value(weights.critic, carry, *inputs)

    return jax.tree.map(np.asarray, run(starts))


def final_values(networks, weights, experience, known, carry):
    """Those of final observations that are no further out than what was acted on, nor they."""
    steps = experience.steps.transition
    acted, final = (
        np.asarray(networks.critic_input(*views))
        for views in ((steps.obs, steps.global_state), (steps.final_obs, steps.final_state))
    )
    live, lives = (
        np.asarray(mask if acted.ndim == 4 else mask.any(-1))
        for mask in (steps.agent_mask, steps.final_mask)
    )
    over = tuple(range(acted.ndim - 1))
    # what the dead see is like nothing that the living do, but like what the dead do
    low = np.where(lives[..., None], acted[live].min(0), acted.min(over))
    high = np.where(lives[..., None], acted[live].max(0), acted.max(over))
    x = np.clip(final, low, high)
    limits = steps.truncated.any(-1)
    # what most of them have out of bounds tells the time
    clocks = (x != final)[limits].mean(over[:-1]) > 0.5 if limits.any() else False
    late = ((x != final) & clocks).any(-1).reshape((*final.shape[:2], -1))
    x = x.reshape((1, -1, *final.shape[2:]))
    value = networks.value_of(weights.critic, carry, x, np.zeros(x.shape[:2], bool))[1]
    within = np.clip(value.reshape(known.shape), np.nanmin(known, (0, 1)), np.nanmax(known, (0, 1)))
    return np.where(late, np.nanmean(known, (0, 1)), within)


def expected_advantages(config, env, networks, params, experience):
    """By the definition, from the whole episodes that the recorded steps belong to."""
    start, clock = np.moveaxis(experience.steps.transition.global_state[..., :2], -1, 0)
    T, E = start.shape
    steps, carries, values = whole_episodes(env, networks, params, start.ravel())
    t, b = clock.astype(int).ravel(), np.arange(T * E)

    def at(x, t):
        return x[t, b].reshape((T, E, -1))

    reward, terminated, truncated = (at(x, t + 1) for x in (steps.reward, *steps[5:7]))
    alive = at(steps.agent_mask, t + 1)
    if networks.num_values == 1:
        reward = reward.mean(-1, keepdims=True)
    if not env.shared_reward:  # else the team goes on, and with it what a dead agent has earned
        terminated = terminated | ~alive
    worthless = terminated if config.bootstrap_truncated else terminated | truncated
    value = at(values, t)
    alive = steps.agent_mask[t, b].reshape((T, E, -1))
    if env.shared_reward:
        alive = np.ones(value.shape, bool)
    known = np.where(alive, value, np.nan)
    carry = jax.tree.map(lambda c: c[t, b], carries)
    final = final_values(networks, params, experience, known, carry)
    next_value = np.where(worthless, 0.0, np.where(truncated, final, at(values, t + 1)))
    delta = reward + config.gamma * next_value - value
    advantage = np.zeros(delta.shape)
    for i in range(T):
        weight = np.ones(delta.shape[1:])
        for k in range(i, T):
            advantage[i] += weight * delta[k]
            weight = weight * config.gamma * config.gae_lambda * ~(terminated | truncated)[k]
    return value, advantage


def test_advantages_are_those_of_whole_episodes(played):
    config, env, networks, params, rounds = played
    for experience, _ in rounds[::2]:
        value, advantage = expected_advantages(config, env, networks, params, experience)
        np.testing.assert_allclose(experience.steps.value, value, atol=1e-5)
        np.testing.assert_allclose(experience.steps.advantage, advantage, atol=1e-4)
        np.testing.assert_allclose(experience.steps.target, advantage + value, atol=1e-4)


def test_what_the_dead_see_does_not_change_what_a_final_observation_is_worth():
    config, made = small_config(**LONG, critic="obs", core="ff"), []
    for unseen in (0.0, 99.0):
        death = (2, 4, NEVER)
        start = prepare(
            config,
            Blinding(num_agents=3, death=death, shared_reward=False, unseen=unseen, clock=True),
        )
        _, experience, _ = jax.jit(start.play)(start.rollout)
        steps = jax.tree.map(np.asarray, experience.steps)
        assert steps.transition.truncated[..., 2].any()
        made.append(steps.advantage[..., 2])  # of the one that never dies
    assert np.ptp(made[0]) > 0
    np.testing.assert_array_equal(*made)


@dataclass(frozen=True)
class LateJoiner(Scripted):
    """The first agent lives at the end of an episode only."""

    def at(self, clock):
        step = super().at(clock)
        return step._replace(agent_mask=step.agent_mask.at[0].set(clock.t >= self.max_steps))


def test_who_only_lives_at_a_time_limit_is_worth_what_the_critic_says():
    env = LateJoiner(shared_reward=False, terminates_at=NEVER)
    start = prepare(small_config(**LONG, critic="obs", core="ff"), env)
    _, experience, _ = jax.jit(start.play)(start.rollout)
    steps = experience.steps.transition
    assert not steps.agent_mask[..., 0].any()
    assert steps.final_mask[..., 0].any()
    assert np.isfinite(experience.steps.advantage).all()


@dataclass(frozen=True)
class Wide(Scripted):
    """A state of many numbers, none of which tells the time."""

    @property
    def spec(self):
        return replace(super().spec, state_shape=(300,))

    def at(self, clock):
        pace = 1 + jnp.arange(300) / 7
        return super().at(clock)._replace(global_state=jnp.sin(pace * (5 * clock.start + clock.t)))


def test_a_final_observation_a_little_out_of_range_is_worth_what_the_critic_says():
    # of many numbers, some are by chance greater or less than they were before
    config = small_config(**LONG | {"num_envs": 16}, core="ff", critic_norm="none")
    start = prepare(config, Wide(terminates_at=NEVER))
    _, experience, _ = jax.jit(start.play)(start.rollout)
    steps, last = experience.steps.transition, experience.steps.transition.truncated
    critic = start.learner.weights.critic
    views = steps.final_obs, steps.final_state, steps.first
    plain = start.algorithm.networks.value(critic, (), *views)[1]
    used = (experience.steps.target - steps.reward) / config.gamma
    assert last.any()
    error = np.asarray(used - plain)[last]
    assert error.std() < 0.1 * np.std(np.asarray(plain)[last])


def joined(rounds):
    """The transitions of all rollouts, one after the other."""
    parts = (experience.steps.transition for experience, _ in rounds)
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def test_both_kinds_of_ending_occur(played):
    """Else the test above would prove little; and `truncated` outlasts `bootstrap_truncated`."""
    _, env, networks, _, rounds = played
    transition = jax.tree.map(
        lambda *x: np.concatenate(x), *(e.steps.transition for e, _ in rounds)
    )
    clock = transition.global_state[..., 1] + 1
    assert (transition.terminated.all(-1) & (clock == env.terminates_at)).any()
    assert (transition.truncated.any(-1) & (clock == (env.truncates_at or env.max_steps))).any()
    assert not (transition.terminated & transition.truncated).any()
    dead = ~np.asarray(transition.agent_mask)
    assert dead.any() == bool(env.death)
    if not env.shared_reward:
        assert transition.terminated[dead].all()
    elif networks.num_values > 1 and dead.any():
        assert not transition.terminated[dead].all()


def test_rollouts_continue_one_another(played):
    """Each step follows the one before it or begins an episode, over the seams too."""
    _, _, _, _, rounds = played
    transition = jax.tree.map(
        lambda *x: np.concatenate(x), *(e.steps.transition for e, _ in rounds)
    )
    ended = np.concatenate([episodes.ended for _, episodes in rounds])
    start, clock = np.moveaxis(transition.global_state[..., :2], -1, 0)
    assert transition.first[0].all()
    np.testing.assert_array_equal(transition.first[1:], ended[:-1])
    np.testing.assert_array_equal(clock[transition.first], 0)
    goes_on = ~transition.first[1:]
    np.testing.assert_array_equal(clock[1:][goes_on], clock[:-1][goes_on] + 1)
    np.testing.assert_array_equal(start[1:][goes_on], start[:-1][goes_on])
    # what an action led to is in the same episode, whatever follows
    np.testing.assert_array_equal(transition.final_state[..., 0], start)
    np.testing.assert_array_equal(transition.final_state[..., 1], clock + 1)
    np.testing.assert_allclose(
        transition.final_obs[:-1][goes_on], transition.obs[1:][goes_on], atol=4e-6
    )


def test_fresh_starts_are_not_repeated(played):
    _, _, _, _, rounds = played
    first = np.concatenate([e.steps.transition.first for e, _ in rounds])
    start = np.concatenate([e.steps.transition.global_state[..., 0] for e, _ in rounds])[first]
    assert len(start) > 3
    assert len(np.unique(start)) == len(start)


def test_sampled_actions_are_legal_and_vary(played):
    _, _, _, _, rounds = played
    for experience, _ in rounds:
        action, mask = experience.steps.transition.action, experience.steps.transition.action_mask
        assert np.take_along_axis(mask, action[..., None], -1).all()
    actions = np.concatenate([e.steps.transition.action for e, _ in rounds])
    assert set(np.unique(actions)) == {0, 1, 2}
    assert not np.array_equal(actions[: len(actions) // 2], actions[len(actions) // 2 :])


@pytest.mark.parametrize("shared", [True, False])
def test_a_lone_agents_death_is_an_end_only_where_its_reward_is_its_own(shared):
    env = Scripted(num_agents=1, death=(2,), terminates_at=4, shared_reward=shared)
    start = prepare(small_config(**LONG), env)
    steps = jax.jit(start.play)(start.rollout)[1].steps.transition
    at_death = np.asarray(steps.global_state[..., 1:2]) + 1 == 2
    assert at_death.any()
    assert (np.asarray(steps.terminated)[at_death] == (not shared)).all()
