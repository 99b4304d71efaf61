import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import permutation_test

from marsrl.report import permutation
from marsrl.report.permutation import attainable, holm, shifts


def test_all_of_one_above_all_of_the_other_is_one_way_of_twenty():
    found = shifts([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    assert found.difference == 3.0
    assert (found.p_above(0), found.p_below(0)) == (1 / 20, 1.0)
    # 5 % of the ways at each end: the least shift that mixes them is 3 - 2, the largest 5 - 0
    assert found.interval(0.9) == (1.0, 5.0)
    assert (found.p_above(0.999), found.p_above(1.0)) == (1 / 20, 2 / 20)
    assert (found.p_below(5.001), found.p_below(5.0)) == (1 / 20, 2 / 20)


def test_ties_are_worked_by_hand():
    # deals of 0, 1 | 0, 0 with the 1 on the left, as it was seen: 3 of 6
    found = shifts([0.0, 1.0], [0.0, 0.0])
    assert found.p_above(0) == 3 / 6
    assert found.p_below(0) == 1.0
    same = shifts([1.0] * 5, [1.0] * 5)
    assert (same.p_above(0), same.p_below(0), same.p_above(-1e-6)) == (1.0, 1.0, 1 / 252)
    assert same.interval() == (0.0, 0.0)


@pytest.mark.parametrize("sizes", [(2, 3), (4, 4), (5, 3)])
@pytest.mark.parametrize("shift", [0.0, -0.7, 0.4])
def test_p_values_are_those_of_scipy(sizes, shift):
    rng = np.random.default_rng(sum(sizes))
    x, y = rng.normal(0.3, 1, sizes[0]), rng.normal(0, 1, sizes[1])
    for alternative, ours in (("greater", "p_above"), ("less", "p_below")):
        theirs = permutation_test(
            (x - shift, y), lambda x, y: x.mean() - y.mean(), alternative=alternative
        )
        assert getattr(shifts(x, y), ours)(shift) == pytest.approx(theirs.pvalue)


def test_an_interval_holds_what_is_not_excluded():
    x, y = np.random.default_rng(1).normal(size=(2, 6))
    found = shifts(x, y)
    low, high = found.interval()
    assert low < found.difference < high
    for end, p in ((low, found.p_above), (high, found.p_below)):
        inside, outside = (end + step * np.sign(found.difference - end) for step in (1e-6, -1e-6))
        assert p(inside) > 0.025 >= p(outside)


def test_a_sample_of_deals_is_taken_where_there_are_too_many(monkeypatch):
    x, y = np.random.default_rng(2).normal([[0.6], [0.0]], 1, (2, 8))
    every = shifts(x, y)
    monkeypatch.setattr(permutation, "MOST_DEALS", 100)
    permutation._deals.cache_clear()
    some = shifts(x, y)
    permutation._deals.cache_clear()
    assert len(every.bounds) == math.comb(16, 8) - 1
    assert len(some.bounds) < 100_000
    assert some.p_above(0) == pytest.approx(every.p_above(0), abs=0.01)
    np.testing.assert_allclose(some.interval(), every.interval(), atol=0.05)


@pytest.mark.parametrize("seeds", [65, 100])
def test_many_seeds_are_dealt_out_as_few_are(seeds):
    """The number of a run must fit where deals are kept: 128 and more are none of eight bits."""
    deals = permutation._deals(seeds, seeds)
    assert (deals.min(), deals.max()) == (0, 2 * seeds - 1)
    assert all(len(set(deal)) == seeds for deal in deals[:20].tolist())
    x, y = np.random.default_rng(0).normal([[0.9], [0.0]], 1, (2, seeds))
    apart, alike = shifts(x, y), shifts(x, x + 1e-3 * y)
    # that of Welch's t is as good as exact by now
    error = math.hypot(x.std(ddof=1), y.std(ddof=1)) / math.sqrt(seeds)
    welch = apart.difference + 1.98 * error * np.array([-1, 1])
    np.testing.assert_allclose(apart.interval(), welch, atol=0.1)
    assert apart.p_above(0) < 0.001
    assert min(alike.p_above(0), alike.p_below(0)) > 0.1
    one = shifts([2.0], np.linspace(0, 1, 200))  # few ways, of many runs: all are looked at
    assert one.p_above(0) == pytest.approx(1 / 201)


def test_few_seeds_have_no_interval_of_95_percent():
    # 1 of 2, of 6, of 20, of 70 and of 252 at each end
    levels = [attainable(seeds) for seeds in (1, 2, 3, 4, 5)]
    assert levels == pytest.approx([0.0, 4 / 6, 0.9, 0.95, 0.95])
    assert shifts([1.0], [0.4]).interval() == (0.6, 0.6)
    assert shifts([1.0], [0.4]).p_above(0) == 0.5


@pytest.mark.parametrize("kind", ["normal", "some fail", "solved"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_claims_of_a_difference_where_there_is_none_are_as_rare_as_promised(kind, seeds):
    rng = np.random.default_rng(seeds)
    draw = {
        "normal": lambda: rng.normal(size=(2, seeds)),
        "some fail": lambda: np.where(rng.random((2, seeds)) < 0.3, 0.25, 1.0),
        "solved": lambda: np.where(rng.random((2, seeds)) < 0.9, 1.0, 0.0),
    }[kind]
    found = [shifts(*draw()) for _ in range(400)]
    wrong = np.mean([min(x.p_above(0), x.p_below(0)) <= 0.025 for x in found])
    # of 5 % at most, no more than three standard errors of 400 simulations
    assert wrong <= (0.0 if seeds == 3 else 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400))
    # and the rule can tell: what is clearly apart is found at five seeds
    apart = [shifts(draw()[0] + 9, draw()[1]) for _ in range(20)]
    assert np.mean([x.p_above(0) <= 0.025 for x in apart]) == (seeds == 5)


def test_holm_is_worked_by_hand():
    # 3 x 0.01, 2 x 0.03, and 0.04 that cannot be less than the one before
    assert holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([0.02]) == (0.02,)
    assert holm([]) == ()


def test_holm_errs_no_more_often_than_it_says():
    # p values of 8 true hypotheses, whatever their dependence: here all independent
    p = np.random.default_rng(0).random((4000, 8))
    wrong = np.mean([min(holm(row)) <= 0.05 for row in p])
    assert wrong == pytest.approx(1 - (1 - 0.05 / 8) ** 8, abs=0.01)


def test_all_deals_are_there_once():
    deals = permutation._deals(3, 2)
    assert [tuple(deal) for deal in deals.tolist()] == list(combinations(range(5), 3))
