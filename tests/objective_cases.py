"""Objectives, samples and closed forms that the tests of objectives share."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings

from marsrl import objectives
from marsrl.objectives import OBJECTIVES, TrustRegion, make_objective

quick = settings(derandomize=True, deadline=None, max_examples=15)

# A fixed number of samples, so that JAX compiles each operation once for all examples.
K = 8
REGION = TrustRegion(0.7, 1.5)
GEOMETRIES = tuple(dict.fromkeys(x.geometry for x in OBJECTIVES.values()))
TO_THE_EDGE = (
    objectives.quadratic,
    objectives.symmetric,
    objectives.logarithmic,
    objectives.capped,
    objectives.redescending,
)
"""Those whose optimum is the region's edge."""
FRAMEWORKS = ("numpy", "jax", "torch")
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.__name__)
each_to_the_edge = pytest.mark.parametrize("geometry", TO_THE_EDGE, ids=lambda g: g.__name__)
each_name = pytest.mark.parametrize("name", OBJECTIVES)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)

sizes = st.floats(1e-3, 1e3)
signs = st.sampled_from([-1.0, 1.0])
widths = st.floats(0.01, 0.9)


def samples(low, high):
    return st.lists(st.floats(low, high), min_size=K, max_size=K).map(np.array)


advantages = st.builds(
    lambda size, sign: np.array(size) * sign,
    st.lists(sizes, min_size=K, max_size=K),
    st.lists(signs, min_size=K, max_size=K),
)


def named(name, eps=0.2):
    """Any named objective; a flexible one gets two different widths."""
    if OBJECTIVES[name].kind == "flexible":
        return make_objective(name, eps_low=eps, eps_high=1.5 * eps)
    return make_objective(name, eps)


def in_jax(objective, u, advantage):
    """Value and slope of every sample by JAX, in the dtype of NumPy's `u`."""
    with jax.enable_x64(u.dtype == np.float64):
        u, advantage = jnp.asarray(u), jnp.asarray(advantage)
        slope = jax.grad(lambda u: objective(u, advantage).sum())(u)
        return np.asarray(objective(u, advantage)), np.asarray(slope)


def in_torch(objective, u, advantage):
    torch = pytest.importorskip("torch")
    u = torch.tensor(u, requires_grad=True)
    value = objective(u, torch.tensor(advantage))
    value.sum().backward()
    return value.detach().numpy(), u.grad.numpy()


def convert(framework, x):
    if framework == "jax":
        return jnp.asarray(x)
    return pytest.importorskip("torch").tensor(x) if framework == "torch" else x


ANO_NU, ANO_K = 1.28369899881397, 0.316175238235118
"""Found by bisection: the gain is 1 at `r = 1` and -1.5 at its least (a test checks both)."""


def ano_gain(t):
    """The paper's `G'` at the distance `t` from `r = 1`, in widths of the region."""
    e = np.exp(np.minimum(ANO_K * (t - 1), 300.0))
    return 10 * ANO_NU * (1 - e) / ((1 + e) * (e + ANO_NU))


def sech2(x):
    return np.cosh(np.clip(x, -300.0, 300.0)) ** -2


def slope_by_hand(geometry, u, advantage, region):
    """The closed forms of `dJ/du`, with the sum of their terms' sizes for a rounding bound."""
    r, size, good = np.exp(u), np.abs(advantage), advantage >= 0
    width = np.where(good, region.upper - 1, 1 - region.lower)
    if geometry in (objectives.clipped, objectives.rolled_back):
        left = np.where(good, r > region.upper, r < region.lower)
        outside = 0.0 if geometry is objectives.clipped else -0.3
        return np.where(left, outside, 1.0) * r * advantage, r * size
    if geometry is objectives.quadratic:
        c = np.where(good, 0.5 / (region.upper - 1), 0.5 / (1 - region.lower))
        pull = 2 * size * c * (r - 1)
        return r * (advantage - pull), r * (size + np.abs(pull))
    if geometry in (objectives.symmetric, objectives.capped):
        up, low = region.upper**2, region.lower**2
        lam = np.where(good, up / (up - 1), low / (1 - low))
        slope = size * (lam / r + (np.sign(advantage) - lam) * r)
        terms = size * (lam / r + (1 + lam) * r)
        if geometry is objectives.symmetric:
            return slope, terms
        # Where the slope is 2 |A|, its two parts differ by 2 and have a product lam (lam - sign).
        return np.clip(slope, -2 * size, 2 * size), np.minimum(terms, size * (4 + 2 * lam))
    if geometry is objectives.redescending:
        return r * advantage * ano_gain(np.sign(advantage) * (r - 1) / width), 10 * r * size
    if geometry is objectives.gated:
        tau = np.where(good, 1.0, 1.05) / width
        return r * advantage * sech2(tau * (r - 1) / 2), r * size
    if geometry is objectives.discovered:
        a = np.where(good, 2 * width, 0.6 * width)
        faded = np.where(good & (r > 1), sech2((r - 1) * advantage / a), 1.0)
        drift = np.where(~good & (r < 1), np.tanh(u * advantage / a) ** 2, 0.0)
        # (r - 1) A / a has the rounding of r, many times over.
        return advantage * (r * faded - drift), size * (1 + r) * (1 + size * r / a)
    assert geometry is objectives.logarithmic, f"{geometry.__name__} has no slope by hand"
    half = np.where(good, np.log(region.upper), -np.log(region.lower))
    return advantage - size * u / half, size * (1 + np.abs(u) / half)
