import dataclasses
import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings

from marsrl.distributions import (
    Categorical,
    MultiCategorical,
    TanhNormal,
    distribution,
    random_action,
)
from marsrl.types import Box, Discrete, MultiDiscrete

A = 5
SAMPLES = 4000


@st.composite
def categoricals(draw):
    logits = draw(st.lists(st.floats(-20, 20, width=32), min_size=A, max_size=A))
    legal = draw(st.lists(st.booleans(), min_size=A, max_size=A).filter(any))
    return Categorical(np.float32(logits), np.array(legal))


def probabilities(dist):
    """Of each action, from `log_prob`."""
    return np.exp(np.asarray(jax.vmap(dist.log_prob)(jnp.arange(A))))


# --- Masked categorical ---------------------------------------------------------------------------


@settings(max_examples=30)
@given(categoricals())
def test_categorical_is_the_softmax_over_legal_actions(dist):
    p = np.where(dist.mask, np.exp(dist.logits - dist.logits[dist.mask].max()), 0.0)
    p /= p.sum()
    np.testing.assert_allclose(probabilities(dist), p, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(probabilities(dist).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), scipy.stats.entropy(p), rtol=1e-4, atol=1e-5)
    assert dist.mode() == p.argmax()


def test_categorical_samples_as_often_as_it_says_and_never_illegally():
    dist = Categorical(jnp.array([0.0, 1.0, 9.0, -1.0, 0.5]), jnp.array([1, 1, 0, 1, 1], bool))
    batch = jax.tree.map(lambda x: jnp.broadcast_to(x, (SAMPLES, A)), dist)
    count = np.bincount(batch.sample(jax.random.key(0)), minlength=A)
    assert count[2] == 0
    legal = np.asarray(dist.mask)
    expected = SAMPLES * probabilities(dist)[legal]
    assert scipy.stats.chisquare(count[legal], expected, sum_check=False).pvalue > 0.01


def test_a_single_legal_action_is_certain():
    dist = Categorical(jnp.array([5.0, -30.0, 5.0, 5.0, 5.0]), jnp.arange(A) == 1)
    assert dist.sample(jax.random.key(0)) == dist.mode() == 1
    assert dist.log_prob(jnp.int32(1)) == dist.entropy() == 0.0


def test_categorical_gradients_are_finite_and_leave_illegal_logits_alone():
    mask = jnp.array([True, False, True, False, True])

    def score(logits):
        dist = Categorical(logits, mask)
        return dist.log_prob(jnp.int32(2)) + dist.entropy()

    gradient = np.asarray(jax.grad(score)(jnp.array([30.0, 40.0, -30.0, 0.0, 1.0])))
    assert np.isfinite(gradient).all()
    assert gradient[2] > 0.5
    np.testing.assert_array_equal(gradient[~np.asarray(mask)], 0.0)


# --- Tanh-normal ----------------------------------------------------------------------------------

LOW, HIGH = -1.0, 3.0
each_shape = pytest.mark.parametrize(
    ("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.3), (2.0, -2.0)]
)


def tanh_normal(mean, log_std, mask=None):
    mean, log_std = jnp.atleast_1d(mean), jnp.atleast_1d(log_std)
    mask = jnp.ones(mean.shape, bool) if mask is None else jnp.asarray(mask)
    return TanhNormal(mean, log_std, mask, LOW, HIGH)


@each_shape
def test_tanh_normal_density_is_the_slope_of_the_distribution_function(mean, log_std):
    def cdf(env_action):
        raw = np.arctanh(2 * (env_action - LOW) / (HIGH - LOW) - 1)
        return scipy.stats.norm.cdf(raw, mean, np.exp(log_std))

    raw = mean + np.exp(log_std) * np.linspace(-2, 2, 9)
    with jax.enable_x64(True):
        dist = tanh_normal(jnp.float64(mean), jnp.float64(log_std))
        env_action = np.asarray(dist.env_action(raw[:, None]))[:, 0]
        density = np.exp(dist.log_prob(raw[:, None]))
    h = 1e-4 * np.minimum(env_action - LOW, HIGH - env_action)
    slope = (cdf(env_action + h) - cdf(env_action - h)) / (2 * h)
    np.testing.assert_allclose(density, slope, rtol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 0.7, -3.0])
@pytest.mark.parametrize("log_std", [-5.0, -1.0, 0.0, 1.0, 2.0])  # from bound to bound
def test_tanh_normal_entropy_is_the_integral(mean, log_std):
    z = np.linspace(-8, 8, 4001)
    raw = mean + np.exp(log_std) * z

    def integral(y):
        return scipy.integrate.simpson(y * scipy.stats.norm.pdf(z), x=z)

    with jax.enable_x64(True):
        dist = tanh_normal(jnp.float64(mean), jnp.float64(log_std))
        expected = integral(-np.asarray(dist.log_prob(raw[:, None])))
        np.testing.assert_allclose(dist.entropy(), expected, atol=3e-5)
    slopes = jax.grad(lambda *params: tanh_normal(*params).entropy(), argnums=(0, 1))(mean, log_std)
    np.testing.assert_allclose(slopes[0], integral(-2 * np.tanh(raw)), atol=3e-5)
    by_log_std = 1.0 + integral(-2 * np.tanh(raw) * np.exp(log_std) * z)
    np.testing.assert_allclose(slopes[1], by_log_std, atol=2e-4)


def test_tanh_normal_sums_over_dimensions():
    mean, log_std, raw = jnp.array([[0.3, -1.0], [0.1, -0.4], [0.5, 1.2]])
    dist = tanh_normal(mean, log_std)
    parts = [tanh_normal(mean[i], log_std[i]) for i in range(2)]
    log_probs = [part.log_prob(raw[i : i + 1]) for i, part in enumerate(parts)]
    np.testing.assert_allclose(dist.log_prob(raw), sum(log_probs), rtol=1e-6)
    np.testing.assert_allclose(dist.entropy(), sum(part.entropy() for part in parts), rtol=1e-6)


def test_tanh_normal_samples_from_the_normal():
    dist = tanh_normal(jnp.full((SAMPLES, 1), 0.4), jnp.full((SAMPLES, 1), -0.5))
    raw = np.asarray(dist.sample(jax.random.key(3)))[:, 0]
    assert scipy.stats.kstest(raw, scipy.stats.norm(0.4, np.exp(-0.5)).cdf).pvalue > 0.01
    np.testing.assert_array_equal(dist.mode(), dist.mean)


def test_dimensions_that_do_not_exist_count_for_nothing():
    raw, mask = jnp.array([0.5, 9.0, -1.0]), jnp.array([True, False, True])
    keep = np.flatnonzero(mask)

    def measures(mean, log_std):
        dist = tanh_normal(mean, log_std, mask)
        return dist.log_prob(raw) + dist.entropy()

    mean, log_std = jnp.array([0.1, 0.2, 0.3]), jnp.array([-0.3, 2.0, 0.1])
    existing = tanh_normal(mean[keep], log_std[keep])
    expected = existing.log_prob(raw[keep]) + existing.entropy()
    np.testing.assert_allclose(measures(mean, log_std), expected, rtol=1e-6)
    for gradient in jax.grad(measures, argnums=(0, 1))(mean, log_std):
        assert gradient[1] == 0.0
        assert (gradient[keep] != 0.0).all()
    assert tanh_normal(mean, log_std, mask).env_action(raw)[1] == (LOW + HIGH) / 2


def test_env_action_covers_the_bounds_and_no_more():
    raw = jnp.array([-1e6, -50.0, 0.0, 50.0, 1e6])[:, None]
    action = np.asarray(tanh_normal(0.0, 0.0).env_action(raw))[:, 0]
    np.testing.assert_allclose(action, [LOW, LOW, (LOW + HIGH) / 2, HIGH, HIGH])
    assert action.min() >= LOW
    assert action.max() <= HIGH


def test_saturated_actions_have_finite_densities_and_gradients():
    def log_prob(mean):
        return tanh_normal(mean, 0.0).log_prob(jnp.array([30.0]))

    value, gradient = jax.value_and_grad(log_prob)(jnp.float32(29.0))
    # normal density at z = 1, Jacobian 2 (1 - tanh^2 30) = 8 e^-60
    expected = scipy.stats.norm.logpdf(1.0) - (np.log(8) - 60)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, 1.0, rtol=1e-5)


# --- Several choices ------------------------------------------------------------------------------

SEVERAL = MultiDiscrete((3, 1, 2))
JOINT = np.array(list(itertools.product(*map(range, SEVERAL.num_actions))))


@st.composite
def choices(draw):
    logits = draw(st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6))
    legal = np.array(draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    legal[[0, 3, 4]] |= ~np.logical_or.reduceat(legal, [0, 3, 4])
    return distribution(SEVERAL, (np.float32(logits),), legal)


def joint_probabilities(dist):
    """Of every joint action: the products of softmaxes over each choice's legal actions."""
    masked = np.where(dist.mask, np.float64(dist.logits), -np.inf)
    each = [scipy.special.softmax(x) for x in np.split(masked, [3, 4])]
    return np.array([np.prod([p[k] for p, k in zip(each, a, strict=True)]) for a in JOINT])


@settings(max_examples=20)
@given(choices())
def test_several_choices_are_one_distribution_over_joint_actions(dist):
    p = joint_probabilities(dist)
    log_prob = np.asarray(jax.vmap(dist.log_prob)(jnp.asarray(JOINT)))
    np.testing.assert_allclose(np.exp(log_prob), p, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-9)
    np.testing.assert_allclose(dist.entropy(), scipy.stats.entropy(p), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(p[(dist.mode() == JOINT).all(-1)], p.max(), rtol=1e-4)


def test_several_choices_are_drawn_as_often_as_they_say_and_never_illegally():
    logits = jnp.array([0.0, 1.0, 9.0, 3.0, -0.5, 0.5])
    dist = distribution(SEVERAL, (logits,), jnp.array([1, 1, 0, 1, 1, 1], bool))
    p = joint_probabilities(dist)
    batch = jax.tree.map(lambda x: jnp.broadcast_to(x, (SAMPLES, 6)), dist)
    drawn = np.asarray(batch.sample(jax.random.key(0)))
    count = np.array([(drawn == a).all(-1).sum() for a in JOINT])
    assert (count[p == 0] == 0).all()
    expected = SAMPLES * p[p > 0]
    assert scipy.stats.chisquare(count[p > 0], expected, sum_check=False).pvalue > 0.01


def test_a_single_choice_of_several_is_a_categorical():
    logits, mask = jnp.arange(10.0).reshape(2, 5) % 3, jnp.arange(10).reshape(2, 5) % 4 > 0
    several = distribution(MultiDiscrete((5,)), (logits,), mask)
    one = Categorical(logits, mask)
    key = jax.random.key(0)
    np.testing.assert_array_equal(several.sample(key)[..., 0], one.sample(key))
    np.testing.assert_array_equal(several.mode()[..., 0], one.mode())
    np.testing.assert_array_equal(several.entropy(), one.entropy())
    np.testing.assert_array_equal(several.log_prob(several.mode()), one.log_prob(one.mode()))


def test_the_gradient_of_a_choice_reaches_its_own_logits_only():
    dist = distribution(SEVERAL, (jnp.arange(6.0),), jnp.array([1, 0, 1, 1, 1, 1], bool))

    slope = jax.grad(lambda x: dataclasses.replace(dist, logits=x).log_prob(jnp.array([0, 0, 1])))
    found = slope(dist.logits)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found != 0, [True, False, True, False, True, True])


# --- Both -----------------------------------------------------------------------------------------


def test_distribution_fits_the_space():
    mask = jnp.ones((2, 3), bool)
    discrete = distribution(Discrete(3), (jnp.zeros((2, 3)),), mask)
    continuous = distribution(Box(3, LOW, HIGH), (jnp.zeros((2, 3)), jnp.zeros((2, 3))), mask)
    assert isinstance(discrete, Categorical)
    assert isinstance(continuous, TanhNormal)
    assert (continuous.low, continuous.high) == (LOW, HIGH)
    several = distribution(MultiDiscrete((2, 1)), (jnp.zeros((2, 3)),), mask)
    assert isinstance(several, MultiCategorical)
    for dist, shape in ((discrete, (2,)), (several, (2, 2)), (continuous, (2, 3))):
        raw = dist.sample(jax.random.key(0))
        assert dist.env_action(raw).shape == raw.shape == dist.mode().shape == shape
        assert dist.log_prob(raw).shape == dist.entropy().shape == (2,)


@pytest.fixture(params=["categorical", "several", "tanh-normal", "bounds of each dimension"])
def batch(request):
    """Twelve distributions over three actions or dimensions."""
    params = jax.random.normal(jax.random.key(0), (2, 12, 3))
    mask = jnp.arange(36).reshape(12, 3) % 5 > 0
    if request.param == "categorical":
        return distribution(Discrete(3), (params[0],), mask)
    if request.param == "several":
        return distribution(MultiDiscrete((2, 1)), (params[0],), jnp.ones_like(mask))
    bounds = (LOW, HIGH) if request.param == "tanh-normal" else ((-1.0, 0.0, 2.0), (1.0, 5.0, 4.0))
    return distribution(Box(3, *bounds), tuple(params), mask)


def measured(dist):
    raw = dist.sample(jax.random.key(1))
    return raw, dist.env_action(raw), dist.mode(), dist.log_prob(raw), dist.entropy()


def assert_close(found, expected):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_distributions_cross_jit(batch):
    assert_close(jax.jit(measured)(batch), measured(batch))
    again = jax.jit(lambda dist: dist)(batch)
    assert type(again) is type(batch)
    assert_close(measured(again), measured(batch))


def test_distributions_cross_vmap(batch):
    def measured_but_samples(dist):
        mode = dist.mode()
        return dist, dist.env_action(mode), dist.log_prob(mode), dist.entropy()

    again, *found = jax.vmap(measured_but_samples)(batch)
    assert_close(measured(again), measured(batch))
    assert_close(found, measured_but_samples(batch)[1:])


def test_distributions_cross_scan(batch):
    def step(before, now):
        return now, before.entropy()

    first = jax.tree.map(lambda x: x[0], batch)
    last, entropies = jax.lax.scan(step, first, batch)
    np.testing.assert_allclose(entropies[1:], batch.entropy()[:-1], rtol=1e-5)
    np.testing.assert_allclose(last.entropy(), batch.entropy()[-1], rtol=1e-5)


def test_bounds_of_each_dimension_are_those_of_separate_boxes():
    low, high = (-1.0, 0.0, 2.0), (1.0, 5.0, 2.5)
    mean, log_std, raw = jax.random.normal(jax.random.key(0), (3, 4, 3))
    mask = jnp.ones((4, 3), bool)
    dist = TanhNormal(mean, log_std, mask, low, high)
    parts = [
        TanhNormal(mean[:, i, None], log_std[:, i, None], mask[:, :1], low[i], high[i])
        for i in range(3)
    ]
    pieces = [raw[:, i, None] for i in range(3)]
    each = list(zip(parts, pieces, strict=True))
    log_prob = sum(part.log_prob(x) for part, x in each)
    np.testing.assert_allclose(dist.log_prob(raw), log_prob, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), sum(p.entropy() for p in parts), rtol=1e-5)
    actions = jnp.concatenate([part.env_action(x) for part, x in each], axis=-1)
    np.testing.assert_allclose(dist.env_action(raw), actions, rtol=1e-5)


def test_no_action_lies_outside_of_its_box_by_a_rounding_error():
    ends = [(low / 10, high / 10) for low in range(-30, 30, 3) for high in range(low + 1, 31, 2)]
    low, high = (tuple(end) for end in zip(*ends, strict=True))
    space, there = Box(len(ends), low, high), jnp.ones((2, len(ends)), bool)
    mean = jnp.full(there.shape, 20.0) * jnp.array([[-1.0], [1.0]])
    dist = distribution(space, (mean, jnp.zeros(there.shape)), there)
    action = np.asarray(dist.env_action(dist.mode()))
    assert (np.float32(low) <= action).all()
    assert (action <= np.float32(high)).all()
    np.testing.assert_allclose(action, [low, high], rtol=1e-6, atol=1e-6)


def test_random_actions_fill_a_box_with_bounds_of_each_dimension():
    low, high = np.array([-1.0, 0.0, 2.0]), np.array([1.0, 5.0, 2.5])
    space = Box(3, tuple(low), tuple(high))
    action = np.asarray(random_action(jax.random.key(0), space, jnp.ones((200, 2, 3), bool)))
    unit = (action - low) / (high - low)
    for i in range(3):
        assert scipy.stats.kstest(unit[..., i].ravel(), "uniform").pvalue > 0.01


def test_random_actions_are_legal_and_all_of_them_occur():
    mask = jnp.broadcast_to(jnp.array([True, False, True, True]), (200, 2, 4))
    action = random_action(jax.random.key(0), Discrete(4), mask)
    assert action.shape == (200, 2)
    assert set(np.unique(action)) == {0, 2, 3}


def test_random_choices_are_legal_and_all_of_them_occur():
    mask = jnp.broadcast_to(jnp.array([True, False, True, True, True]), (200, 2, 5))
    action = random_action(jax.random.key(0), MultiDiscrete((3, 2)), mask)
    assert (action.shape, action.dtype) == ((200, 2, 2), jnp.int32)
    joint = np.unique(np.asarray(action).reshape(-1, 2), axis=0)
    assert joint.tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]


def test_random_continuous_actions_fill_the_box():
    action = random_action(jax.random.key(0), Box(4, LOW, HIGH), jnp.ones((200, 2, 4), bool))
    assert action.shape == (200, 2, 4)
    uniform = scipy.stats.uniform(LOW, HIGH - LOW)
    assert scipy.stats.kstest(np.asarray(action).ravel(), uniform.cdf).pvalue > 0.01
