import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.objectives import MAX_EPS, MIN_EPS, TrustRegion
from objective_cases import convert, each_framework

KINDS = ("additive", "geometric", "flexible")


def test_regions_by_hand():
    assert TrustRegion.additive(0.25) == TrustRegion(0.75, 1.25)
    assert TrustRegion.geometric(0.25) == TrustRegion(0.8, 1.25)
    assert TrustRegion.geometric(3.0) == TrustRegion(0.25, 4.0)
    assert TrustRegion.flexible(0.25, 0.5) == TrustRegion(0.75, 1.5)
    assert TrustRegion.additive(1.0) == TrustRegion(0.0, 2.0)  # no lower edge is left
    assert TrustRegion.additive(4.0) == TrustRegion(-3.0, 5.0)
    assert TrustRegion.flexible(1.5, 0.5) == TrustRegion(-0.5, 1.5)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (-math.inf, 1.2, "lower .*between -inf and 1, got -inf; .*just above -inf"),
        (1.0, 1.2, "lower .*got 1.0; .*just below 1"),
        (math.nan, 1.2, "lower .*got nan"),
        (0.8, 1.0, "upper .*got 1.0; .*just above 1"),
        (0.8, math.inf, "upper .*got inf"),
    ],
)
def test_region_refuses_edges_out_of_range(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        TrustRegion(lower, upper)


@pytest.mark.parametrize(
    ("kind", "low", "high", "message"),
    [
        ("additive", 0.0, 0.0, r"^eps of an additive region .*got 0\.0; .*just above 0"),
        ("additive", 2e6, 2e6, r"^eps of an additive region .*1e\+06, got 2000000\.0; .*1e\+06$"),
        ("geometric", 1e-7, 1e-7, r"^eps of a geometric region .*from 1e-06 .*got 1e-07"),
        ("geometric", "1", "1", "^eps of a geometric region must be a number above 0, got '1'"),
        ("flexible", -0.1, 0.2, r"^eps_low .*got -0\.1"),
        ("flexible", 0.1, math.inf, r"^eps_high .*got inf"),
        ("flexible", True, 0.2, r"^eps_low must be a number above 0, got True"),
    ],
)
def test_region_refuses_widths_out_of_range(kind, low, high, message):
    with pytest.raises(ValueError, match=message):
        TrustRegion.of(kind, low, high)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [MIN_EPS, 0.2, 1.0, 3.0, MAX_EPS])
def test_widths_are_what_a_region_is_made_of(kind, eps):
    low = 0.5 * eps + 0.5e-6 if kind == "flexible" else eps
    region = TrustRegion.of(kind, low, eps)
    assert region.kind == kind
    assert region.widths == pytest.approx((low, eps), rel=1e-9)
    assert TrustRegion.of(kind, *region.widths).upper == pytest.approx(region.upper, rel=1e-15)
    assert np.float32(region.lower) < 1 < np.float32(region.upper) < math.inf


def test_widths_of_a_region_from_its_edges():
    assert TrustRegion(0.75, 1.5).widths == (0.25, 0.5)
    assert TrustRegion(-1.0, 1.5).widths == (2.0, 0.5)
    assert TrustRegion(0.5, 2.0, "geometric").widths == (1.0, 1.0)


@each_framework
@pytest.mark.parametrize("kind", KINDS)
def test_widths_may_be_arrays(framework, kind):
    low, high = (convert(framework, np.array(x, np.float32)) for x in (1.5, 0.5))
    region = TrustRegion.of(kind, low, high)
    assert region.upper == 1.5
    assert float(region.lower) == pytest.approx(1 / 1.5 if kind == "geometric" else -0.5)
    assert type(region.upper) is type(1 + high)
    assert [float(x) for x in region.widths] == [0.5 if kind == "geometric" else 1.5, 0.5]


def test_widths_may_be_traced():
    def upper(low, high):
        return TrustRegion.of("geometric", low, high).lower

    assert jax.jit(upper)(jnp.float32(7), jnp.float32(3)) == 0.25
