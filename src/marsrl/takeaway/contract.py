"""What is to be known of an exported actor: the contents of contract.json."""

from __future__ import annotations

import itertools
import math
from importlib.metadata import PackageNotFoundError, version

from marsrl.distributions import ILLEGAL_LOGIT
from marsrl.learner.groups import groups_of
from marsrl.runs.policy import Policy
from marsrl.runs.records import Row
from marsrl.takeaway.actor import inputs_of
from marsrl.takeaway.weights import architecture_of, arrays_of
from marsrl.types import Box, Discrete, EnvSpec, MultiDiscrete

TOLERANCE = 1e-4
"""The most that an exported actor's outputs may differ, of numbers above 1 relative to them."""
_PACKAGES = ("marsrl", "jax", "flax", "numpy", "onnx", "onnxruntime", "torch")


def contract_of(policy: Policy, to: str, batch: int | None, recorded: Row) -> Row:
    """The contract, but for the result of the parity check.

    Args:
        policy: the team.
        to: the format.
        batch: environments that the actor is for; None: any number.
        recorded: what is said of the recorded steps.
    """
    config, layout = policy.config, policy.layout
    N = layout.spec.num_agents
    recurrent = any(name.startswith("carry_") for name in inputs_of(policy))
    return {
        "format": to,
        "versions": _versions(),
        "trained": {
            "task": config.task,
            "task_settings": config.task_settings,
            "objective": config.objective,
            "configuration": config.hash,
            "seed": policy.seed,
            "steps": policy.step,
        },
        "agents": {
            "number": N,
            "order": "the environment's: agent i is entry i of the second axis, where there is one",
            "groups": list(layout.spec.groups),
            "ids": _ids(policy),
        },
        "inputs": {
            name: {
                "shape": [batch or "batch", *shape],
                "dtype": dtype.name,
                "meaning": _MEANINGS[name.partition("_")[0]],
            }
            for name, (shape, dtype) in inputs_of(policy).items()
        },
        "observation": _observation(layout.spec),
        "outputs": _outputs(policy, batch or "batch"),
        "action": _action(policy),
        "recurrent_state": _RECURRENT if recurrent else None,
        "normalisation": {
            "inside": True,
            "kind": config.actor_norm,
            "meaning": "observations are given in the environment's own units, as it returns them: "
            + _NORMS[config.actor_norm],
        },
        "architecture": _architecture(policy),
        "tolerance": TOLERANCE,
        "recorded": recorded,
    }


_MEANINGS = {
    "obs": "what each agent sees; of a dictionary the arrays that `observation` names in a row, "
    "each in C order, float32: whole numbers as they are, but uint8 divided by 255",
    "action": "True: legal action (at least one per agent); continuous: the dimension exists",
    "first": "True where an episode begins: the recurrent state starts anew inside",
    "carry": "the recurrent state, next_carry of the last call; anything where first is True",
}

_RECURRENT = {
    "start": "first = True, and carry zeros",
    "go_on": "first = False, and each carry_I the next_carry_I of the last call",
    "reset": "first = True for the environments that begin an episode; others are not touched",
}

_NORMS = {
    "none": "nothing is standardised",
    "running": "the moments of training are in the actor",
    "layer": "each agent's observation is standardised by itself in the actor",
}


def _ids(policy: Policy) -> str:
    config = policy.config
    groups = groups_of(policy.layout.spec, config.share_parameters)
    if groups is not None and groups.size == 1:
        return "none: each agent has parameters of its own"
    if not config.agent_ids:
        return "none: agents act alike on what looks alike"
    if config.network is not None:
        return "appended to the last axis of what the network reads, one-hot, inside"
    return "a learned row per agent is added to the first hidden layer, inside"


def _observation(spec: EnvSpec) -> list[Row] | None:
    """Where the arrays of a dictionary lie on the last axis of obs; None if it was none."""
    sizes = [math.prod(shape) for _, shape in spec.obs_parts]
    ends = list(itertools.accumulate(sizes))
    return [
        {"name": name, "shape": list(shape), "start": end - size, "stop": end}
        for (name, shape), size, end in zip(spec.obs_parts, sizes, ends, strict=True)
    ] or None


def _outputs(policy: Policy, batch: int | str) -> Row:
    spec = policy.layout.spec
    each = [batch, spec.num_agents]
    wide = [*each, spec.action.size]
    if not isinstance(spec.action, Box):
        shape = [*each, *spec.action.shape]
        found = {
            "action": (shape, "int32", "the most probable legal action, of each choice"),
            "logits": (wide, "float32", "of the actions; illegal ones are illegal_logit"),
        }
    else:
        found = {
            "action": (wide, "float32", "the policy's mode, as the environment expects it"),
            "mean": (wide, "float32", "of the normal before the tanh"),
            "log_std": (wide, "float32", "of the normal before the tanh"),
        }
    found |= {
        f"next_{name}": ([batch, *shape], dtype.name, "the recurrent state after this step")
        for name, (shape, dtype) in inputs_of(policy).items()
        if name.startswith("carry_")
    }
    keys = ("shape", "dtype", "meaning")
    return {name: dict(zip(keys, values, strict=True)) for name, values in found.items()}


def _action(policy: Policy) -> Row:
    space = policy.layout.spec.action
    if isinstance(space, Discrete):
        return {
            "kind": "discrete",
            "num_actions": space.num_actions,
            "illegal_logit": ILLEGAL_LOGIT,
            "sample": "argmax(logits + g), g = -log(-log(u)), u uniform in (0, 1)",
        }
    if isinstance(space, MultiDiscrete):
        return {
            "kind": "multi-discrete",
            "num_actions": list(space.num_actions),
            "illegal_logit": ILLEGAL_LOGIT,
            "sample": "logits and action_mask hold the choices one after another, num_actions[k] "
            "of choice k; of each by itself argmax(logits + g), g = -log(-log(u)), u uniform in "
            "(0, 1)",
        }
    return {
        "kind": "continuous",
        "num_dims": space.num_dims,
        "low": space.low,
        "high": space.high,
        "sample": "low + (high - low) (t + 1) / 2, kept in [low, high] after rounding, with t = "
        "tanh(mean + exp(log_std) e), e standard normal; t = 0 where action_mask is False",
    }


def _architecture(policy: Policy) -> Row | None:
    if policy.config.network is not None:
        return None
    shapes = {name: list(array.shape) for name, array in arrays_of(policy).items()}
    return architecture_of(policy) | {"weights": shapes}


def _versions() -> Row:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
