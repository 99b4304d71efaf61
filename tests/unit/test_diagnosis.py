import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.objectives import OBJECTIVES, U_MAX, TrustRegion, diagnostics, make_objective
from objective_cases import convert, each_dtype, each_framework, in_jax, named

KEYS = {
    "ratio/min",
    "ratio/max",
    "ratio/std",
    "ratio/outside",
    "ratio/collapsed",
    "ratio/teammates",
    "approx_kl",
    "gradient/dead",
    "gradient/corrective",
    "gradient/restoring",
    "gradient/low",
    "gradient/high",
}
WIDE = TrustRegion(0.8, 1.25)

# Two environments, three agents; the second environment's last agent is dead and holds rubbish.
RATIO = np.array([[2.0, 1.0, 0.5], [1.0, 0.0625, 1.0]])
BY_HAND = {
    "log_ratio": np.log(RATIO) + np.array([[0, 0, 0], [0, 0, np.nan]]),
    "advantage": np.array([[2.0, 1.0, -1.0], [1.0, 4.0, np.inf]]),
    "slope": np.array([[0.0, 1.0, 3.0], [1.0, -2.0, np.nan]]),
    "agent_mask": np.array([[True, True, True], [True, True, False]]),
}
# Live r = 2, 1, 1/2, 1, 1/16: mean 73/80, mean square 6.25390625 / 5.
# Outside: 2 (dead gradient), 1/2 (slope 3 > 0 pulls up), 1/16 (slope -2 < 0 pushes down).
# Slopes: their squares are 0, 1, 9, 1, 4, of which r < 1/2 has 4 and r > 2 none.
# |u| in units of log 2: 1, 0, 1 and 0, 4; means of teammates: 1/2, 1, 1/2 and 4, 0.
EXPECTED = {
    "ratio/min": 0.0625,
    "ratio/max": 2.0,
    "ratio/std": math.sqrt(6.25390625 / 5 - (73 / 80) ** 2),
    "ratio/outside": 3 / 5,
    "ratio/collapsed": 1 / 5,
    "ratio/teammates": np.corrcoef([1, 0, 1, 0, 4], [0.5, 1, 0.5, 4, 0])[0, 1],
    "approx_kl": (73 / 16 - 5 - (1 - 1 - 4) * math.log(2)) / 5,
    "gradient/dead": 1 / 5,
    "gradient/corrective": 1 / 3,
    "gradient/restoring": (0 + 3 / 1 - 2 / 4) / 3,
    "gradient/low": 4 / 15,
    "gradient/high": 0,
}


JITTED = jax.jit(diagnostics, static_argnums=4)


def measure(framework="numpy", dtype=np.float64, region=WIDE, **changes):
    """Diagnostics of the case by hand, or of one that differs in `changes`, as floats."""
    arrays = {**BY_HAND, **changes}
    with jax.enable_x64(dtype == np.float64):
        inputs = [
            convert(framework, x if x.dtype == bool else x.astype(dtype)) for x in arrays.values()
        ]
        # One compilation instead of one for each operation.
        measured = JITTED if framework == "jax" else diagnostics
        result = measured(*inputs, region)
        assert all(x.shape == () and x.dtype == inputs[0].dtype for x in result.values())
        return {name: float(x) for name, x in result.items()}


@each_framework
@each_dtype
def test_diagnostics_by_hand(framework, dtype):
    result = measure(framework, dtype)
    assert set(result) == KEYS
    assert result == pytest.approx(EXPECTED, rel=1e-5 if dtype == np.float32 else 1e-12)


def test_diagnostics_under_jit_with_strict_promotion():
    inputs = [jnp.asarray(x) for x in BY_HAND.values()]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        result = jax.jit(diagnostics, static_argnums=4)(*inputs, WIDE)
        jax.jit(lambda *xs: [named(name)(*xs) for name in OBJECTIVES])(*inputs[:2])
    assert {k: float(x) for k, x in result.items()} == pytest.approx(EXPECTED, rel=1e-5)


def test_collapse_threshold_is_a_setting():
    assert (
        float(diagnostics(*BY_HAND.values(), WIDE, collapsed_below=0.6)["ratio/collapsed"]) == 0.4
    )
    assert float(diagnostics(*BY_HAND.values(), WIDE, 0.01)["ratio/collapsed"]) == 0.0


@each_framework
def test_gradient_diagnostics_are_nan_where_nothing_is_outside(framework):
    result = measure(framework, region=TrustRegion(0.01, 3.0))
    assert {k for k, x in result.items() if math.isnan(x)} == {
        "gradient/corrective",
        "gradient/restoring",
    }
    assert result["ratio/outside"] == 0


@each_framework
def test_diagnostics_of_nobody(framework):
    result = measure(framework, agent_mask=np.zeros((2, 3), bool))
    assert result.pop("ratio/teammates") == 0
    assert all(math.isnan(x) for x in result.values())


@each_framework
def test_diagnostics_are_finite_for_a_far_sample_in_float32(framework):
    far = np.array([[500.0, -500.0, 0.0], [0.0, 0.0, 0.0]])
    result = measure(framework, np.float32, log_ratio=far)
    assert all(math.isfinite(x) for x in result.values())
    assert result["ratio/max"] == pytest.approx(math.exp(U_MAX), rel=1e-5)
    assert result["ratio/min"] == pytest.approx(math.exp(-U_MAX), rel=1e-5)


def test_approx_kl_of_a_far_sample_is_not_clipped():
    # e^-20 - 1 + 500 for one of the five live samples.
    result = measure(log_ratio=np.array([[-500.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert result["approx_kl"] == pytest.approx((499 + math.exp(-20)) / 5, rel=1e-14)


def test_a_sample_without_advantage_is_dead_and_neither_restoring_nor_corrective():
    zero = np.zeros((2, 3))
    result = measure(advantage=zero, slope=zero)
    assert math.isnan(result["gradient/low"])  # nobody has any of it
    assert math.isnan(result["gradient/high"])
    assert result["gradient/dead"] == 1
    assert result["gradient/corrective"] == 0
    assert result["gradient/restoring"] == 0


def test_dead_threshold_is_relative_to_the_advantage():
    size = np.array([[1.0, 1e-3, 1e3], [1.0, 1.0, 1.0]])
    slope = size * np.array([[0.9e-8, -0.9e-8, 0.9e-8], [1.1e-8, -1.1e-8, 0.0]])
    assert measure(advantage=size, slope=slope)["gradient/dead"] == 3 / 5


@pytest.mark.parametrize(
    ("name", "dead", "corrective"), [("mappo", 0.5, 0.5), ("maspo", 0.0, 1.0), ("mars", 0.0, 1.0)]
)
def test_diagnostics_tell_the_objectives_apart(name, dead, corrective):
    # Good and bad actions, all of them outside on either side.
    u, advantage = np.array([[3.0, -3.0], [3.0, -3.0]]), np.array([[1.0, 1.0], [-1.0, -1.0]])
    objective = make_objective(name)
    _, slope = in_jax(objective, u, advantage)
    mask = np.ones((2, 2), bool)
    result = diagnostics(u, advantage, slope, mask, objective.region)
    assert result["ratio/outside"] == 1
    assert result["gradient/dead"] == dead
    assert result["gradient/corrective"] == corrective
    assert result["gradient/restoring"] > 0


@each_framework
@each_dtype
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_shares_of_the_squared_gradient_against_numpy(framework, dtype, scale):
    rng = np.random.default_rng(2)
    u, slope = rng.normal(size=(2, 40, 3)) * [[[1.0]], [[scale]]]
    mask = rng.random((40, 3)) < 0.8
    squares = np.where(mask, (slope / scale) ** 2, 0)
    low, high = (squares[x].sum() / squares.sum() for x in (np.exp(u) < 0.5, np.exp(u) > 2))
    slope = np.where(mask, slope, np.nan)
    result = measure(framework, dtype, log_ratio=u, advantage=u, slope=slope, agent_mask=mask)
    assert 0.1 < low < 0.9
    assert result["gradient/low"] == pytest.approx(low, rel=1e-5)
    assert result["gradient/high"] == pytest.approx(high, rel=1e-5)


def test_one_sample_far_below_takes_the_gradient_of_the_barrier_but_not_of_the_others():
    u = np.zeros((1, 100))
    u[0, 0] = np.log(0.01)
    shares = {}
    for name in ("mappo", "maspo", "mars", "mars-capped"):
        objective = make_objective(name, 0.2)
        _, slope = in_jax(objective, u, np.ones_like(u))
        result = diagnostics(u, np.ones_like(u), slope, u == u, objective.region)
        shares[name] = float(result["gradient/low"])
    lam = 1.44 / 0.44
    barrier = (lam * 100 - (lam - 1) / 100) ** 2
    assert shares["mars"] == pytest.approx(barrier / (barrier + 99))
    assert shares["mars-capped"] == pytest.approx(4 / 103)
    assert shares["mappo"] < shares["maspo"] < 1e-3 * shares["mars"]


@each_dtype
def test_teammate_correlation_against_numpy(dtype):
    u = np.random.default_rng(1).normal(size=(3, 7, 4))
    mask = np.ones((3, 7, 4), bool)
    moved = np.abs(u)
    teammates = (moved.sum(axis=-1, keepdims=True) - moved) / 3
    expected = np.corrcoef(moved.ravel(), teammates.ravel())[0, 1]
    same = {"advantage": u, "slope": u, "agent_mask": mask}
    result = measure("jax", dtype, log_ratio=u, **same)
    assert abs(expected) > 0.05
    assert result["ratio/teammates"] == pytest.approx(expected, rel=1e-4)


@each_framework
@each_dtype
@pytest.mark.parametrize(
    "u",
    [
        np.array([[0.3], [-0.7], [1.1]]),  # nobody has a teammate
        np.array([[0.1, -0.1, 0.1]] * 7),  # nobody moves more than another
        np.array([[0.1, 0.1, np.nan], [0.1, 0.1, 0.1]]),  # the same with a dead agent
    ],
    ids=["alone", "constant", "constant-masked"],
)
def test_teammate_correlation_is_zero_where_undefined(framework, dtype, u):
    same = {"advantage": np.ones_like(u), "slope": np.ones_like(u), "agent_mask": ~np.isnan(u)}
    assert measure(framework, dtype, log_ratio=u, **same)["ratio/teammates"] == 0


def test_teammates_that_move_together_correlate_fully_and_the_lonely_do_not_count():
    u = np.array([[0.1, -0.1], [0.5, 0.5], [-0.9, 0.9], [3.0, np.nan]])
    same = {"advantage": np.ones_like(u), "slope": np.ones_like(u), "agent_mask": ~np.isnan(u)}
    assert measure(log_ratio=u, **same)["ratio/teammates"] == pytest.approx(1.0)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_diagnostics_refuse_another_shape(position):
    inputs = list(BY_HAND.values())
    inputs[position] = inputs[position][0]
    with pytest.raises(ValueError, match=r"has shape \(3,\); expected .*\(2, 3\)"):
        diagnostics(*inputs, WIDE)


def test_torch_diagnostics_carry_no_gradient():
    torch = pytest.importorskip("torch")
    inputs = [torch.tensor(x, requires_grad=x.dtype != bool) for x in BY_HAND.values()]
    assert not any(x.requires_grad for x in diagnostics(*inputs, WIDE).values())
