from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Scripted, random_weights
from marsrl.errors import UserError
from marsrl.learner.groups import Groups, groups_of
from marsrl.learner.modules import GRU
from marsrl.learner.networks import Networks, make_networks
from marsrl.types import Box, Discrete

L, B, N, H = 4, 2, 3, 8
GROUPS = ("a", "b", "a")
ENV = Scripted(num_agents=N, groups=GROUPS)


def networks(**changes):
    spec = changes.pop("spec", ENV.spec)
    return make_networks(spec, H, **({"core": "ff"} | changes))


# One compilation per network, where operation by operation would need dozens.
init = jax.jit(Networks.init, static_argnums=0)
act_once = jax.jit(Networks.act_once, static_argnums=0)
act = jax.jit(Networks.act, static_argnums=0)
value_of = jax.jit(Networks.value, static_argnums=0)


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- GRU ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gru():
    """A jitted GRU over (L, B, N, H), with its parameters and an input."""
    module = GRU(H)
    x, carry, first = draw((L, B, N, 5)), draw((B, N, H), 1), jnp.zeros((L, B), bool)
    shapes = jax.eval_shape(module.init, jax.random.key(0), carry, x, first)
    params = jax.tree.map(lambda leaf: draw(leaf.shape, 2), shapes)
    return jax.jit(module.apply), params, carry, x, first


def test_gru_is_the_textbook_cell_step_by_step(gru):
    apply, params, carry, x, first = gru
    ours = params["params"]
    theirs = {f"i{gate}": ours[f"input_{gate}"] for gate in "rzn"}
    kernels = jnp.split(ours["recurrent_kernel"], 3, axis=-1)
    theirs |= {f"h{gate}": {"kernel": k} for gate, k in zip("rzn", kernels, strict=True)}
    theirs["hn"]["bias"] = ours["recurrent_bias"]
    cell, h, expected = jax.jit(nn.GRUCell(H).apply), carry, []
    for step in x:
        h, _ = cell({"params": theirs}, h, step)
        expected.append(h)
    np.testing.assert_allclose(apply(params, carry, x, first), jnp.stack(expected), atol=1e-6)


def test_a_reset_within_a_sequence_equals_two_sequences(gru):
    apply, params, carry, x, first = gru
    reset = first.at[2, 1].set(True)
    whole = apply(params, carry, x, reset)
    without = apply(params, carry, x, first)
    np.testing.assert_array_equal(whole[:, 0], without[:, 0])
    np.testing.assert_array_equal(whole[:2, 1], without[:2, 1])
    second = apply(params, jnp.zeros_like(carry), x[2:], first[2:])
    np.testing.assert_allclose(whole[2:, 1], second[:, 1], atol=1e-6)
    assert jnp.abs(whole[2:, 1] - without[2:, 1]).max() > 0.1


def test_no_gradient_flows_back_over_a_reset(gru):
    apply, params, carry, x, first = gru
    reset = first.at[2, 1].set(True)
    slope = jax.jit(jax.grad(lambda x: apply(params, carry, x, reset)[-1].sum()))(x)
    assert (slope[:2, 1] == 0).all()
    assert (slope[:2, 0] != 0).all()
    assert (slope[2:] != 0).all()


# --- Sequences and carries ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "space"), [(True, Discrete(3)), (False, Box(2)), ("groups", Box(2))]
)
def test_a_sequence_equals_its_steps(share, space):
    env = Scripted(space, N, groups=GROUPS)
    nets = networks(core="gru", share_parameters=share, critic_view="both", spec=env.spec)
    params = random_weights(nets)
    carry, critic_carry = nets.initial_carries(B)
    time_step = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), B))[1]
    mask = jnp.broadcast_to(time_step.action_mask, (L, *time_step.action_mask.shape))
    obs, state = draw((L, B, N, 3)), draw((L, B, 3), 1)
    first = jnp.zeros((L, B), bool).at[0].set(True).at[2, 1].set(True)
    carries, dist = act(nets, params.actor, carry, obs, first, mask)
    critic_carries, value = value_of(nets, params.critic, critic_carry, obs, state, first)
    for t in range(L):
        now = time_step._replace(obs=obs[t])
        carry, one = act_once(nets, params.actor, carry, now, first[t])
        assert type(one) is type(dist)
        np.testing.assert_allclose(carry, carries[t], atol=1e-5)
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(dist), strict=True):
            np.testing.assert_allclose(x, y[t], atol=1e-5)
        step = (obs[t : t + 1], state[t : t + 1], first[t : t + 1])
        after, one = value_of(nets, params.critic, critic_carry, *step)
        critic_carry = after[0]
        np.testing.assert_allclose(critic_carry, critic_carries[t], atol=1e-5)
        np.testing.assert_allclose(one[0], value[t], atol=1e-5)


def test_a_feed_forward_network_is_a_recurrent_one_without_carry():
    nets = networks()
    assert nets.initial_carries(B) == ((), ())
    params = random_weights(nets)
    first = jnp.zeros((L, B), bool)
    inputs = draw((L, B, N, 3)), draw((L, B, 3)), first
    carries, value = value_of(nets, params.critic, (), *inputs)
    assert carries == ()
    assert value.shape == (L, B, 1)


@pytest.mark.parametrize(
    ("view", "shared_reward", "num_values", "carry_shape"),
    [
        ("state", True, 1, (B, H)),
        ("state", False, N, (B, H)),
        ("obs", True, N, (B, N, H)),
        ("both", False, N, (B, N, H)),
    ],
)
def test_one_value_for_a_team_and_else_one_per_agent(view, shared_reward, num_values, carry_shape):
    spec = Scripted(num_agents=N, shared_reward=shared_reward).spec
    nets = networks(spec=spec, critic_view=view, core="gru")
    actor_carry, critic_carry = nets.initial_carries(B)
    params = jax.eval_shape(nets.init, jax.random.key(0))
    inputs = draw((L, B, N, 3)), draw((L, B, 3)), jnp.zeros((L, B), bool)
    carries, value = jax.eval_shape(nets.value, params.critic, critic_carry, *inputs)
    assert nets.num_values == num_values
    assert value.shape == (L, B, num_values)
    assert actor_carry.shape == (B, N, H)
    assert critic_carry.shape == carry_shape
    assert carries.shape == (L, *carry_shape)


# --- What depends on what -------------------------------------------------------------------------


@pytest.mark.parametrize("share", [True, False, "groups"], ids=["shared", "separate", "groups"])
@pytest.mark.parametrize("view", ["state", "obs", "both"])
def test_a_critic_sees_what_it_should(view, share):
    nets = networks(critic_view=view, share_parameters=share)
    params = random_weights(nets).critic

    def value(obs, state):
        return nets.value(params, (), obs, state, jnp.zeros((1, 1), bool))[1][0, 0]

    obs, state = draw((1, 1, N, 3)), draw((1, 1, 3), 1)
    jacobian = jax.jit(jax.jacobian(value, argnums=(0, 1)))
    by_obs, by_state = jacobian(obs, state)  # (V, 1, 1, N, 3), ...
    depends = np.abs(by_obs[:, 0, 0]).sum(-1) > 0
    expected = np.zeros((1, N), bool) if view == "state" else np.eye(N, dtype=bool)
    np.testing.assert_array_equal(depends, expected)
    assert (np.abs(by_state[:, 0, 0]).sum(-1) > 0).all() == (view != "obs")


@partial(jax.jit, static_argnums=0)
def outputs(nets, params, obs, state):
    """Logits and values, (N, A) and (N,), of one moment."""
    first, mask = jnp.zeros((1, 1), bool), jnp.ones((1, 1, N, 3), bool)
    logits = nets.act(params.actor, (), obs, first, mask)[1].logits
    return logits[0, 0], nets.value(params.critic, (), obs, state, first)[1][0, 0]


@pytest.mark.parametrize("share", [True, False, "groups"], ids=["shared", "separate", "groups"])
def test_agents_that_see_the_same_can_act_differently(share):
    nets = networks(share_parameters=share, critic_view="obs")
    params = init(nets, jax.random.key(0))
    obs = jnp.broadcast_to(draw((1, 1, 1, 3)), (1, 1, N, 3))
    logits, value = map(np.asarray, outputs(nets, params, obs, draw((1, 1, 3))))
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(logits[i] - logits[j]).max() > 1e-4
        assert abs(value[i] - value[j]) > 1e-4


def test_shared_parameters_tell_agents_apart_by_their_id_alone():
    nets = networks(critic_view="obs")
    params = random_weights(nets)
    same_id = jax.tree_util.tree_map_with_path(
        lambda path, x: x[:1].repeat(N, 0) if "agent_id" in str(path[-1]) else x, params
    )
    obs = jnp.broadcast_to(draw((1, 1, 1, 3)), (1, 1, N, 3))
    for x in outputs(nets, same_id, obs, draw((1, 1, 3))):
        np.testing.assert_allclose(x, x[:1].repeat(N, 0), atol=1e-6)
    ids = [
        path for path, _ in jax.tree_util.tree_leaves_with_path(params) if "agent_id" in str(path)
    ]
    assert len(ids) == 2


@pytest.mark.parametrize(("share", "alike"), [(True, (1, 2, 0)), ("groups", (2, 1, 0))])
def test_without_ids_agents_act_alike_on_what_looks_alike(share, alike):
    """Agents that share a network and change places change what they put out, and no more."""
    spec = Scripted(Box(2), N, groups=GROUPS).spec
    nets = networks(spec=spec, share_parameters=share, critic_view="obs", agent_ids=False)
    params = random_weights(nets)
    mask = jnp.ones((1, 1, N, 2), bool)

    def outputs(obs):
        first = jnp.zeros((1, 1), bool)
        dist = nets.act(params.actor, (), obs, first, mask)[1]
        value = nets.value(params.critic, (), obs, draw((1, 1, 3)), first)[1]
        return [np.asarray(x[0, 0]) for x in (dist.mean, dist.log_std, value)]

    obs = draw((1, 1, N, 3))
    for x, y in zip(outputs(obs[:, :, alike]), outputs(obs), strict=True):
        np.testing.assert_allclose(x, y[list(alike)], atol=1e-6)
    assert not any("agent_id" in str(path) for path, _ in jax.tree.leaves_with_path(params))


def test_separate_parameters_differ_and_each_belongs_to_one_agent():
    nets = networks(share_parameters=False, critic_view="obs")
    params = init(nets, jax.random.key(0))
    for leaf in jax.tree.leaves(params):
        assert leaf.shape[0] == N
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    assert len(kernels) == 6
    for kernel in kernels:
        for i, j in [(0, 1), (0, 2), (1, 2)]:
            assert np.abs(kernel[i] - kernel[j]).max() > 1e-3
    obs, state = draw((1, 1, N, 3)), draw((1, 1, 3))
    logits, value = outputs(nets, params, obs, state)
    without = jax.tree.map(lambda x: x.at[1].set(0.0), params)
    changed_logits, changed_value = outputs(nets, without, obs, state)
    np.testing.assert_array_equal(jnp.any(changed_logits != logits, axis=-1), [False, True, False])
    np.testing.assert_array_equal(changed_value != value, [False, True, False])


def test_a_policy_starts_close_to_uniform():
    nets = networks()
    obs, state = draw((1, 1, N, 3)), draw((1, 1, 3))
    logits, _ = outputs(nets, init(nets, jax.random.key(0)), obs, state)
    assert 0 < np.abs(logits).max() < 0.1


# --- Groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["aaaa", "aabb", "abab", "abbb", "abcd", "baca"])
def test_splitting_into_groups_brings_each_agent_to_its_own_and_back(names):
    groups = Groups(tuple({n: i for i, n in enumerate(dict.fromkeys(names))}[n] for n in names))
    x = jnp.arange(2 * 4 * 3).reshape((2, 4, 3))
    split = groups.split(x, 1)
    np.testing.assert_array_equal(groups.join(split, 1), x)
    if groups.size == 1:
        assert split is x
        return
    assert split.shape == (2, groups.number, groups.size, 3)
    for agent, group in enumerate(groups.of_agents):
        assert (split[:, group] == x[:, agent, None]).all(-1).any(-1).all()


@pytest.mark.parametrize(
    ("names", "like"), [(("a",) * N, True), (("x", "y", "z"), False)], ids=["one", "each"]
)
def test_one_group_is_all_shared_and_a_group_each_is_none_shared_bit_for_bit(names, like):
    how = {"critic_view": "obs", "core": "gru", "value_norm": True}
    grouped = networks(spec=replace(ENV.spec, groups=names), share_parameters="groups", **how)
    plain = networks(share_parameters=like, **how)
    weights = init(plain, jax.random.key(0))
    mine = init(grouped, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, mine, weights)
    inputs = draw((L, B, N, 3)), jnp.zeros((L, B), bool), jnp.ones((L, B, N, 3), bool)
    carry, critic_carry = plain.initial_carries(B)
    for run, *args in (
        (act, weights.actor, carry, *inputs),
        (value_of, weights.critic, critic_carry, inputs[0], draw((L, B, 3)), inputs[1]),
    ):
        jax.tree.map(np.testing.assert_array_equal, run(plain, *args), run(grouped, *args))


def test_a_group_acts_like_a_team_of_its_own():
    nets = networks(share_parameters="groups", critic_view="obs", core="gru")
    params = random_weights(nets)
    obs, first, mask = draw((L, B, N, 3)), jnp.zeros((L, B), bool), jnp.ones((L, B, N, 3), bool)
    carry, critic_carry = nets.initial_carries(B)
    carries, dist = act(nets, params.actor, carry, obs, first, mask)
    _, value = value_of(nets, params.critic, critic_carry, obs, draw((L, B, 3)), first)
    for group, members in ((0, [0, 2]), (1, [1, 1])):  # the smaller one is filled up
        alone = networks(spec=Scripted(num_agents=2).spec, critic_view="obs", core="gru")
        own = jax.tree.map(lambda x, group=group: x[group], params)
        carry, critic_carry = alone.initial_carries(B)
        inputs = own.actor, carry, obs[:, :, members], first, mask[:, :, members]
        own_carries, own_dist = act(alone, *inputs)
        inputs = own.critic, critic_carry, obs[:, :, members], draw((L, B, 3)), first
        own_value = value_of(alone, *inputs)[1]
        for agent in set(members):
            at = members.index(agent)
            for x, y in (
                (carries, own_carries),
                (dist.logits, own_dist.logits),
                (value, own_value),
            ):
                np.testing.assert_allclose(x[:, :, agent], y[:, :, at], atol=1e-5)


def test_an_agent_teaches_its_own_group_only():
    nets = networks(share_parameters="groups", critic_view="obs")
    params = random_weights(nets)
    obs, state = draw((1, 1, N, 3)), draw((1, 1, 3))

    def of_agents(params):
        logits, value = outputs(nets, params, obs, state)
        return logits[:, 0] + value

    for agent, group in ((0, 0), (1, 1), (2, 0)):
        slope = jax.jit(jax.grad(lambda p, agent=agent: of_agents(p)[agent]))(params)
        for leaf in jax.tree.leaves(slope):
            assert np.abs(leaf[group]).max() > 0
            assert (leaf[1 - group] == 0).all()


def test_groups_are_those_of_the_environment():
    assert groups_of(ENV.spec, "groups") == Groups((0, 1, 0))
    assert groups_of(ENV.spec, True) is None
    assert groups_of(ENV.spec, False) == Groups((0, 1, 2))
    with pytest.raises(UserError, match=r"the environment has no groups.*expected all or none"):
        networks(spec=Scripted(num_agents=N).spec, share_parameters="groups")
