import math

import numpy as np
import pytest

from marsrl.report.bootstrap import stratified_interval
from marsrl.report.effects import factorial_effects
from marsrl.report.stats import iqm


def cells(values, tasks=2, seeds=3):
    """A grid (G, B, T, S) in which each cell scores the same everywhere."""
    return np.tile(np.array(values, np.float64)[..., None, None], (tasks, seeds))


def scores(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_effects_are_worked_by_hand():
    effects = factorial_effects(cells([[1.0, 2.0], [4.0, 8.0]]), resamples=20)
    assert effects.geometry.value[1, 0] == ((4 - 1) + (8 - 2)) / 2
    assert effects.boundary.value[1, 0] == ((2 - 1) + (8 - 4)) / 2
    # the second boundary adds 4 to the second geometry, and 1 to the first
    assert effects.interaction.value[1, 0, 1, 0] == 4 - 1
    for effect in effects:
        np.testing.assert_array_equal(effect.low, effect.value)
        np.testing.assert_array_equal(effect.high, effect.value)


def test_effects_that_add_up_do_not_interact():
    geometry, boundary = np.array([0.0, 0.25, 1.0]), np.array([0.5, 0.0])
    effects = factorial_effects(cells(geometry[:, None] + boundary), resamples=20)
    np.testing.assert_allclose(effects.geometry.value, geometry[:, None] - geometry, atol=1e-15)
    np.testing.assert_allclose(effects.boundary.value, boundary[:, None] - boundary, atol=1e-15)
    np.testing.assert_array_equal(effects.interaction.value, np.zeros((3, 3, 2, 2)))


def test_an_effect_turns_with_its_pair():
    for effect, axes in zip(
        factorial_effects(scores(3, 2, 4, 5), resamples=200)[1:],
        [(0, 1), (0, 1), (2, 3)],
        strict=True,
    ):
        np.testing.assert_allclose(effect.value, -effect.value.swapaxes(*axes), atol=1e-15)
        np.testing.assert_allclose(effect.low, -effect.high.swapaxes(*axes), atol=1e-12)


def test_interval_is_that_of_a_difference():
    x = scores(2, 1, 4, 5)
    effects = factorial_effects(x, seed=3, resamples=500)

    def difference(first, second):
        return iqm(first) - iqm(second)

    low, high = stratified_interval(difference, x[0, 0], x[1, 0], seed=3, resamples=500)
    assert (effects.geometry.low[0, 1], effects.geometry.high[0, 1]) == (low, high)
    low, high = stratified_interval(iqm, x[0, 0], seed=3, resamples=500)
    assert (effects.cells.low[0, 0], effects.cells.high[0, 0]) == (low, high)


def test_cells_are_resampled_apart():
    same = np.broadcast_to(scores(4, 5), (2, 2, 4, 5))
    for effect in factorial_effects(same, resamples=200)[1:]:
        np.testing.assert_array_equal(effect.value, np.zeros_like(effect.value))
        assert effect.low.min() < 0 < effect.high.max()


def test_bad_scores_are_named():
    x = scores(3, 2, 4, 5)
    x[2, 1, 3, 0] = math.nan
    with pytest.raises(ValueError, match=r"x\[2, 1, 3, 0\] = nan"):
        factorial_effects(x)
    with pytest.raises(ValueError, match="at least 4 axes"):
        factorial_effects(scores(4, 5))
