import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from marsrl import objectives
from marsrl.objectives import OBJECTIVES, U_MAX, Objective, TrustRegion, make_objective
from objective_cases import (
    ANO_K,
    ANO_NU,
    REGION,
    K,
    advantages,
    ano_gain,
    convert,
    each_dtype,
    each_framework,
    each_geometry,
    each_name,
    each_to_the_edge,
    in_jax,
    in_torch,
    named,
    quick,
    samples,
    sech2,
    signs,
    sizes,
    slope_by_hand,
    widths,
)

JUMPS = (objectives.clipped, objectives.rolled_back)
BOUNDS = {
    objectives.clipped: 5e-3,
    objectives.rolled_back: 5e-3,
    objectives.discovered: 5e-3,  # nearly a jump for a large advantage
    objectives.capped: 1e-6,  # a kink of the slope
    objectives.redescending: 1e-6,
    objectives.gated: 1e-6,
}
"""Errors of Simpson's rule where the slope is not smooth on its grid."""
MIRRORED = ("mars", "mars-log", "mars-capped")

# --- Facts of every objective ---------------------------------------------------------------------


@each_name
@quick
@given(st.sampled_from([np.float32, np.float64]), advantages, widths)
def test_value_and_slope_are_the_advantage_at_ratio_one(name, dtype, advantage, eps):
    advantage = advantage.astype(dtype)
    eps = eps if OBJECTIVES[name].kind == "geometric" else min(eps, 0.6)
    value, slope = in_jax(named(name, eps), np.zeros(K, dtype), advantage)
    # A gain that is a quotient there, and an integral that starts there, are so but for rounding.
    rtol = 64 * np.finfo(dtype).eps if name in ("ano", "sapo") else 0
    np.testing.assert_allclose(value, advantage, rtol=rtol)
    np.testing.assert_allclose(slope, advantage, rtol=rtol)


@each_name
@each_framework
@pytest.mark.parametrize("eps", [1e-6, 1.0, 1e2, 1e4, 1e6])
def test_value_is_the_advantage_at_ratio_one_however_wide_the_region(name, framework, eps):
    flexible = OBJECTIVES[name].kind == "flexible"
    objective = make_objective(name, eps_low=eps, eps_high=eps) if flexible else named(name, eps)
    advantage = np.array([1.0, -1.0, 0.3, -700.0, 0.0], np.float32)
    given = [convert(framework, x) for x in (np.zeros(5, np.float32), advantage)]
    np.testing.assert_array_equal(np.asarray(objective(*given)), advantage)
    if framework == "jax":
        np.testing.assert_array_equal(jax.jit(objective)(*given), advantage)


@each_framework
@pytest.mark.parametrize("eps", [1e-3, 0.2, 1e2, 1e6])
def test_redescending_in_float32_is_what_it_is_in_float64(framework, eps):
    objective = make_objective("ano", eps)
    u = np.array([-15, -3, -0.5, -1e-2, -1e-5, 1e-5, 1e-2, 0.5, 3, 15], np.float32)
    for sign in (-1.0, 1.0):
        advantage = np.full_like(u, sign)
        exact = objective(*(x.astype(np.float64) for x in (u, advantage)))
        value = objective(*(convert(framework, x) for x in (u, advantage)))
        np.testing.assert_allclose(np.asarray(value), exact, rtol=3e-6, atol=3e-6)


@each_geometry
@each_dtype
@quick
@given(samples(-U_MAX, U_MAX), advantages, st.floats(0.05, 0.95), st.floats(1.05, 4.0))
def test_slope_is_the_closed_form(geometry, dtype, u, advantage, lower, upper):
    u, advantage = u.astype(dtype), advantage.astype(dtype)
    region = TrustRegion(lower, upper)
    _, slope = in_jax(Objective("any", geometry, region), u, advantage)
    expected, terms = slope_by_hand(
        geometry, u.astype(np.float64), advantage.astype(np.float64), region
    )
    # A clipped sample within rounding of an edge may fall on either side of it.
    at_edge = np.minimum(np.abs(u - np.log(lower)), np.abs(u - np.log(upper))) < 1e-5
    decided = ~at_edge | (geometry not in JUMPS)
    # Relative to the terms: the slope is their difference. exp(20) in float32 is itself off by up
    # to 20 roundings of its argument's half unit.
    error = np.abs(slope - expected) / terms
    assert np.max(error, where=decided, initial=0.0) < 32 * np.finfo(dtype).eps


@each_geometry
@quick
@given(samples(-5, 5), advantages)
def test_value_is_the_integral_of_the_slope(geometry, u, advantage):
    # Simpson's rule from r = 1, where J = A: ties the value to the closed-form slope.
    grid = np.linspace(0.0, 1.0, 4001)[:, None] * u
    slope, terms = slope_by_hand(geometry, grid, np.broadcast_to(advantage, grid.shape), REGION)
    weights = np.ones((4001, 1))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    integral = (weights * slope).sum(axis=0) * u / (3 * 4000)
    value = geometry(u, advantage, REGION)
    # A clipped slope jumps at the edge: the rule's error is then one step of the grid.
    bound = BOUNDS.get(geometry, 1e-9)
    assert np.all(np.abs(value - advantage - integral) <= bound * (1 + terms.max(axis=0)))


@pytest.mark.parametrize(
    "geometry", [objectives.quadratic, objectives.symmetric], ids=lambda g: g.__name__
)
@quick
@given(samples(-5, 5), samples(-5, 5), advantages)
def test_soft_geometries_are_concave_in_the_ratio(geometry, u, v, advantage):
    middle = np.log((np.exp(u) + np.exp(v)) / 2)
    ends = geometry(u, advantage, REGION), geometry(v, advantage, REGION)
    slack = 1e-12 * (1 + np.abs(ends[0]) + np.abs(ends[1]))
    assert np.all(geometry(middle, advantage, REGION) >= (ends[0] + ends[1]) / 2 - slack)


def test_soft_geometries_are_strictly_concave_by_hand():
    # r = 1/2, 5/4, 2 with A = 2, upper = 3/2, so c = 1: J = 2 r - 2 (r - 1)^2.
    ratios = np.array([0.5, 1.25, 2.0])
    value = objectives.quadratic(np.log(ratios), np.full(3, 2.0), REGION)
    np.testing.assert_allclose(value, [0.5, 2.375, 2.0], rtol=1e-14)
    # lam = (9/4)/(5/4) = 9/5: J = 2 r - (18/5) (r + 1/r - 2), at 1/2 and 2: 2 r - 9/5.
    value = objectives.symmetric(np.log(ratios), np.full(3, 2.0), REGION)
    np.testing.assert_allclose(value, [-0.8, 2.5 - 3.6 * 0.05, 2.2], rtol=1e-14)


@each_to_the_edge
@quick
@given(sizes, signs, widths, st.floats(0.01, 3.0))
def test_optimum_is_exactly_the_edge(geometry, size, sign, eps_low, eps_high):
    region = TrustRegion.flexible(eps_low, eps_high)
    edge = math.log(region.upper if sign > 0 else region.lower)
    u = edge + np.array([-3.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 3.0])
    advantage = np.full(7, size * sign)
    value, slope = in_jax(Objective("any", geometry, region), u, advantage)
    _, terms = slope_by_hand(geometry, u, advantage, region)
    assert np.argmax(value) == 3
    assert abs(slope[3]) <= 1e-13 * terms[3]
    assert np.all(slope[:3] > 0)
    assert np.all(slope[4:] < 0)


# --- Beyond U_MAX ---------------------------------------------------------------------------------


@each_name
@pytest.mark.parametrize("far", [21.0, 100.0, 500.0, -21.0, -100.0, -500.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_far_samples_follow_the_tangent_in_float32(name, far, sign):
    objective = named(name)
    joint = math.copysign(U_MAX, far)
    u = np.array([joint, far, math.nextafter(joint, far)], np.float32)
    value, slope = in_jax(objective, u, np.full(3, 2 * sign, np.float32))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(slope))
    np.testing.assert_allclose(slope, slope[0], rtol=2e-6)  # XLA rounds lanes differently
    tangent = value[0] + slope[0] * (far - joint)
    np.testing.assert_allclose(value[1], tangent, rtol=1e-6)
    if objective.geometry is objectives.clipped and far * sign > 0:
        assert slope[0] == 0
    elif far > 0 and (name == "sapo" or (name in ("ano", "dpo") and sign > 0)):
        assert abs(slope[0]) < 1e-30  # a gain that fades with the distance, by design
    else:
        assert np.all(slope != 0)


@each_geometry
@pytest.mark.parametrize("joint", [-U_MAX, U_MAX])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_value_and_slope_are_continuous_at_the_joint(geometry, joint, sign):
    step = 1e-6
    u = joint + step * np.array([-1.0, 0.0, 1.0])
    value, slope = in_jax(Objective("any", geometry, REGION), u, np.full(3, sign))
    expected, _ = slope_by_hand(geometry, u, np.full(3, sign), REGION)
    # A gain that fades may be 0 for one and nearly so for the other.
    np.testing.assert_allclose(slope, np.full(3, expected[1]), rtol=4 * step, atol=1e-100)
    np.testing.assert_allclose(np.diff(value), expected[1] * step, rtol=1e-5, atol=1e-14)


# --- Facts of one geometry ------------------------------------------------------------------------


@quick
@given(st.floats(0.01, 5.0), samples(0.5, 3.0))
def test_symmetric_penalty_of_a_geometric_region(eps, u):
    k = 1 / ((1 + eps) ** 2 - 1)
    r, one = np.exp(u), np.ones(K)
    distance = (r - 1) ** 2 / r
    mars = objectives.mars(eps)
    np.testing.assert_allclose((r - mars(u, one)) / distance, 1 + k, rtol=1e-11)
    np.testing.assert_allclose((-r - mars(u, -one)) / distance, k, rtol=1e-10)


@pytest.mark.parametrize("name", MIRRORED)
@quick
@given(samples(-30, 30), advantages, st.floats(0.01, 5.0))
def test_good_at_r_is_treated_as_bad_at_its_inverse(name, u, advantage, eps):
    objective = make_objective(name, eps)
    value, slope = in_jax(objective, u, advantage)
    mirrored, mirrored_slope = in_jax(objective, -u, -advantage)
    # 2 |A| sign(A), whatever u is, up to the rounding of the two values.
    rounding = 1e-13 * (np.abs(value) + np.abs(slope) + np.abs(advantage)) * 30
    assert np.all(np.abs(value - mirrored - 2 * advantage) <= rounding)
    assert np.all(np.abs(slope + mirrored_slope) <= rounding)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - set(MIRRORED)))
def test_no_other_objective_has_that_symmetry(name):
    # 0.18 < log(1.2) lies within every region: a clipped objective has r + 1/r there, and a
    # constant further out.
    objective = named(name)
    u, one = np.array([0.0, 0.18, 0.5, 1.0, 2.0]), np.ones(5)
    difference = objective(u, one) - objective(-u, -one)
    assert np.ptp(difference) > 0.03


@quick
@given(samples(0.01, 5.0))
def test_symmetric_cost_is_equal_at_inverse_ratios(u):
    one = np.ones(K)
    cost = np.exp(u) - objectives.symmetric(u, one, REGION)
    mirrored = np.exp(-u) - objectives.symmetric(-u, one, REGION)
    np.testing.assert_allclose(cost, mirrored, rtol=1e-9)


def test_symmetric_cost_is_exact_near_ratio_one_in_float32():
    # r + 1/r - 2 would be off by about 1e-7, times lam = 500 here.
    region, u = TrustRegion.geometric(1e-3), np.array([1e-4, -1e-4], np.float32)
    value = objectives.symmetric(u, np.ones(2, np.float32), region)
    lam = 1.001**2 / (1.001**2 - 1)
    np.testing.assert_allclose(value, np.exp([1e-4, -1e-4]) - lam * 1e-8, rtol=1.5e-7)


def test_clipped_has_no_gradient_beyond_the_region_and_a_full_one_elsewhere():
    u = np.log(np.array([0.5, 0.69, 0.71, 1.49, 1.51, 3.0]))
    objective = Objective("any", objectives.clipped, REGION)
    value, slope = in_jax(objective, u, np.full(6, 2.0))
    np.testing.assert_allclose(slope, [1.0, 1.38, 1.42, 2.98, 0.0, 0.0], rtol=1e-12)
    np.testing.assert_allclose(value, [1.0, 1.38, 1.42, 2.98, 3.0, 3.0], rtol=1e-12)
    value, slope = in_jax(objective, u, np.full(6, -2.0))
    np.testing.assert_allclose(slope, [0.0, 0.0, -1.42, -2.98, -3.02, -6.0], rtol=1e-12)
    np.testing.assert_allclose(value, [-1.4, -1.4, -1.42, -2.98, -3.02, -6.0], rtol=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_slopes_as_the_ratio_vanishes(sign):
    # One nat further down: the quadratic slope shrinks by e, the symmetric one grows by e.
    u, advantage = np.array([-16.0, -17.0, -18.0]), np.full(3, sign)
    _, slope = in_jax(Objective("any", objectives.quadratic, REGION), u, advantage)
    np.testing.assert_allclose(slope[1:] / slope[:-1], math.exp(-1), rtol=1e-6)
    _, slope = in_jax(Objective("any", objectives.symmetric, REGION), u, advantage)
    assert np.all(slope > 0)
    np.testing.assert_allclose(slope[1:] / slope[:-1], math.e, rtol=1e-12)


# --- Facts of the newer ones ----------------------------------------------------------------------


def value_and_slope(geometry, ratios, advantage, region):
    u = np.zeros(K)  # as in the other tests, so that JAX compiles nothing anew
    u[: len(ratios)] = np.log(ratios)
    value, slope = in_jax(Objective("any", geometry, region), u, np.full(K, advantage))
    return value[: len(ratios)], slope[: len(ratios)]


def test_rolled_back_turns_round_at_the_edge_by_hand():
    region, ratios = TrustRegion(0.75, 1.25), [0.5, 0.74, 1.24, 2.0]
    value, slope = value_and_slope(objectives.rolled_back, ratios, 2.0, region)
    np.testing.assert_allclose(value, [1.0, 1.48, 2.48, 2 * (1.3 * 1.25 - 0.6)], rtol=1e-13)
    np.testing.assert_allclose(slope, [1.0, 1.48, 2.48, -1.2], rtol=1e-13)
    value, slope = value_and_slope(objectives.rolled_back, ratios, -2.0, region)
    left = [-2 * (1.3 * 0.75 - 0.3 * r) for r in (0.5, 0.74)]
    np.testing.assert_allclose(value, [*left, -2.48, -4.0], rtol=1e-13)
    np.testing.assert_allclose(slope, [0.3, 0.444, -2.48, -4.0], rtol=1e-13)


def test_rolled_back_pulls_less_and_less_as_the_ratio_vanishes():
    _, slope = value_and_slope(objectives.rolled_back, [1e-2, 1e-4, 1e-6], -1.0, REGION)
    np.testing.assert_allclose(slope, [3e-3, 3e-5, 3e-7], rtol=1e-12)


def test_capped_by_hand():
    # eps = 1, A = 1: lam = 4/3, the slope 4/(3 r) - r/3 is 2 where r^2 + 6 r = 4, and -2 where
    # r^2 - 6 r = 4.
    region, low, high = TrustRegion.geometric(1.0), 13**0.5 - 3, 13**0.5 + 3
    ratios = np.array([low / math.e, low, 1.5, high, high * math.e])
    value, slope = value_and_slope(objectives.capped, ratios, 1.0, region)
    np.testing.assert_allclose(slope, [2, 2, 4 / 4.5 - 0.5, -2, -2], rtol=1e-13)
    inside = ratios[1:4] - 4 / 3 * (ratios[1:4] + 1 / ratios[1:4] - 2)
    np.testing.assert_allclose(value[1:4], inside, rtol=1e-13)
    np.testing.assert_allclose(value[[0, 4]], value[[1, 3]] - 2, rtol=1e-13)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@quick
@given(st.floats(0.05, 4.0), samples(-30, 30))
def test_capped_is_symmetric_with_a_bounded_slope(sign, eps, u):
    advantage, region = np.full(K, 3 * sign), TrustRegion.geometric(eps)
    _, slope = in_jax(Objective("any", objectives.capped, region), u, advantage)
    _, uncapped = in_jax(Objective("any", objectives.symmetric, region), u, advantage)
    np.testing.assert_allclose(slope, np.clip(uncapped, -6, 6), rtol=1e-9, atol=1e-12)


def test_constants_of_redescending_are_those_of_its_properties():
    t = np.linspace(-400, 400, 800_001)
    gain = ano_gain(t)
    assert ano_gain(0.0) == pytest.approx(1, rel=1e-13)
    assert ano_gain(1.0) == 0
    assert gain.min() == pytest.approx(-1.5, rel=1e-8)
    assert gain[0] == pytest.approx(10)
    assert abs(gain[-1]) < 1e-40
    falls, rises = np.split(np.diff(gain), [gain.argmin()])
    assert falls.max() < 1e-12 > -rises.min()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_redescending_is_the_published_integral(sign):
    # G(x) = Phi(x) + 1 - Phi(1) for a good action, 2 - G(2 - r) for a bad one.
    eps, ratios = 0.25, np.array([0.01, 0.5, 0.9, 1.25, 1.3, 2.0])
    c, z_at = (ANO_NU + 1) / (ANO_NU - 1), lambda x: ANO_K * ((x - 1) / eps - 1)

    def phi(x):
        z = z_at(x)
        return (10 * eps / ANO_K) * (
            z - (c + 1) * np.log1p(np.exp(z)) + c * np.log(np.exp(z) + ANO_NU)
        )

    def shaped(x):
        return phi(x) + 1 - phi(1.0)

    expected = shaped(ratios) if sign > 0 else -(2 - shaped(2 - ratios))
    region = TrustRegion.additive(eps)
    value, slope = value_and_slope(objectives.redescending, ratios, sign, region)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    gain = slope / (ratios * sign)
    assert np.all((gain > -1.5) & (gain < 10))


def test_redescending_lets_go_of_outliers():
    _, slope = value_and_slope(objectives.redescending, [1.3, 2.0, 3.0, 30.0], 1.0, REGION)
    assert np.all(slope[1:] < 0)
    assert abs(slope[3]) < 1e-4 < abs(slope[1])


def test_gated_is_the_published_gate_at_width_one():
    region, ratios = TrustRegion.additive(1.0), np.array([0.01, 0.5, 1.0, 1.5, 4.0])
    for sign, tau in ((2.0, 1.0), (-2.0, 1.05)):
        value, slope = value_and_slope(objectives.gated, ratios, sign, region)
        gate = 1 / (1 + np.exp(-tau * (ratios - 1)))
        np.testing.assert_allclose(value, sign * (4 / tau * gate + 1 - 2 / tau), rtol=1e-13)
        np.testing.assert_allclose(slope, sign * 4 * ratios * gate * (1 - gate), rtol=1e-12)


def test_gated_never_pulls_back_what_moved_as_the_advantage_wished():
    ratios = np.geomspace(1e-6, 10, K)
    for sign in (1.0, -1.0):
        _, slope = value_and_slope(objectives.gated, ratios, sign, REGION)
        assert np.all(sign * slope > 0)


def test_discovered_is_the_published_drift_at_width_one():
    region, ratios = TrustRegion.additive(1.0), np.array([0.05, 0.5, 1.0, 1.5, 4.0])
    for advantage in (3.0, -3.0):
        value, slope = value_and_slope(objectives.discovered, ratios, advantage, region)
        x = (ratios - 1 if advantage > 0 else np.log(ratios)) * advantage
        width = 2.0 if advantage > 0 else 0.6
        drift = np.maximum(x - width * np.tanh(x / width), 0)
        np.testing.assert_allclose(value, ratios * advantage - drift, rtol=1e-13)
        if advantage > 0:
            expected = ratios * np.where(ratios > 1, sech2(x / width), 1)
        else:
            expected = ratios - np.where(ratios < 1, np.tanh(x / width) ** 2, 0)
        np.testing.assert_allclose(slope, advantage * expected, rtol=1e-12)


def test_discovered_pulls_a_bad_action_back_by_its_advantage():
    _, slope = value_and_slope(objectives.discovered, [1e-3, 1e-6, 1e-8], -2.0, REGION)
    np.testing.assert_allclose(slope, 2.0, rtol=2e-3)


# --- Wider and narrower regions -------------------------------------------------------------------

WIDE = (1.0, 1.5, 4.0, 1e3, 1e6)


@each_geometry
@pytest.mark.parametrize("eps", WIDE)
def test_nothing_but_a_drift_stops_a_bad_action_without_a_lower_edge(geometry, eps):
    u = np.array([-19.0, -5.0, -2.0, -0.7, -0.2, 0.0, 0.4, 2.0])
    objective = Objective("any", geometry, TrustRegion.additive(eps))
    _, slope = in_jax(objective, u, np.full(K, -1.0))
    if geometry is objectives.discovered and eps < 1e4:  # whose width is no edge
        assert slope[0] > 0
    else:
        assert np.all(slope < 0)


@pytest.mark.parametrize("lower", [0.0, -0.5, -1e6])
def test_the_limit_without_a_lower_edge(lower):
    u, one = np.array([-500.0, -19.0, -5.0, -1.0, 0.0, 0.1, 1.0, 3.0]), np.ones(K)
    region = TrustRegion(lower, 1.5)
    value, slope = in_jax(Objective("any", objectives.symmetric, region), u, -one)
    np.testing.assert_allclose(slope, -np.exp(np.maximum(u, -20)), rtol=1e-13)
    np.testing.assert_allclose(value[1:], -np.exp(u[1:]), rtol=1e-13)
    value, slope = in_jax(Objective("any", objectives.logarithmic, region), u, -one)
    np.testing.assert_array_equal(slope, -one)
    np.testing.assert_allclose(value, -(1 + u), rtol=1e-13)


@pytest.mark.parametrize("name", ["symmetric", "logarithmic", "capped"])
def test_the_limit_is_one(name):
    u, bad = np.linspace(-2, 2, 9), np.full(9, -1.0)
    near, at = (getattr(objectives, name)(u, bad, TrustRegion(x, 1.5)) for x in (1e-300, 0.0))
    np.testing.assert_allclose(near, at, atol=1e-2)


EXTREMES = np.array([-500.0, -20.0, -3.0, -0.1, 0.0, 0.1, 3.0, 20.0, 500.0], np.float32)


@each_name
def test_widths_that_are_traced_give_the_same_and_are_finite_everywhere(name):
    u = jnp.asarray(np.stack([EXTREMES, EXTREMES]))
    advantage = jnp.asarray([[2.0], [-2.0]], jnp.float32)

    def measured(objective):
        value, pull = jax.vjp(lambda u: objective(u, advantage), u)
        return value, pull(jnp.ones_like(value))[0]

    traced = jax.jit(lambda low, high: measured(named(name).within(low, high)))
    sizes = (1e-3, 0.2, 0.95, 1.0, 1.5, 10.0, 1e6)
    constant = jax.jit(lambda: [measured(named(name).within(eps, eps)) for eps in sizes])()
    for eps, pair in zip(sizes, constant, strict=True):
        for ours, expected in zip(traced(jnp.float32(eps), jnp.float32(eps)), pair, strict=True):
            assert np.isfinite(ours).all()
            assert np.isfinite(expected).all()
            # 1 + eps - 1 is eps but for rounding, which counts where eps is small.
            bound = 2e-4 + 1e-6 / eps
            scale = np.abs(expected).max() if eps > 1e3 else 1.0
            np.testing.assert_allclose(ours, expected, rtol=bound, atol=2e-4 * scale)


@each_name
@pytest.mark.parametrize("eps", [0.2, 1.0, 4.0])
def test_widths_may_be_tensors(name, eps):
    u = np.stack([EXTREMES, EXTREMES]).astype(np.float64)
    advantage = np.array([[2.0], [-2.0]])
    width = convert("torch", np.array(eps))
    value, slope = in_torch(named(name).within(width, width), u, advantage)
    expected = in_jax(named(name).within(eps, eps), u, advantage)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(value, expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-9, atol=1e-9)


@each_name
def test_a_wider_region_lets_a_sample_go_further(name):
    # What a controller of eps relies on.
    u, advantage = np.array([0.15, -0.15] * 4), np.array([1.0, -1.0] * 4)
    slopes = [
        in_jax(named(name).within(eps, eps), u, advantage)[1] * advantage
        for eps in (0.1, 0.2, 0.5, 0.9, 1.0, 2.0, 10.0)
    ]
    assert np.all(np.diff(slopes, axis=0) >= 0)
    assert np.all(slopes[-1] > slopes[0])


def test_the_clip_has_its_whole_slope_exactly_at_an_edge():
    """Where the lesser of two equal numbers has one of libraries' own making."""
    region, advantage = TrustRegion.additive(0.2), jnp.float32([1.5, -2.0])
    # log-ratios whose float32 ratio is an edge's
    for edge in (region.lower, region.upper):
        near = np.float32(np.log(edge)) + np.arange(-40, 41, dtype=np.float32) * 1.2e-8
        u = near[np.asarray(jnp.exp(jnp.float32(near))) == np.float32(edge)][:1]
        assert len(u)
        slope = jax.grad(lambda u, a: objectives.clipped(u, a, region).sum())
        for a in advantage:
            np.testing.assert_allclose(slope(jnp.float32(u), a), np.float32(edge) * a, rtol=1e-6)
