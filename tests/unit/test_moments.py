import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.learner.moments import (
    LIMIT,
    Moments,
    layer_standardize,
    merge,
    no_moments,
    standardize,
)


@pytest.fixture(scope="module")
def merged():
    """Three batches of very different sizes and scales, and which entries count."""
    rng = np.random.default_rng(0)
    parts = [
        (rng.normal(mean, scale, (n, 2, 3)).astype(np.float32), rng.random((n, 2, 1)) < 0.7)
        for n, mean, scale in ((4, 1000, 0.1), (50, 1001, 2.0), (1, 0, 1.0))
    ]
    moments = no_moments(3)
    for x, mask in parts:
        moments = jax.jit(merge)(moments, x, mask)
    return moments, np.concatenate([x[mask[..., 0]] for x, mask in parts]).astype(np.float64)


def test_moments_of_parts_are_those_of_the_whole(merged):
    moments, whole = merged
    np.testing.assert_array_equal(moments.number, len(whole))
    np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, whole.var(0), rtol=1e-3)


def test_a_small_spread_around_a_large_mean_is_not_lost():
    x = 1e4 + np.random.default_rng(1).normal(0, 0.1, (4000, 1)).astype(np.float32)
    moments = merge(no_moments(1), x, np.ones((4000, 1), bool))
    np.testing.assert_allclose(moments.variance, x.astype(np.float64).var(), rtol=0.01)


def test_nothing_new_changes_nothing(merged):
    moments, _ = merged
    same = merge(moments, jnp.full((5, 3), jnp.nan), jnp.zeros((5, 1), bool))
    jax.tree.map(np.testing.assert_array_equal, same, moments)


def test_standardised_samples_have_mean_0_and_deviation_1(merged):
    moments, whole = merged
    x = np.asarray(standardize(jnp.asarray(whole, jnp.float32), moments))
    np.testing.assert_allclose(x[np.abs(x).max(-1) < LIMIT].std(), 1, atol=0.5)
    assert np.abs(x).max() <= LIMIT


def test_a_feature_that_never_changed_may_change_later():
    constant = merge(no_moments(1), jnp.ones((9, 1)), jnp.ones((9, 1), bool))
    assert standardize(jnp.array([1.0]), constant) == 0
    assert standardize(jnp.array([2.0]), constant) == LIMIT


def test_layer_norm_standardises_each_row_by_itself():
    x = layer_standardize(jnp.array([[1.0, 3.0], [10.0, 30.0], [5.0, 5.0]]))
    np.testing.assert_allclose(x, [[-1, 1], [-1, 1], [0, 0]], atol=1e-4)


def test_moments_are_one_per_feature():
    assert jax.tree.map(jnp.shape, no_moments(4)) == Moments((4,), (4,), (4,))
