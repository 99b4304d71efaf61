"""Teams that act without their environment, one at a time and in batches."""

import dataclasses
import gc
import sys
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marsrl
from environments import Furnished, Pictured, Scripted, small_config, untrained_policy
from marsrl.errors import UserError
from marsrl.runs import actors
from marsrl.runs.checkpoint import CheckpointError
from marsrl.runs.runner import train
from marsrl.types import Box, EnvSpec, MultiDiscrete, Observation

N = 2
SPACES = {
    "discrete": Scripted(num_agents=N),
    "box": Scripted(Box(2, -2.0, (1.0, 3.0)), N, groups=("a", "b")),
    "several choices": Scripted(MultiDiscrete((3, 2)), num_agents=N),
}


@pytest.fixture(scope="module", params=SPACES)
def policy(request):
    return untrained_policy(SPACES[request.param], small_config())


def moments(policy, *batch):
    """Time steps of fresh episodes, (*batch, ...)."""
    keys = jax.random.split(jax.random.key(0), batch)
    reset = policy.env.reset
    for _ in batch:
        reset = jax.vmap(reset)
    return jax.jit(reset)(keys)[1]


def test_a_batch_is_its_entries(policy):
    now = moments(policy, 3, 2)
    keys = jax.random.split(jax.random.key(1), (3, 2))
    carry, action = policy.act(policy.initial_carry((3, 2)), now, keys)
    assert carry.shape == (3, 2, N, 8)
    for i in np.ndindex(3, 2):
        one = jax.tree.map(lambda x, i=i: x[i], now)
        after, expected = policy.act(policy.initial_carry(), one, keys[i])
        np.testing.assert_allclose(after, carry[i], atol=1e-6)
        np.testing.assert_allclose(action[i], expected, atol=1e-6)
    first = jnp.zeros((3, 2), bool).at[1, 0].set(True)
    later = policy.act(carry, now, keys, True, first)[0]
    np.testing.assert_allclose(later[1, 0], carry[1, 0], atol=1e-6)  # the same view, from anew
    assert np.abs(later[0] - carry[0]).max() > 1e-3


def test_keys_of_the_older_kind_serve_and_another_number_is_refused(policy):
    now, carry = moments(policy, 2), policy.initial_carry((2,))
    for make in (lambda key: key, lambda key: jax.random.split(key, 2)):
        _, action = policy.act(carry, now, make(jax.random.key(3)))
        _, same = policy.act(carry, now, make(jax.random.PRNGKey(3)))
        np.testing.assert_array_equal(action, same)
    for number in (1, 3):
        with pytest.raises(UserError, match=rf"keys of shape \({number},\), expected one"):
            policy.act(carry, now, jax.random.split(jax.random.key(3), number))


def test_what_has_another_shape_is_refused_in_words(policy):
    now, carry, key = moments(policy), policy.initial_carry(), jax.random.key(0)
    obs, mask = now.obs, now.action_mask
    width = mask.shape[-1]
    for seen, message in (
        (Observation(obs[:, :1], mask), rf"^obs has the shape \({N}, 1\), expected \({N}, 3\), or"),
        (Observation(obs[0], mask), r"^obs has the shape \(3,\), expected"),
        (
            Observation(obs, mask[:, 1:]),
            rf"^action_mask has .*, {width - 1}\), expected .*{width}\)",
        ),
        (Observation(obs, mask[None]), r"^obs has the shape .* expected \(1, "),
        (Observation(obs, None), r"^time_step is 'Observation', expected what the environment"),
        (obs, r"^time_step is .*, expected what the environment returned, or a marsrl.Observation"),
    ):
        with pytest.raises(UserError, match=message):
            policy.act(carry, seen, key)
        with pytest.raises(UserError, match=message):
            policy.distribution(carry, seen)
    with pytest.raises(UserError, match=r"^carry is .* expected that of initial_carry\(\): "):
        policy.act(policy.initial_carry(5), now, key)
    with pytest.raises(UserError, match=r"^carry is empty, expected that of initial_carry\(\): "):
        policy.act((), now, key)
    with pytest.raises(UserError, match=r"^there is no key, expected one"):
        policy.act(carry, now)
    with pytest.raises(UserError, match=r"^key is int32\[\], expected jax.random.key\(SEED\)"):
        policy.act(carry, now, 0)
    modes = [policy.act(carry, now, *more, greedy=True)[1] for more in ((), (key,))]
    np.testing.assert_array_equal(*modes)


@pytest.mark.parametrize(
    ("env", "right", "wrong"),
    [
        (Pictured(), (np.uint8,), (np.int64, np.float32, np.float64, bool)),
        (Scripted(), (np.float32, np.float64, np.int64, bool), (np.uint8,)),
    ],
    ids=["bytes", "floats"],
)
def test_numbers_of_a_type_that_is_read_otherwise_are_refused(env, right, wrong):
    """Networks divide uint8 by 255, so the same numbers of another type would be other ones."""
    policy = untrained_policy(env, small_config())
    now, carry = moments(policy), policy.initial_carry()
    whole = np.rint(np.abs(now.obs)).clip(0, 1)  # which every type has
    expected = policy.distribution(carry, Observation(whole.astype(right[0]), now.action_mask))
    for dtype in right:
        seen = Observation(whole.astype(dtype), now.action_mask)
        jax.tree.map(np.testing.assert_array_equal, policy.distribution(carry, seen), expected)
    for dtype in wrong:
        seen = Observation(whole.astype(dtype), now.action_mask)
        message = f"^obs is .*, expected {np.dtype(right[0])} as in training"
        with pytest.raises(UserError, match=message):
            policy.distribution(carry, seen)
        with pytest.raises(UserError, match=message):
            policy.act(carry, seen, greedy=True)


def test_lists_serve(policy):
    now, key = jax.device_get(moments(policy, 2)), jax.random.key(0)
    carry = policy.act(policy.initial_carry(2), now, key)[0]
    expected = policy.act(carry, now, key, first=np.array([True, False]))
    for as_list in (list, np.ndarray.tolist):
        seen = Observation(as_list(now.obs), as_list(now.action_mask))
        for first in ([True, False], [1, 0]):
            given = policy.act(carry, seen, key, first=first)
            jax.tree.map(np.testing.assert_array_equal, given, expected)
        policy.distribution(carry, seen, [True, False])
    keys = [key, jax.random.key(1)]
    _, action = policy.act(carry, now, keys)
    np.testing.assert_array_equal(action, policy.act(carry, now, jnp.stack(keys))[1])
    with pytest.raises(UserError, match=r"^obs, of type list, is no array: "):
        policy.act(carry, now._replace(obs=[now.obs, now.obs[0]]), key)
    with pytest.raises(UserError, match=r"^obs is a dictionary, expected an array \(2, 2, 3\): "):
        policy.act(carry, now._replace(obs={"view": now.obs}), key)


@pytest.mark.parametrize("batch", [(), (3, 2)])
def test_dictionaries_serve_a_team_that_was_trained_on_them(batch):
    policy, key = untrained_policy(Furnished(num_agents=N), small_config()), jax.random.key(1)
    carry, row = policy.initial_carry(batch), moments(policy, *batch)
    reset = Furnished(num_agents=N).reset
    for _ in batch:
        reset = jax.vmap(reset)
    own = reset(jax.random.split(jax.random.key(0), batch))[1]
    body = own.obs["body"]
    lists = {"angles": body["angles"].tolist(), "turns": body["turns"][..., None].tolist()}
    for obs in (own.obs, {"body": lists, "view": own.obs["view"]}):
        seen = Observation(obs, own.action_mask)
        same = partial(np.testing.assert_allclose, rtol=1e-6)
        jax.tree.map(same, policy.act(carry, seen, key), policy.act(carry, row, key))
        jax.tree.map(same, policy.distribution(carry, seen), policy.distribution(carry, row))
    turned = {"body": body | {"turns": jnp.zeros((*batch, N, 2))}}
    for change, said in (
        ({"veiw": own.obs["view"]}, r"^obs has unknown 'veiw'; did you mean view\?"),
        ({"body": {"angles": body["angles"]}}, r"^obs has no 'body/turns', expected body/angles, "),
        ({"view": own.obs["view"][..., 0]}, r"^obs: view has the shape .*, expected .*, 9, 4, 2\)"),
        (turned, r"^obs: body/turns has the shape .*2, 2\), expected .*2, 1\)"),
        ({"view": [[1], [1, 2]]}, r"^obs: view, of type list, is no array: "),
    ):
        for call in (policy.distribution, partial(policy.act, greedy=True)):
            with pytest.raises(UserError, match=said):
                call(carry, own._replace(obs=own.obs | change))


def test_where_episodes_begin_is_told_for_each_of_the_batch(policy):
    now, carry, key = moments(policy, 2), policy.initial_carry(2), jax.random.key(0)
    for first in (True, [True], [True] * 3, [[True, False]]):
        for wrong in (first, np.array(first)):
            with pytest.raises(UserError, match=r"^first has the shape .*, expected \(2,\)"):
                policy.act(carry, now, key, first=wrong)
            with pytest.raises(UserError, match=r"^first has the shape .*, expected \(2,\)"):
                policy.distribution(carry, now, wrong)


def test_a_policy_that_is_gone_leaves_nothing(policy):
    mine = dataclasses.replace(policy, actor=jax.tree.map(jnp.copy, policy.actor))
    mine.act(mine.initial_carry(), moments(policy), jax.random.key(0))
    weights = weakref.ref(jax.tree.leaves(mine.actor)[0])
    del mine
    gc.collect()
    assert weights() is None


def test_one_key_serves_a_batch_with_different_draws(policy):
    same = jax.tree.map(lambda x: jnp.repeat(x[None], 40, 0), moments(policy))
    _, action = policy.act(policy.initial_carry((40,)), same, jax.random.key(0))
    assert len(np.unique(action.reshape(40, -1), axis=0)) > 1


def test_an_observation_is_enough_and_needs_no_jax_arrays(policy):
    now = jax.device_get(moments(policy))
    key, carry = jax.random.key(2), policy.initial_carry()
    seen = Observation(now.obs, now.action_mask)
    jax.tree.map(
        np.testing.assert_array_equal, policy.act(carry, seen, key), policy.act(carry, now, key)
    )


@pytest.mark.parametrize("env", [*SPACES.values(), Pictured()], ids=[*SPACES, "pictures"])
def test_what_actors_read_is_packed_with_them(env):
    made = untrained_policy(env, small_config())
    stacked = jax.tree.map(lambda x: np.stack([x, x]), made.actor)
    content = actors.pack(stacked, made.layout)
    assert actors.layout(content) == made.layout
    one = actors.unpack(content, made.actor, 1)
    jax.tree.map(np.testing.assert_array_equal, one, made.actor)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_agents": -1}, "spec.num_agents is -1"),
        ({"action": {"kind": "circle"}}, "KeyError"),
        ({"action": {"kind": "box", "num_dims": 1, "low": 2.0, "high": 1.0}}, "low < high"),
    ],
)
def test_a_strange_layout_is_one_line(monkeypatch, change, reason):
    made = untrained_policy(SPACES["discrete"], small_config())
    values = made.layout.spec.to_dict() | change
    monkeypatch.setattr(EnvSpec, "to_dict", lambda _: values)
    with pytest.raises(CheckpointError, match=reason):
        actors.layout(actors.pack(made.actor, made.layout))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on an environment whose package is not to be found any more."""
    config = small_config(
        task="gone.package:make", total_steps=48, core="ff", num_evaluations=1, eval_episodes=2,
        seeds=(3,),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("away") / "run"
    (path.parent / "gone").mkdir()
    (path.parent / "gone/package.py").write_text("from environments import Scripted as make\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        train(config, path)
    for name in ("gone", "gone.package"):
        del sys.modules[name]
    return path


def test_a_team_is_loaded_without_its_environment(run):
    policy = marsrl.load_policy(run)
    assert (policy.seed, policy.layout.spec) == (3, Scripted().spec)
    now = Scripted().reset(jax.random.key(0))[1]
    seen = Observation(now.obs, now.action_mask)
    _, action = policy.act(policy.initial_carry(), seen, jax.random.key(1))
    assert action.shape == (N,)
    with pytest.raises(UserError, match=r"gone\.package:make.*--trust"):
        _ = policy.env
    with pytest.raises(UserError, match="ModuleNotFoundError"):
        _ = marsrl.load_policy(run, trust=True).env


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": "3"}, "^seed is '3', expected a whole number, 0 to 4294967295$"),
        ({"seed": True}, "^seed is True, expected a whole number"),
        ({"seed": [3]}, r"^seed is \[3\], expected a whole number"),
        ({"seed": 3.5}, "^seed is 3.5, expected a whole number, .*; nearest: 4$"),
        ({"seed": 4}, "has no seed 4; known: 3$"),
        ({"env": "lbf"}, r"it is the name 'lbf', expected an environment, such as marsrl.make"),
        ({"env": Scripted}, r"it is a class, expected an environment, such as Scripted\(\)"),
    ],
)
def test_what_is_no_seed_or_environment_is_refused_in_words(run, given, said):
    with pytest.raises(UserError, match=said):
        marsrl.load_policy(run, **given)
    assert marsrl.load_policy(run, np.int64(3)).seed == 3


@pytest.mark.parametrize("batch", ["3", 2.5, -1, (2, None), True])
def test_what_is_no_batch_is_refused(policy, batch):
    with pytest.raises(UserError, match=r"^batch is .*, expected "):
        policy.initial_carry(batch)
    assert policy.initial_carry(np.int64(2)).shape[0] == 2


def test_a_file_of_an_old_version_needs_the_environment(run, monkeypatch):
    monkeypatch.setattr(actors, "layout", lambda _: None)
    with pytest.raises(UserError, match=r"gone\.package:make.*--trust"):
        marsrl.load_policy(run)
    policy = marsrl.load_policy(run, env=Scripted())
    assert policy.layout == actors.Layout(Scripted().spec)


def test_an_environment_that_has_changed_is_noticed():
    made = untrained_policy(SPACES["discrete"], small_config())
    with pytest.raises(UserError, match="num_agents is 3, expected 2"):
        _ = dataclasses.replace(made, make_env=partial(Scripted, num_agents=3)).env


@dataclasses.dataclass(frozen=True)
class Shaded(Pictured):
    """The same pictures as numbers of another type."""

    dtype: str = "float32"

    def at(self, clock):
        now = super().at(clock)
        return now._replace(obs=now.obs.astype(self.dtype))


def test_an_environment_whose_numbers_are_read_otherwise_is_noticed():
    made = untrained_policy(Pictured(), small_config())
    for dtype in ("float32", "int32"):
        with pytest.raises(UserError, match=f"^Shaded is not .*: obs is {dtype}, expected uint8"):
            _ = dataclasses.replace(made, make_env=partial(Shaded, dtype=dtype)).env
    made = untrained_policy(Shaded(), small_config())
    assert dataclasses.replace(made, make_env=partial(Shaded, dtype="int32")).env
    with pytest.raises(UserError, match=r"^Pictured is not .*: obs is uint8, expected float32"):
        _ = dataclasses.replace(made, make_env=Pictured).env


def test_an_environment_whose_dictionaries_have_changed_is_noticed():
    policy = untrained_policy(Furnished(), small_config())
    parts = tuple((f"other/{name}", shape) for name, shape in policy.layout.spec.obs_parts)
    spec = dataclasses.replace(policy.layout.spec, obs_parts=parts)
    changed = dataclasses.replace(policy, layout=policy.layout._replace(spec=spec))
    with pytest.raises(UserError, match=r"obs_parts is \(\('body/angles'.*expected \(\('other/"):
        _ = changed.env


def test_the_environment_may_be_asked_for_first_while_a_program_is_traced(policy):
    """Some environments compute with JAX when they are made, and look at what comes out."""
    env, made = policy.env, []

    def make_env():
        made.append(bool(jnp.any(jnp.arange(3) > 1)))
        return env

    fresh = dataclasses.replace(policy, make_env=make_env)
    jax.eval_shape(lambda: fresh.env.reset(jax.random.key(0)))
    assert made == [True]
