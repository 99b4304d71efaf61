"""The built-in actor as plain arrays by name, for formats that it is built anew in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.errors import UserError, shown
from marsrl.learner.groups import Groups, groups_of
from marsrl.learner.modules import LOG_STD_RANGE, bounded, num_convolutions
from marsrl.learner.moments import LIMIT, Moments
from marsrl.runs.policy import Policy
from marsrl.types import Box

Arrays = dict[str, np.ndarray]


def architecture_of(policy: Policy) -> dict[str, Any]:
    """What the actor is made of, as plain JSON values.

    Raises:
        UserError: it is a network of a user's own.
    """
    _check_built_in(policy)
    config, spec = policy.config, policy.layout.spec
    groups = groups_of(spec, config.share_parameters)
    return {
        "core": config.core,
        "width": config.width,
        "depth": config.depth,
        "activation": config.activation,
        "norm": config.actor_norm,
        "norm_limit": LIMIT,
        "groups": None if groups is None else list(groups.of_agents),
        "parts": [
            {"shape": list(shape), "convolutions": num_convolutions(shape)}
            for shape in [shape for _, shape in spec.obs_parts] or [spec.obs_shape]
        ],
        "state_std": config.state_std and isinstance(spec.action, Box),
        "log_std_range": list(LOG_STD_RANGE),
    }


def arrays_of(policy: Policy) -> Arrays:
    """The weights of a built-in actor, float32.

    If not all agents share parameters, those of `conv`, `torso`, `gru`, `hidden`, `head` and
    `spread.kernel` and `.bias` have a leading axis of groups (of agents, if each has its own).

    - `norm.mean`, `norm.scale` (F,): of running moments
    - `conv.I.kernel` (3, 3, C, C'), `conv.I.bias` (C',): over pictures, one after another
    - `torso.I.kernel` (F, H), `torso.I.bias` (H,): before the core
    - `agent_id` (N, H): added to the first of those, where agents are told apart
    - `gru.input_kernel` (H, 3 H), `gru.input_bias` (3 H,), `gru.recurrent_kernel` (H, 3 H),
      `gru.recurrent_bias` (H,): gates r, z, n side by side
    - `hidden.*`, `head.*`: after the core
    - `spread.log_std` (A,) or (N, A); `spread.kernel`, `spread.bias` if it depends on what is seen

    Raises:
        UserError: it is a network of a user's own.
    """
    _check_built_in(policy)
    config, moments = policy.config, policy.actor.inputs
    groups = groups_of(policy.layout.spec, config.share_parameters)
    params = jax.tree.map(np.asarray, policy.actor.params["params"])
    body = params["Body_0"]
    arrays: Arrays = {}

    def add(name: str, layer: dict[str, np.ndarray]) -> None:
        arrays[f"{name}.kernel"], arrays[f"{name}.bias"] = layer["kernel"], layer["bias"]

    if isinstance(moments, Moments):
        arrays["norm.mean"] = np.asarray(moments.mean)
        arrays["norm.scale"] = np.asarray(moments.scale)
    for i in range(len(body.get("Pictures_0", {}))):
        add(f"conv.{i}", body["Pictures_0"][f"Conv_{i}"])
    for i in range(config.depth):
        add(f"torso.{i}", body[f"Dense_{i}"])
    if "agent_id" in body:
        arrays["agent_id"] = _of_agents(body["agent_id"], groups)
    if config.core == "gru":
        gru = body["GRU_0"]
        for part in ("kernel", "bias"):
            gates = [gru[f"input_{gate}"][part] for gate in "rzn"]
            arrays[f"gru.input_{part}"] = np.concatenate(gates, axis=-1)
        arrays["gru.recurrent_kernel"] = gru["recurrent_kernel"]
        arrays["gru.recurrent_bias"] = gru["recurrent_bias"]
    add("hidden", body[f"Dense_{config.depth}"])
    add("head", params["head"])
    if isinstance(policy.layout.spec.action, Box):
        if config.state_std:
            add("spread", params["log_std"])
        else:
            raw = jnp.asarray(params["log_std"])
            log_std = np.asarray(bounded(raw, *LOG_STD_RANGE))
            if config.agent_ids or groups is None:
                arrays["spread.log_std"] = _of_agents(log_std, groups)
            else:  # one for all agents of a group
                arrays["spread.log_std"] = log_std[list(groups.of_agents)]
    return arrays


def _of_agents(rows: np.ndarray, groups: Groups | None) -> np.ndarray:
    """A row for each agent, (N, ...), of those in groups, (G, size, ...)."""
    if groups is None or groups.size == 1:
        return rows
    return rows.reshape((-1, *rows.shape[2:]))[groups.places]


def _check_built_in(policy: Policy) -> None:
    if policy.config.network is not None:
        raise UserError(
            f"the network of this run is {shown(policy.config.network)}, which only --to stablehlo "
            "can export: onnx and torch are for the built-in ones"
        )
