import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import mannwhitneyu, trim_mean

from marsrl.report import stats

quick = settings(derandomize=True, deadline=None, max_examples=50)
grids = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.floats(-1e3, 1e3),
)
STATISTICS = {
    "iqm": stats.iqm,
    "gap": stats.optimality_gap,
    "family mean": lambda x: stats.family_mean(x, ["a", "b", *"a" * (len(x) - 2)][: len(x)]),
    "profile": lambda x: stats.performance_profile(x, [0.0, 0.5]),
    # each task against another one
    "improvement": lambda x: stats.probability_of_improvement(x, x[::-1]),
}
each_statistic = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)


def scores(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- normalised scores -------------------------------------------------------------------------


def test_scores_are_zero_at_the_low_bound_and_one_at_the_high():
    # task 0 from 1 to 3, task 1 from -20 to 0
    x = stats.normalize_scores([[1.0, 3.0, 7.0], [-20.0, 0.0, -25.0]], [1.0, -20.0], [3.0, 0.0])
    np.testing.assert_array_equal(x, [[0.0, 1.0, 3.0], [0.0, 1.0, -0.25]])


def test_curves_are_normalised_point_by_point():
    x, low, high = scores(3, 4, 5), np.array([-1.0, 0.0, 1.0]), np.array([0.0, 2.0, 4.0])
    curves = stats.normalize_scores(x, low, high)
    for k in range(5):
        at_k = stats.normalize_scores(x[..., k], low, high)
        np.testing.assert_array_equal(curves[..., k], at_k)


def test_missing_scores_stay_missing():
    x = stats.normalize_scores([math.nan, 2.0], [0.0, 0.0], [1.0, 4.0])
    np.testing.assert_array_equal(x, [math.nan, 0.5])


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.0], [1.0], r"x \(2, 3\), low \(1,\) and high \(1,\)"),
        ([0.0, 0.0], 1.0, r"high \(\)"),
        ([0.0, 1.0], [1.0, 1.0], r"low\[1\] = 1.0 and high\[1\] = 1.0"),
        ([math.nan, 0.0], [1.0, 1.0], r"low\[0\] = nan"),
        ([0.0, 0.0], [1.0, math.inf], r"high\[1\] = inf"),
    ],
)
def test_bounds_that_are_refused(low, high, message):
    with pytest.raises(ValueError, match=message):
        stats.normalize_scores(scores(2, 3), low, high)


# --- statistics --------------------------------------------------------------------------------


@quick
@given(grids)
def test_iqm_is_the_trimmed_mean_of_scipy(x):
    assert stats.iqm(x) == pytest.approx(trim_mean(x, 0.25, axis=None), rel=1e-9, abs=1e-9)


def test_iqm_is_worked_by_hand():
    # -5 1 2 3 4 9: a quarter of six is one and a half, so one is cut at each end
    assert stats.iqm([[9.0, 1.0, 2.0], [3.0, 4.0, -5.0]]) == 2.5
    # 0 0 1 2 4 8 16 32: two at each end
    assert stats.iqm([[0.0, 1.0, 4.0, 16.0], [0.0, 2.0, 8.0, 32.0]]) == 15 / 4
    # three scores have no quarter
    assert stats.iqm([[0.0, 1.0, 8.0]]) == 3.0


def test_gap_counts_what_is_missing_to_the_target():
    x = [[0.5, 1.5], [1.0, -1.0]]
    assert stats.optimality_gap(x) == (0.5 + 0 + 0 + 2) / 4
    assert stats.optimality_gap(x, target=2.0) == (1.5 + 0.5 + 1 + 3) / 4


def test_a_family_counts_once_however_many_tasks_it_has():
    x = [[0.0, 1.0], [1.0, 1.0], [0.25, 0.75]]
    # the first two 0.75, the last one 0.5
    assert stats.family_mean(x, ("lbf", "lbf", "mpe")) == (0.75 + 0.5) / 2
    assert stats.family_mean(x, ("lbf", "mpe", "lbf")) == (0.5 + 1.0) / 2
    assert stats.family_mean(x, ("mpe",) * 3) == np.mean(x)
    with pytest.raises(ValueError, match="x has 3 tasks and 2 families"):
        stats.family_mean(x, ("lbf", "mpe"))


def test_profile_counts_the_runs_above_each_threshold():
    x = [[0.5, 1.5], [1.0, -1.0]]
    profile = stats.performance_profile(x, [-2.0, 0.0, 0.5, 1.0, 1.5])
    np.testing.assert_array_equal(profile, [1.0, 0.75, 0.5, 0.25, 0.0])


def test_area_under_the_profile_and_the_gap_fill_the_target():
    # scores in eighths, so that 64 thresholds between them integrate the steps exactly
    x = np.random.default_rng(1).integers(0, 17, size=(5, 7)) / 8
    middles = (np.arange(64) + 0.5) / 64
    area = stats.performance_profile(x, middles).mean()
    assert area == pytest.approx(1 - stats.optimality_gap(x), rel=1e-12)


def test_improvement_counts_pairs_within_tasks():
    # 1 < 2, 1 < 3, 2 = 2, 2 < 3: half a win of four
    x, y = np.array([[1.0, 2.0]]), np.array([[2.0, 3.0]])
    assert stats.probability_of_improvement(x, y) == 0.125
    # on a second task 50 wins against 10 and loses to 60, twice each: pairs across tasks would win
    x, y = np.array([[1.0, 2.0], [50.0, 50.0]]), np.array([[2.0, 3.0], [10.0, 60.0]])
    assert stats.probability_of_improvement(x, y) == (0.125 + 0.5) / 2
    # three seeds against two: 1 beats none, 2 ties one, 3 beats one and ties one
    share = stats.probability_of_improvement([[1.0, 2.0, 3.0]], [[2.0, 3.0]])
    assert share == pytest.approx((0 + 0.5 + 1.5) / 6)


@quick
@given(grids, st.integers(1, 5), st.integers(0, 100))
def test_improvement_is_the_mann_whitney_statistic(x, seeds, seed):
    # rounded, so that there are ties
    x = x.round(-2)
    y = np.random.default_rng(seed).choice(x.ravel(), size=(len(x), seeds))
    expected = np.mean([mannwhitneyu(a, b).statistic for a, b in zip(x, y, strict=True)])
    ours = stats.probability_of_improvement(x, y)
    assert ours == pytest.approx(expected / (x.shape[1] * seeds))
    assert stats.probability_of_improvement(y, x) == pytest.approx(1 - ours)
    assert stats.probability_of_improvement(x, x) == 0.5


def test_improvement_asks_for_the_same_tasks():
    with pytest.raises(ValueError, match="x has 2 tasks and y 3"):
        stats.probability_of_improvement(scores(2, 4), scores(3, 4))


def test_improvement_only_looks_at_the_order_within_a_task():
    x, y = scores(4, 3), scores(4, 5, seed=1)
    scale = np.array([[1.0], [10.0], [0.1], [3.0]])
    moved = stats.probability_of_improvement(np.exp(x) * scale, np.exp(y) * scale)
    assert moved == stats.probability_of_improvement(x, y)


@quick
@given(grids, st.floats(-5, 5), st.floats(-100, 100))
def test_iqm_moves_with_affine_maps(x, scale, shift):
    expected = scale * stats.iqm(x) + shift
    assert stats.iqm(scale * x + shift) == pytest.approx(expected, rel=1e-9, abs=1e-8)


@each_statistic
def test_the_order_of_seeds_does_not_matter(statistic):
    x = scores(5, 6)
    shuffled = np.random.default_rng(3).permuted(x, axis=1)
    assert (shuffled != x).any()
    np.testing.assert_allclose(statistic(shuffled), statistic(x), rtol=1e-12)


@each_statistic
def test_further_axes_are_kept(statistic):
    x = scores(3, 5, 2, 4)
    whole = statistic(x)
    assert whole.shape[:2] == (2, 4)
    for i, j in np.ndindex(2, 4):
        np.testing.assert_allclose(whole[i, j], statistic(x[..., i, j]), rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0], [3.0, math.nan]], r"x\[1, 1\] = nan"),
        ([[-math.inf, 2.0]], r"x\[0, 0\] = -inf"),
        ([[1.0, 2.0], [3.0, 4.0], [5.0]], r"x\[2\] has shape \(1,\) and x\[0\] \(2,\)"),
        ([1.0, 2.0], r"shape \(2,\), expected at least 2 axes"),
        (np.zeros((3, 0)), r"shape \(3, 0\)"),
        ([], r"shape \(0,\)"),
        ([["high"]], "high"),
    ],
)
@each_statistic
def test_what_is_no_full_grid_is_refused(statistic, x, message):
    with pytest.raises(ValueError, match=message):
        statistic(x)


def test_mean_present_skips_what_is_missing():
    x = np.array([[1.0, math.nan, 5.0], [math.nan] * 3])
    np.testing.assert_array_equal(stats.mean_present(x, axis=1), [3.0, math.nan])


def test_mean_present_weighs_what_is_there():
    x = np.array([[1.0, math.nan, 4.0], [math.nan] * 3])
    weights = np.array([1.0, 5.0, 3.0])
    np.testing.assert_array_equal(stats.mean_present(x, 1, weights), [13 / 4, math.nan])


def test_a_row_of_training_covers_the_steps_since_the_run_s_own_one_before():
    step = np.array([10.0, 20, 50])
    logged = np.array([[True, True, True], [False, True, True], [True, False, False]])
    expected = [[10, 10, 30], [0, 20, 30], [10, 0, 0]]
    np.testing.assert_array_equal(stats.steps_covered(step, logged), expected)


# --- few seeds ---------------------------------------------------------------------------------


def test_few_seeds_are_said_to_be_few():
    assert stats.coverage_note(3) == (
        "3 seeds: nominal 95 % intervals of a mean cover only about 75 % at 3 seeds, 84 % at 5 "
        "and 90 % at 10."
    )
    assert "9 seeds" in stats.coverage_note(9)
    assert "One seed: its interval is the point itself" in stats.coverage_note(1)
    assert stats.coverage_note(10) is None
