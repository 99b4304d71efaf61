import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl import objectives
from marsrl.objectives import (
    OBJECTIVES,
    U_MAX,
    Objective,
    TrustRegion,
    default_eps,
    make_objective,
)
from marsrl.objectives.named import OWN_EPS
from objective_cases import (
    REGION,
    convert,
    each_dtype,
    each_framework,
    each_geometry,
    each_name,
    in_jax,
    in_torch,
    named,
)


@pytest.mark.parametrize(
    ("name", "widths", "message"),
    [
        ("mappo", {"eps": 1e7}, r"additive region must be from 1e-06 to 1e\+06, got 10000000\.0"),
        ("mappo", {"eps": 0.0}, r"additive region .*got 0\.0; .*just above 0"),
        ("mars", {"eps": -0.5}, r"geometric region .*got -0\.5; .*just above 0"),
        ("mars-flexible", {"eps_low": -1, "eps_high": 0.2}, r"eps_low .*got -1; .*just above 0"),
        ("mars-flexible", {"eps_low": 0.5, "eps_high": 0}, r"eps_high .*got 0; .*just above 0"),
        ("mars-flexible", {}, "both widths, got eps_low=None and eps_high=None"),
        ("mappo-flexible", {"eps_low": 0.2}, "both widths, got eps_low=0.2 and eps_high=None"),
        ("mappo-flexible", {"eps_high": 0.2}, "both widths, got eps_low=None and eps_high=0.2"),
        ("mars-log", {"eps_low": 0.2}, "eps alone, got eps_low=0.2 .*nearest .*mars-flexible"),
        ("maspo", {"eps_high": 0.3}, "eps alone, got .*eps_high=0.3.*nearest .*maspo-flexible"),
        ("mappo", {"eps_high": 0.3}, "eps alone, .*the nearest are: mappo-flexible$"),
        ("dpo", {"eps_low": 0.3}, "eps alone, .*are: mappo-flexible, maspo-flexible, mars-flex"),
        ("mrs", {}, "unknown objective 'mrs'; the nearest are: .*mars"),
        ("@", {}, "unknown objective '@'; the nearest are: mappo, maspo, .*mars-log"),
    ],
)
def test_make_objective_refuses(name, widths, message):
    with pytest.raises(ValueError, match=message):
        make_objective(name, **widths)


def test_geometric_region_takes_eps_above_one():
    assert objectives.mars(3.0).region == TrustRegion(0.25, 4.0)


def test_every_named_objective_is_its_geometry_in_its_region():
    assert {name: (x.geometry.__name__, x.kind) for name, x in OBJECTIVES.items()} == {
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
        "mars-capped": ("capped", "geometric"),
        "rollback": ("rolled_back", "additive"),
        "ano": ("redescending", "additive"),
        "sapo": ("gated", "additive"),
        "dpo": ("discovered", "additive"),
    }


@each_name
def test_make_objective_builds_the_row_of_the_table(name):
    geometry, kind, _ = OBJECTIVES[name]
    region = {
        "additive": TrustRegion(0.75, 1.25),
        "geometric": TrustRegion(0.8, 1.25),
        "flexible": TrustRegion(0.75, 1.375),
    }[kind]
    assert named(name, 0.25) == Objective(name, geometry, region)


@each_name
def test_a_width_not_given_is_the_objectives_own(name):
    if OBJECTIVES[name].kind != "flexible":
        assert make_objective(name) == make_objective(name, default_eps(name))
    assert default_eps(name) == OBJECTIVES[name].default_eps > 0


def test_an_own_objective_has_a_default_too():
    assert default_eps("own_objectives:gentle") == OWN_EPS == 0.2


@pytest.mark.parametrize("name", ["mappo", "maspo", "mars", "mars-log"])
def test_factories_are_the_registry_with_the_same_default(name):
    factory = getattr(objectives, name.replace("-", "_"))
    assert factory() == make_objective(name) == make_objective(name, default_eps(name))
    assert factory(0.3) == make_objective(name, 0.3)


@each_name
@pytest.mark.parametrize("eps", [0.3, 1.0, 4.0])
def test_an_objective_in_other_widths_is_the_one_that_is_made_with_them(name, eps):
    other = named(name, 0.1).within(*named(name, eps).region.widths)
    assert (other.name, other.geometry) == (name, OBJECTIVES[name].geometry)
    assert other.region.kind == named(name, eps).region.kind == OBJECTIVES[name].kind
    edges = named(name, eps).region
    assert (other.region.lower, other.region.upper) == pytest.approx((edges.lower, edges.upper))


def test_other_widths_that_are_numbers_are_checked():
    with pytest.raises(ValueError, match=r"eps of a geometric region must .*got 1e-09"):
        objectives.mars().within(1e-9, 1e-9)


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
        ("own_objectives:boom", r"own_objectives:boom\(0\.2\) raised RuntimeError: no luck \(own_"),
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


# --- Frameworks -----------------------------------------------------------------------------------


def test_import_loads_neither_jax_nor_torch():
    code = (
        "import sys, marsrl.objectives as o, numpy as np\n"
        "o.mars()(np.zeros(2), np.ones(2))\n"
        "print({'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
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
