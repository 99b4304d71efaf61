"""The actor of a team as one function of arrays, which is what is exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.distributions import Categorical, MultiCategorical, TanhNormal
from marsrl.runs.policy import Policy
from marsrl.types import Array, Observation

Outputs = dict[str, Any]
"""Name -> array (B, N, ...): "action", and "logits", or "mean" and "log_std"."""

Function = Callable[..., Outputs]
"""(obs, action_mask), and where the actor is recurrent `first` and its carries: see `actor_of`."""


def actor_of(policy: Policy) -> Function:
    """The function that exported files hold.

    Its arguments: obs (B, N, *obs_shape), action_mask (B, N, A) bool; and, of a recurrent actor,
    first (B,) bool and the leaves of its carry (B, ...). Where `first` is True, an episode begins
    and the carry that is given does not matter.

    Returns:
        The deterministic action that the environment expects; the parameters of the distribution
        (logits, `ILLEGAL_LOGIT` where illegal; mean and log_std before the tanh); and the leaves
        of the next carry as `next_carry_0`, `next_carry_1` and so on.
    """
    structure = jax.tree.structure(carry_of(policy))

    def actor(obs: Array, action_mask: Array, first: Any = None, *carry: Array) -> Outputs:
        if first is None:
            first = jnp.zeros(obs.shape[:1], bool)
        before = jax.tree.unflatten(structure, carry)
        after, dist = policy.networks.act_once(
            policy.actor, before, Observation(obs, action_mask), first
        )
        action = dist.env_action(dist.mode())
        if isinstance(dist, Categorical | MultiCategorical):
            outputs = {"action": action.astype(jnp.int32), "logits": dist.masked_logits}
        else:
            assert isinstance(dist, TanhNormal)
            outputs = {"action": action, "mean": dist.mean, "log_std": dist.log_std}
        leaves = jax.tree.leaves(after)
        return outputs | {f"next_carry_{i}": leaf for i, leaf in enumerate(leaves)}

    return actor


def carry_of(policy: Policy) -> Any:
    """Shapes and types of the carry (1, ...) of one environment."""
    return jax.eval_shape(lambda: policy.networks.initial_carries(1)[0])


def inputs_of(policy: Policy) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name -> shape without the batch, and type, in the order of the actor's arguments."""
    spec = policy.layout.spec
    N = spec.num_agents
    inputs = {
        "obs": ((N, *spec.obs_shape), np.dtype(policy.layout.obs_dtype)),
        "action_mask": ((N, spec.action.size), np.dtype(bool)),
    }
    leaves = jax.tree.leaves(carry_of(policy))
    if leaves:
        inputs["first"] = ((), np.dtype(bool))
    return inputs | {
        f"carry_{i}": (leaf.shape[1:], np.dtype(leaf.dtype)) for i, leaf in enumerate(leaves)
    }
