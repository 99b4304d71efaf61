import math
import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from marsrl import objectives
from marsrl.objectives import OBJECTIVES, U_MAX, Objective, TrustRegion, diagnostics, make_objective

quick = settings(derandomize=True, deadline=None, max_examples=15)

# A fixed number of samples, so that JAX compiles each operation once for all examples.
K = 8
REGION = TrustRegion(0.7, 1.5)
GEOMETRIES = (
    objectives.clipped,
    objectives.quadratic,
    objectives.symmetric,
    objectives.logarithmic,
)
UNCLIPPED = GEOMETRIES[1:]
FRAMEWORKS = ("numpy", "jax", "torch")
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.__name__)
each_unclipped = pytest.mark.parametrize("geometry", UNCLIPPED, ids=lambda g: g.__name__)
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
    if OBJECTIVES[name][1] == "flexible":
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


def slope_by_hand(geometry, u, advantage, region):
    """The closed forms of `dJ/du`, with the sum of their terms' sizes for a rounding bound."""
    r, size, good = np.exp(u), np.abs(advantage), advantage >= 0
    if geometry is objectives.clipped:
        left = np.where(good, r > region.upper, r < region.lower)
        return np.where(left, 0.0, r * advantage), r * size
    if geometry is objectives.quadratic:
        c = np.where(good, 0.5 / (region.upper - 1), 0.5 / (1 - region.lower))
        pull = 2 * size * c * (r - 1)
        return r * (advantage - pull), r * (size + np.abs(pull))
    if geometry is objectives.symmetric:
        up, low = region.upper**2, region.lower**2
        lam = np.where(good, up / (up - 1), low / (1 - low))
        slope = size * (lam / r + (np.sign(advantage) - lam) * r)
        return slope, size * (lam / r + (1 + lam) * r)
    half = np.where(good, np.log(region.upper), -np.log(region.lower))
    return advantage - size * u / half, size * (1 + np.abs(u) / half)


# --- Trust regions --------------------------------------------------------------------------------


def test_regions_by_hand():
    assert TrustRegion.additive(0.25) == TrustRegion(0.75, 1.25)
    assert TrustRegion.geometric(0.25) == TrustRegion(0.8, 1.25)
    assert TrustRegion.geometric(3.0) == TrustRegion(0.25, 4.0)
    assert TrustRegion.flexible(0.25, 0.5) == TrustRegion(0.75, 1.5)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (0.0, 1.2, "lower .*between 0 and 1, got 0.0; .*just above 0"),
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
    ("name", "widths", "message"),
    [
        ("mappo", {"eps": 1.0}, r"additive region .*got 1\.0; .*just below 1"),
        ("mappo", {"eps": 0.0}, r"additive region .*got 0\.0; .*just above 0"),
        ("mars", {"eps": -0.5}, r"geometric region .*got -0\.5; .*just above 0"),
        ("mars-flexible", {"eps_low": 1.5, "eps_high": 0.2}, r"eps_low .*got 1\.5; .*just below 1"),
        ("mars-flexible", {"eps_low": 0.5, "eps_high": 0}, r"eps_high .*got 0; .*just above 0"),
        ("mars-flexible", {}, "both widths, got eps_low=None and eps_high=None"),
        ("mappo-flexible", {"eps_low": 0.2}, "both widths, got eps_low=0.2 and eps_high=None"),
        ("mappo-flexible", {"eps_high": 0.2}, "both widths, got eps_low=None and eps_high=0.2"),
        ("mars-log", {"eps_low": 0.2}, "eps alone, got eps_low=0.2 .*nearest .*mars-flexible"),
        ("maspo", {"eps_high": 0.3}, "eps alone, got .*eps_high=0.3.*nearest .*maspo-flexible"),
        ("mrs", {}, "unknown objective 'mrs'; the nearest are: .*mars"),
        ("@", {}, "unknown objective '@'; the nearest are: mappo, maspo, .*mars-log"),
    ],
)
def test_make_objective_refuses(name, widths, message):
    with pytest.raises(ValueError, match=message):
        make_objective(name, **widths)


def test_geometric_region_takes_eps_above_one():
    assert objectives.mars(3.0).region == TrustRegion(0.25, 4.0)


# --- The registry ---------------------------------------------------------------------------------


def test_every_named_objective_is_its_geometry_in_its_region():
    assert {name: (geometry.__name__, kind) for name, (geometry, kind) in OBJECTIVES.items()} == {
        "mappo": ("clipped", "additive"),
        "maspo": ("quadratic", "additive"),
        "mars": ("symmetric", "geometric"),
        "mappo-geometric": ("clipped", "geometric"),
        "maspo-geometric": ("quadratic", "geometric"),
        "mars-additive": ("symmetric", "additive"),
        "mappo-flexible": ("clipped", "flexible"),
        "maspo-flexible": ("quadratic", "flexible"),
        "mars-flexible": ("symmetric", "flexible"),
        "mars-log": ("logarithmic", "geometric"),
    }


@each_name
def test_make_objective_builds_the_row_of_the_table(name):
    geometry, kind = OBJECTIVES[name]
    region = {
        "additive": TrustRegion(0.75, 1.25),
        "geometric": TrustRegion(0.8, 1.25),
        "flexible": TrustRegion(0.75, 1.375),
    }[kind]
    assert named(name, 0.25) == Objective(name, geometry, region)


@pytest.mark.parametrize("name", ["mappo", "maspo", "mars", "mars-log"])
def test_factories_are_the_registry_with_the_same_default(name):
    factory = getattr(objectives, name.replace("-", "_"))
    assert factory() == make_objective(name) == make_objective(name, 0.2)
    assert factory(0.3) == make_objective(name, 0.3)


OWN = """
import numpy as np
from marsrl.objectives import Objective, TrustRegion, quadratic

region = TrustRegion(0.5, 2.0)
number = 3

def gentle(eps):
    return Objective("gentle", quadratic, TrustRegion.additive(eps / 2))

def plain(eps): return quadratic
def boom(eps): raise RuntimeError("no luck\\nat all")
def overflow(eps): return Objective("o", lambda u, a, region: np.exp(9 * u) * a, region)
def summed(eps): return Objective("s", lambda u, a, region: u.sum(-1), region)
def torn(eps): return Objective("t", lambda u, a, region: u.at[0], region)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_objectives.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("def f(:")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_objectives", None)


@pytest.mark.usefixtures("own")
def test_own_factory_makes_an_objective():
    objective = make_objective("own_objectives:gentle", 0.4)
    assert (objective.name, objective.region) == ("gentle", TrustRegion.additive(0.2))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:f", "importing 'nowhere' of 'nowhere:f' raised ModuleNotFoundError"),
        (":f", "unknown objective ':f'; expected module:factory or path/file.py:factory"),
        ("own_broken:f", "importing 'own_broken' of 'own_broken:f' raised SyntaxError"),
        ("own_objectives:gentl", "own_objectives has no factory 'gentl'; did you mean gentle"),
        ("own_objectives:number", "own_objectives has no factory 'number'"),
        ("own_objectives:boom", r"own_objectives:boom\(0\.2\) raised RuntimeError: no luck$"),
        (
            "own_objectives:plain",
            r"is <function quadratic.*expected a marsrl\.objectives\.Objective",
        ),
        (
            "own_objectives:overflow",
            r"is inf at log-ratio 12\.7, advantage 2; expected a finite",
        ),
        ("own_objectives:summed", r"makes shape \(4,\) of shape \(4, 3\)"),
        ("own_objectives:torn", "on arrays raised AttributeError"),
    ],
)
def test_own_factory_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        make_objective(name)


@pytest.mark.usefixtures("own")
def test_own_factory_takes_one_width():
    with pytest.raises(ValueError, match=r"takes eps alone, got eps_low=0\.1"):
        make_objective("own_objectives:gentle", eps_low=0.1)


def test_objective_is_hashable_so_that_jit_takes_it_as_a_static_argument():
    surrogate = jax.jit(lambda objective, u, a: objective(u, a), static_argnums=0)
    assert surrogate(objectives.mars(), jnp.zeros(2), jnp.ones(2)).tolist() == [1.0, 1.0]
    assert hash(objectives.mars(0.2)) == hash(objectives.mars(0.2))


def test_own_geometry():
    def linear(log_ratio, advantage, region):
        return log_ratio * advantage * region.upper

    mine = Objective("mine", linear, TrustRegion(0.7, 1.5))
    assert mine(np.array([2.0]), np.array([3.0])).tolist() == [9.0]
    _, slope = in_jax(mine, np.array([2.0]), np.array([3.0]))
    assert slope.tolist() == [4.5]
    with jax.enable_x64(False):
        by_advantage = jax.grad(lambda a: mine(jnp.ones(1), a).sum())(jnp.ones(1))
    assert by_advantage.tolist() == [0.0]


# --- Facts of every objective ---------------------------------------------------------------------


@each_name
@quick
@given(st.sampled_from([np.float32, np.float64]), advantages, widths)
def test_value_and_slope_are_the_advantage_at_ratio_one(name, dtype, advantage, eps):
    advantage = advantage.astype(dtype)
    eps = eps if OBJECTIVES[name][1] == "geometric" else min(eps, 0.6)
    value, slope = in_jax(named(name, eps), np.zeros(K, dtype), advantage)
    np.testing.assert_array_equal(value, advantage)
    np.testing.assert_array_equal(slope, advantage)


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
    decided = ~at_edge | (geometry is not objectives.clipped)
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
    bound = 5e-3 if geometry is objectives.clipped else 1e-9
    assert np.all(np.abs(value - advantage - integral) <= bound * (1 + terms.max(axis=0)))


@pytest.mark.parametrize("geometry", GEOMETRIES[1:3], ids=lambda g: g.__name__)
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


@each_unclipped
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
    np.testing.assert_allclose(slope, slope[0], rtol=1e-6)
    tangent = value[0] + slope[0] * (far - joint)
    np.testing.assert_allclose(value[1], tangent, rtol=1e-6)
    if objective.geometry is objectives.clipped and far * sign > 0:
        assert slope[0] == 0
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
    np.testing.assert_allclose(slope, np.full(3, expected[1]), rtol=4 * step)
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


@pytest.mark.parametrize("name", ["mars", "mars-log"])
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


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"mars", "mars-log"}))
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


# --- Frameworks -----------------------------------------------------------------------------------


def test_import_loads_neither_jax_nor_torch():
    code = (
        "import sys, marsrl.objectives as o, numpy as np\n"
        "o.mars()(np.zeros(2), np.ones(2))\n"
        "print({'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "set()"


@each_name
@each_dtype
def test_frameworks_agree_in_value_and_gradient(name, dtype):
    rng = np.random.default_rng(0)
    u = np.concatenate([rng.normal(size=(6, 4)), rng.normal(size=(6, 4)) * 15]).astype(dtype)
    advantage = rng.normal(size=(12, 4)).astype(dtype)
    objective = named(name)
    value = objective(u, advantage)
    jax_value, jax_slope = in_jax(objective, u, advantage)
    torch_value, torch_slope = in_torch(objective, u, advantage)
    assert np.any(np.abs(u) > U_MAX)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(jax_value, value, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(torch_value, value, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(torch_slope, jax_slope, rtol=rtol, atol=rtol)


@each_geometry
@each_dtype
@each_framework
def test_dtype_shape_and_framework_are_kept(geometry, dtype, framework):
    with jax.enable_x64(dtype == np.float64):
        u = convert(framework, np.linspace(-30, 30, 6, dtype=dtype).reshape(2, 3))
        advantage = convert(framework, np.ones((2, 1), dtype))
        value = Objective("any", geometry, REGION)(u, advantage)
    assert type(value) is type(u)
    assert value.dtype == u.dtype
    assert tuple(value.shape) == (2, 3)


@each_geometry
def test_no_gradient_flows_into_the_advantage(geometry):
    objective = Objective("any", geometry, REGION)
    u = np.array([0.1, -3.0, 30.0])
    by_advantage = jax.jit(jax.grad(lambda a: objective(jnp.asarray(u), a).sum()))
    assert by_advantage(jnp.array([1.0, -2.0, 3.0])).tolist() == [0.0, 0.0, 0.0]

    torch = pytest.importorskip("torch")
    log_ratio = torch.tensor(u, requires_grad=True)
    advantage = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    objective(log_ratio, advantage).sum().backward()
    assert advantage.grad is None
    assert log_ratio.grad is not None


@each_framework
def test_joint_advantage_may_keep_an_agent_axis_of_one(framework):
    u = np.array([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]], np.float32)
    joint = np.array([[1.0], [-2.0]], np.float32)
    mars = objectives.mars()
    value = mars(convert(framework, u), convert(framework, joint))
    repeated = mars(u, np.repeat(joint, 3, axis=1))
    np.testing.assert_allclose(np.asarray(value), repeated, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (2,), (3, 3), (2, 2), (1, 2, 3)])
def test_advantage_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"advantage has shape .*expected .*\(2, 3\)"):
        objectives.mars()(np.zeros((2, 3)), np.zeros(shape))


# --- Diagnostics ----------------------------------------------------------------------------------

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
    u, advantage = np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1.0, 1.0], [-1.0, -1.0]])
    objective = make_objective(name)
    _, slope = in_jax(objective, u, advantage)
    mask = np.ones((2, 2), bool)
    result = diagnostics(u, advantage, slope, mask, objective.region)
    assert result["ratio/outside"] == 1
    assert result["gradient/dead"] == dead
    assert result["gradient/corrective"] == corrective
    assert result["gradient/restoring"] > 0


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
