"""How a trained team acts: in one environment or in each of a batch of them, with any axes."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.distributions import Distribution
from marsrl.envs.flat import row
from marsrl.errors import UserError, near_misses, reason, shown
from marsrl.learner.modules import Carry
from marsrl.learner.networks import Networks, Weights
from marsrl.runs.actors import Layout
from marsrl.types import Array, EnvSpec, Key, Observation, TimeStep, leaf_name


def act(
    networks: Networks,
    layout: Layout,
    actor: Weights,
    carry: Carry,
    time_step: TimeStep | Observation,
    key: Key | None,
    greedy: bool,
    first: Array | None,
) -> tuple[Carry, Array]:
    """The next carry, and the action that the environment expects; see `Policy.act`.

    Args:
        networks: of the team.
        layout: what its actors read.
        actor: the actor's weights.
        carry: of each environment.
        time_step: what they returned.
        key: one, or one for each of them.
        greedy: the mode instead of a sample.
        first: where an episode begins; None is nowhere.

    Raises:
        UserError: shapes or types are not those that the team was trained on, or there is no key,
            or another number of them.
    """
    seen, first = _seen(networks, layout, carry, time_step, first)
    batch = first.shape
    carry, dist = _distribution(networks, actor, carry, seen, first)
    if greedy:
        return carry, with_batch(dist.env_action(dist.mode()), batch)
    if key is None:
        raise UserError("there is no key, expected one, such as jax.random.key(0), or greedy=True")
    keys = _keys(key, batch)
    return carry, with_batch(dist.env_action(dist.sample(keys)), batch)


def distribution(
    networks: Networks,
    layout: Layout,
    actor: Weights,
    carry: Carry,
    time_step: TimeStep | Observation,
    first: Array | None,
) -> tuple[Carry, Distribution]:
    """The next carry, and the policy over (B, N), B the product of the axes of a batch.

    Arguments are those of `act`.
    """
    seen, first = _seen(networks, layout, carry, time_step, first)
    return _distribution(networks, actor, carry, seen, first)


def with_batch(tree: Any, batch: tuple[int, ...]) -> Any:
    """Arrays (B, ...) as (*batch, ...)."""
    return jax.tree.map(lambda x: x.reshape((*batch, *x.shape[1:])), tree)


def _distribution(
    networks: Networks, actor: Weights, carry: Carry, seen: Observation, first: Array
) -> tuple[Carry, Distribution]:
    batch = first.shape
    seen, carry = jax.tree.map(lambda x: x.reshape((-1, *x.shape[len(batch) :])), (seen, carry))
    carry, dist = networks.act_once(actor, carry, seen, first.reshape(-1))
    return with_batch(carry, batch), dist


def _keys(key: Key, batch: tuple[int, ...]) -> Key:
    """A typed key for each environment, (B,), of one or of as many, of either kind."""
    key = _array("key", key)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or not key.ndim:
            raise UserError(f"key is {key.dtype}{list(key.shape)}, expected jax.random.key(SEED)")
        key = jax.random.wrap_key_data(key)  # of the older kind
    if key.shape not in ((), batch):
        raise UserError(f"keys of shape {key.shape}, expected one, or one for each of {batch}")
    return jax.random.split(key, math.prod(batch)) if batch and not key.ndim else key.reshape(-1)


def _seen(
    networks: Networks,
    layout: Layout,
    carry: Carry,
    time_step: TimeStep | Observation,
    first: Array | None,
) -> tuple[Observation, Array]:
    """What the team sees, and where an episode begins, as arrays.

    Raises:
        UserError: shapes or types are not those that it was trained on; the message names what was
            passed, and what is expected.
    """
    spec = networks.spec
    obs, mask = (getattr(time_step, name, None) for name in ("obs", "action_mask"))
    if obs is None or mask is None:
        raise UserError(
            f"time_step is {shown(type(time_step).__name__)}, expected what the environment "
            "returned, or a marsrl.Observation of obs and action_mask"
        )
    mask = _array("action_mask", mask)
    batch = mask.shape[:-2]
    obs = _in_a_row(spec, batch, obs) if isinstance(obs, dict) else _array("obs", obs)
    first = jnp.zeros(batch, bool) if first is None else _array("first", first)
    for name, x, one in (
        ("obs", obs, (spec.num_agents, *spec.obs_shape)),
        ("action_mask", mask, (spec.num_agents, spec.action.size)),
        ("first", first, ()),
    ):
        _check_shape(name, x, batch, one)
    if not layout.reads_alike(obs.dtype):
        raise UserError(
            f"obs is {obs.dtype}, expected {layout.obs_dtype} as in training: networks divide "
            "uint8 by 255, and read all else as it is"
        )
    alone = jax.eval_shape(lambda: with_batch(networks.initial_carries(1)[0], ()))
    given, expected = (
        (jax.tree.structure(tree), [(*axes, *np.shape(x)) for x in jax.tree.leaves(tree)])
        for tree, axes in ((carry, ()), (alone, batch))
    )
    if given != expected:
        call = f"initial_carry({batch})" if batch else "initial_carry()"
        raise UserError(f"carry is {given[1] or 'empty'}, expected that of {call}: {expected[1]}")
    return Observation(obs, mask.astype(bool)), first.astype(bool)


def _in_a_row(spec: EnvSpec, batch: tuple[int, ...], obs: dict[Any, Any]) -> Array:
    """A dictionary of the environment's own as the team has read it in training; see `Flat`.

    Raises:
        UserError: it was trained on none, or on one of other arrays.
    """
    parts = dict(spec.obs_parts)
    if not parts:
        expected = (*batch, spec.num_agents, *spec.obs_shape)
        raise UserError(
            f"obs is a dictionary, expected an array {expected}: the team was not trained on "
            "dictionaries"
        )
    found = jax.tree_util.tree_leaves_with_path(
        obs, is_leaf=lambda path, _: leaf_name(path) in parts, is_leaf_takes_path=True
    )  # so that a list in the place of an array is one
    leaves = {leaf_name(path): leaf for path, leaf in found}
    for name in leaves:
        if name not in parts:
            raise UserError(f"obs has unknown {shown(name)}{near_misses(name, parts)}")
    arrays = []
    for name, shape in parts.items():
        if name not in leaves:
            raise UserError(f"obs has no {shown(name)}, expected {', '.join(parts)}")
        x = _array(f"obs: {name}", leaves[name])
        if shape == (1,) and x.ndim == len(batch) + 1:  # one number for each agent
            x = x[..., None]
        _check_shape(f"obs: {name}", x, batch, (spec.num_agents, *shape))
        arrays.append(x)
    return row(arrays, len(batch) + 1)


def _check_shape(name: str, x: Array, batch: tuple[int, ...], one: tuple[int, ...]) -> None:
    if x.shape != (*batch, *one):
        raise UserError(
            f"{name} has the shape {x.shape}, expected {(*batch, *one)}"
            f"{'' if batch else ', or the axes of a batch before it'}"
        )


def _array(name: str, x: Any) -> Array:
    """An array of what was passed, which may be a list.

    Raises:
        UserError: none can be made of it.
    """
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:  # such as lists of unequal lengths
        kind = type(x).__name__
        raise UserError(f"{name}, of type {kind}, is no array: {reason(error)}") from error
