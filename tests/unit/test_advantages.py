import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.learner.advantages import gae, masked_mean, mean_and_std

T = 5
GOES_ON, TERMINATES, RUNS_OUT = range(3)


def brute_force(reward, value, next_value, terminated, truncated, gamma, lam):
    """The definition: the discounted sum of TD errors up to the end of the episode or window."""
    advantage = np.zeros(reward.shape)
    for index in np.ndindex(reward.shape):
        t, rest = index[0], index[1:]
        for k in range(t, len(reward)):
            at = (k, *rest)
            future = 0.0 if terminated[at] else next_value[at]
            delta = reward[at] + gamma * future - value[at]
            advantage[index] += (gamma * lam) ** (k - t) * delta
            if terminated[at] or truncated[at]:
                break
    return advantage


@pytest.fixture(scope="module")
def every_ending():
    """(T, 3^T, 2): every sequence of ends; the second value stream runs through them backwards."""
    patterns = np.array(list(itertools.product(range(3), repeat=T))).T
    ends = np.stack([patterns, patterns[:, ::-1]], axis=-1)
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, *ends.shape)).astype(np.float32)
    return reward, value, next_value, ends == TERMINATES, ends == RUNS_OUT


@pytest.mark.parametrize(("gamma", "lam"), [(0.9, 0.8), (1.0, 1.0), (0.97, 0.0), (0.0, 0.9)])
def test_gae_is_its_definition_for_every_sequence_of_ends(every_ending, gamma, lam):
    advantage, target = jax.jit(gae)(*every_ending, gamma, lam)
    expected = brute_force(*every_ending, gamma, lam)
    np.testing.assert_allclose(advantage, expected, atol=2e-6)
    np.testing.assert_allclose(target, expected + every_ending[1], atol=2e-6)


def test_gae_by_hand():
    # delta = (1 + .5 * 4 - 2, 1 + .5 * 6 - 4, 1 + 0 - 6) = (1, 0, -5); decay .25
    flags = np.array([False, False, True]), np.zeros(3, bool)
    value, next_value = np.array([2.0, 4.0, 6.0]), np.array([4.0, 6.0, 9.0])
    advantage, target = gae(np.ones(3), value, next_value, *flags, 0.5, 0.5)
    np.testing.assert_allclose(advantage, [1 + 0.25 * -1.25, -1.25, -5.0])
    np.testing.assert_allclose(target, [2.6875, 2.75, 1.0])


def test_masked_mean_is_the_mean_of_the_masked():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    mask = np.random.default_rng(1).random((4, 3)) < 0.5
    np.testing.assert_allclose(masked_mean(x, mask), x[mask].mean(), rtol=1e-6)
    rows = mask[:, :1]
    np.testing.assert_allclose(masked_mean(x, rows), x[rows[:, 0]].mean(), rtol=1e-6)


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(jnp.ones((2, 3)), jnp.zeros((2, 3), bool)) == 0.0


def test_mean_and_std_are_of_the_masked_only():
    rng = np.random.default_rng(2)
    x, mask = rng.normal(3, 5, (20, 3)).astype(np.float32), rng.random((20, 3)) < 0.7
    mean, std = mean_and_std(x, mask)
    np.testing.assert_allclose(mean, x[mask].mean(), rtol=1e-5)
    np.testing.assert_allclose(std, x[mask].std(), rtol=1e-5)
    assert mean_and_std(np.where(mask, x, 1e3), mask) == (mean, std)


def test_a_constant_has_no_spread():
    assert mean_and_std(jnp.full(4, 3.0), jnp.ones(4, bool)) == (3.0, 0.0)
