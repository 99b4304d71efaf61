import math

import numpy as np
import pytest
import scipy.stats

from marsrl.report import bootstrap as module
from marsrl.report import stats
from marsrl.report.bootstrap import (
    bootstrap,
    degrees_of_freedom,
    mean_band,
    percentiles,
    stratified_interval,
    widened,
)
from marsrl.report.stats import iqm, optimality_gap, probability_of_improvement


def mean(x):
    return x.mean(axis=(0, 1))


def profile(x):
    return stats.performance_profile(x, [-0.5, 0.0, 0.5])


def scores(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def shares(values):
    """How often each value occurs."""
    distinct, count = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), (count / len(values)).tolist(), strict=True))


# --- which seeds are drawn ---------------------------------------------------------------------


def test_tasks_are_resampled_apart():
    # A task's mean is 0, 1, 2 or 10, 12, 14, each with probability 1/4, 1/2, 1/4; then both halved
    # and added. Common draws would give 5 in a quarter of all cases, pooled tasks would give 0.
    values = bootstrap(mean, [[0.0, 2.0], [10.0, 14.0]], resamples=20_000)
    sixteenths = {5.0: 1, 5.5: 2, 6.0: 3, 6.5: 4, 7.0: 3, 7.5: 2, 8.0: 1}
    # five standard errors of a share
    assert shares(values) == pytest.approx({x: n / 16 for x, n in sixteenths.items()}, abs=0.015)


def test_methods_are_resampled_apart():
    # The same draws in both would always give 0.
    x = [[0.0, 2.0]]
    values = bootstrap(lambda x, y: mean(x) - mean(y), x, x, resamples=20_000)
    sixteenths = {-2.0: 1, -1.0: 4, 0.0: 6, 1.0: 4, 2.0: 1}
    assert shares(values) == pytest.approx({x: n / 16 for x, n in sixteenths.items()}, abs=0.018)


@pytest.mark.parametrize("statistic", [iqm, optimality_gap, profile])
def test_tasks_without_spread_have_no_interval(statistic):
    x = np.repeat([[-1.0], [0.25], [7.0]], 5, axis=1)
    low, high = stratified_interval(statistic, x, resamples=200)
    np.testing.assert_array_equal(low, statistic(x))
    np.testing.assert_array_equal(high, statistic(x))


@pytest.mark.parametrize("statistic", [iqm, optimality_gap, profile])
def test_interval_of_one_seed_is_the_statistic(statistic):
    x = scores(6, 1)
    low, high = stratified_interval(statistic, x, resamples=50)
    np.testing.assert_allclose(low, statistic(x), rtol=1e-12)
    np.testing.assert_array_equal(low, high)


def test_points_of_a_curve_move_with_their_seed():
    x = scores(3, 4)
    values = bootstrap(mean, np.stack([x, 10 - 2 * x], axis=-1), resamples=100)
    np.testing.assert_allclose(values[:, 1], 10 - 2 * values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(values[:, 0], bootstrap(mean, x, resamples=100), rtol=1e-12)


def test_seeds_decide_and_chunks_do_not(monkeypatch):
    x, y = scores(3, 5, 2), scores(3, 4, 2, seed=1)

    def values(**settings):
        return bootstrap(probability_of_improvement, x, y, resamples=99, **settings)

    expected = values(seed=7)
    assert expected.shape == (99, 2)
    assert (expected != values(seed=8)).any()
    for chunk in (1, 10 * (x.size + y.size)):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        np.testing.assert_array_equal(values(seed=7), expected)


# --- intervals ---------------------------------------------------------------------------------


def test_interval_of_an_aggregate_agrees_with_scipy():
    tasks = scores(5, 7) + np.arange(5)[:, None]

    def trimmed(*x, axis):
        # scipy resamples each of several samples on its own
        assert axis == -1
        return scipy.stats.trim_mean(np.concatenate(x, axis=-1), 0.25, axis=-1)

    theirs = scipy.stats.bootstrap(
        tuple(tasks), trimmed, n_resamples=50_000, method="percentile", rng=np.random.default_rng(6)
    ).confidence_interval
    ours = stratified_interval(iqm, tasks, resamples=50_000)
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_interval_of_two_seeds_is_known_exactly():
    # A resample's mean is 0, 1 or 2 with probability 1/4, 1/2 and 1/4.
    assert stratified_interval(mean, [[0.0, 2.0]]) == (0.0, 2.0)
    assert stratified_interval(mean, [[0.0, 2.0]], confidence=0.4) == (1.0, 1.0)


def test_interval_of_a_mean_agrees_with_scipy():
    x = np.random.default_rng(5).normal(size=12)
    ours = stratified_interval(mean, x[None], resamples=50_000)
    theirs = scipy.stats.bootstrap(
        (x,), np.mean, n_resamples=50_000, method="percentile", rng=np.random.default_rng(6)
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_interval_of_one_seed_is_its_value():
    x = np.array([[[1.5, -0.1, 1e9]]])
    for widen in (False, True):
        low, high = stratified_interval(mean, x, widen=widen)
        np.testing.assert_array_equal(low, x[0, 0])
        np.testing.assert_array_equal(high, x[0, 0])


def test_columns_are_resampled_alike_and_seeds_decide():
    x = scores(1, 5, 3)
    both = np.array(stratified_interval(mean, x, seed=3))
    for column in range(3):
        alone = stratified_interval(mean, x[..., column], seed=3)
        np.testing.assert_allclose(both[:, column], alone, rtol=1e-12)
    assert (both != np.array(stratified_interval(mean, x, seed=4))).any()


def covered(interval, truth):
    low, high = interval
    return np.mean((low <= truth) & (truth <= high))


@pytest.mark.parametrize(("seeds", "stated"), [(3, 0.75), (5, 0.84), (10, 0.90)])
def test_coverage_is_what_the_note_states(seeds, stated):
    x = np.random.default_rng(11).normal(size=(1, seeds, 2000))
    interval = stratified_interval(mean, x, resamples=1000)
    # four standard errors of a share of 2000
    assert covered(interval, 0) == pytest.approx(stated, abs=0.04)


def test_coverage_of_an_aggregate_is_that_of_its_tasks_together():
    # The bootstrap's standard error is sqrt((S - 1) / S) of the right one, and known from
    # T (S - 1) differences. Resampling across tasks this far apart would cover everything.
    tasks, seeds = 6, 3
    x = np.random.default_rng(12).normal(size=(tasks, seeds, 2000))
    x += 10 * np.arange(tasks)[:, None, None]
    t = 1.96 * math.sqrt((seeds - 1) / seeds)
    expected = 1 - 2 * scipy.stats.t.sf(t, tasks * (seeds - 1))
    assert expected == pytest.approx(0.865, abs=0.001)
    interval = stratified_interval(mean, x, resamples=500)
    assert covered(interval, 25.0) == pytest.approx(expected, abs=0.03)


# --- bands -------------------------------------------------------------------------------------


def test_band_leaves_out_steps_that_a_seed_lacks():
    x = np.array([[1.0, math.nan, 3.0], [3.0, 2.0, 5.0]])
    middle, low, high = mean_band(x)
    np.testing.assert_array_equal(middle, [2.0, math.nan, 4.0])
    np.testing.assert_array_equal(low, [1.0, math.nan, 3.0])
    np.testing.assert_array_equal(high, [3.0, math.nan, 5.0])


def test_band_of_nothing_is_nothing():
    assert np.isnan(mean_band(np.array([[1.0, math.nan], [math.nan, 2.0]]))).all()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        ([[1.0, math.nan]], {}, r"arrays\[0\]\[0, 1\] = nan"),
        ([[1.0], [math.inf]], {}, r"arrays\[0\]\[1, 0\] = inf"),
        ([[]], {}, r"shape \(1, 0\)"),
        (1.0, {}, r"shape \(\)"),
        ([[1.0]], {"confidence": 95}, "confidence = 95"),
        ([[1.0]], {"resamples": 0}, "resamples = 0"),
    ],
)
def test_interval_refuses(x, settings, message):
    with pytest.raises(ValueError, match=message):
        stratified_interval(mean, x, **settings)


def test_position_and_array_of_a_bad_score_are_named():
    bad = scores(2, 3)
    bad[1, 2] = math.nan
    with pytest.raises(ValueError, match=r"arrays\[1\]\[1, 2\] = nan"):
        bootstrap(probability_of_improvement, scores(2, 3), bad)


def test_a_statistic_that_mixes_resamples_is_refused():
    with pytest.raises(ValueError, match=r"of 50 resamples has shape \(2,\)"):
        bootstrap(lambda x: x.mean(axis=(1, 2)), scores(2, 3), resamples=50)


# --- few seeds ---------------------------------------------------------------------------------


def test_widening_is_worked_by_hand():
    # 2 tasks of 3 seeds twice: 8 degrees of freedom; three values are at 1/6, 1/2 and 5/6
    factor = math.sqrt(3 / 2) * scipy.stats.t.ppf(5 / 6, 8) / scipy.stats.norm.ppf(5 / 6)
    values = widened(np.array([3.0, 0.0, 1.0]), np.array(1.0), (2, 3), (2, 3))
    np.testing.assert_allclose(values, [1 + 2 * factor, 1 - factor, 1.0], atol=3e-3)
    one = np.array([0.0, 1.0])
    np.testing.assert_array_equal(widened(one, np.array(1.0), (5, 1)), one)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_normal_values_are_widened_to_students_at_every_confidence(confidence):
    """Corrected p values are of far tails, where a 95 % interval's factor is too small."""
    values = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    freedom = np.array([3.0, 8.0, 30.0])
    wide = widened(np.tile(values[:, None], 3), np.zeros(3), (9, 10), freedom=freedom)
    expected = math.sqrt(10 / 9) * scipy.stats.t.ppf((1 + confidence) / 2, freedom)
    low, high = percentiles(wide, confidence)
    # few degrees of freedom: rather too wide than too narrow
    assert (high / expected > 0.993).all()
    assert (high / expected < [1.1, 1.01, 1.001]).all()
    np.testing.assert_allclose(low, -high, rtol=1e-9)


def minus(x, y):
    return mean(x) - mean(y)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_degrees_of_freedom_are_welchs(seeds):
    """Of one task and two methods scipy has them; those of all tasks are worked from variances."""
    x, y = scores(4, seeds, seed=1), 5 * scores(4, seeds + (seeds < 5), seed=2)
    theirs = scipy.stats.ttest_ind(x[0], y[0], equal_var=False).df
    assert degrees_of_freedom(minus, x[:1], y[:1]) == pytest.approx(theirs)
    variance = np.array([z.var(axis=1, ddof=1) / z.shape[1] for z in (x, y)])
    known = np.array([[seeds - 1], [y.shape[1] - 1]])
    expected = variance.sum() ** 2 / (variance**2 / known).sum()
    assert degrees_of_freedom(minus, x, y) == pytest.approx(expected)


def test_degrees_of_freedom_lie_between_those_of_one_task_and_of_all():
    x = np.tile([0.0, 1.0, 2.0], (8, 1))
    assert degrees_of_freedom(mean, x) == pytest.approx(16)
    assert degrees_of_freedom(minus, x, x) == pytest.approx(32)
    one = x * np.array([1.0, 0, 0, 0, 0, 0, 0, 0])[:, None]
    assert degrees_of_freedom(mean, one) == pytest.approx(2)
    assert degrees_of_freedom(mean, 0 * x) == 16
    # the middle half does not see the scores of the task that varies most
    several = scores(8, 3) * np.array([50, 1, 1, 1, 1, 1, 1, 1])[:, None]
    assert degrees_of_freedom(mean, several) < 2.2
    assert degrees_of_freedom(iqm, several) > 6


def test_degrees_of_freedom_of_curves_and_of_many_seeds(monkeypatch):
    x = scores(3, 12, 4)
    found = degrees_of_freedom(mean, x)
    assert found.shape == (4,)
    variance = x.var(axis=1, ddof=1)
    expected = 11 * variance.sum(axis=0) ** 2 / (variance**2).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.2)  # four neighbours of each seed are seen
    monkeypatch.setattr(module, "_CHUNK", 1)
    np.testing.assert_allclose(degrees_of_freedom(mean, x), found, rtol=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_one_task_that_carries_the_variance_does_not_make_a_difference_sure(seeds):
    """Two methods that are the same: 18, 11 and 8 % were called different, 5 % are promised."""
    spread = np.array([0.35, *[0.02] * 7])[:, None, None]
    x, y = (spread * scores(8, seeds, 600, seed=seeds + i) for i in (10, 20))
    interval = stratified_interval(minus, x, y, resamples=400, widen=True)
    assert covered(interval, 0) >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize("statistic", [mean, iqm])
@pytest.mark.parametrize("seeds", [3, 10])
def test_widened_intervals_cover_what_they_promise(statistic, seeds):
    """8 tasks whose true values are 0, 300 times; a plain interval covers about 85 % at 3 seeds."""
    x = scores(8, seeds, 300, seed=seeds)
    low, high = stratified_interval(statistic, x, resamples=400, widen=True)
    covered = np.mean((low <= 0) & (high >= 0))
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300) <= covered < 0.99
    if seeds == 3:
        low, high = stratified_interval(statistic, x, resamples=400)
        assert np.mean((low <= 0) & (high >= 0)) < 0.91
