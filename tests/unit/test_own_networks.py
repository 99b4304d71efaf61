"""Networks of users' own: what they are given, and what is refused before anything compiles."""

import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Pictured, Scripted, random_weights, small_config
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.learner.networks import make_networks
from marsrl.runs.policy import load_policy
from marsrl.runs.runner import resume, train
from marsrl.takeaway.export import export
from marsrl.types import Discrete, EnvSpec

N = 2
ENV = Scripted(num_agents=N)
GROUPED = Scripted(num_agents=3, groups=("a", "b", "a"))


def networks(name="own_networks:make", spec=ENV.spec, **changes):
    return make_networks(spec, 8, network=name, **changes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("own_networks:wrong", r"returns .*, expected a tuple \(carries, features\)"),
        ("own_networks:narrow", r"returns features \(2,\) float32.*expected \(2, 3, width\)"),
        ("own_networks:failing", r"apply on inputs .* raised ValueError: no such layer"),
        ("own_networks:forgetful", r"own_networks:forgetful"),
        ("own_networks:nothing", "made None for the .*, expected a flax module"),
        ("own_networks:refuses", "raised KeyError: 2"),
        ("own_networks:one_argument", "raised TypeError"),
        ("own_networks:maek", "no factory 'maek'.*did you mean make"),
        ("no_such_module:make", "ModuleNotFoundError"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(name, reason):
    with pytest.raises(UserError, match=reason) as caught:
        networks(name)
    assert "\n" not in str(caught.value)


def test_a_recurrent_network_is_no_feed_forward_one():
    with pytest.raises(UserError, match=r"own_networks:make.* is recurrent, expected core = 'gru'"):
        networks(core="ff")
    networks("own_networks:make_ff", core="ff")


def test_the_name_is_checked_without_an_import():
    with pytest.raises(UserError, match="network = 'mine' must be module:factory"):
        Config(network="mine")
    assert Config(network="no_such_module:make").network == "no_such_module:make"


@pytest.mark.parametrize(
    ("share", "view"),
    [(True, "state"), (True, "both"), (False, "state"), (False, "both"), ("groups", "both")],
)
def test_a_sequence_equals_its_steps(share, view):
    spec = GROUPED.spec if share == "groups" else ENV.spec
    nets, N = networks(spec=spec, share_parameters=share, critic_view=view), spec.num_agents
    weights = random_weights(nets)
    rng = np.random.default_rng(0)
    obs, state = rng.normal(size=(4, 3, N, 3)), rng.normal(size=(4, 3, 3))
    first = jnp.zeros((4, 3), bool).at[0].set(True).at[2, 1].set(True)
    mask = jnp.ones((4, 3, N, 3), bool)
    carries = nets.initial_carries(3)

    @jax.jit
    def play(carries, obs, state, first, mask):
        actor, dist = nets.act(weights.actor, carries[0], obs, first, mask)
        critic, value = nets.value(weights.critic, carries[1], obs, state, first)
        return (actor, critic), (dist.logits, value)

    after, whole = play(carries, obs, state, first, mask)
    assert after[0][0].shape == (4, 3, N, 6)
    assert after[0][1].dtype == jnp.int32
    for t in range(4):
        now = (x[t : t + 1] for x in (obs, state, first, mask))
        carries, one = play(carries, *now)
        carries = jax.tree.map(lambda c: c[0], carries)
        for x, y in zip(one, whole, strict=True):
            np.testing.assert_allclose(x[0], y[t], atol=1e-5)
    counts = np.asarray(after[0][1])[-1, :, 0]
    np.testing.assert_array_equal(counts, [4, 2, 4])  # a restart begins anew


def test_what_a_network_reads(monkeypatch):
    """Pictures stay pictures; ids are on the last axis, where parameters are shared."""
    seen = {}

    class Looking:
        def init(self, key, carry, x, first):
            return jnp.zeros(1)

        def apply(self, params, carry, x, first):
            seen[x.shape[2:]] = x
            return (), jnp.zeros((*x.shape[:2], 4)) + params

    monkeypatch.setattr("own_networks.make", lambda role, spec: Looking(), raising=True)
    spec = Pictured(num_agents=N).spec
    nets = networks(spec=spec)
    nets.act(
        random_weights(nets).actor, (), jnp.full((1, 3, N, 5, 4, 2), 51, jnp.uint8),
        jnp.ones((1, 3), bool), jnp.ones((1, 3, N, 3), bool),
    )  # fmt: skip
    assert set(seen) == {(5, 4, 2 + N), (3,)}
    x = seen[5, 4, 2 + N].reshape(3, N, 5, 4, 2 + N)
    np.testing.assert_allclose(x[..., :2], 0.2, atol=1e-6)
    np.testing.assert_array_equal(x[0, :, 0, 0, 2:], np.eye(N))
    networks(spec=spec, share_parameters=False)
    assert set(seen) == {(5, 4, 2 + N), (3,), (5, 4, 2)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = small_config(
        network="own_networks:make", total_steps=96, num_evaluations=2, eval_episodes=2,
        seeds=(0,), value_norm=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("own") / "run"
    train(config, path, env=ENV)
    return path


def test_a_run_with_an_own_network_needs_trust(run, tmp_path, monkeypatch):
    for use in (load_policy, lambda path: resume(path, env=ENV)):
        with pytest.raises(UserError, match=r"network 'own_networks:make'.*--trust"):
            use(run)
    policy = load_policy(run, trust=True)
    contract = export(policy, "stablehlo", tmp_path / "out", 40)
    assert contract["parity"]["passed"]
    assert [x["dtype"] for name, x in contract["inputs"].items() if "carry" in name] == [
        "float32",
        "int32",
    ]
    for package in ("onnx", "torch", "flatbuffers"):
        monkeypatch.setitem(sys.modules, package, None)  # which is not what to say of the first two
    for to in ("onnx", "torch"):
        with pytest.raises(UserError, match=r"own_networks:make.*only --to stablehlo"):
            export(policy, to, tmp_path / to)
    with pytest.raises(UserError, match=r"^flatbuffers is not installed"):
        export(policy, "stablehlo", tmp_path / "stablehlo")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_with_an_own_network_goes_on_bit_for_bit(run, tmp_path):
    """From its checkpoint after one of two updates; see the runs' own tests for more."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "2")
    resume(copy, env=ENV, trust=True)
    for name in ("1", "2"):
        contents = [(path / "checkpoints" / name / "actors.npz") for path in (run, copy)]
        with np.load(contents[0]) as one, np.load(contents[1]) as other:
            assert one.files == other.files
            for key in one.files:
                np.testing.assert_array_equal(one[key], other[key])


def test_the_built_in_networks_are_what_they_were():
    """The same seed gives the same parameters as before there were others."""
    expected = {
        "Body_0/Dense_0/kernel": -0.588564,
        "Body_0/Dense_1/kernel": 0.380228,
        "Body_0/GRU_0/input_n/kernel": 0.023116,
    }
    spec = EnvSpec(3, (5,), (7,), Discrete(4), 9, True)
    weights = jax.jit(make_networks(spec, 8).init)(jax.random.key(3))
    for name, value in expected.items():
        found = weights.actor.params["params"]
        for part in name.split("/"):
            found = found[part]
        np.testing.assert_allclose(found.ravel()[0], value, atol=1e-6)
